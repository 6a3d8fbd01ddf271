"""Results of a sweep as they are written and read; the estimate of the time; all without TensorFlow."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mnistlab.comparison.records import RunRecord, outcome
from mnistlab.sweep import outcomes
from mnistlab.sweep.estimate import COMPILE_SECONDS, MAX_EXTRAPOLATION, SECONDS_PER_JOB, expected_seconds
from mnistlab.sweep.outcomes import Outcome
from mnistlab.sweep.results import (
    JobResult,
    SweepResults,
    job_key,
    jobs_markdown,
    read_results,
    why_diverged,
    write_results,
)
from mnistlab.tracking.history import StoredRun

RUN = "0123456789abcdef0123456789abcdef"


def a_job(name: str, **changes) -> JobResult:
    settings = {"optimizer": name, "fit.epochs": 3, "fit.metrics": ["accuracy"], "data.limit": None, "seed": 0}
    values = {"name": name, "key": job_key([f"optimizer={name}"]), "values": {"optimizer": name}, "settings": settings}
    return JobResult(
        **{**values, "run": RUN, "metrics": {"best_epoch_val_accuracy": 0.96125, "test_accuracy": 0.5}, **changes}
    )


def a_sweep(*jobs: JobResult) -> SweepResults:
    return SweepResults("0" * 12, ["optimizer"], "best_epoch_val_accuracy", "higher", [0.95], list(jobs))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    failed = a_job("adam", run="", status="FAILED", error="OSError: broken", metrics={})
    results = a_sweep(a_job("sgd"), a_job("momentum", source="same as sgd"), failed)
    write_results(results, tmp_path)
    assert read_results(tmp_path / "sweep.json") == results
    assert results.failures == {"adam": "OSError: broken"}
    with (tmp_path / "jobs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["trained", "same as sgd", "trained"]
    assert [row["best_epoch_val_accuracy"] for row in rows] == ["0.96125", "0.96125", ""]
    assert rows[2]["error"] == "OSError: broken"


def test_a_damaged_file_of_a_job_counts_as_missing(tmp_path: Path) -> None:
    done = Outcome("/runs/1", "host:b:n:1:2", objective=0.5)
    outcomes.leave(tmp_path, "done", "key", done)
    assert outcomes.read(tmp_path, "done", "key") == done
    assert outcomes.has_ended(tmp_path, "key")
    file = tmp_path / "done" / "key"
    whole = file.read_text()
    for damaged in (whole[:-5], "", "null", "[1]", '{"other": 1}', "\0\0"):
        file.write_text(damaged)
        assert outcomes.read(tmp_path, "done", "key") is None
        assert not outcomes.has_ended(tmp_path, "key")
    assert [entry.name for entry in (tmp_path / "done").iterdir()] == ["key"]  # no temporary file is left
    outcomes.forget(tmp_path, "key")
    assert outcomes.read(tmp_path, "done", "key") is None


@pytest.mark.parametrize(
    ("tags", "metrics", "reason"),
    [
        ({"outcome": "trained"}, {"best_epoch_val_accuracy": 0.5}, ""),
        ({}, {}, ""),
        ({"outcome": "diverged", "outcome.epoch": "2", "outcome.step": "7"}, {}, "diverged at epoch 2, step 7"),
        ({"outcome": "diverged", "outcome.epoch": "2", "outcome.step": ""}, {}, "diverged at epoch 2"),
        ({"outcome": "diverged"}, {}, "diverged"),
        ({}, {"best_epoch_val_accuracy": float("nan")}, "diverged: best_epoch_val_accuracy is nan"),
    ],
)
def test_whether_a_run_diverged(tags, metrics, reason) -> None:
    assert why_diverged(tags, metrics, "best_epoch_val_accuracy") == reason
    record = RunRecord("id", tags=tags, metrics=metrics)
    assert (outcome(record, "best_epoch_val_accuracy") == "diverged") == bool(reason)  # as the comparison counts it


def test_jobs_that_diverged_are_failures_with_a_finished_run() -> None:
    failed = a_job("adam", status="FAILED", error="OSError")
    results = a_sweep(a_job("sgd"), a_job("lion", error="diverged at epoch 1"), failed)
    assert results.failures == {"lion": "diverged at epoch 1", "adam": "OSError"}
    assert results.unfinished == {"adam": "OSError"}


def test_a_jobs_key_does_not_depend_on_order_plan_launcher_or_hydra() -> None:
    words = ["optimizer=sgd", "seed=1", "fit.epochs=2"]
    assert job_key(words) == job_key([*reversed(words), "sweep.plan=/a/plan.json", "hydra.verbose=true"])
    assert job_key(words) == job_key([*words, "launch=ray", "launch.workers=2"])
    assert job_key(words) != job_key([*words[:2], "fit.epochs=3"])
    assert job_key(words).isalnum()  # it names files


def test_the_description_links_each_run_and_stays_within_its_length() -> None:
    results = a_sweep(a_job("sgd"), a_job("mini|batch", source="reused"), a_job("adam", run="", error="broken"))
    lines = jobs_markdown(results, "7", 5000).splitlines()
    link = f"[01234567](#/experiments/7/runs/{RUN}?workflowType=machine_learning)"
    assert lines[2] == f"| sgd | 0.9613 | 0.5 | - | {link} |"
    assert lines[3] == f"| mini/batch | 0.9613 | 0.5 | - | {link}, reused |"
    assert lines[4] == "| adam | 0.9613 | 0.5 | - | broken |"
    many = a_sweep(*(a_job(f"option{number}") for number in range(500)))
    text = jobs_markdown(many, "7", 5000)
    assert len(text) <= 5000
    shown = text.count("/runs/")
    assert text.endswith(f"... and {500 - shown} more jobs: see the artifact jobs.csv.")
    assert shown > 30


def a_run(
    *, images: int, epochs: int, seconds: float, last_epoch: float, optimizer: str = "adam", units: str = "[128]"
):
    params = {"model": "mlp", "model.units": units, "optimizer": optimizer, "fit.epochs": str(epochs)}
    tags = {"num_training_images": str(images), "batch_size": "32"}
    metrics = {"train_seconds": seconds, "epoch_seconds": last_epoch}
    return StoredRun(RUN, "", "FINISHED", tags, params, metrics, "")


SETTINGS = {"model": "mlp", "model.units": [128], "optimizer": "adam", "fit.epochs": 3}


def test_the_expected_time_depends_on_the_number_of_images() -> None:
    """Three epochs of 54,000 images in 3 s, of which 0.5 s each are not compilation."""
    earlier = [a_run(images=54000, epochs=3, seconds=3.0, last_epoch=0.5)]
    assert expected_seconds(SETTINGS, 54000, 32, earlier) == pytest.approx(3.0 + SECONDS_PER_JOB)
    assert expected_seconds(SETTINGS, 400, 32, earlier) == pytest.approx(1.5 + 1.5 * 400 / 54000 + SECONDS_PER_JOB)
    ten = {**SETTINGS, "fit.epochs": 10}
    assert expected_seconds(ten, 54000, 32, earlier) == pytest.approx(1.5 + 5.0 + SECONDS_PER_JOB)


def test_only_comparable_runs_are_estimated_from() -> None:
    run = a_run(images=1000, epochs=1, seconds=1.2, last_epoch=1.2)
    expected = COMPILE_SECONDS + 0.2 * 3 + SECONDS_PER_JOB
    assert expected_seconds(SETTINGS, 1000, 32, [run]) == pytest.approx(expected)
    assert expected_seconds(SETTINGS, 1000 * MAX_EXTRAPOLATION, 32, [run]) is None  # three epochs: 15 times as many
    assert expected_seconds(SETTINGS, 1000, 64, [run]) is None
    assert expected_seconds({**SETTINGS, "model.units": [2000]}, 1000, 32, [run]) is None
    assert expected_seconds(SETTINGS, 1000, 32, []) is None


def test_the_run_of_the_most_similar_size_and_optimizer_is_taken() -> None:
    small = a_run(images=1000, epochs=3, seconds=9.0, last_epoch=1.0)
    other = a_run(images=3000, epochs=3, seconds=5.0, last_epoch=1.0, optimizer="sgd")
    right = a_run(images=3000, epochs=3, seconds=6.0, last_epoch=1.0)
    assert expected_seconds(SETTINGS, 3000, 32, [small, other, right]) == pytest.approx(6.0 + SECONDS_PER_JOB)
