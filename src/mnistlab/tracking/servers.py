"""Whether a tracking server answers, and how long this process has waited for servers that do not.

A server that refuses, hangs or answers with errors must not hold up a training. All waiting for silent servers together
takes at most WAIT_SECONDS of a process. A silent server is asked again after a minute; when the time is used up, by a
thread that nobody waits for.
"""

import concurrent.futures
import http.client
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mnistlab.config import ConfigError, hide_secrets
from mnistlab.tracking.server_login import check_login

WAIT_SECONDS = 15
ASK_SECONDS = 4  # for one answer
REQUEST_SECONDS = 8  # for the answer to one of MLflow's requests
KEPT_SECONDS = 60  # an answer, or that there was none, counts for so long
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class ServerSilent(ConnectionError):
    """A tracking server does not answer, or only with errors of its own."""


@dataclass(frozen=True)
class Answer:
    """What was found when a server was asked. reason: why it is of no use, '' if it answers; when: monotonic clock."""

    reason: str
    when: float


_answers: dict[str, Answer] = {}
_waited: list[float] = []  # seconds, for servers that did not answer


def seconds_left() -> float:
    """How much longer this process may wait for silent servers."""
    return max(0.0, WAIT_SECONDS - sum(_waited))


def outage(uri: str) -> str:
    """Why the server at this address does not answer, in words; '' if it does, and for a store that is a file.

    Raises:
        ConfigError: something else answers there: another protocol than the address names, or another version of
            MLflow; or it refuses the login.
    """
    known = _answers.get(uri)
    if known is not None and time.monotonic() - known.when < KEPT_SECONDS:
        return known.reason
    left = seconds_left()
    return _ask(uri, min(ASK_SECONDS + 0.5, left if left >= 1 else 0))


def note_outage(uri: str, reason: str) -> None:
    """Remember for a minute that this server does not answer."""
    if _host(uri):
        _answers[uri] = Answer(reason, time.monotonic())


def known_outage(uri: str) -> str:
    """As `outage`, as far as it is known: the server is not asked."""
    known = _answers.get(uri)
    return known.reason if known is not None and time.monotonic() - known.when < KEPT_SECONDS else ""


def result_of(request: Future, uri: str) -> Any:
    """The result of a request to this store. It is waited for as long as it takes while the server answers others.

    Raises:
        ServerSilent: the server answers nothing any more; and what the request raises.
    """
    started = time.monotonic()
    while True:
        try:
            return request.result(timeout=REQUEST_SECONDS + 1 if _host(uri) else None)
        except ConnectionError as error:
            if _host(uri):
                _waited.append(time.monotonic() - started)
            note_outage(uri, str(error))
            raise
        except concurrent.futures.TimeoutError:
            if not request.done() and (reason := _ask(uri, min(ASK_SECONDS + 0.5, max(1, seconds_left())))):
                _waited.append(REQUEST_SECONDS + 1)
                raise ServerSilent(reason) from None


def _ask(uri: str, seconds: float) -> str:
    """Ask the server, wait for its answer for so long, and remember it; a later answer is remembered, too."""
    if not _host(uri):
        return ""
    answer: Future = Future()

    def ask() -> None:
        try:
            reason = _reason(uri)
        except Exception as error:
            _answers.pop(uri, None)  # it answers
            answer.set_exception(error)
        else:
            _answers[uri] = Answer(reason, time.monotonic())
            answer.set_result(reason)

    before, started = _answers.get(uri), time.monotonic()
    note_outage(uri, before.reason if before and before.reason else "it does not answer")
    threading.Thread(target=ask, name="ask", daemon=True).start()
    try:
        reason = str(answer.result(timeout=seconds))
    except concurrent.futures.TimeoutError:
        reason = _answers[uri].reason
    if reason:
        _waited.append(time.monotonic() - started)
    return reason


def is_server(uri: str) -> bool:
    """Whether this address is that of a server, not of a file."""
    return bool(_host(uri))


def _host(uri: str) -> str:
    """The server's name in an address; '' for a file and for Databricks."""
    parts = urlsplit(uri)
    known = parts.scheme in ("http", "https") or parts.scheme.partition("+")[0] in DATABASE_PORTS
    return parts.hostname or "" if known else ""


def _reason(uri: str) -> str:
    """Why the server does not answer, '' if it does."""
    parts = urlsplit(uri)
    try:
        if parts.scheme in ("http", "https"):
            return _http_reason(uri)
        port = parts.port or DATABASE_PORTS[parts.scheme.partition("+")[0]]
        socket.create_connection((_host(uri), port), timeout=ASK_SECONDS).close()
    except TimeoutError:
        return f"no answer within {ASK_SECONDS} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _http_reason(uri: str) -> str:
    """As `_reason`. It asks without a password and without checking certificates; a server that answers is then asked
    with both."""
    import urllib.error
    import urllib.request

    parts, started = urlsplit(uri), time.monotonic()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    page = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health"
    try:
        opener.open(page, timeout=ASK_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            return f"it answers with the error {error.code}"
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            raise _wrong_protocol(uri, str(error.reason.reason)) from error
        if isinstance(error.reason, OSError):
            raise error.reason from error
        return str(error.reason)
    except http.client.BadStatusLine as error:
        if isinstance(error, ConnectionError):  # RemoteDisconnected: it ended the connection
            return "it ends the connection"
        raise _wrong_protocol(uri, "no HTTP answer") from error
    except http.client.HTTPException as error:
        return f"{type(error).__name__}: {error}"
    check_login(uri, max(0.1, ASK_SECONDS - (time.monotonic() - started)))
    return ""


def _wrong_protocol(uri: str, received: str) -> ConfigError:
    scheme = urlsplit(uri).scheme
    other = "http" if scheme == "https" else "https"
    return ConfigError(
        f"tracking.uri must name the protocol of the server. Received: {hide_secrets(uri)}, but what answers there "
        f"does not speak {scheme} ({received}). Try {other}:// instead."
    )
