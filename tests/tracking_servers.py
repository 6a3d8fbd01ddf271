"""Tracking servers for the tests: real ones of MLflow, and some that refuse, hang, or answer with errors."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import wait_until

from mnistlab.tracking import servers


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class AnswersWithErrors(BaseHTTPRequestHandler):
    """A server with a problem of its own."""

    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def silent_server(kind: str) -> Iterator[str]:
    """The address of a server that refuses, hangs, or answers with errors."""
    if kind == "errors":
        server = ThreadingHTTPServer(("127.0.0.1", 0), AnswersWithErrors)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.server_close()
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if kind == "hangs":
            listening.listen(100)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "there")),
        ],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: servers._reason(f"http://127.0.0.1:{port}") == "")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@contextlib.contextmanager
def server_with_login(port: int, user: str, password: str, lacks: str = "") -> Iterator[tuple[str, list[str]]]:
    """A server that demands a login, in front of the one at this port: its address, and the paths that it passed on.

    lacks: a part of the paths that it does not have.
    """
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    with front(port, wanted=wanted, lacks=lacks) as (uri, passed):
        yield uri.replace("://", f"://{user}:{password}@"), passed


@contextlib.contextmanager
def front(
    port: int,
    pages: Mapping[str, str] | None = None,
    wanted: str = "",
    lacks: str = "",
    tls: ssl.SSLContext | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """A server in front of the one at this port: its address, and the paths that it passed on.

    pages: path -> what it answers by itself; wanted: the login that it demands; lacks: a part of the paths that it
    does not have; tls: its certificate, for https.
    """
    passed: list[str] = []

    class Front(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if wanted and self.headers.get("Authorization") != wanted:
                self.reply(401, b"who are you?")
                return
            if self.path in (pages or {}):
                self.reply(200, (pages or {})[self.path].encode())
                return
            if lacks and lacks in self.path:
                self.reply(404, b"not here")
                return
            passed.append(self.path)
            behind = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            behind.request(self.command, self.path, body, headers)
            answer = behind.getresponse()
            self.reply(answer.status, answer.read(), answer.getheader("Content-Type") or "text/plain")
            behind.close()

        def reply(self, status: int, body: bytes, content_type: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}", passed
    finally:
        server.shutdown()
        server.server_close()
