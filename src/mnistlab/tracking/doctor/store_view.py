"""The store's runs and logged models as the doctor needs them, read at once.

A SQLite database is read by SQL: in a moment for thousands of runs, without changing it, and without MLflow, which
cannot start on a store that is read-only or of another version.
"""

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from mnistlab.tracking import history, mlflow_internals, stored_names
from mnistlab.tracking.history import Status, StoredRun
from mnistlab.tracking.mlflow_internals import ModelRow, RunRow
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.relocation import local_path
from mnistlab.tracking.stores import StoreAddress, sqlite_file

DEFAULT = "Default"  # MLflow's experiment for runs without one
TAGS = (
    *("run.process", "run.heartbeat", "run.folder", "run.name", "run.uid"),
    *("fingerprint", "sweep.kind", "model.address", "outcome"),
)


@dataclass(frozen=True)
class StoreView:
    """runs: this project's own in the experiment, the newest first; in_default: those that landed in MLflow's Default;
    models: logged models, None if they are not known; known: the ids of all runs, also deleted and foreign ones, None
    if they are not known; moved: old folder -> where its files are now, and the store does not know it."""

    store: StoreAddress
    runs: list[StoredRun]
    in_default: list[StoredRun]
    models: list[ModelRow] | None
    known: frozenset[str] | None
    moved: Mapping[Path, Path] = field(default_factory=dict)

    def place(self, address: str) -> Path | None:
        """The local folder of an address; None on a server, and in a folder that was moved: `relocation` mends that."""
        path = local_path(address)
        return None if path is None or any(map(path.is_relative_to, self.moved)) else path


def view(store: StoreAddress) -> StoreView:
    """Read the store.

    Raises:
        sqlite3.Error: the database cannot be read; ConfigError: the server cannot be used, or has no such experiment.
    """
    return _database_view(store) if store.uri.startswith("sqlite:") else _server_view(store)


def _database_view(store: StoreAddress) -> StoreView:
    with mlflow_internals.reading(sqlite_file(store.uri)) as connection:
        experiments = mlflow_internals.read_experiments(connection)
        models = mlflow_internals.read_models(connection)
        own, known = _own_runs(connection)
    return StoreView(
        store,
        own.get(experiments.get(store.experiment, ""), []),
        _stray(own.get(experiments.get(DEFAULT, ""), []), store),
        models,
        known,
    )


def own_runs(store: StoreAddress) -> list[StoredRun]:
    """This project's runs in all experiments of a database.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with mlflow_internals.reading(sqlite_file(store.uri)) as connection:
        return [run for runs in _own_runs(connection)[0].values() for run in runs]


def _own_runs(connection: sqlite3.Connection) -> tuple[dict[str, list[StoredRun]], frozenset[str]]:
    """Experiment's id -> this project's runs in it; the ids of all runs."""
    rows = mlflow_internals.read_runs(connection)
    names = [*TAGS, *map(stored_names.stored_tag, TAGS), stored_names.SETTINGS_TAG]
    tags = mlflow_internals.read_pairs(connection, "tags", names)
    chosen = mlflow_internals.read_pairs(connection, "params", ["tracking.experiment"])
    own: dict[str, list[StoredRun]] = {}
    for row in rows:
        if row.stage == "active" and "run.process" in tags.get(row.run_id, ()):
            own.setdefault(row.experiment_id, []).append(_stored(row, tags[row.run_id], chosen.get(row.run_id, {})))
    return own, frozenset(row.run_id for row in rows)


def _stored(row: RunRow, tags: Mapping[str, str], params: Mapping[str, str]) -> StoredRun:
    started = row.started / 1000 if row.started else None
    status = cast(Status, row.status)
    params = stored_names.parameters_of(params, tags)
    tags = stored_names.tags_of(tags)
    return StoredRun(row.run_id, row.name or row.run_id, status, tags, params, {}, row.artifacts, started)


def _server_view(store: StoreAddress) -> StoreView:
    client, experiment_id = open_store(store, create=False)
    runs = [run for run in history.find(store) if "run.process" in run.tags]
    stray: list[StoredRun] = []
    with contextlib.suppress(Exception):  # a server may have no such experiment
        default = replace(store, experiment=DEFAULT)
        stray = _stray([run for run in history.find(default) if "run.process" in run.tags], store)
    return StoreView(store, runs, stray, _server_models(client, experiment_id), None)


def _server_models(client: Any, experiment_id: str) -> list[ModelRow] | None:
    try:
        found: list[Any] = []
        token: str | None = None
        while token or not found:
            page = client.search_logged_models([experiment_id], max_results=100, page_token=token)
            found, token = [*found, *page], page.token
            if not token:
                break
    except Exception:  # a server of an earlier version has no logged models
        return None
    return [
        ModelRow(model.model_id, str(model.status), model.artifact_location, model.source_run_id or "")
        for model in found
    ]


def _stray(runs: list[StoredRun], store: StoreAddress) -> list[StoredRun]:
    """The runs in Default that were not meant to be there."""
    if store.experiment == DEFAULT:
        return []
    return [run for run in runs if run.params.get("tracking.experiment") != DEFAULT]
