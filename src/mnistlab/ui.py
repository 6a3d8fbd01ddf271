"""The MLflow UI on this project's tracking store: `python -m mnistlab.ui`, or `make ui`."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request

from mnistlab.config import ConfigError, TrackingConfig, hide_passwords, project_root
from mnistlab.runtime import errors, exits
from mnistlab.tracking import history, mlflow_store, stores
from mnistlab.tracking.stores import StoreAddress


def main() -> None:
    """Start the server on a free port, print the page of the latest sweep or run, serve until Ctrl-C.

    Exit status: 0 after Ctrl-C, 1 if the server ended, 2 if there are no runs.
    """
    exits.catch_signals()
    exits.leave(errors.run_command(_run))


def _run() -> int:
    store = stores.checked_address(TrackingConfig(backend="mlflow", uri=None, experiment=None), project_root())
    if not store.uri.startswith("sqlite:"):
        print(f"{hide_passwords(store.uri)}/{latest_page(store)}")
        return 0
    if not stores.sqlite_file(store.uri).exists():
        raise ConfigError("There are no runs yet. Start one: python -m mnistlab.train")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = latest_page(store)
        while not _answers(port):
            if server.poll() is not None:
                raise ConfigError(f"The MLflow UI ended with status {server.returncode}. Try: {' '.join(command)}")
            time.sleep(0.1)
        print(f"http://127.0.0.1:{port}/{page}\nCtrl-C stops the server.", flush=True)
        return exits.FAILED if server.wait() else 0
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()


def latest_page(store: StoreAddress) -> str:
    """The page of the latest sweep's parent run, or of the latest run if it belongs to no sweep."""
    _, experiment_id = mlflow_store.open_store(store)
    runs = history.find(store, max_runs=1)
    run_id = runs[0].tags.get("sweep.parent", runs[0].run_id) if runs else None
    return f"#/experiments/{experiment_id}" + (f"/runs/{run_id}" if run_id else "")


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
        return True
    return False


if __name__ == "__main__":
    main()
