"""What holds for every sweep: random axes out of all groups and settings, random earlier runs, the real command.

The training is a stand-in (`stand_in.py`), except in a sample; plan, store, jobs, results and report are the real ones.
"""

from __future__ import annotations

import csv
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import Trainer, numbers

CONF = Path(__file__).resolve().parents[2] / "conf"
BASE = ("source=npz", "source.path=a.npz", "sweep.preflight=false", "fit.epochs=2")
# Groups whose options need an argument, or that are not about the experiment.
NO_AXES = {"tracking", "hydra", "sweep", "debug", "source"}
GROUPS = {
    folder.name: sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name not in NO_AXES
}
SETTINGS: dict[str, list[str]] = {
    "source.path": ["a.npz", "b.npz", "copy_of_a.npz"],
    "data.labels": ["one_hot", "integer"],
    "data.scaling": ["unit", "centered", "none"],
    "data.split": ["stratified", "keras"],
    "data.validation": ["holdout", "test"],
    "data.validation_fraction": ["0.1", "0.2", "0.3"],
    "data.split_seed": ["0", "1", "2"],
    "data.class_weight": ["null", "balanced", "{0:1,1:5,2:1}"],
    "data.keep": ["null", "{0:0.5}", "{1:0.5}"],
    "data.limit": ["null", "20", "30", "1000"],
    "fit.epochs": ["1", "2", "3"],
    "fit.batch_size": ["1", "32", "all", "1000"],
    "fit.engine": ["auto", "fused", "keras"],
    "fit.loss": ["auto", "mse"],
    "+optimizer.weight_decay": ["null", "0.01"],
    "optimizer.learning_rate": ["0.001", "0.01", "0.1"],
    "seed": ["0", "1", "2"],
    "save.which": ["auto", "best", "last"],
    "save.formats": ["[keras]", "[keras,h5]"],
    "fit.metrics": ["[accuracy]", "[accuracy,mae]"],
    "callbacks": ["none", "early_stopping", "default"],
}


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch, capfd) -> Trainer:
    for name, seed in (("a.npz", 0), ("b.npz", 1), ("copy_of_a.npz", 0)):
        write_images(tmp_path / name, seed)
    return Trainer(tmp_path, monkeypatch, capfd)


def write_images(file: Path, seed: int, num_classes: int = 10, per_class: int = 12) -> None:
    """Noise in as many classes as MNIST has, 12 x 10 pixels."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    arrays = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"] = generator.integers(0, 256, (len(labels), 12, 10), dtype=np.uint8)
        arrays[f"y_{split}"] = labels
    np.savez(file, **arrays)


def draw_sweep(draw: random.Random) -> dict[str, list[str]]:
    """One to three axes out of all groups and settings, with two or three values each."""
    names = draw.sample([*GROUPS, *SETTINGS], draw.choice((1, 1, 2, 2, 3)))
    axes = {}
    for name in names:
        values = GROUPS.get(name) or SETTINGS[name]
        axes[name] = draw.sample(values, min(len(values), draw.choice((2, 2, 3)) if len(names) < 3 else 2))
    if "optimizer.learning_rate" in axes:
        axes.pop("+optimizer.weight_decay", None)
    return axes


def usable(axes: dict[str, list[str]], trains: bool) -> bool:
    """Whether every combination is a configuration that works with the small images.

    trains: also that it costs no more than seconds, and leaves the process as it is.
    """
    if trains and {"deterministic", "experiment", "model"} & set(axes):
        return False
    keys = {key for key in axes if key.lstrip("+").startswith("optimizer.")}
    weights = "data.class_weight" in axes and "{0:1,1:5,2:1}" in axes["data.class_weight"]  # three of ten classes
    return not (keys and "experiment" in axes) and not weights


def expected_labels(axes: dict[str, list[str]]) -> list[dict[str, str]]:
    names = [name.lstrip("+") for name in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*axes.values())]


def as_asked(value: Any) -> str:
    """A value of sweep.json as it stood on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return "null" if value is None else str(value).replace(" ", "")


def words_of(axes: dict[str, list[str]]) -> list[str]:
    return [f"{name}={','.join(values)}" for name, values in axes.items()]


@pytest.mark.long_after(1)
@pytest.mark.long_after(2)
@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_random_sweep_after_random_runs(trainer: Trainer, number: int) -> None:
    check_random_sweep(trainer, random.Random(number))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("number", range(100, 101))
def test_a_random_sweep_that_trains(trainer: Trainer, number: int) -> None:
    trainer.train_for_real()
    check_random_sweep(trainer, random.Random(number))


def check_random_sweep(trainer: Trainer, draw: random.Random) -> None:
    """Run some of a random sweep's jobs by themselves, then the sweep, then the sweep again."""
    axes = draw_sweep(draw)
    while not usable(axes, trainer.trains):
        axes = draw_sweep(draw)
    words = ["--multirun", *BASE, *words_of(axes)]
    for _ in range(draw.choice((0, 1, 2))):
        single = [f"{name}={draw.choice(values)}" for name, values in axes.items()]
        assert trainer(*BASE, *single).code == 0
    before = trainer.trained()

    ended = trainer(*words)
    assert ended.code == 0, ended.out + ended.err
    check_results(trainer, axes, before)
    check_report(trainer.sweep())

    everything = {run.run_id for run in trainer.runs()}
    table = (trainer.sweep()["folder"] / "table.csv").read_text()
    again = trainer(*words)
    assert again.code == 0, again.out + again.err
    num_jobs = len(expected_labels(axes))
    assert f"{num_jobs} jobs, {num_jobs} of them done" in again.out
    assert {run.run_id for run in trainer.runs()} == everything
    assert (trainer.sweep()["folder"] / "table.csv").read_text() == table


def check_results(trainer: Trainer, axes: dict[str, list[str]], before: dict[str, Any]) -> None:
    """Each combination is a job under its own label, with the numbers of a run that is this computation."""
    stored = trainer.trained()
    jobs = trainer.sweep()["jobs"]
    assert sorted([sorted((k, as_asked(v)) for k, v in job["values"].items()) for job in jobs]) == sorted(
        sorted(labels.items()) for labels in expected_labels(axes)
    )
    assert len({job["name"] for job in jobs}) == len(jobs)
    for job in jobs:
        run = stored[job["run"]]
        assert (job["status"], job["error"], run.status) == ("FINISHED", "", "FINISHED")
        assert job["metrics"]["best_epoch_val_accuracy"] == run.metrics["best_epoch_val_accuracy"]
        if not trainer.trains:
            expected = numbers(run.tags["fingerprint"], int(run.params["fit.epochs"]))
            assert run.metrics["best_epoch_val_accuracy"] == max(expected)
    # each computation once, and none that was there before
    used = {stored[job["run"]].tags["fingerprint"] for job in jobs}
    known = {run.tags["fingerprint"] for run in before.values()}
    new = [run.tags["fingerprint"] for run_id, run in stored.items() if run_id not in before]
    assert sorted(new) == sorted(used - known)
    # beneath the parent run there is one entry for each job
    (parent,) = [run for run in trainer.runs() if run.tags.get("sweep.kind") == "parent"]
    beneath = [run for run in trainer.runs() if run.tags.get("mlflow.parentRunId") == parent.run_id]
    assert sorted(run.name for run in beneath) == sorted(job["name"] for job in jobs)
    assert parent.status == "FINISHED"
    for entry in beneath:
        (job,) = [job for job in jobs if job["name"] == entry.name]
        assert entry.metrics["best_epoch_val_accuracy"] == job["metrics"]["best_epoch_val_accuracy"]
        assert entry.tags.get("reused.run_id", entry.run_id) == job["run"]


def check_report(sweep: dict[str, Any]) -> None:
    """Every option that was asked for is in a table of the report, and the numbers are those of the jobs."""
    shown: dict[str, float] = {}
    num_runs = 0
    for file in sweep["folder"].glob("*table.csv"):
        with file.open() as text:
            for row in csv.DictReader(text):
                num_runs += int(row["num_runs"])
                shown[f"{row['data']} {row['option']}"] = float(row["mean"])
    values = [job["metrics"]["best_epoch_val_accuracy"] for job in sweep["jobs"]]
    assert num_runs == len(sweep["jobs"])
    assert min(values) - 1e-9 <= min(shown.values()) and max(shown.values()) <= max(values) + 1e-9
    for file in sweep["folder"].glob("*comparison.json"):
        options = json.loads(file.read_text())["options"]
        assert len({option["name"] for option in options}) == len(options)
