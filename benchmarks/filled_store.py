"""Tracking stores with very many runs: SQLite in a folder, and a real PostgreSQL behind `mlflow server`.

A store is filled by copying a few real runs within the database, with all their parameters, tags, metrics and inputs.
Each copy of a sweep has ids, fingerprints and a time of its own, so that nothing is the same computation.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import environment

OWN_VALUES = ("record.fingerprint", "record.fingerprint.request", "sweep.id", "sweep.start", "run.uid")
PARENTS = ("mlflow.parentRunId", "sweep.parent")
# Table -> the column with the run, and the columns that a copy has of its own. copies: see `multiply`.
OF_A_RUN = {
    "runs": (
        "run_uuid",
        {"run_uuid": "c.target", "start_time": "t.start_time + c.later", "end_time": "t.end_time + c.later"},
    ),
    "params": ("run_uuid", {"run_uuid": "c.target"}),
    "metrics": ("run_uuid", {"run_uuid": "c.target"}),
    "latest_metrics": ("run_uuid", {"run_uuid": "c.target"}),
    "tags": ("run_uuid", {"run_uuid": "c.target", "value": "VALUE_OF_TAG"}),
}
INPUT_ID = "substr(t.input_uuid, 1, 24) || c.suffix"
SUFFIX = "%012d"
FILES = ("status.json", "tags.json", "parameters.json", "sync.json")


def multiply(database: str, sources: Sequence[str], parent: str, number: int, num_copies: int) -> None:
    """Copy the runs of a sweep within a database.

    Args:
        database: the address that SQLAlchemy takes; sources: the ids of the runs; parent: of them, that of the sweep;
            number: of the first copy, so that a later call does not make the same.
    """
    import sqlalchemy

    rows = []
    for copy in range(number, number + num_copies):
        targets = {source: uuid.uuid4().hex for source in sources}
        later = (1 if copy % 2 else -1) * 60_000 * copy  # half of them are newer than the original
        rows += [
            {"source": source, "target": target, "parent": targets[parent], "later": later, "suffix": SUFFIX % copy}
            for source, target in targets.items()
        ]
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        text = "source varchar(32), target varchar(32), parent varchar(32), later bigint, suffix varchar(12)"
        connection.execute(sqlalchemy.text(f"CREATE TABLE copies ({text})"))
        values = "(:source, :target, :parent, :later, :suffix)"
        connection.execute(sqlalchemy.text(f"INSERT INTO copies VALUES {values}"), rows)
        for statement in _statements(sqlalchemy.inspect(connection)):
            connection.execute(sqlalchemy.text(statement))
        connection.execute(sqlalchemy.text("DROP TABLE copies"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text("ANALYZE"))
    engine.dispose()


def _statements(inspector: Any) -> Iterator[str]:
    """The INSERTs that copy the rows of the runs in `copies`."""
    quoted = [", ".join(f"'{name}'" for name in names) for names in (OWN_VALUES, PARENTS)]
    tag = (
        f"CASE WHEN t.key IN ({quoted[0]}) THEN substr(t.value, 1, 20) || c.suffix "
        f"WHEN t.key IN ({quoted[1]}) THEN c.parent ELSE t.value END"
    )
    for table, (column, own) in OF_A_RUN.items():
        values = {name: text.replace("VALUE_OF_TAG", tag) for name, text in own.items()}
        yield _insert(inspector, table, values, f"c.source = t.{column}")
    for column, kind in (("destination_id", "DATASET"), ("source_id", "RUN_OUTPUT")):
        values = {"input_uuid": INPUT_ID, column: "c.target"}
        yield _insert(inspector, "inputs", values, f"c.source = t.{column} AND t.source_type = '{kind}'")
    of_input = "JOIN inputs i ON i.destination_id = c.source AND i.input_uuid = t.input_uuid"
    yield _insert(inspector, "input_tags", {"input_uuid": INPUT_ID}, "1 = 1", of_input)


def _insert(inspector: Any, table: str, values: dict[str, str], condition: str, more: str = "") -> str:
    columns = [column["name"] for column in inspector.get_columns(table)]
    chosen = ", ".join(values.get(name, f"t.{name}") for name in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {table} t JOIN copies c ON {condition} {more}"
    )


def copy_folders(root: Path, number: int, num_copies: int) -> None:
    """Give a root the folders of so many more finished runs: the small files that mnistlab reads when it starts."""
    source = next(folder for folder in sorted(root.glob("runs/*/*-sweep/*")) if (folder / "status.json").is_file())
    for copy in range(number, number + num_copies):
        folder = root / "runs" / "2020-01-01" / f"{copy:06d}"
        folder.mkdir(parents=True)
        for name in FILES:
            os.link(source / name, folder / name)


# ---- servers --------------------------------------------------------------------------------------------------------


def find_postgresql() -> Path | None:
    """The newest folder with initdb and pg_ctl; None if there is none."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists()), None)


@contextlib.contextmanager
def postgresql(programs: Path, folder: Path) -> Iterator[str]:
    """A new PostgreSQL server with an empty database, and its address. It refuses root, and is run as `postgres`."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder.mkdir()
    if as_user:
        shutil.chown(folder, "postgres")
    port = free_port()
    data, options = folder / "data", f"-p {port} -k {folder} -h 127.0.0.1"

    def execute(*words: str) -> None:
        done = subprocess.run([*as_user, *words], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{words[0]} failed: {done.stderr[-300:]}")

    execute(str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "mnistlab", "--no-sync")
    start = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start"]
    subprocess.run([*as_user, *start], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    try:
        yield f"postgresql+{_driver()}://mnistlab@127.0.0.1:{port}/postgres"
    finally:
        execute(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")


def _driver() -> str:
    """The installed driver: SQLAlchemy's default changed from psycopg2 to psycopg."""
    return "psycopg" if importlib.util.find_spec("psycopg") else "psycopg2"


@contextlib.contextmanager
def mlflow_server(database: str, folder: Path) -> Iterator[str]:
    """A real `mlflow server` in front of a database, with its defaults; its address."""
    port, folder = free_port(), folder.resolve()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--backend-store-uri", database]
    log = (folder / "mlflow_server.log").open("w")
    server = subprocess.Popen(
        [*command, "--artifacts-destination", str(folder / "server_artifacts")],
        cwd=folder,
        env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
        stdout=log,
        stderr=log,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, server)
        yield address
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def _wait_for(address: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        if server.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError("mlflow server did not start; see mlflow_server.log")


def free_port() -> int:
    """A port that no program listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def plural(count: int) -> str:
    """1000 -> '1,000 runs'."""
    return re.sub(r"^1 runs$", "1 run", f"{count:,} runs")
