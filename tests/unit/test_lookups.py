"""What is asked of a tracking store: the right runs, and no more requests or runs than a sweep needs.

On a real SQLite store, both ways: with the statements for databases, and with the requests for servers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow.entities import Metric, Param
from small_data import copy_empty_database

from mnistlab.config import ConfigError
from mnistlab.sweep import earlier
from mnistlab.tracking import chosen_models, history, lookups, metric_histories, mlflow_internals, mlflow_store
from mnistlab.tracking.lookups import Kind, Wanted
from mnistlab.tracking.stores import StoreAddress

FIRST = 1_700_000_000_000  # milliseconds since 1970
MANY = 30  # other runs, and as many other sweeps


class Filled:
    """A store, and how runs are put into it; each run starts a second after the one before."""

    def __init__(self, root: Path) -> None:
        self.address = StoreAddress(f"sqlite:///{copy_empty_database(root)}", "mnistlab", root / "artifacts")
        self.client, self.experiment_id = mlflow_store.open_store(self.address)
        self.engine = mlflow_internals.engine_of(self.client.tracking_uri)
        self.count = 0

    def add(self, name: str, status: str = "FINISHED", params: dict[str, str] | None = None, **tags: str) -> str:
        """A run; tags: by their stored names, with __ for a point."""
        self.count += 1
        named = {key.replace("__", "."): value for key, value in tags.items()}
        run_id = self.client.create_run(self.experiment_id, FIRST + 1000 * self.count, named, name).info.run_id
        given = {"model": "mlp", "fit.epochs": "3", "seed": "1"} | (params or {})
        values = [("epoch/loss", 0.5), ("epoch/val_loss", 0.6), ("time/train_seconds", 3.0)]
        metrics = [Metric(key, value, FIRST, 1) for key, value in values]
        self.client.log_batch(run_id, metrics, [Param(key, value) for key, value in given.items()])
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)
        return str(run_id)

    def add_unrelated(self, number: int) -> None:
        """Other runs and parent runs of other sweeps, without entries."""
        for index in range(number):
            self.count += 1
            started = FIRST + 1000 * self.count
            job = {"record.fingerprint": f"other{index}", "record.fingerprint.request": f"asked{index}"}
            parent = {"sweep.kind": "parent", "sweep.id": f"s{index}", "sweep.axes": "optimizer"}
            for tags in (job, parent):
                run = self.client.create_run(self.experiment_id, started, tags, f"other{index}")
                self.client.set_terminated(run.info.run_id)

    def cost(self, asked: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
        """The number of SQL statements and of runs read."""
        statements, read = [], []
        stored = history._stored
        listener = lambda *given: statements.append(given[2])  # noqa: E731
        sqlalchemy.event.listen(self.engine, "before_cursor_execute", listener)
        with monkeypatch.context() as patched:
            patched.setattr(history, "_stored", lambda run: read.append(run) or stored(run))
            asked()
        sqlalchemy.event.remove(self.engine, "before_cursor_execute", listener)
        return len(statements), len(read)


def identity(fingerprint: str, request: str) -> dict[str, str]:
    return {"record__fingerprint": fingerprint, "record__fingerprint__request": request}


@pytest.fixture
def store(tmp_path: Path) -> Filled:
    return Filled(tmp_path)


@pytest.fixture(params=["database", "server"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As a database is asked, or as a server is."""
    if request.param == "server":
        monkeypatch.setattr(mlflow_internals, "engine_of", lambda uri: None)
        monkeypatch.setattr(lookups, "ASKED_TOGETHER", 1)
    return str(request.param)


def test_the_runs_of_each_job(store: Filled, way: str) -> None:
    first = store.add("a", **identity("same", "r1"))
    second = store.add("b", **identity("same", "r9"))
    store.add("c", "FAILED", **identity("same", "r1"))
    store.add("d", "FAILED", **identity("broken", "r2"))
    store.add("e", "KILLED", **identity("broken", "r2"))
    store.add("f", **identity("old code", "r3"))
    newer = store.add("g", **identity("newer code", "r3"))
    store.add("h", "FAILED", **identity("newest code", "r3"))
    earlier_version = store.add("i", fingerprint="before", **{"fingerprint__request": "r4"})
    asked_before = store.add("j", fingerprint="x", **{"fingerprint__request": "r5"})
    store.client.delete_run(store.add("k", **identity("deleted", "r6")))
    store.add("l", **identity("evaluated", "r7"), run__kind="evaluation")
    store.add("m", **identity("reused", "r8"), sweep__kind="reused")
    names = {"same": "r1", "broken": "r2", "now": "r3", "before": "r4", "changed": "r5", "deleted": "r6"}
    names |= {"evaluated": "r7", "reused": "r8", "new": "r10"}
    found = lookups.earlier_runs(store.address, [Wanted(*pair) for pair in names.items()])
    assert {key: [run.run_id for run in runs] for key, runs in found.same.items()} == {
        "same": [second, first],
        "before": [earlier_version],
    }
    assert found.unfinished == {"same": "FAILED", "broken": "KILLED"}
    assert {request: run.run_id for request, run in found.asked.items()} == {"r3": newer, "r5": asked_before}


def test_the_cost_does_not_follow_from_other_runs(store: Filled, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [store.add(f"job{index}", **identity(f"f{index}", f"r{index}")) for index in range(4)]
    parent = store.add("mine", sweep__kind="parent", sweep__id="mine", sweep__axes="optimizer")
    wanted = [Wanted(f"f{index}", f"r{index}") for index in range(8)]
    asked: dict[str, Callable[[], Any]] = {
        "lookup": lambda: lookups.earlier_runs(store.address, wanted),
        "by id": lambda: history.with_ids(store.address, mine),
        "curves": lambda: history.records_of(store.address, history.with_ids(store.address, mine)),
        "name": lambda: mlflow_store.find_run_id("job2", store.address),
        "sweep": lambda: earlier.stored_sweep(store.address, "mine"),
        "parent": lambda: earlier.stored_sweep(store.address, parent),
        "running": lambda: history.find(store.address, "attributes.status = 'RUNNING'"),
    }
    store.add_unrelated(3)
    few = {name: store.cost(call, monkeypatch) for name, call in asked.items()}
    store.add_unrelated(MANY)
    assert {name: store.cost(call, monkeypatch) for name, call in asked.items()} == few
    assert few["lookup"][1] == few["by id"][1] == 4
    assert few["running"][1] == 0


def test_a_database_is_asked_once_for_all_jobs(store: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        store.add(f"job{index}", **identity(f"f{index}", f"r{index}"))

    def cost(number: int) -> int:
        wanted = [Wanted(f"f{index}", f"r{index}") for index in range(number)]
        return store.cost(lambda: lookups.earlier_runs(store.address, wanted), monkeypatch)[0]

    assert cost(20) == cost(2)


def test_a_server_is_asked_once_for_a_large_sweep_that_is_done(store: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_internals, "engine_of", lambda uri: None)
    number = lookups.MANY_JOBS + 1
    for index in range(number):
        store.add(f"job{index}", **identity(f"f{index}", f"r{index}"), sweep__id="mine", sweep__job=f"k{index}")
    wanted = [Wanted(f"f{index}", f"r{index}", f"k{index}") for index in range(number)]
    found = lookups.earlier_runs(store.address, wanted, "mine")
    assert sorted(found.same) == sorted(one.fingerprint for one in wanted)
    alone = store.cost(lambda: lookups.earlier_runs(store.address, wanted), monkeypatch)[0]
    together = store.cost(lambda: lookups.earlier_runs(store.address, wanted, "mine"), monkeypatch)[0]
    assert together < alone / 10
    moved = [one._replace(key="other") for one in wanted]  # trained for other jobs of the sweep: each is looked up
    assert sorted(lookups.earlier_runs(store.address, moved, "mine").same) == sorted(found.same)


def test_times_come_from_a_few_runs_like_the_jobs(store: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = store.add("longer", params={"fit.epochs": "20"}, batch_size="32")
    like = [store.add(f"like{index}", batch_size="32") for index in range(2)]
    store.add("other model", params={"model": "cnn"}, batch_size="32")
    store.add("other batches", batch_size="1")
    store.add("failed", "FAILED", batch_size="32")
    store.add("reused", batch_size="32", sweep__kind="reused")

    def comparable() -> list[str]:
        kinds = [Kind("mlp", 32, 20), Kind("mlp", 32, 20), Kind("it's", 32, 20)]
        return [run.run_id for run in lookups.comparable_runs(store.address, kinds)]

    assert comparable() == [*like[::-1], longer]
    for index in range(lookups.NUM_SIMILAR):
        store.add(f"more{index}", batch_size="32")
    assert comparable()[-1] == longer  # the newest of any length would leave it out
    assert store.cost(comparable, monkeypatch)[1] <= lookups.NUM_EQUAL + lookups.NUM_SIMILAR


def test_a_run_is_found_by_its_name_and_the_start_of_its_id(store: Filled) -> None:
    finished = store.add("twice")
    store.add("twice", "FAILED")
    quoted = store.add("it's mine")
    failed = store.add("failed", "FAILED")
    store.add("parent only", sweep__kind="parent")
    assert mlflow_store.find_run_id("twice", store.address) == finished
    assert mlflow_store.find_run_id("it's mine", store.address) == quoted
    assert mlflow_store.find_run_id("failed", store.address) == failed
    assert mlflow_store.find_run_id(failed[:12].upper(), store.address) == failed
    with pytest.raises(ConfigError, match="Did you mean twice"):
        mlflow_store.find_run_id("twicce", store.address)
    with pytest.raises(ConfigError, match="no such run"):
        mlflow_store.find_run_id("parent only", store.address)


def test_the_latest_model_is_found_among_few_runs(store: Filled, tmp_path: Path, monkeypatch) -> None:
    best = store.add("best", model__address="models:/m-1")
    store.add_unrelated(MANY)
    latest = store.add("latest", model__address="models:/m-2")
    store.add("newer without a model")
    store.add("newer and failed", "FAILED", model__address="models:/m-3")

    def found(count: int | None) -> list[str]:
        return [one.run.run_id for one in chosen_models._candidates(store.address, str(tmp_path), count)]

    assert found(1) == [latest]
    assert found(None) == [latest, best]
    assert store.cost(lambda: found(1), monkeypatch)[1] <= chosen_models.FEW


def test_a_sweep_is_found_by_its_id_and_that_of_its_parent_run(store: Filled) -> None:
    with pytest.raises(ConfigError, match="There are no sweeps yet"):
        earlier.stored_sweep(store.address, "mine")
    parent = store.add("mine", sweep__kind="parent", sweep__id="mine", sweep__axes="optimizer")
    job = store.add("job", sweep__id="mine", sweep__kind="job")
    store.add("other", sweep__kind="parent", sweep__id="latest", sweep__axes="model")
    for wanted in ("mine", parent):
        assert [one.run for one in earlier.stored_sweep(store.address, wanted).jobs] == [job]
    assert earlier.stored_sweep(store.address).sweep == "latest"
    with pytest.raises(ConfigError, match="Latest sweeps: latest, mine"):
        earlier.stored_sweep(store.address, "o' mine")


def test_the_curves_of_many_runs_are_those_of_each(store: Filled, way: str) -> None:
    wanted = {}
    for index in range(3):
        run_id = store.add(f"run{index}")
        values = [Metric("epoch/val_loss", 0.1 * step + index, FIRST + step, step) for step in (3, 2, 4)]
        values += [Metric("epoch/accuracy", math.nan, FIRST, 1), Metric("epoch/accuracy", math.inf, FIRST, 2)]
        values += [Metric("my/metric", 7.0, FIRST, step) for step in (1, 2)]
        values += [Metric("precision", float(step), FIRST, step) for step in (1, 2)]  # as earlier versions stored it
        store.client.log_batch(run_id, values)
        wanted[run_id] = ["loss", "val_loss", "accuracy", "my/metric", "precision", "missing"]
    found = metric_histories.read(store.address, wanted)
    for index, (run_id, names) in enumerate(wanted.items()):
        assert list(found[run_id]) == names
        assert found[run_id]["val_loss"] == [0.6, *(0.1 * step + index for step in (2, 3, 4))]
        assert found[run_id]["my/metric"] == [7.0, 7.0]
        assert found[run_id]["precision"] == [1.0, 2.0]
        assert found[run_id]["missing"] == []
        assert math.isnan(found[run_id]["accuracy"][0])
        single = store.client.get_metric_history(run_id, "epoch/accuracy")
        assert found[run_id]["accuracy"][1] == single[1].value > 1e300
