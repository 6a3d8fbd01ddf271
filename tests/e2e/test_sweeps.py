"""Sweeps through the real command: one parent run, finished jobs reused, failures counted, a report at the end."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from conftest import Finished, Store, run_command

from mnistlab.tracking.stored_names import tags_of

SMALL = ("source=mnist_5k", "data.limit=400", "fit.epochs=2")
BREAKING = """import keras


class Break(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError('broken on purpose')
"""


@pytest.fixture
def broken(tmp_path: Path) -> list[str]:
    """Flags that add a callback which raises at the end of the first epoch."""
    (tmp_path / "mine" / "callbacks").mkdir(parents=True)
    (tmp_path / "breaking.py").write_text(BREAKING)
    (tmp_path / "mine" / "callbacks" / "breaking.yaml").write_text("breaking: {_target_: breaking.Break}\n")
    return ["--config-dir", "mine", "trust=[breaking]"]


WORDS = ("--multirun", *SMALL, "optimizer=momentum,adam", "sweep.seeds=2")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> tuple[Finished, Path]:
    """A finished sweep; returns how it ended and its root folder."""
    root = tmp_path_factory.mktemp("sweep")
    return run_command(root, *WORDS, MLFLOW_RUN_ID="0" * 32), root


def test_a_sweep_is_one_parent_with_its_jobs_and_a_report(sweep) -> None:
    done, tmp_path = sweep
    assert done.code == 0, done.err
    store = Store(tmp_path)
    (parent,) = store.runs("parent")
    jobs = store.runs("job")
    assert parent.info.status == "FINISHED"
    assert re.findall(r"^\[(\d)/4\]", done.out, re.MULTILINE) == ["1", "2", "3", "4"]  # as the plan lists them
    assert {run.info.run_name for run in jobs} == {"momentum-seed0", "momentum-seed1", "adam-seed0", "adam-seed1"}
    for run in jobs:
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["sweep.id"] == parent.data.tags["sweep.id"]
        assert run.data.tags["outcome"] == "trained"
    assert parent.data.tags["sweep.axes"] == "optimizer"
    best = max(jobs, key=lambda run: run.data.metrics["summary/best_epoch_val_accuracy"])
    assert (
        parent.data.metrics["summary/best_child_best_epoch_val_accuracy"]
        == best.data.metrics["summary/best_epoch_val_accuracy"]
    )
    assert (
        store.client.get_run(parent.data.tags["sweep.best_child"]).data.metrics["summary/best_epoch_val_accuracy"]
        == (best.data.metrics["summary/best_epoch_val_accuracy"])
    )

    # fair: equal seeds start from equal weights and see equal orders, and say so
    by_name = {run.info.run_name: tags_of(run.data.tags) for run in jobs}
    for key in ("hash.initial_weights", "hash.batch_order", "hash.data"):
        assert by_name["momentum-seed0"][key] == by_name["adam-seed0"][key]
    assert by_name["adam-seed0"]["hash.initial_weights"] != by_name["adam-seed1"]["hash.initial_weights"]
    assert by_name["adam-seed0"]["hash.batch_order"] != by_name["adam-seed1"]["hash.batch_order"]

    # each number of the report is what search_runs gives
    folder = next((tmp_path / "runs" / "sweeps").iterdir())
    with (folder / "table.csv").open() as file:
        rows = {row["option"]: row for row in csv.DictReader(file)}
    for name in ("momentum", "adam"):
        mine = [run for run in jobs if run.data.params["optimizer"] == name]
        values = [run.data.metrics["summary/best_epoch_val_accuracy"] for run in mine]
        tests = [run.data.metrics["test/accuracy"] for run in mine]
        assert float(rows[name]["mean"]) == pytest.approx(sum(values) / 2, rel=1e-9)
        assert float(rows[name]["test_accuracy"]) == pytest.approx(sum(tests) / 2, rel=1e-9)
        assert int(rows[name]["num_seeds"]) == 2
    page = (folder / "report.html").read_text()
    assert not re.search(r"(?:src|href)=[\"']?https?:", page)
    artifacts = Path(parent.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "report.html").read_text() == page
    assert len(list((artifacts / "figures").glob("*.png"))) >= 5
    assert "not distinguishable" in done.out or "beats" in done.out
    assert len(done.out.split("option  ")[-1].splitlines()) <= 24


@pytest.mark.slow
def test_the_compare_command_shows_the_latest_sweep_or_any_runs(sweep, commands_here) -> None:
    run = commands_here(sweep[1])
    compared = run(module="mnistlab.compare")
    assert compared.code == 0, compared.err
    assert "4 runs" in compared.out
    assert "\x1b" not in compared.out
    filtered = run("filter=params.seed = '0'", module="mnistlab.compare")
    assert "2 runs" in filtered.out
    assert "one seed: no claim" in filtered.out.lower()
    for mistake in ("filter=params.seed is 0", "axis=optimzer", "objective=test_accuracy"):
        mistaken = run(mistake, module="mnistlab.compare")
        assert (mistaken.code, mistaken.err[:6], "Traceback" in mistaken.err) == (2, "Error:", False), mistaken.err


def test_a_failing_job_does_not_stop_the_others_and_is_counted(train_here, tmp_path, broken, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    words = [
        *broken,
        "--multirun",
        *SMALL,
        "callbacks=breaking,none",
        "optimizer=momentum,adam",
        "sweep.axes=[optimizer]",
    ]
    done = train_here(*words)
    assert done.code == 1
    assert "2 of 4 jobs failed" in done.out
    table = done.out.split("2 of 4 jobs failed")[1]
    assert table.count("RuntimeError: broken on purpose") == 2
    store = Store(tmp_path)
    statuses = sorted(run.info.status for run in store.runs("job"))
    assert statuses == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert store.runs("parent")[0].info.status == "FAILED"
    assert "Traceback" not in done.out + done.err
    failed = next(run for run in store.runs("job") if run.info.status == "FAILED")
    assert "broken on purpose" in failed.data.tags["error"]
    log = (Path(failed.info.artifact_uri.removeprefix("file://")) / "train.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "breaking.py" in log
    again = train_here(*words)
    assert "2 of them done" in again.out
    assert again.out.count("failed before") == 2


@pytest.mark.slow
def test_divergence_is_an_outcome_not_an_error(train_here, tmp_path) -> None:
    done = train_here(
        "--multirun", *SMALL, "optimizer=minibatch_gd", "optimizer.learning_rate=0.01,1e30", "sweep.seeds=2"
    )
    assert done.code == 0, done.err
    diverged = [run for run in Store(tmp_path).runs("job") if run.data.tags["outcome"] == "diverged"]
    assert [run.data.params["optimizer.learning_rate"] for run in diverged] == ["1e+30", "1e+30"]
    for run in diverged:
        assert run.info.status == "FINISHED"
        assert run.data.tags["outcome.epoch"] == "1"
        assert int(run.data.tags["outcome.step"]) >= 2
        assert float(run.data.tags["outcome.last_finite_loss"]) > 0
        assert float(run.data.tags["outcome.learning_rate"]) == pytest.approx(1e30)
        assert "test/accuracy" not in run.data.metrics
    comparison = json.loads(next((tmp_path / "runs" / "sweeps").glob("*/comparison.json")).read_text())
    options = {option["name"]: option for option in comparison["options"]}
    assert {name: option["num_diverged"] for name, option in options.items()} == {"lr=0.01": 0, "lr=1e+30": 2}


def test_what_cannot_be_compared_is_an_error_before_the_first_job(train_here, tmp_path) -> None:
    done = train_here("--multirun", *SMALL, "optimizer=momentum,adam", "sweep.objective=val_acc", "sweep.axes=[model]")
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert "Received: val_acc. Did you mean best_epoch_val_accuracy?" in done.err
    assert "Received: model, which is mlp in every job. This sweep varies: optimizer." in done.err
    assert Store(tmp_path).runs() == []
    assert list((tmp_path / "runs").glob("*/*-sweep")) == []


def test_a_bad_job_ends_the_sweep_before_anything_starts(train_here, tmp_path) -> None:
    bad = "callbacks.early_stopping.monitor=val_loss,val_los,nothing"
    done = train_here("--multirun", *SMALL, "callbacks=early_stopping", bad)
    assert done.code == 2
    assert "val_los." in done.err
    assert "nothing" in done.err  # all of them, not just the first
    assert Store(tmp_path).runs() == []  # the store is created while the jobs are checked
    assert list((tmp_path / "runs").glob("*/*-sweep")) == []


@pytest.mark.faults
def test_jobs_may_run_in_other_processes_which_end_with_the_sweep(train, tmp_path) -> None:
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = train("--multirun", *SMALL, "optimizer=momentum,adam", *parallel, timeout=250)
    assert done.code == 0, done.out + done.err  # joblib's idle processes would hold the output open for 300 s
    store = Store(tmp_path)
    (parent,) = store.runs("parent")
    jobs = store.runs("job")
    assert {run.info.status for run in (parent, *jobs)} == {"FINISHED"}
    assert {run.data.params["optimizer"] for run in jobs} == {"momentum", "adam"}
    for run in jobs:
        assert (Path(run.data.tags["run.folder"]) / "figures" / "confusion_matrix.png").is_file()
