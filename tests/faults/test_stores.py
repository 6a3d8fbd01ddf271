"""Stores and processes that fail during a run or a sweep: training goes on, folders are complete, statuses are true."""

from __future__ import annotations

import json
import os
import signal
import sqlite3

import pytest
from conftest import Started, Store

QUICK = ("source=mnist_5k", "data.limit=256", "fit.epochs=2")
SMALL = ("source=mnist_5k", "data.limit=400", "fit.epochs=2")

pytestmark = pytest.mark.slow


@pytest.mark.faults
def test_a_run_outlives_its_background_process(start, tmp_path) -> None:
    command = start("source=mnist_5k", "data.limit=256", "fit.epochs=300")
    command.wait_for_line("epoch 2/")
    os.kill(command.background_process(), signal.SIGKILL)
    assert command.finish() == 0, command.output
    (file,) = (tmp_path / "runs").glob("*/*/status.json")
    folder = file.parent
    assert json.loads(file.read_text())["status"] == "FINISHED"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 301
    assert (folder / "figures" / "confusion_matrix.png").stat().st_size > 1000
    assert (folder / "model_files" / "model.keras").exists()
    (run,) = Store(tmp_path).runs()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"] > 0
    history = Store(tmp_path).client.get_metric_history(run.info.run_id, "epoch/loss")
    assert [entry.step for entry in history] == list(range(1, 301))  # what died with the process was delivered again
    assert json.loads((folder / "sync.json").read_text())["synced"]


@pytest.mark.faults
def test_the_background_process_may_die_in_a_sweep(start, train, tmp_path) -> None:
    words = ["--multirun", *SMALL, "optimizer=sgd,momentum,adam,rmsprop", "fit.batch_size=32"]
    command: Started = start(*words)
    command.wait_for_line("[2/4]")
    os.kill(command.background_process(), signal.SIGKILL)
    code, output = command.finish(), command.output
    store = Store(tmp_path)
    statuses = {run.data.params["optimizer"]: run.info.status for run in store.runs("job")}
    assert statuses["adam"] == statuses["rmsprop"] == "FINISHED", output
    assert "RUNNING" not in {*statuses.values(), *store.statuses("parent")}, output
    assert [*statuses.values(), *store.statuses("parent")] == ["FINISHED"] * 5, output
    assert code == 0, output
    assert (next((tmp_path / "runs" / "sweeps").iterdir()) / "report.html").is_file()
    again = train(*words)
    assert again.code == 0, again.err
    assert store.statuses("parent") == ["FINISHED"]


@pytest.mark.faults
def test_artifacts_that_cannot_be_stored_cost_no_job_of_a_sweep(train, tmp_path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "artifacts").write_text("in the way")
    done = train("--multirun", *SMALL, "optimizer=momentum,adam")
    assert done.code == 0, done.err
    assert done.out.count("the tracking store failed") == 3  # of the two jobs and of the sweep's parent run
    assert "not synced: 3 runs of this sweep" in done.out
    assert Store(tmp_path).statuses("job") == ["FAILED", "FAILED"]  # the records are incomplete
    folders = [file.parent for file in (tmp_path / "runs").rglob("confusion_matrix.png")]
    assert {json.loads((folder.parent / "sync.json").read_text())["synced"] for folder in folders} == {False}
    (tmp_path / "mlruns" / "artifacts").unlink()
    assert train(module="mnistlab.sync").code == 0
    assert Store(tmp_path).statuses() == ["FINISHED"] * 3


@pytest.mark.faults
def test_several_processes_create_one_store(start, tmp_path) -> None:
    commands = [start(*QUICK, "fit.epochs=1", f"seed={seed}", MLFLOW_RUN_ID="0" * 32) for seed in range(3)]
    codes = [command.finish() for command in commands]
    assert codes == [0, 0, 0], [command.output for command in commands]
    store = Store(tmp_path)
    assert len(store.runs()) == 3
    assert store.client.search_runs(["0"]) == []  # nothing in the experiment Default
    with sqlite3.connect(tmp_path / "mlruns" / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


@pytest.mark.faults
def test_two_sweeps_at_once_on_a_new_store(start, tmp_path) -> None:
    sweeps = [start("--multirun", *SMALL, words) for words in ("optimizer=momentum,adam", "optimizer=rmsprop,adagrad")]
    codes = [command.finish() for command in sweeps]
    assert codes == [0, 0], "\n".join(command.output for command in sweeps)
    store = Store(tmp_path)
    parents = {run.info.run_id for run in store.runs("parent")}
    assert len(parents) == 2
    optimizers: dict[str, set[str]] = {}
    for run in store.runs("job"):
        optimizers.setdefault(run.data.tags["mlflow.parentRunId"], set()).add(run.data.params["optimizer"])
    assert sorted(map(sorted, optimizers.values())) == [["adagrad", "rmsprop"], ["adam", "momentum"]]
    assert set(optimizers) == parents
