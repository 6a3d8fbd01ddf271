"""The address of the tracking store: resolved and checked before MLflow is loaded."""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from mnistlab.config import ConfigError, TrackingConfig, hide_secrets, project_root
from mnistlab.runtime import space
from mnistlab.tracking import server_login, servers
from mnistlab.tracking.database_driver import check_driver
from mnistlab.tracking.database_file import check_database

DEFAULT_EXPERIMENT = "mnistlab"
SCHEMES = ("sqlite", "http", "https", "databricks", "databricks-uc", "uc", *servers.DATABASE_PORTS)
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
        variables.append(f"MLFLOW_TRACKING_URI={hide_secrets(uri)}")
    if experiment != DEFAULT_EXPERIMENT and not config.experiment:
        variables.append(f"MLFLOW_EXPERIMENT_NAME={experiment}")
    mlruns = Path(root).expanduser().resolve() / "mlruns"
    if uri is None:
        return StoreAddress(f"sqlite:///{mlruns / 'mlflow.db'}", experiment, mlruns / "artifacts", ", ".join(variables))
    if not uri.startswith("sqlite:///"):
        return StoreAddress(uri, experiment, None, ", ".join(variables))
    uri, artifacts = f"sqlite:///{sqlite_file(uri)}", mlruns / "artifacts"  # independent of the working directory
    return StoreAddress(uri, experiment, artifacts, ", ".join(variables))


def checked_address(config: TrackingConfig, root: str, *, create: bool = True) -> StoreAddress:
    """As `address`; raises the errors of `check`, and with `tracking.required` those of `check_reachable`."""
    if config.server_only:
        _check_is_server(config)
    store = address(config, root)
    check(store, create=create)
    if config.required:
        check_reachable(store)
    return store


def named_address(settings: Mapping[str, str]) -> StoreAddress:
    """As `address`, for the settings of a command that does not train.

    settings: some of 'paths.root', 'tracking.uri', 'tracking.experiment', or their SHORT_NAMES.
    """
    given = {SHORT_NAMES.get(name, name): value for name, value in settings.items()}
    uri, experiment = given.get("tracking.uri"), given.get("tracking.experiment")
    tracking = TrackingConfig(backend="mlflow", uri=uri, experiment=experiment)
    return address(tracking, given.get("paths.root") or project_root())


def existing_address(settings: Mapping[str, str]) -> StoreAddress:
    """As `named_address`; raises the errors of `check_exists`."""
    store = named_address(settings)
    check_exists(store)
    return store


def check_exists(store: StoreAddress) -> None:
    """Check that there is a store to read from; nothing is created.

    Raises:
        ConfigError: there is none there yet, or its server does not answer.
    """
    if not store.uri.startswith("sqlite:///"):
        check(store)
        check_reachable(store)
    elif sqlite_file(store.uri).exists():
        check_database(sqlite_file(store.uri))
    else:
        raise ConfigError(
            f"There are no runs yet: the tracking store {sqlite_file(store.uri)} does not exist. Train first: "
            "python -m mnistlab.train. Or name another folder with paths.root=FOLDER, or a store with tracking.uri=URI."
        )


def store_of(uri: str, experiment: str, settings: Mapping[str, str], root: str) -> StoreAddress:
    """The checked store that a run belongs to, or the one that the settings name instead.

    uri: of the run's store, as the run keeps it: without a password. The environment may name it with the password.

    Raises:
        ConfigError: the address is wrong, or its password is not known.
    """
    given = {SHORT_NAMES.get(name, name): value for name, value in settings.items()}
    named = given.get("tracking.uri")
    in_environment = os.environ.get("MLFLOW_TRACKING_URI")
    if named is None and uri and not (in_environment and hide_secrets(in_environment) == uri):
        moved = uri.startswith("sqlite:///") and not sqlite_file(uri).parent.is_dir()
        named = f"sqlite:///{Path(root).resolve() / 'mlruns' / 'mlflow.db'}" if moved else uri
        if "<hidden>" in uri:
            raise ConfigError(f"The store {uri} needs its password: name the complete address with tracking.uri=URI.")
    chosen = given.get("tracking.experiment") or experiment or None
    store = address(TrackingConfig(backend="mlflow", uri=named, experiment=chosen), root)
    check(store)
    return store


def check(store: StoreAddress, *, create: bool = True) -> None:
    """Check within milliseconds, before anything heavy is loaded, what a user can correct here. For the address of a
    database, SQLAlchemy is loaded.

    create: make the folder of a database, if it does not exist.

    Raises:
        ConfigError: no address of a store, a folder that cannot be written, a damaged database.
    """
    try:
        parts = urlsplit(store.uri)
        _check_address(store.uri, parts)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(_rule(store.uri, f" ({error})")) from error
    if parts.scheme == "sqlite":
        file = sqlite_file(store.uri)
        if file.is_dir():
            check_database(file)
        check_writable(file.parent, file, create=create)
        check_database(file)


def check_reachable(store: StoreAddress) -> None:
    """Check within seconds that the store's server answers.

    Raises:
        ConfigError: it does not.
    """
    if reason := servers.outage(store.uri):
        raise ConfigError(
            f"The tracking server does not answer: {hide_secrets(store.uri)} ({reason}). Start it, correct "
            "tracking.uri or MLFLOW_TRACKING_URI, or record in folders only with tracking=none."
        )


def check_permission(store: StoreAddress) -> None:
    """Check within seconds that the user may record in the experiment, if the store is a server with a login.

    Raises:
        ConfigError: the user may not.
    """
    server_login.check_permission(store.uri, store.experiment, servers.ASK_SECONDS)


def _check_is_server(config: TrackingConfig) -> None:
    """Refuse, for tracking=server, what is not the address of a server."""
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    rule, received = "tracking=server needs the http or https address of an MLflow server", hide_secrets(uri)
    if not uri:
        raise ConfigError(
            f"{rule}. Received: none. Name it: tracking=server tracking.uri=http://HOST:5000, or export "
            "MLFLOW_TRACKING_URI=http://HOST:5000."
        )
    if urlsplit(uri).scheme.partition("+")[0] in servers.DATABASE_PORTS:
        raise ConfigError(
            f"{rule}, which keeps the database's password and the files. Received: {received}. To record in a database "
            "without a server: tracking=mlflow."
        )
    if not uri.startswith(("http:", "https:", "databricks")):
        raise ConfigError(
            f"{rule}: runs in a file or folder of this machine are not shared. Received: {received}. For a database "
            "file: tracking=mlflow."
        )


def _check_address(uri: str, parts: SplitResult) -> None:
    scheme = parts.scheme.partition("+")[0]
    if uri.startswith("databricks") and uri in SCHEMES:
        return
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        raise ConfigError(_rule(uri, f": the protocol is missing. Did you mean http://{uri}?").rstrip("."))
    if scheme in ("", "file") or (scheme not in SCHEMES and "://" not in uri and not uri.startswith("sqlite")):
        folder = Path(unquote(parts.path) if scheme == "file" else uri) / "mlflow.db"
        raise ConfigError(
            "tracking.uri must be sqlite:///FILE or a server's http address; MLflow keeps no runs in plain folders. "
            f"Received: {hide_secrets(uri)}. For example: sqlite:///{folder.expanduser().resolve()}."
        )
    if scheme not in SCHEMES and scheme not in _plugins():
        raise ConfigError(_rule(uri, f": there is no kind of store {scheme!r}"))
    if scheme == "sqlite" and not re.fullmatch(r"sqlite:///[^?]+", uri):
        raise ConfigError(_rule(uri, ": a database file has three slashes, sqlite:///FILE, and no options"))
    if uri.endswith("/:memory:"):
        raise ConfigError(_rule(uri, ": a database in memory is lost when the run ends"))
    if scheme in ("http", "https", *servers.DATABASE_PORTS):
        _ = parts.port  # raises a ValueError if it is out of range
        if not parts.hostname:
            raise ConfigError(_rule(uri, ": it names no host"))
    if scheme in servers.DATABASE_PORTS:
        check_driver(uri)


def _rule(uri: str, problem: str) -> str:
    return (
        "tracking.uri must be sqlite:///FILE, http://HOST:PORT, https://HOST, or an address of PostgreSQL, MySQL, SQL "
        f"Server or Databricks. Received: {hide_secrets(uri)}{problem}."
    )


def _plugins() -> set[str]:
    """The kinds of stores that installed packages add to MLflow."""
    import importlib.metadata

    return {entry.name for entry in importlib.metadata.entry_points(group="mlflow.tracking_store")}


def has_no_runs(root: str | Path) -> bool:
    """Whether nothing was ever recorded in this folder."""
    return not any((Path(root).expanduser() / name).is_dir() for name in ("runs", "mlruns"))


def sqlite_file(uri: str) -> Path:
    """The database of a sqlite address."""
    return Path(uri.removeprefix("sqlite:///")).resolve()


def check_writable(folder: Path, database: Path | None = None, *, create: bool = True) -> None:
    """Check that files can be made in this folder, which is created if it does not exist.

    database: a file in it that must be writable, too, if it exists; create: False to create nothing.

    Raises:
        ConfigError: one of them is read-only.
    """
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=space.nearest_existing(folder)).close()  # it has no name: nothing is left behind
        if database is not None and database.exists() and not os.access(database, os.W_OK):
            raise PermissionError(f"{database} is read-only")
    except OSError as error:
        raise ConfigError(
            f"The folder of the runs cannot be written: {folder} ({error.strerror or error}). "
            "Make it writable, or choose another with paths.root=FOLDER."
        ) from error
