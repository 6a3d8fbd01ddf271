"""The private names of MLflow that mnistlab uses, each with its reason. A test fails when MLflow renames one."""

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple


def dispose_engine(uri: str) -> None:
    """Close the database connections that MLflow caches by address, before the file is renamed or replaced."""
    from mlflow.tracking._tracking_service.utils import _get_store

    store = _get_store(uri)
    getattr(store, "engine", store).dispose()


def write_environment(folder: Path, requirements: Sequence[str]) -> None:
    """Write conda.yaml, requirements.txt and python_env.yaml as MLflow's flavors do, without loading a flavor."""
    import yaml
    from mlflow.utils.environment import _process_pip_requirements, _PythonEnv

    conda, pip, _ = _process_pip_requirements(None, list(requirements), None)
    conda_environment: Any = conda
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda_environment, default_flow_style=False))
    (folder / "requirements.txt").write_text("\n".join(pip))
    _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))


# ---- its database, where a store is one: one statement for many runs. MLflow's filters have no IN for tags, and its
# ---- history of a metric is that of one run.

STATEMENT_VALUES = 500  # in one IN; some databases take at most 999 of all


def engine_of(uri: str) -> Any:
    """SQLAlchemy's engine of a store that is a database; None of a server's."""
    from mlflow.tracking._tracking_service.utils import _get_store

    return getattr(_get_store(uri), "engine", None)


class TaggedRun(NamedTuple):
    """A run that has one of the wanted values in a tag. started: milliseconds since 1970."""

    run_id: str
    value: str
    status: str
    started: int


def tagged_runs(
    engine: Any, experiment_id: str, keys: Sequence[str], values: Sequence[str], without: Mapping[str, Sequence[str]]
) -> list[TaggedRun]:
    """The active runs of an experiment that have one of the values in one of these tags, the newest first.

    without: tag -> values; runs that have one of them are left out.
    """
    left_out = " OR ".join(f"(o.key = '{key}' AND o.value IN :without{place})" for place, key in enumerate(without))
    statement = (
        "SELECT r.run_uuid, t.value, r.status, r.start_time FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
        "WHERE t.key IN :keys AND t.value IN :values AND r.experiment_id = :experiment "
        "AND r.lifecycle_stage = 'active' "
        f"AND NOT EXISTS (SELECT 1 FROM tags o WHERE o.run_uuid = r.run_uuid AND ({left_out}))"
    )
    given = {"keys": keys, "experiment": int(experiment_id)}
    given |= {f"without{place}": names for place, names in enumerate(without.values())}
    found = [TaggedRun(*row) for row in _rows(engine, statement, given, values)]
    return sorted(found, key=lambda run: (-(run.started or 0), run.run_id))


class MetricRow(NamedTuple):
    """One value of a metric. timestamp: milliseconds since 1970."""

    run_id: str
    key: str
    step: int
    timestamp: int
    value: float


def metric_rows(engine: Any, run_ids: Sequence[str], keys: Sequence[str]) -> list[MetricRow]:
    """All values that these runs have of these metrics."""
    statement = (
        "SELECT m.run_uuid, m.key, m.step, m.timestamp, m.value, m.is_nan FROM metrics m "
        "WHERE m.run_uuid IN :values AND m.key IN :keys"  # MySQL reserves the word key, but not after a dot
    )
    rows = _rows(engine, statement, {"keys": keys}, run_ids)
    return [
        MetricRow(run, key, step, time, math.nan if is_nan else value) for run, key, step, time, value, is_nan in rows
    ]


def _rows(engine: Any, statement: str, given: Mapping[str, Any], values: Sequence[str]) -> list[Any]:
    """The rows of a statement, for some of the values at a time."""
    from sqlalchemy import bindparam, text

    lists = [name for name, value in given.items() if not isinstance(value, str | int)]
    prepared = text(statement).bindparams(*(bindparam(name, expanding=True) for name in ("values", *lists)))
    given = {name: list(value) if name in lists else value for name, value in given.items()}
    rows: list[Any] = []
    with engine.connect() as connection:
        for start in range(0, len(values), STATEMENT_VALUES):
            chunk = list(values[start : start + STATEMENT_VALUES])
            rows += connection.execute(prepared, {**given, "values": chunk}).fetchall()
    return rows


# ---- the request of its UI for one metric of many runs: `MlflowClient` has none

BULK_HISTORY = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
BULK_RUNS, BULK_VALUES = 50, 25_000  # in one request (the server takes 100 runs); in one answer


def requested_metric_rows(uri: str, run_ids: Sequence[str], key: str) -> list[MetricRow] | None:
    """All values that at most BULK_RUNS runs have of a metric; None if the server does not answer this request, or not
    completely."""
    from mlflow.tracking._tracking_service.utils import _get_store
    from mlflow.utils.rest_utils import http_request

    store = _get_store(uri)
    if not hasattr(store, "get_host_creds"):
        return None
    parameters = {"run_id": list(run_ids), "metric_key": key, "max_results": BULK_VALUES}
    answer = http_request(store.get_host_creds(), BULK_HISTORY, "GET", params=parameters, raise_on_status=False)
    try:
        rows = answer.json()["metrics"] if answer.status_code == 200 else None
    except (ValueError, KeyError, TypeError):  # something else answers, such as the page of a login
        return None
    if rows is None or len(rows) >= BULK_VALUES:
        return None
    return [
        MetricRow(row["run_id"], row["key"], int(row["step"]), int(row["timestamp"]), float(row["value"]))
        for row in rows
    ]


# ---- the tables of its SQLite database: the doctor reads them without changing a byte, also where MLflow cannot start

BUSY_SECONDS = 5  # how long a database that another process has locked is waited for
MODEL_STATUS = {1: "PENDING", 2: "READY", 3: "FAILED"}
ADDRESSES = (  # the columns with the places of files, of the rows that meet the condition
    ("experiments", "artifact_location", "1"),
    ("runs", "artifact_uri", "1"),
    ("logged_models", "artifact_location", "1"),
    ("model_versions", "source", "1"),
    ("model_versions", "storage_location", "1"),
    ("trace_tags", "value", "key = 'mlflow.artifactLocation'"),
    ("tags", "value", "key = 'run.folder'"),
)
OF_A_MODEL = ("logged_models", "logged_model_params", "logged_model_tags", "logged_model_metrics")


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database that cannot change it.

    Raises:
        sqlite3.Error: it is no database, damaged or locked.
    """
    address = file.as_uri()
    with closing(sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            yield connection
            return
        except sqlite3.OperationalError as error:
            # In a folder that cannot be written, SQLite cannot make the file that its readers share.
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
    with closing(sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True)) as connection:
        yield connection


@contextmanager
def writing(file: Path) -> Iterator[sqlite3.Connection]:
    """A transaction on a database: all of it or nothing."""
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def copy_database(file: Path, to: Path) -> None:
    """Copy a database that is in use; a plain copy would lack what its write-ahead log has."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


class RunRow(NamedTuple):
    """A row of runs. started: milliseconds since 1970."""

    run_id: str
    name: str
    status: str
    started: int | None
    artifacts: str
    experiment_id: str
    stage: str


class ModelRow(NamedTuple):
    """A row of logged models. status: PENDING, READY or FAILED."""

    model_id: str
    status: str
    location: str
    run_id: str


def read_experiments(connection: sqlite3.Connection) -> dict[str, str]:
    """Experiment name -> id."""
    return {name: str(key) for key, name in connection.execute("SELECT experiment_id, name FROM experiments")}


def read_runs(connection: sqlite3.Connection) -> list[RunRow]:
    """All runs, also deleted ones, the newest first."""
    columns = "run_uuid, name, status, start_time, artifact_uri, CAST(experiment_id AS TEXT), lifecycle_stage"
    return [RunRow(*row) for row in connection.execute(f"SELECT {columns} FROM runs ORDER BY start_time DESC")]


def read_pairs(connection: sqlite3.Connection, table: str, keys: Sequence[str]) -> dict[str, dict[str, str]]:
    """Run id -> key -> value; table: tags or params."""
    found: dict[str, dict[str, str]] = {}
    marks = ", ".join("?" * len(keys))
    rows = connection.execute(f"SELECT run_uuid, key, value FROM {table} WHERE key IN ({marks})", tuple(keys))
    for run_id, key, value in rows:
        found.setdefault(run_id, {})[key] = value
    return found


def read_models(connection: sqlite3.Connection) -> list[ModelRow]:
    """The logged models that are not deleted."""
    rows = connection.execute(
        "SELECT model_id, status, artifact_location, source_run_id FROM logged_models WHERE lifecycle_stage = 'active'"
    )
    return [ModelRow(key, MODEL_STATUS.get(status, "?"), place, run or "") for key, status, place, run in rows]


class AddressRow(NamedTuple):
    """One place of files in the database."""

    table: str
    column: str
    row: int
    value: str


def read_addresses(connection: sqlite3.Connection) -> list[AddressRow]:
    """All places of files that the database names."""
    return [
        AddressRow(table, column, row, value)
        for table, column, condition in ADDRESSES
        for row, value in connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {condition}")
        if value
    ]


def write_addresses(connection: sqlite3.Connection, changes: Iterable[tuple[AddressRow, str]]) -> None:
    """Replace places of files."""
    for (table, column, row, _), value in changes:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))


def move_run(connection: sqlite3.Connection, run_id: str, experiment_id: str) -> None:
    """Move a run and its logged models to another experiment, which MLflow itself cannot do."""
    connection.execute("UPDATE runs SET experiment_id = ? WHERE run_uuid = ?", (experiment_id, run_id))
    for table in OF_A_MODEL:
        connection.execute(
            f"UPDATE {table} SET experiment_id = ? "
            "WHERE model_id IN (SELECT model_id FROM logged_models WHERE source_run_id = ?)",
            (experiment_id, run_id),
        )
