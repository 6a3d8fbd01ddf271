"""A shared tracking server as a team has one: a real PostgreSQL; MLflow with a login, started by deploy/serve.py."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT, wait_until
from tracking_servers import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
SCRIPT = PROJECT / "deploy" / "serve.py"


class Postgres:
    """A PostgreSQL of its own: folder, port and password."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.password = f"canary-postgres-{secrets.token_hex(6)}"
        self.port = free_port()
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            shutil.chown(self.folder, "postgres")
        (self.folder / "password").write_text(self.password)
        self._as_owner(
            "initdb", "-D", self.data, "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={self.folder}/password"
        )
        (self.folder / "password").unlink()
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self._as_owner("pg_ctl", "-D", self.data, "-l", f"{self.folder}/log", "-o", options, "-w", "start")

    @property
    def data(self) -> str:
        return f"{self.folder}/data"

    @property
    def environment(self) -> dict[str, str]:
        """Where it is, as PostgreSQL's programs and serve.py read it."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "mlflow", "PGPASSWORD": self.password}

    def run(self, program: str, *words: str) -> str:
        """Run one of PostgreSQL's programs as its user; returns what it prints."""
        command = [str(BINARIES[-1] / program), *words]
        return subprocess.run(
            command, env={**os.environ, **self.environment}, check=True, capture_output=True, text=True
        ).stdout

    def stop(self) -> None:
        self._as_owner("pg_ctl", "-D", self.data, "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def _as_owner(self, program: str, *words: str) -> None:
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*prefix, str(BINARIES[-1] / program), *words], check=True, stdout=subprocess.DEVNULL, cwd="/")


class SharedServer:
    """MLflow on a PostgreSQL. `user` and `other` are the users that `add_users` makes; `secrets`: all passwords."""

    def __init__(self, folder: Path, database: Postgres, names: tuple[str, str] = ("mlflow", "mlflow_auth")) -> None:
        self.folder = folder
        self.database = database
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.artifacts = folder / "artifacts"
        self.log = folder / "server.log"
        self.passwords = {name: f"canary-{name}-{secrets.token_hex(6)}" for name in ("admin", "user", "other")}
        self.key = f"canary-key-{secrets.token_hex(12)}"
        self.default_permission = "EDIT"
        self.names = names
        self.process: subprocess.Popen | None = None
        (folder / "temporary").mkdir(parents=True)
        for name in names:
            database.run("createdb", name)

    @property
    def secrets(self) -> list[str]:
        return [*self.passwords.values(), self.key, self.database.password]

    def login(self, user: str = "user") -> dict[str, str]:
        """The environment of a client."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.passwords[user],
        }

    def start(self) -> None:
        """Start it with serve.py, and wait until it says that it answers."""
        environment = self.environment()
        with self.log.open("a") as log:
            started = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT)], cwd=self.folder, env=environment, stdout=log, stderr=log
            )
        process = self.process
        wait_until(lambda: "answers: " in self.log.read_text()[started:] or process.poll() is not None)
        assert process.poll() is None, self.log.read_text()

    def environment(self) -> dict[str, str]:
        """The settings of serve.py."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            **self.database.environment,
            "MLFLOW_DATABASE": self.names[0],
            "MLFLOW_AUTH_DATABASE": self.names[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.key,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.passwords["admin"],
            "MLFLOW_AUTH_DEFAULT_PERMISSION": self.default_permission,
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.artifacts),
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_WORKERS": "2",
            "TMPDIR": str(self.folder / "temporary"),
        }

    def processes(self) -> list[int]:
        """The process ids of the script and of the server's processes."""
        assert self.process is not None
        found = [self.process.pid]
        for pid in found:  # it grows
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split()]
        return found

    def stop(self) -> int:
        """Stop it as an operator does; returns the exit status of serve.py."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        """Kill all of its processes: no request is completed."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def upgrade(self) -> subprocess.CompletedProcess:
        """Run serve.py --upgrade."""
        command = [sys.executable, str(SCRIPT), "--upgrade"]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True)

    def users(self, *words: str, password: str = "", **more: str) -> subprocess.CompletedProcess:
        """Run deploy/users.py as the administrator."""
        return subprocess.run(
            [sys.executable, str(PROJECT / "deploy" / "users.py"), *words],
            env={**os.environ, **self.login("admin"), **more},
            input=f"{password}\n",
            capture_output=True,
            text=True,
        )

    def dump(self) -> str:
        """All that its databases hold, as text."""
        return "".join(self.database.run("pg_dump", name) for name in self.names)


@contextlib.contextmanager
def shared_server(folder: Path) -> Iterator[SharedServer]:
    """A server with the users 'user' and 'other', beside the administrator 'admin'."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin (Debian's package postgresql)")
    for module in ("psycopg2", "flask_wtf"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install -e '.[server]'")
    database = Postgres()
    server = SharedServer(folder, database)
    try:
        server.start()
        for user in ("user", "other"):
            added = server.users("add", user, password=server.passwords[user])
            assert added.returncode == 0, added.stderr
        yield server
    finally:
        with contextlib.suppress(AssertionError):
            server.kill()
        database.stop()
