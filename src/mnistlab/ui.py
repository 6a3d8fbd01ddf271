"""The MLflow UI on this project's tracking store: `python -m mnistlab.ui`, or `make ui`."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request

from mnistlab.config import ConfigError, parse_settings
from mnistlab.runtime import errors, exits
from mnistlab.tracking import history, mlflow_store, pages, stores
from mnistlab.tracking.stores import StoreAddress

USAGE = """Start the MLflow UI on a free port and print the page of the latest sweep or run; Ctrl-C stops it.

Usage: python -m mnistlab.ui [port=NUMBER] [host=ADDRESS] [paths.root=FOLDER] [tracking.uri=STORE]
                             [tracking.experiment=NAME]

It listens on 127.0.0.1, which only this computer reaches. Another host, as in host=0.0.0.0, lets everybody on the
network read and delete the runs."""
LOOPBACK = "127.0.0.1"
SETTINGS = ("port", "host", *stores.SETTING_NAMES)
START_SECONDS = 120
WITHOUT_JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"  # eight processes that evaluate language models


def main() -> None:
    """The command. Exit status: 0 after Ctrl-C, 1 if the server ended, 2 for a user's mistake, 143 terminated."""
    exits.leave(errors.run_command(_serve, USAGE))


def _serve() -> int:
    settings = parse_settings(sys.argv[1:], SETTINGS)
    store = stores.existing_address(settings)
    if store.uri.startswith("http"):
        print(f"{store.uri}/{latest_page(store)}")
        return 0
    port = settings.get("port") or _free_port()
    host = settings.get("host") or LOOPBACK
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", store.uri]
    exits.catch_signals()
    environment = {WITHOUT_JOBS: "false", **os.environ}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = latest_page(store)
        _wait_for(server, f"http://127.0.0.1:{port}/health", " ".join(command))
        print(f"http://127.0.0.1:{port}/{page}\nCtrl-C stops the server.", flush=True)
        return exits.FAILED if server.wait() else 0
    except exits.Terminated:
        raise
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=5)
        server.kill()


def latest_page(store: StoreAddress) -> str:
    """The page of the latest sweep's parent run, or of the latest run if it belongs to no sweep."""
    _, experiment_id = mlflow_store.open_store(store, create=False)
    runs = history.find(store, max_runs=1)
    run_id = runs[0].tags.get("mlflow.parentRunId", runs[0].run_id) if runs else None
    return pages.of_run(experiment_id, run_id) if run_id else pages.of_experiment(experiment_id)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(server: subprocess.Popen, url: str, command: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException), opener.open(url, timeout=1):
            return
        time.sleep(0.1)
    raise ConfigError(f"The MLflow UI did not start. For its messages run: {command}")


if __name__ == "__main__":
    main()
