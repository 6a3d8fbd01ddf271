"""Curves and lookups over a real server: the numbers of single requests, with few requests; also where it lacks one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow.entities import Metric
from tracking_servers import free_port, mlflow_server, server_with_login

from mnistlab.tracking import history, lookups, metric_histories, mlflow_internals, mlflow_store
from mnistlab.tracking.lookups import Wanted
from mnistlab.tracking.stores import StoreAddress

pytestmark = pytest.mark.faults
RUNS, METRICS = 7, ("loss", "val_loss", "accuracy")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server with runs of three metrics and four epochs."""
    port = free_port()
    with mlflow_server(tmp_path_factory.mktemp("server"), port):
        client, experiment_id = mlflow_store.open_store(address(f"http://127.0.0.1:{port}"))
        for run in range(RUNS):
            tags = {"record.fingerprint": f"f{run}", "record.fingerprint.request": f"r{run}"}
            run_id = client.create_run(experiment_id, 1000 * (run + 1), tags, f"run{run}").info.run_id
            values = [
                Metric(f"epoch/{name}", run + step / 10 + len(name), step, step)
                for step in (3, 1, 4, 2)
                for name in METRICS
            ]
            client.log_batch(run_id, values)
            client.set_terminated(run_id)
        yield port


def address(uri: str) -> StoreAddress:
    return StoreAddress(uri, "mnistlab", None)


@pytest.mark.parametrize("lacks", ["", "get-history-bulk"])
def test_the_curves_of_many_runs(port: int, lacks: str) -> None:
    with server_with_login(port, "me", "word", lacks) as (uri, passed):
        runs = history.find(address(uri))
        passed.clear()
        found = metric_histories.read(address(uri), {run.run_id: METRICS for run in runs})
        bulk = [path for path in passed if "get-history-bulk" in path]
        single = [path for path in passed if "metrics/get-history?" in path]
        assert (len(bulk), len(single)) == ((len(METRICS), 0) if not lacks else (0, RUNS * len(METRICS)))
    for number, run in enumerate(reversed(runs)):
        assert run.name == f"run{number}"
        for name in METRICS:
            assert found[run.run_id][name] == [number + step / 10 + len(name) for step in (1, 2, 3, 4)]


def test_an_answer_that_may_be_incomplete_is_not_used(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = address(f"http://127.0.0.1:{port}")
    run_ids = [run.run_id for run in history.find(store)]
    complete = metric_histories.read(store, {run_id: ["loss"] for run_id in run_ids})
    monkeypatch.setattr(mlflow_internals, "BULK_VALUES", 4 * RUNS)
    assert mlflow_internals.requested_metric_rows(store.uri, run_ids, "epoch/loss") is None
    assert metric_histories.read(store, {run_id: ["loss"] for run_id in run_ids}) == complete


def test_the_lookup_of_jobs(port: int) -> None:
    with server_with_login(port, "me", "word") as (uri, passed):
        wanted = [Wanted("f1", "r1"), Wanted("f5", "r5"), Wanted("changed", "r2"), Wanted("new", "new")]
        lookups.earlier_runs(address(uri), wanted[:1])
        passed.clear()
        found = lookups.earlier_runs(address(uri), wanted)
        searches = [path for path in passed if "runs/search" in path]
    assert {key: [run.name for run in runs] for key, runs in found.same.items()} == {"f1": ["run1"], "f5": ["run5"]}
    assert {request: run.name for request, run in found.asked.items()} == {"r2": "run2"}
    assert len(searches) == 1 + 4 + 2  # whether there are older runs, each fingerprint, the requests of the others
