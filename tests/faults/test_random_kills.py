"""kill -9 at random moments, the same command again each time: in the end one finished run, as if nothing had happened.

Each test prints how many kills each phase had, and the seed; MNISTLAB_FAULTS_SEED=N repeats the moments.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Store
from killing import SEED, Killer, Kills
from outcomes import outcomes

pytestmark = pytest.mark.faults

KILLS = {"loading": 4, "first migration": 4, "training": 7, "logging": 4, "checkpointing": 6, "saving": 4, "end": 2}
SWEEP_KILLS = {"loading": 1, "first migration": 1, "training": 2, "checkpointing": 1, "saving": 1, "end": 1}
EPOCHS, SWEEP_EPOCHS = 8, 3
SMALL_NETWORK = ("model=cnn", "model.filters=[4,8]", "model.units=32")  # with dropout
RUN = (
    "source=mnist_5k",
    "data=augmented",
    "data.limit=1200",
    *SMALL_NETWORK,
    "callbacks=reduce_lr",
    "callbacks.reduce_lr.patience=1",
    "+callbacks.reduce_lr.min_delta=0.2",  # the rate is reduced while the loss still falls
    f"fit.epochs={EPOCHS}",
    "fit.checkpoint_percent=100",  # one after every epoch
)
SWEEP = (
    "--multirun",
    "source=mnist_5k",
    "data.limit=1200",
    *SMALL_NETWORK,
    "optimizer=momentum,adam",
    f"fit.epochs={SWEEP_EPOCHS}",
    "sweep.seeds=2",
)
NUM_JOBS = 4
PARALLEL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def times_resumed(folder: Path) -> int:
    """How often the runs were continued, as the store says."""
    return sum(int(run.data.tags.get("resumed.count", "0")) for run in Store(folder).runs())


def undisturbed(folder: Path, words: tuple[str, ...]) -> Path:
    folder.mkdir()
    Killer(folder, words, Kills({}, random.Random(SEED))).train()
    return folder


def kill_at_random(folder: Path, words: tuple[str, ...], wanted: dict[str, int], check: Callable[[Path], None]) -> None:
    """Train in as many folders as are needed for all kills. check: what must hold in each in the end."""
    kills, attempt = Kills(wanted, random.Random(SEED)), 0
    while kills.wanted:
        killer = Killer(folder / f"killed{attempt}", words, kills)
        killer.folder.mkdir()
        killer.train()
        try:
            check(killer.folder)
            assert set(Store(killer.folder).statuses()) <= {"FINISHED", "KILLED"}
            assert times_resumed(killer.folder) == killer.resumes
        except AssertionError as error:
            raise AssertionError(killer.story()) from error
        attempt += 1
    print(f"\n{kills.table()} in {attempt} folders, {' '.join(words)}")


def test_a_training_that_is_killed_at_random_moments(tmp_path: Path) -> None:
    expected = outcomes(undisturbed(tmp_path / "calm", RUN))
    (calm,) = expected.values()
    assert calm.epochs == list(range(1, EPOCHS + 1))
    assert calm.metrics["epoch/val_loss"] != calm.metrics["epoch/loss"]

    def check(folder: Path) -> None:
        assert outcomes(folder) == expected

    kill_at_random(tmp_path, RUN, KILLS, check)


@pytest.mark.parametrize("launcher", [(), PARALLEL], ids=["basic", "joblib"])
def test_a_sweep_that_is_killed_at_random_moments(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    words = (*SWEEP, *launcher)
    expected = outcomes(undisturbed(tmp_path / "calm", words), "job")
    assert len(expected) == NUM_JOBS

    def check(folder: Path) -> None:
        assert outcomes(folder, "job") == expected
        assert statuses_in_table(folder) == ["FINISHED"] * NUM_JOBS
        assert Store(folder).statuses("parent") == ["FINISHED"]

    kill_at_random(tmp_path, words, SWEEP_KILLS, check)


def statuses_in_table(folder: Path) -> list[str]:
    """The statuses of all jobs in the table of the newest sweep that has one."""
    newest = max((folder / "runs" / "sweeps").glob("*/jobs.csv"), key=lambda file: file.stat().st_mtime)
    with newest.open() as file:
        return [row["status"] for row in csv.DictReader(file)]
