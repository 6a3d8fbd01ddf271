#!/usr/bin/env python3
"""MLflow on PostgreSQL with a login: starts the server, says when it answers, ends it cleanly on Ctrl-C or SIGTERM.

Usage: python deploy/serve.py            run the server until it is stopped
       python deploy/serve.py --upgrade  bring the tables of both databases to this version of MLflow, and end

It needs `pip install 'mlflow[auth]' psycopg2-binary` and two empty databases. All settings are environment variables:

  PGHOST PGPORT PGUSER PGPASSWORD   PostgreSQL, as its own programs read them; a file named by PGPASSFILE works, too
  MLFLOW_DATABASE                   for runs and models (mlflow)
  MLFLOW_AUTH_DATABASE              for users and permissions (mlflow_auth)
  MLFLOW_FLASK_SERVER_SECRET_KEY    signs the forms of the web pages: any long random text, the same at every start
  MLFLOW_AUTH_ADMIN_USERNAME        the first user, who makes the others (admin)
  MLFLOW_AUTH_ADMIN_PASSWORD        the first user's password, at the first start only; 12 or more characters
  MLFLOW_AUTH_DEFAULT_PERMISSION    what every user may do with the experiments of others (EDIT): READ, USE, EDIT,
                                    MANAGE or NO_PERMISSIONS
  MLFLOW_ARTIFACTS_DESTINATION      for files: a folder, s3://BUCKET/PATH, ... (./artifacts)
  MLFLOW_HOST MLFLOW_PORT           where it listens (127.0.0.1, 5000)
  MLFLOW_WORKERS                    processes (4)
  MLFLOW_SERVER_ALLOWED_HOSTS       by which names and ports clients may call it: tracking.example.org,10.0.*

No password is written to a file or stands in a command line. Exit status: 0 stopped, 1 the server failed, 2 a setting.
"""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import FrameType

START_SECONDS = 180  # the first start makes all tables
STOP_SECONDS = 20
PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS")
AUTH_CACHE_SECONDS = 60  # a right password counts for so long: to check one takes 0.1 s or more
# What MLflow needs for stores of files: module and package.
STORES = {"s3": ("boto3", "boto3"), "gs": ("google.cloud.storage", "google-cloud-storage")}
MIN_PASSWORD, MIN_SECRET_KEY = 12, 16  # characters


class Mistake(Exception):
    """What the operator must correct."""


def setting(name: str, default: str) -> str:
    """An environment variable; empty counts as not set."""
    return os.environ.get(name) or default


def database(name: str) -> str:
    """The address of a database; host, user and password are left to the PG... variables. SQLAlchemy 2.1 would take
    another driver without its name."""
    return f"postgresql+psycopg2:///{name}"


def check_settings() -> None:
    """Check what the server would stumble on after it has begun.

    Raises:
        Mistake: a variable is missing or wrong, or a database cannot be used.
    """
    if len(os.environ.get("MLFLOW_FLASK_SERVER_SECRET_KEY", "")) < MIN_SECRET_KEY:
        raise Mistake(
            f"MLFLOW_FLASK_SERVER_SECRET_KEY must be a random text of {MIN_SECRET_KEY} or more characters. "
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'."
        )
    if (permission := setting("MLFLOW_AUTH_DEFAULT_PERMISSION", "EDIT")) not in PERMISSIONS:
        raise Mistake(
            f"MLFLOW_AUTH_DEFAULT_PERMISSION must be one of {', '.join(PERMISSIONS)}. Received: {permission}."
        )
    destination = setting("MLFLOW_ARTIFACTS_DESTINATION", "./artifacts")
    module, package = STORES.get(destination.partition("://")[0], ("", ""))
    if module and not is_installed(module):
        raise Mistake(f"MLFLOW_ARTIFACTS_DESTINATION={destination} needs the package {package}: pip install {package}.")
    answer(setting("MLFLOW_DATABASE", "mlflow"), "SELECT 1")
    auth = setting("MLFLOW_AUTH_DATABASE", "mlflow_auth")
    has_users = answer(auth, "SELECT to_regclass('users') IS NOT NULL")
    has_admin = has_users and answer(auth, "SELECT EXISTS (SELECT 1 FROM users WHERE is_admin)")
    if not has_admin and len(os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD", "")) < MIN_PASSWORD:
        raise Mistake(
            f"MLFLOW_AUTH_ADMIN_PASSWORD must be a password of {MIN_PASSWORD} or more characters: at the first start "
            "it becomes that of the first user."
        )


def is_installed(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it is in
        return False


def answer(name: str, question: str) -> bool:
    """The answer of a database to a question.

    Raises:
        Mistake: there is no such database, or it does not let us in.
    """
    import psycopg2

    try:
        connecting = contextlib.closing(psycopg2.connect(dbname=name, connect_timeout=10))
        with connecting as connection, connection.cursor() as cursor:
            cursor.execute(question)
            return bool(cursor.fetchone()[0])
    except psycopg2.Error as error:
        reason = " ".join(str(error).split())
        raise Mistake(
            f"The database {name} cannot be used: {reason}. Correct PGHOST, PGPORT, PGUSER and PGPASSWORD, or create "
            f"it: createdb {name}."
        ) from error


def write_auth_settings(folder: Path) -> Path:
    """Write MLflow's file of settings for the login; it holds no password."""
    file = folder / "auth.ini"
    file.write_text(
        "[mlflow]\n"
        f"default_permission = {setting('MLFLOW_AUTH_DEFAULT_PERMISSION', 'EDIT')}\n"
        f"database_uri = {database(setting('MLFLOW_AUTH_DATABASE', 'mlflow_auth'))}\n"
        f"admin_username = {setting('MLFLOW_AUTH_ADMIN_USERNAME', 'admin')}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        f"auth_cache_ttl_seconds = {AUTH_CACHE_SECONDS}\n"
    )
    return file


def upgrade() -> int:
    """Bring the tables of both databases to the installed version of MLflow; returns the exit status."""
    for name in (setting("MLFLOW_DATABASE", "mlflow"), setting("MLFLOW_AUTH_DATABASE", "mlflow_auth")):
        answer(name, "SELECT 1")
    runs = [sys.executable, "-m", "mlflow", "db", "upgrade", database(setting("MLFLOW_DATABASE", "mlflow"))]
    users = database(setting("MLFLOW_AUTH_DATABASE", "mlflow_auth"))
    done = (
        subprocess.run(runs).returncode
        or subprocess.run([sys.executable, "-m", "mlflow.server.auth", "db", "upgrade", "--url", users]).returncode
    )
    print("The tables could not be upgraded." if done else "The tables of both databases are up to date.", flush=True)
    return 1 if done else 0


def start(folder: Path) -> subprocess.Popen:
    """Start MLflow's server in a process group of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"),
            *("--host", setting("MLFLOW_HOST", "127.0.0.1"), "--port", setting("MLFLOW_PORT", "5000")),
            *("--workers", setting("MLFLOW_WORKERS", "4")),
            *("--artifacts-destination", setting("MLFLOW_ARTIFACTS_DESTINATION", "./artifacts")),
            *("--uvicorn-opts", f"--timeout-graceful-shutdown {STOP_SECONDS // 2}"),
        ],
        env={
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # judges of language models
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": database(setting("MLFLOW_DATABASE", "mlflow")),
            "MLFLOW_AUTH_CONFIG_PATH": str(write_auth_settings(folder)),
        },
        start_new_session=True,
    )


def wait_until_it_answers(server: subprocess.Popen) -> bool:
    """Wait for the server's first answer; returns whether there was one."""
    host = setting("MLFLOW_HOST", "127.0.0.1")
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    page = f"http://{host}:{setting('MLFLOW_PORT', '5000')}/health"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(page, timeout=5):
                print(f"The tracking server answers: {page.removesuffix('/health')}", flush=True)
                return True
        except OSError:
            time.sleep(0.2)
    return False


def stop(server: subprocess.Popen) -> None:
    """End the server: it completes the requests that it has; what is left after STOP_SECONDS is killed."""
    with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
        server.terminate()
        server.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def main() -> int:
    """The command; returns the exit status."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    if sys.argv[1:] not in ([], ["--upgrade"]):
        raise Mistake(f"The only option is --upgrade. Received: {' '.join(sys.argv[1:])}.")
    if sys.argv[1:]:
        return upgrade()
    check_settings()
    stopped: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        server = start(Path(folder))
        try:
            if not wait_until_it_answers(server):
                print("The tracking server did not start; see its messages above.", file=sys.stderr, flush=True)
                return 1
            server.wait()
        except KeyboardInterrupt:
            print("The tracking server stops.", flush=True)
        finally:
            stop(server)
    return 0 if stopped else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Mistake as mistake:
        print(f"Error: {mistake}", file=sys.stderr)
        sys.exit(2)
