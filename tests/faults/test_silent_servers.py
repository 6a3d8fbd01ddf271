"""Sweeps whose tracking server does not answer: all jobs train, and everything is delivered later, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient
from tracking_servers import mlflow_server, silent_server

JOBS = ("--multirun", "source=mnist_5k", "data.limit=400", "fit.epochs=2", "optimizer=momentum,adam")
PARALLEL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
ISOLATED = ("sweep.isolate=true", "sweep.job_max_seconds=250")


def runs_of(uri: str) -> tuple[MlflowClient, list[Any]]:
    client = MlflowClient(uri)
    return client, client.search_runs([client.get_experiment_by_name("mnistlab").experiment_id])


@pytest.mark.faults
@pytest.mark.parametrize(("kind", "more"), [("refuses", PARALLEL), ("hangs", PARALLEL), ("hangs", ISOLATED)])
def test_a_sweep_without_its_server_is_delivered_later_once(train, tmp_path: Path, kind, more) -> None:
    with silent_server(kind) as uri:
        done = train(*JOBS, *more, MLFLOW_TRACKING_URI=uri)
        assert done.code == 0, done.out + done.err
    assert "not synced: 3 runs of this sweep" in done.out
    (report,) = (tmp_path / "runs" / "sweeps").glob("*/report.md")
    assert "adam" in report.read_text()
    with mlflow_server(tmp_path, urlsplit(uri).port):
        first = train(module="mnistlab.sync")
        assert first.code == 0, first.out + first.err
        assert first.out.count("delivered  ") == 3
        again = train(module="mnistlab.sync")
        assert (again.code, "Everything is delivered" in again.out) == (0, True)

        client, runs = runs_of(uri)
        assert [run.info.status for run in runs] == ["FINISHED"] * 3
        (parent,) = [run for run in runs if run.data.tags["sweep.kind"] == "parent"]
        jobs = [run for run in runs if run.data.tags["sweep.kind"] == "job"]
        assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
        assert len({run.data.tags["record.fingerprint"] for run in jobs}) == 2
        assert "sweep.verdict" in parent.data.tags
        files = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
        assert {"report.html", "report.md", "jobs.csv", "table.csv"} <= files
        for run in jobs:
            assert [entry.step for entry in client.get_metric_history(run.info.run_id, "epoch/val_loss")] == [1, 2]
            assert len(run.outputs.model_outputs) == 1
        dry = train(*JOBS, "sweep.dry_run=true", MLFLOW_TRACKING_URI=uri)
        assert "2 jobs, 2 of them done" in dry.out
