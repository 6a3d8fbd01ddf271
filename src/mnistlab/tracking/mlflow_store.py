"""Opens the tracking store through MLflow: database, client, experiment; fetches files of its runs."""

import contextlib
import logging
import os
import re
import sqlite3
import time
import warnings
from pathlib import Path
from typing import Any

from filelock import FileLock

from mnistlab.tracking import model_digests, servers

# A server that is down is detected in seconds: with MLflow's defaults the retries take four minutes. MLflow would also
# repeat the creation of a run whose answer was lost, and so create two.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a server's files, in the middle of a sweep
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(servers.REQUEST_SECONDS))

from mnistlab.config import ConfigError, hide_secrets, suggest
from mnistlab.tracking.mlflow_internals import dispose_engine
from mnistlab.tracking.store_errors import checked_login, in_words, is_locked, is_silent
from mnistlab.tracking.stored_names import tags_of
from mnistlab.tracking.stores import StoreAddress, sqlite_file

# Otherwise the UI takes the experiment for one of language models and shows traces and judges instead of runs.
KIND = {"mlflow.experimentKind": "custom_model_development"}
MAX_NAMESAKES, MAX_SUGGESTED = 50, 200  # runs of one name that are looked at, and those whose names are suggested


def open_store(store: StoreAddress, create: bool = True) -> tuple[Any, str]:
    """An `MlflowClient` and the experiment's id.

    create: store and experiment, if they do not exist; otherwise that is an error.

    Several processes may do this at once in an empty folder: a file lock lets one create the store, the others wait.

    Raises:
        ConfigError: the store cannot be opened, its server refuses the login, or the experiment was deleted or
            (create=False) does not exist.
    """
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # importing MLflow sets it to INFO
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of errors that it raises, too
    try:
        if not store.uri.startswith("sqlite:///"):
            if reason := servers.known_outage(store.uri):  # another call would wait again
                raise servers.ServerSilent(reason)
            client = _client(store.uri)
            return client, _experiment_id(client, store, create)
        file = sqlite_file(store.uri)
        with FileLock(file.with_name(f".{file.name}.lock"), timeout=120):
            if not file.exists() or not file.stat().st_size:
                _create_database(file)
            client = _client(f"sqlite:///{file}", file.stat().st_ino)
            return client, _experiment_id(client, store, create)
    except MlflowException as error:
        if is_locked(error):
            raise
        checked_login(error, store.uri)
        if is_silent(error):
            servers.note_outage(store.uri, str(in_words(error, store.uri)))
            raise
        raise ConfigError(
            f"The tracking store {hide_secrets(store.uri)} cannot be used: {str(error).splitlines()[0]}"
        ) from error


_clients: dict[str, tuple[int, Any]] = {}


def _client(uri: str, file: int = 0) -> Any:
    """A client of this store, cached; opened again if the database file was replaced by another."""
    from mlflow import MlflowClient

    known = _clients.get(uri)
    if known is None or known[0] != file:
        if known is not None:
            dispose_engine(uri)
        if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS"):  # urllib3 would warn of it with each of many requests
            warnings.filterwarnings("ignore", message="Unverified HTTPS request")
        _clients[uri] = known = (file, MlflowClient(uri))
    return known[1]


def prepare_store(store: StoreAddress) -> None:
    """Open the store early and create it if it does not exist. Errors are ignored: the first real use raises them."""
    with contextlib.suppress(Exception):
        open_store(store)


def _create_database(file: Path) -> None:
    """Create the database in a temporary file, set the write-ahead log, then rename it: a kill leaves no half of it."""
    from mlflow import MlflowClient

    for leftover in file.parent.glob(f".{file.name}.*.half*"):
        leftover.unlink()
    half = file.with_name(f".{file.name}.{time.time_ns()}.half")  # MLflow migrates each name once per process
    MlflowClient(f"sqlite:///{half}").search_experiments(max_results=1)
    dispose_engine(f"sqlite:///{half}")
    with sqlite3.connect(half) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    half.replace(file)


def _experiment_id(client: Any, store: StoreAddress, create: bool) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(store.experiment)
    if found is None and not create:
        names = [experiment.name for experiment in client.search_experiments(max_results=50)]
        hint = suggest(store.experiment, names)
        raise ConfigError(f"There is no experiment {store.experiment!r} in {hide_secrets(store.uri)}.{hint}")
    if found is None:
        location = (
            None if store.artifacts is None else (store.artifacts / re.sub(r"[^\w.-]", "_", store.experiment)).as_uri()
        )
        try:
            return str(client.create_experiment(store.experiment, artifact_location=location, tags=KIND))
        except MlflowException:  # on a server, another client was faster
            found = client.get_experiment_by_name(store.experiment)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"The experiment {store.experiment!r} was deleted in the tracking store. "
            "Choose another with tracking.experiment=NAME, or restore it: "
            f"mlflow experiments restore --experiment-id {found.experiment_id}."
        )
    return str(found.experiment_id)


def find_run_id(text: str, store: StoreAddress, setting: str = "init.from") -> str:
    """The id of the run with this name (the newest that finished), this id, or an id that starts with this text.

    setting: what named it, for the message.

    Raises:
        ConfigError: there is no such run, or several ids start so.
    """
    client, experiment_id = open_store(store)

    def search(condition: str) -> list[Any]:
        page = client.search_runs([experiment_id], condition, max_results=MAX_NAMESAKES)
        return [run for run in page if run.data.tags.get("sweep.kind") != "parent"]

    quote = "'" if "'" not in text else '"'
    named = f"attributes.run_name = {quote}{text}{quote}" if quote not in text else ""
    for condition in (f"{named} and attributes.status = 'FINISHED'", named) if named else ():
        if found := search(condition):
            return str(found[0].info.run_id)
    is_id = re.fullmatch(r"[0-9a-f]{4,32}", text.lower())
    ids = [run.info.run_id for run in search(f"attributes.run_id LIKE '{text.lower()}%'")] if is_id else []
    if len(ids) == 1 or len(text) == 32:
        return str((ids or [text])[0])
    received = f"Received: {text}"
    if ids:
        raise ConfigError(f"{setting} must name one run. {received}, with which several ids start: {', '.join(ids)}.")
    names = sorted(
        {run.info.run_name for run in client.search_runs([experiment_id], max_results=MAX_SUGGESTED)} - {"", None}
    )
    near = suggest(text, names).split(" Choices:")[0]
    raise ConfigError(
        f"{setting} must be a saved model's file (.keras, .h5, .weights.h5), a run's folder, its id or the first four "
        f"or more letters of it, its name, runs:/ID or models:/ID. {received}: there is no such file, and no such run "
        f"in {hide_secrets(store.uri)}.{near}"
    )


def download_model_file(
    run_id: str, store: StoreAddress, folder: Path, path: str | None = None, setting: str = "init.from"
) -> Path:
    """Fetch the Keras file that a finished run saved as its artifact, or the artifact `path`; else its logged model.

    setting: what named the run, for the message.

    Raises:
        ConfigError: there is no such run, it saved no model, or the file is another than it saved.
    """
    from mlflow.exceptions import MlflowException

    client, _ = open_store(store)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        saved = [path] if path else [entry.path for entry in client.list_artifacts(run_id, model_digests.FOLDER)]
        chosen = sorted(saved, key=lambda path: (not path.endswith(".keras"), path.endswith(".weights.h5")))
        fetched = Path(client.download_artifacts(run_id, chosen[0], str(folder))) if chosen else None
        run = client.get_run(run_id)
    except (MlflowException, OSError) as error:
        missing = f"no file {path} of run {run_id}" if path else "no such run"
        raise ConfigError(f"{setting}={run_id}: {missing} in {hide_secrets(store.uri)}.") from error
    if fetched is not None:
        if chosen[0].startswith(f"{model_digests.FOLDER}/"):
            model_digests.compare(
                fetched, tags_of(run.data.tags).get(model_digests.digest_tag(fetched.name)), f"{setting}={run_id}"
            )
        return fetched
    for logged in run.outputs.model_outputs if run.outputs else ():
        return download_logged_model(f"models:/{logged.model_id}", store, folder, setting)
    raise ConfigError(f"{setting}={run_id}: this run saved no model (save.formats was empty, or it did not finish).")


def download_logged_model(address: str, store: StoreAddress, folder: Path, setting: str = "init.from") -> Path:
    """Fetch the Keras file of a model that MLflow has: models:/ID, models:/NAME/VERSION or models:/NAME@ALIAS.

    setting: what named it, for the message.

    Raises:
        ConfigError: there is no such model, it is not a Keras model, or the file is another than was logged.
    """
    import mlflow.artifacts

    from mnistlab.tracking.mlflow_models import fluent_store

    client, _ = open_store(store)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with fluent_store(store.uri):
            found = mlflow.artifacts.download_artifacts(artifact_uri=address.rstrip("/"), dst_path=str(folder))
    except Exception as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"{setting}={address}: no such model in {hide_secrets(store.uri)} ({reason}).") from error
    file = Path(found) / "data" / "model.keras"
    if not file.is_file():
        raise ConfigError(f"{setting}={address} must be a Keras model in one file. It has no data/model.keras.")
    model_digests.compare(
        file, _logged_digest(client, address.removeprefix("models:/").rstrip("/")), f"{setting}={address}"
    )
    return file


def _logged_digest(client: Any, name: str) -> str | None:
    """The digest that was recorded for a logged model; None for those of other programs and earlier versions."""
    found = _logged_model(client, name)
    digest: str | None = found.tags.get(model_digests.digest_tag("model.keras")) if found else None
    return digest


def run_of_model(address: str, store: StoreAddress) -> str | None:
    """The id of the run that logged a model: models:/ID, models:/NAME/VERSION or models:/NAME@ALIAS."""
    found = _logged_model(open_store(store)[0], address.removeprefix("models:/").rstrip("/"))
    return str(found.source_run_id) if found and found.source_run_id else None


def _logged_model(client: Any, name: str) -> Any:
    """MLflow's logged model by its id, or by NAME/VERSION, NAME@ALIAS, NAME/latest of a registered model; None if there
    is none."""
    from mlflow.exceptions import MlflowException

    registered, _, version = name.partition("/")
    try:
        if "@" in name:
            found = client.get_model_version_by_alias(*name.rsplit("@", 1))
        elif version.isdigit():
            found = client.get_model_version(registered, version)
        elif version == "latest":
            found = client.search_model_versions(f"name = '{registered}'", 1, ["version_number DESC"])[0]
        elif version:
            return None
        else:
            found = None
        model = name if found is None else found.model_id or str(found.source).removeprefix("models:/")
        return client.get_logged_model(model)
    except (MlflowException, IndexError):
        return None
