"""The address of the tracking store: resolved and checked before MLflow is loaded."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mnistlab.config import ConfigError, TrackingConfig, hide_passwords, project_root

DEFAULT_EXPERIMENT = "mnistlab"
CONNECT_SECONDS = 5
# The settings that name a store in commands other than the training, by the short names that they may have there.
SHORT_NAMES = {"root": "paths.root", "uri": "tracking.uri", "experiment": "tracking.experiment"}
SETTING_NAMES = (*SHORT_NAMES.values(), *SHORT_NAMES)


@dataclass(frozen=True)
class StoreAddress:
    """Where runs are recorded.

    uri: of the store; experiment: its name there; artifacts: the folder for the files of a new local experiment, else
    None; from_environment: the environment variables that chose it, for a message to the user.
    """

    uri: str
    experiment: str
    artifacts: Path | None
    from_environment: str = ""


def address(config: TrackingConfig, root: str) -> StoreAddress:
    """The store named by the configuration, else by environment variables, else SQLite in `<root>/mlruns`."""
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    experiment = config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    variables = []
    if uri and not config.uri:
        variables.append(f"MLFLOW_TRACKING_URI={hide_passwords(uri)}")
    if experiment != DEFAULT_EXPERIMENT and not config.experiment:
        variables.append(f"MLFLOW_EXPERIMENT_NAME={experiment}")
    mlruns = Path(root).expanduser().resolve() / "mlruns"
    if uri is None:
        return StoreAddress(f"sqlite:///{mlruns / 'mlflow.db'}", experiment, mlruns / "artifacts", ", ".join(variables))
    if not uri.startswith("sqlite:"):
        return StoreAddress(uri, experiment, None, ", ".join(variables))
    uri, artifacts = f"sqlite:///{sqlite_file(uri)}", mlruns / "artifacts"  # independent of the working directory
    return StoreAddress(uri, experiment, artifacts, ", ".join(variables))


def checked_address(config: TrackingConfig, root: str) -> StoreAddress:
    """As `address`; raises the errors of `check_reachable`."""
    store = address(config, root)
    check_reachable(store)
    return store


def existing_address(settings: Mapping[str, str]) -> StoreAddress:
    """As `address`, for commands that only read: nothing is created.

    settings: some of 'paths.root', 'tracking.uri', 'tracking.experiment', or their SHORT_NAMES.

    Raises:
        ConfigError: there is no store there yet, or its server does not answer.
    """
    given = {SHORT_NAMES.get(name, name): value for name, value in settings.items()}
    uri, experiment = given.get("tracking.uri"), given.get("tracking.experiment")
    tracking = TrackingConfig(backend="mlflow", uri=uri, experiment=experiment)
    store = address(tracking, given.get("paths.root") or project_root())
    if not store.uri.startswith("sqlite:"):
        check_reachable(store)
    elif not sqlite_file(store.uri).is_file():
        raise ConfigError(
            f"There are no runs yet: the tracking store {sqlite_file(store.uri)} does not exist. Train first: "
            "python -m mnistlab.train. Or name another folder with paths.root=FOLDER, or a store with tracking.uri=URI."
        )
    return store


def check_reachable(store: StoreAddress) -> None:
    """Check within seconds, before anything heavy is loaded, that the store can be used.

    Raises:
        ConfigError: a folder that cannot be written, a plain folder as store, a server that does not answer.
    """
    parts = urlsplit(store.uri)
    if parts.scheme in ("http", "https"):
        _check_server(store.uri, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    elif parts.scheme == "sqlite":
        _check_writable(sqlite_file(store.uri))
    elif parts.scheme in ("", "file"):
        raise ConfigError(
            "tracking.uri must be sqlite:///FILE or a server's http address; MLflow keeps no runs in plain folders. "
            f"Received: {store.uri}. For example: sqlite:///{(Path(parts.path or store.uri) / 'mlflow.db').resolve()}."
        )


def _check_server(uri: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"The tracking server does not answer: {hide_passwords(uri)} ({error}). Start it, correct tracking.uri or "
            "MLFLOW_TRACKING_URI, or record locally with tracking=none."
        ) from error


def sqlite_file(uri: str) -> Path:
    """The database of a sqlite address."""
    return Path(uri.removeprefix("sqlite:///")).resolve()


def _check_writable(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        probe = file.parent / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
        if file.exists() and not os.access(file, os.W_OK):
            raise PermissionError(f"{file} is read-only")
    except OSError as error:
        raise ConfigError(
            f"The tracking store's folder cannot be written: {file.parent} ({error}). "
            "Make it writable, choose another with paths.root=FOLDER, or record locally with tracking=none."
        ) from error
