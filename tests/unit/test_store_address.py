"""The address of the tracking store; an unusable store is an error within seconds, before MLflow is loaded."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_data

from mnistlab.config import ConfigError, TrackingConfig
from mnistlab.tracking import pages, servers, stores
from mnistlab.tracking.database_file import check_database
from mnistlab.tracking.initial_weights import RUN_ADDRESS
from mnistlab.tracking.stores import address, check_reachable


def config(uri: str | None = None, experiment: str | None = None) -> TrackingConfig:
    return TrackingConfig(backend="mlflow", uri=uri, experiment=experiment)


def test_the_default_is_under_the_root_and_not_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir("/")
    store = address(config(), str(tmp_path))
    assert store.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.artifacts == tmp_path / "mlruns" / "artifacts"
    assert store.experiment == "mnistlab"
    assert store.from_environment == ""


def test_environment_variables_are_used_and_reported_but_the_configuration_comes_first(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    store = address(config(), str(tmp_path))
    assert (store.uri, store.experiment) == ("http://me:secret@host:1", "theirs")
    assert "MLFLOW_TRACKING_URI=http://me:<hidden>@host:1" in store.from_environment
    assert "MLFLOW_EXPERIMENT_NAME=theirs" in store.from_environment
    monkeypatch.chdir(tmp_path)
    configured = address(config("sqlite:///x.db", "mine"), str(tmp_path))
    assert (configured.uri, configured.experiment) == (f"sqlite:///{tmp_path}/x.db", "mine")
    assert configured.from_environment == ""


def test_a_server_that_is_down_is_an_error(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="does not answer"):
            check_reachable(address(config(f"http://127.0.0.1:{port}"), str(tmp_path)))


@pytest.fixture
def hanging_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_the_wait_for_a_server_that_never_answers_is_limited(tmp_path, hanging_server, monkeypatch) -> None:
    monkeypatch.setattr(servers, "_waited", [])
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(ConfigError, match="does not answer.*no answer within 4 s"):
            check_reachable(address(config(hanging_server), str(tmp_path)))
    assert 3 < sum(servers._waited) < 6
    assert time.monotonic() - started < 60  # it is asked once


def test_silent_servers_cost_a_process_a_limited_time_in_all(hanging_server, monkeypatch) -> None:
    monkeypatch.setattr(servers, "_waited", [servers.WAIT_SECONDS - 1.5])
    assert servers.outage(hanging_server)
    assert servers.seconds_left() < 1
    before = list(servers._waited)
    assert servers.outage(f"{hanging_server}/other") == "it does not answer"
    assert sum(servers._waited) - sum(before) < 1


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://", "it names no host"),
        ("http:///x", "it names no host"),
        ("http://host:99999", "out of range"),
        ("http://host:port", "could not be cast"),
        ("https://[::1", "Invalid IPv6"),
        ("localhost:5000", "Did you mean http://localhost:5000"),
        ("ftp://host", "no kind of store 'ftp'"),
        ("sqlite://", "three slashes"),
        ("sqlite:runs.db", "three slashes"),
        ("sqlite:///runs.db?timeout=5", "no options"),
        ("sqlite:///:memory:", "in memory"),
        ("./mlruns", "plain folders"),
        ("file:mlruns", "plain folders"),
        ("file:///tmp/mlruns", "plain folders"),
        ("sqlite:////tmp", "is a folder"),
        ("sqlite:////proc/none/runs.db", "cannot be written"),
    ],
)
def test_an_address_that_cannot_work_is_one_line(tmp_path, uri, reason) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        stores.checked_address(config(uri), str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("uri", ["http://host:1", "https://u:p@host/path", "databricks", "databricks://profile"])
def test_an_address_of_a_server_is_accepted_without_asking_it(tmp_path, uri) -> None:
    assert stores.checked_address(config(uri), str(tmp_path)).uri == uri


def write_database(file: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def mlflow_database(file: Path, version: str) -> None:
    write_database(
        file,
        "CREATE TABLE experiments (name TEXT)",
        "CREATE TABLE alembic_version (version_num TEXT)",
        f"INSERT INTO alembic_version VALUES ('{version}')",
    )


def test_a_damaged_database_is_one_line_with_the_way_out(tmp_path) -> None:
    file = tmp_path / "runs.db"
    file.write_text("these are no runs " * 100)
    with pytest.raises(ConfigError, match="damaged: file is not a database.*tracking=none"):
        check_database(file)
    file.unlink()
    mlflow_database(file, "x")
    write_database(file, *(f"CREATE TABLE t{number} (name TEXT)" for number in range(50)))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="damaged: database disk image is malformed"):
        check_database(file)


def test_a_database_of_another_schema_is_refused_with_what_to_do(tmp_path) -> None:
    other, newer, older = (tmp_path / f"{name}.db" for name in ("other", "newer", "older"))
    write_database(other, "CREATE TABLE customers (name TEXT)")
    mlflow_database(newer, "ffffffffffff")
    mlflow_database(older, "451aebb31d03")
    for file, expected in ((other, "not one of MLflow's"), (newer, "newer MLflow"), (older, "mlflow db upgrade")):
        with pytest.raises(ConfigError, match=expected):
            check_database(file)
    check_database(small_data.copy_empty_database(tmp_path))


def test_a_locked_database_is_no_mistake(tmp_path) -> None:
    file = tmp_path / "runs.db"
    mlflow_database(file, "x")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        check_database(file)


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        stores.check(address(config(), str(tmp_path / "file")))


def test_a_plain_folder_as_store_is_an_error_that_names_a_correct_address(tmp_path) -> None:
    with pytest.raises(ConfigError, match=f"sqlite:///{tmp_path}/runs/mlflow.db"):
        stores.check(address(config(f"{tmp_path}/runs"), str(tmp_path)))


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("runs:/{id}", None),
        ("runs:/{id}/model_files/model.keras", "model_files/model.keras"),
        ("http://127.0.0.1:5000/{page}", None),
        ("http://127.0.0.1:5000/#/experiments/1/runs/{id}", None),
        (
            "http://127.0.0.1:5000/#/experiments/1/runs/{id}/model-metrics?workflowType=machine_learning",
            "model-metrics",
        ),
        ("https://host/#/experiments/1/runs/{id}/artifacts/model_files/model.keras?a=b/c", "model_files/model.keras"),
    ],
)
def test_the_page_of_a_run_names_the_run(address: str, path: str | None) -> None:
    run_id = "0123456789abcdef" * 2
    found = RUN_ADDRESS.fullmatch(address.format(id=run_id, page=pages.of_run("1", run_id)))
    assert found is not None
    assert (found[1], found[2]) == (run_id, path)
    of_artifact = RUN_ADDRESS.fullmatch(f"http://host/{pages.of_run('1', run_id, 'model_files/model.keras')}")
    assert of_artifact is not None and of_artifact[2] == "model_files/model.keras"


@pytest.mark.parametrize(
    ("uri", "installed", "message"),
    [
        ("mssql://me:canary-db@host/runs", "", "mssql:// needs the Python package pyodbc, .*: pip install pyodbc"),
        ("mysql://host/runs", "", "mysql:// needs the Python package MySQLdb, .*: pip install mysqlclient"),
        ("mysql://host/runs", "pymysql", r"write mysql\+pymysql://..., as pymysql is installed"),
        (
            "mysql+other://host/runs",
            "",
            r"has no driver 'other' for mysql.*Choices: mysql\+pymysql://..., mysql\+mysqldb",
        ),
    ],
)
def test_the_package_for_a_database_is_named(uri: str, installed: str, message: str, tmp_path, monkeypatch) -> None:
    if installed:
        (tmp_path / f"{installed}.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=message) as error:
        stores.check(address(config(uri), str(tmp_path)))
    assert "canary-db" not in str(error.value)
