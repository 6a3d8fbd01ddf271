"""A tuned sweep through the real command: which jobs it adds, what it compares, and that it goes on where it was."""

from __future__ import annotations

import csv
import json
import re
import statistics
from pathlib import Path

import pytest
from conftest import Finished, run_command

pytestmark = pytest.mark.long

WORDS = ("sweep=tuned", "source=mnist_5k", "data.limit=400", "fit.epochs=1", "optimizer=momentum,adam")
WORDS += ("sweep.tune=5", "sweep.tune_seeds=1", "sweep.seeds=2")
RATE, OBJECTIVE = "optimizer.learning_rate", "best_epoch_val_accuracy"
FIRST = {"momentum": {0.0003, 0.0055, 0.1}, "adam": {0.0001, 0.0017, 0.03}}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> tuple[Finished, Path]:
    """A finished tuned sweep; returns how it ended and its root folder."""
    root = tmp_path_factory.mktemp("tuned")
    return run_command(root, *WORDS), root


def folder_of(root: Path) -> Path:
    (folder,) = (root / "runs" / "sweeps").iterdir()
    return folder


def jobs_of(root: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder_of(root) / "jobs.csv").read_text().splitlines()))


def chosen_rates(root: Path) -> dict[str, float]:
    """Recomputed from the jobs: the rate with the best mean on the tuning's seeds, of equal ones the lowest."""
    best = {}
    for option in FIRST:
        rates: dict[float, list[float]] = {}
        for job in jobs_of(root):
            if job["optimizer"] == option and int(job["seed"]) >= 1000:
                rates.setdefault(float(job[RATE]), []).append(float(job[OBJECTIVE]))
        assert len(rates) == 5  # the same budget for each
        assert all(len(values) == 1 for values in rates.values())
        means = {rate: values[0] for rate, values in sorted(rates.items())}
        best[option] = max(means, key=lambda rate: means[rate])
    return best


def test_the_jobs_are_those_of_the_tuning_and_of_both_comparisons(tuned) -> None:
    done, root = tuned
    assert done.code == 0, done.err
    jobs, best = jobs_of(root), chosen_rates(root)
    assert {job["job"] for job in jobs} >= {"adam-lr0.0017-seed1000", "adam-lr0.01-seed0", "momentum-lr0.01-seed1"}
    for option, first in FIRST.items():
        tried = {float(job[RATE]) for job in jobs if job["optimizer"] == option and job["seed"] == "1000"}
        compared = {float(job[RATE]) for job in jobs if job["optimizer"] == option and job["seed"] == "1"}
        assert first < tried
        assert compared == {0.01, best[option]}
        assert f"  {option}: {best[option]:g}" in done.out


def test_the_verdict_is_on_fresh_seeds_at_the_best_rates(tuned) -> None:
    _, root = tuned
    folder, best = folder_of(root), chosen_rates(root)
    comparison = json.loads((folder / "comparison.json").read_text())
    assert (comparison["axis"], comparison["seeds"]) == (["optimizer"], [0, 1])
    for option in comparison["options"]:
        name = option["name"]
        scores = [
            float(job[OBJECTIVE])
            for job in jobs_of(root)
            if job["optimizer"] == name and int(job["seed"]) < 1000 and float(job[RATE]) == best[name]
        ]
        assert option["mean"] == pytest.approx(statistics.fmean(scores))
    assert {row["optimizer"]: row["best"] for row in comparison["tuned"]["grid"]["rows"]} == best
    for name in ("figures/learning_rates.png", "tuning.csv", "table.csv", "report.html"):
        assert (folder / name).is_file()
    assert "Best rate and default rate" in (folder / "report.md").read_text()


@pytest.mark.long
def test_the_same_command_trains_nothing_and_compare_makes_the_same_report(tuned) -> None:
    _, root = tuned
    before = jobs_of(root)
    again = run_command(root, *WORDS)
    assert again.code == 0, again.err
    assert not re.search(r"^epoch 1/1", again.out, re.MULTILINE)
    assert [(job["job"], job["run"]) for job in jobs_of(root)] == [(job["job"], job["run"]) for job in before]
    compared = run_command(root, f"sweep={folder_of(root).name}", module="mnistlab.compare")
    assert compared.code == 0, compared.err
    (report,) = (root / "runs" / "comparisons").iterdir()
    for name in ("tuning.csv", "table.csv", "comparison.json"):
        assert (report / name).read_text() == (folder_of(root) / name).read_text()


@pytest.mark.faults
def test_an_option_that_cannot_be_trained_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    (tmp_path / "mine" / "optimizer" / "broken.yaml").write_text("_target_: broken.Broken\nlearning_rate: 0.01\n")
    (tmp_path / "broken.py").write_text(
        "import keras\n\n\nclass Broken(keras.optimizers.SGD):\n"
        "    def update_step(self, gradient, variable, learning_rate):\n"
        "        raise RuntimeError('broken on purpose')\n"
    )
    words = [word.replace("momentum,adam", "adam,broken") for word in WORDS]
    settings = ["sweep.tune_seeds=1", "sweep.preflight=false", "tracking=none"]
    done = run_command(tmp_path, "--config-dir", "mine", "trust=[broken]", *words, *settings)
    assert done.code == 1
    assert "broken names no sweep.tune_range: a factor of 30 around its own, 0.000333333 to 0.3." in done.out
    assert "broken: at each of its 5 learning rates a run failed or diverged; compared at its default, 0.01" in done.out
    comparison = json.loads((folder_of(tmp_path) / "comparison.json").read_text())
    means = {option["name"]: option["mean"] for option in comparison["options"]}
    assert means["adam"] > 0.2
    assert means["broken"] is None
    assert any("broken is compared at its default" in note["text"] for note in comparison["notes"])
