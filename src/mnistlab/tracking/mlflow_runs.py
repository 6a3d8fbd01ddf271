"""The only owner of MLflow: the store, and a run in it.

Runs are addressed by explicit ids through `MlflowClient`, never through MLflow's active run, so a stray MLFLOW_RUN_ID
or a lost race for an experiment's name cannot send a run elsewhere. A training has all this done in the second process
(`worker.py`), through `mirror.py`; so what is asked for and answered here is plain data.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

# A server that is down is found in seconds: MLflow's own defaults retry for four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mnistlab.config import ConfigError, hide_passwords
from mnistlab.tracking.stores import StoreAddress, sqlite_file

MAX_PARAMETERS_A_CALL = 100
MAX_METRICS_A_CALL = 1000
MAX_PARAMETER_LENGTH = 6000


def open_store(store: StoreAddress) -> tuple[Any, str]:
    """An `MlflowClient` and the experiment's id; store and experiment are created if need be.

    Several processes may do this at once on an empty folder: a file lock lets one of them create, the others wait.

    Raises:
        ConfigError: the store cannot be opened, or the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # importing MLflow sets it to INFO
    try:
        if not store.uri.startswith("sqlite:"):
            client = _client(store.uri)
            return client, _experiment_id(client, store)
        file = sqlite_file(store.uri)
        with FileLock(file.with_name(f".{file.name}.lock"), timeout=120):
            if not file.exists():
                _create_database(file)
            client = _client(f"sqlite:///{file}", file.stat().st_ino)
            return client, _experiment_id(client, store)
    except MlflowException as error:
        raise ConfigError(
            f"The tracking store {hide_passwords(store.uri)} cannot be used: {str(error).splitlines()[0]}"
        ) from error


_clients: dict[str, tuple[int, Any]] = {}


def _client(uri: str, file: int = 0) -> Any:
    """A client of this store, kept; a database that was replaced by another file is opened anew."""
    from mlflow import MlflowClient

    known = _clients.get(uri)
    if known is None or known[0] != file:
        if known is not None:
            _dispose_engine(uri)
        _clients[uri] = known = (file, MlflowClient(uri))
    return known[1]


def prepare_store(store: StoreAddress) -> None:
    """Open the store, and create it if need be, before it is wanted; a failure is told to whoever wants it."""
    with contextlib.suppress(Exception):
        open_store(store)


def _create_database(file: Path) -> None:
    """Migrate into a temporary file, set the write-ahead log, then rename: a kill leaves no half-made database."""
    from mlflow import MlflowClient

    for leftover in file.parent.glob(f".{file.name}.*.half*"):
        leftover.unlink()
    half = file.with_name(f".{file.name}.{time.time_ns()}.half")  # a name that MLflow has not migrated in this process
    MlflowClient(f"sqlite:///{half}").search_experiments(max_results=1)
    _dispose_engine(f"sqlite:///{half}")
    with sqlite3.connect(half) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    half.replace(file)


def _dispose_engine(uri: str) -> None:
    """Close the connections to the temporary database that MLflow caches by address."""
    from mlflow.tracking._tracking_service.utils import _get_store

    store = _get_store(uri)
    getattr(store, "engine", store).dispose()


def _experiment_id(client: Any, store: StoreAddress) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(store.experiment)
    if found is None:
        location = None if store.artifacts is None else (store.artifacts / _folder_name(store.experiment)).as_uri()
        try:
            return str(client.create_experiment(store.experiment, artifact_location=location))
        except MlflowException:  # on a server, somebody else was quicker
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


def _folder_name(experiment: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in experiment)


def metric_name(name: str) -> str:
    """A name that MLflow takes: what it refuses in a class's name ('cats & dogs') becomes an underscore."""
    return re.sub(r"[^/\w.\- :]", "_", name)[:250]


class MlflowRun:
    """A run in the store.

    Args:
        store: where; experiment_id and client: from `open_store`.
        name: the run's name; tags: set at its creation.
        run_id: of a run to be opened again instead of a new one.
    """

    def __init__(
        self,
        client: Any,
        experiment_id: str,
        store: StoreAddress,
        name: str,
        tags: Mapping[str, str],
        run_id: str | None = None,
    ) -> None:
        self.client = client
        self.store = store
        self.experiment_id = experiment_id
        if run_id is None:
            run_id = client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id
            self.run_id: str = run_id
        else:
            self.run_id = run_id
            client.update_run(run_id, status="RUNNING", name=name)
            self.set_tags(tags)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        entities = [Param(key[:250], str(value)[:MAX_PARAMETER_LENGTH]) for key, value in parameters.items()]
        for start in range(0, len(entities), MAX_PARAMETERS_A_CALL):
            self.client.log_batch(self.run_id, params=entities[start : start + MAX_PARAMETERS_A_CALL])

    def log_metrics(self, metrics: Mapping[str, float], step: int, milliseconds: int) -> None:
        from mlflow.entities import Metric

        entities = [Metric(metric_name(key), float(value), milliseconds, step) for key, value in metrics.items()]
        for start in range(0, len(entities), MAX_METRICS_A_CALL):
            self.client.log_batch(self.run_id, metrics=entities[start : start + MAX_METRICS_A_CALL])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, value[:8000]) for key, value in tags.items()])

    def log_dataset(self, name: str, origin: str, digests: Mapping[str, str], profile: Mapping[str, Any]) -> None:
        """The data set as a run input, one per split, with its digest.

        Args:
            digests: train, validation, test -> digest; profile: split -> plain facts, kept as JSON.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=f"{name}-{split}",
                    digest=digest,
                    source_type="local" if origin.startswith("/") else "code",
                    source=json.dumps({"origin": origin}),
                    profile=json.dumps(profile[split]),
                ),
                [InputTag("mlflow.data.context", split)],
            )
            for split, digest in digests.items()
        ]
        self.client.log_inputs(self.run_id, inputs)

    def log_table(self, columns: Mapping[str, list[Any]], file: str) -> None:
        self.client.log_table(self.run_id, dict(columns), file)

    def log_folder(self, folder: Path) -> None:
        self.client.log_artifacts(self.run_id, str(folder))

    def log_model(self, file: Path, input_shape: tuple[int, ...], num_outputs: int, remove: bool) -> str:
        """Log a Keras file as `mlflow.keras.log_model` logs the model in it; returns its models:/ address.

        remove: the file afterwards. The signature: raw uint8 pixels, shape (n, *input_shape), give float32
        (n, num_outputs).
        """
        import numpy as np
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        signature = ModelSignature(
            Schema([TensorSpec(np.dtype("uint8"), (-1, *input_shape))]),
            Schema([TensorSpec(np.dtype("float32"), (-1, num_outputs))]),
        )
        params = {key: str(value) for key, value in self.client.get_run(self.run_id).data.params.items()}
        model = self.client.create_logged_model(self.experiment_id, "model", source_run_id=self.run_id, params=params)
        with _fluent_store(self.store.uri):
            info = Model.log(
                None, _KerasFile(file, signature), name="model", run_id=self.run_id, model_id=model.model_id
            )
        if remove:
            file.unlink()
        self.set_tags({"model.address": str(info.model_uri)})
        return str(info.model_uri)

    def end(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status)

    def viewing(self) -> str:
        """The command that shows this run, and its page."""
        page = f"#/experiments/{self.experiment_id}/runs/{self.run_id}"
        if self.store.uri.startswith("http"):
            return f"{hide_passwords(self.store.uri)}/{page}"
        return f"mlflow ui --backend-store-uri {self.store.uri}   then open http://127.0.0.1:5000/{page}"


class _KerasFile:
    """A model in a .keras file, written as MLflow's Keras flavor writes one, but without loading Keras for it."""

    def __init__(self, file: Path, signature: Any) -> None:
        self.file, self.signature = file, signature

    def save_model(self, path: str, mlflow_model: Any) -> None:
        """Make the folder that `mlflow.keras.load_model` and `mlflow.pyfunc.load_model` read."""
        import yaml
        from mlflow import pyfunc
        from mlflow.utils.environment import _process_pip_requirements, _PythonEnv

        folder = Path(path)
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "keras_module.txt").write_text("keras")
        shutil.copyfile(self.file, folder / "data" / "model.keras")
        version = importlib.metadata.version("keras")
        mlflow_model.signature = self.signature
        mlflow_model.add_flavor(
            "keras", data="data", keras_version=version, keras_backend="tensorflow", save_exported_model=False
        )
        pyfunc.add_to_model(
            mlflow_model, loader_module="mlflow.keras", conda_env="conda.yaml", python_env="python_env.yaml"
        )
        mlflow_model.model_size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        mlflow_model.save(str(folder / "MLmodel"))
        needed = [f"{package}=={importlib.metadata.version(package)}" for package in ("tensorflow", "keras", "numpy")]
        conda, pip, _ = _process_pip_requirements(None, needed, None)
        (folder / "conda.yaml").write_text(yaml.safe_dump(conda, default_flow_style=False))
        (folder / "requirements.txt").write_text("\n".join(pip))
        _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))


@contextlib.contextmanager
def _fluent_store(uri: str) -> Iterator[None]:
    """Point MLflow's process-wide store at this one, for its functions that know no client. MLflow writes the address
    into the environment too, where later runs would take it for the user's wish: both are put back."""
    import mlflow

    was_set, before = mlflow.is_tracking_uri_set(), os.environ.get("MLFLOW_TRACKING_URI")
    previous = mlflow.get_tracking_uri() if was_set else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(previous)  # type: ignore[arg-type]
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def model_file(run_id: str, store: StoreAddress, into: Path) -> Path:
    """Fetch the Keras file that a finished run saved as its artifact.

    Raises:
        ConfigError: there is no such run, or it saved no model.
    """
    from mlflow.exceptions import MlflowException

    client, _ = open_store(store)
    try:
        saved = [entry.path for entry in client.list_artifacts(run_id, "model_files")]
        chosen = sorted(saved, key=lambda path: (not path.endswith(".keras"), path.endswith(".weights.h5")))
        if chosen:
            return Path(client.download_artifacts(run_id, chosen[0], str(into)))
    except MlflowException as error:
        raise ConfigError(f"init.from={run_id}: no such run in {hide_passwords(store.uri)}.") from error
    raise ConfigError(f"init.from={run_id}: this run saved no model (save.formats was empty, or it did not finish).")


# ---- a process's runs, by their ids ---------------------------------------------------------------------------------

_open_runs: dict[str, MlflowRun] = {}
_failures: dict[str, Exception] = {}


def open_run(store: StoreAddress, name: str, tags: Mapping[str, str], run_id: str | None = None) -> tuple[str, str]:
    """Create a run, or open that of this id again; returns its id and where it can be looked at."""
    client, experiment_id = open_store(store)
    run = MlflowRun(client, experiment_id, store, name, tags, run_id)
    _failures.pop(run.run_id, None)
    _open_runs[run.run_id] = run
    return run.run_id, run.viewing()


class RunName(NamedTuple):
    """What it takes to find a run again."""

    store: StoreAddress
    name: str
    run_id: str


def on_run(known: RunName, method: str, *arguments: Any) -> Any:
    """Call a method of an open run; `end` closes it. A run that another process had open is opened again.

    After the first failure nothing more is tried: a store that is gone would be waited for again and again.
    """
    run_id = known.run_id
    if run_id in _failures:
        raise _failures[run_id]
    if run_id not in _open_runs:
        open_run(known.store, known.name, {}, run_id)
    run = _open_runs.pop(run_id) if method == "end" else _open_runs[run_id]
    try:
        return getattr(run, method)(*arguments)
    except Exception as error:
        _failures[run_id] = error
        _open_runs.pop(run_id, None)
        if run.store.uri.startswith("sqlite:"):  # a server that does not answer would be waited for once more
            with contextlib.suppress(Exception):
                run.set_tags({"error": f"its record is incomplete here: {type(error).__name__}: {error}"})
                run.end("FAILED")
        raise


def abandon(reason: str) -> None:
    """End all open runs as KILLED: whoever opened them is gone."""
    for run in list(_open_runs.values()):
        with contextlib.suppress(Exception):  # a store that fails as well: the next command closes its orphans
            run.set_tags({"error": reason})
            run.end("KILLED")


def close_incomplete(store: StoreAddress, run_id: str) -> None:
    """End a run whose last entries were lost with the process that should have written them."""
    client, _ = open_store(store)
    client.set_tag(run_id, "error", "its record is incomplete here: the process that wrote it died; its folder has all")
    client.set_terminated(run_id, "FAILED")
