"""kill -9 at random moments, the same command again each time: in the end one finished run, as if nothing had happened.

`make faults` prints the seed of the moments when a case fails; MNISTLAB_FAULTS_SEED=N repeats them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import pytest
from conftest import TIMEOUT, Store, environment, wait_until

pytestmark = pytest.mark.faults

SEED = int(os.environ.get("MNISTLAB_FAULTS_SEED", time.time_ns() % 1_000_000))
NUM_KILLS = 30
NUM_SWEEP_KILLS = 6  # on each launcher
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


@dataclass
class Seen:
    """What a command has written so far, read from outside."""

    folder: Path

    def store(self) -> int:
        """Changes when the first migration begins, and during it."""
        return len(list((self.folder / "mlruns").glob("*")))

    def epochs(self) -> int:
        return sum(file.read_bytes().count(b"\n") for file in self._files("metrics.jsonl"))

    def checkpoints(self) -> int:
        """The newest change of a checkpoint, also of one that is being written."""
        return max((_changed(file) for file in self._files("checkpoint/*")), default=0)

    def models(self) -> int:
        return len(self._files("model_files/*"))

    def ends(self) -> int:
        return sum(_status(file) == "FINISHED" for file in self._files("status.json"))

    def _files(self, name: str) -> list[Path]:
        runs = self.folder / "runs"
        return [*runs.glob(f"*-*-*/*/{name}"), *runs.glob(f"*-*-*/*-sweep/*/{name}")]


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # it was a temporary file
        return 0


def _status(file: Path) -> str:
    """As a reader finds it, whose files are never torn."""
    return json.loads(file.read_text())["status"]


@dataclass(frozen=True)
class Moment:
    """When to kill: a random time within `seconds` after `sign` has changed; None: after the start."""

    sign: Callable[[Seen], int] | None
    seconds: float


MOMENTS = {
    "start": Moment(None, 6.0),
    "store": Moment(Seen.store, 1.5),
    "epoch": Moment(Seen.epochs, 0.6),
    "checkpoint": Moment(Seen.checkpoints, 0.03),
    "model": Moment(Seen.models, 0.5),
    "end": Moment(Seen.ends, 0.3),
}
WEIGHTS = {"start": 3, "store": 1, "epoch": 5, "checkpoint": 4, "model": 3, "end": 1}


@dataclass
class Killer:
    """Starts a command again and again, and kills it at random moments.

    kills: the moments at which it was killed; told: what is printed if the test fails.
    """

    folder: Path
    words: tuple[str, ...]
    generator: random.Random
    kills: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def train(self, at_most: int, first: str) -> None:
        """Start the command until it ends by itself, killing it up to so many times; first: the first moment."""
        for index in range(at_most):
            name = first if index == 0 else self.generator.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
            if self._has_ended_at(name):
                return
        assert self._wait(self._start()) == 0, self.story()

    def _has_ended_at(self, name: str) -> bool:
        """Start it and kill it at this moment. True if it has ended, or has recorded its end, before."""
        moment, seen = MOMENTS[name], Seen(self.folder)
        before = moment.sign(seen) if moment.sign else 0
        wait, whole = self.generator.uniform(0, moment.seconds), self.generator.random() < 0.5
        command, log = self._start()
        while moment.sign and moment.sign(seen) == before and command.poll() is None:
            time.sleep(0.001)
        try:
            command.wait(wait)
        except subprocess.TimeoutExpired:
            group = _descendants(command.pid) if whole else []
            for pid in [command.pid, *group]:
                _kill(pid)
            self.kills.append(name)
            who = "the command and its processes" if whole else "the command"
            self.told.append(f"killed {who} {wait:.3f} s after {name}")
        code = self._wait((command, log))
        assert code in (0, -signal.SIGKILL), self.story()
        return code == 0 or self._run_is_recorded()

    def _run_is_recorded(self) -> bool:
        """Whether a single run was killed when all was done. The process that records it may still be at work."""
        if "--multirun" in self.words or Seen(self.folder).models() == 0:
            return False
        wait_until(lambda: not _processes_of(self.folder))
        return "FINISHED" in Store(self.folder).statuses()

    def _start(self) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / f"output-{len(self.told)}.txt"
        with log.open("wb") as output:
            command = subprocess.Popen(
                [sys.executable, "-m", "mnistlab.train", *self.words],
                cwd=self.folder,
                env=environment(self.folder),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return command, log

    def _wait(self, started: tuple[subprocess.Popen[bytes], Path]) -> int:
        command, log = started
        code = command.wait(TIMEOUT)
        self.told.append(f"exit status {code}: {log.read_text()[-1500:]}")
        assert "Traceback" not in log.read_text(), self.story()
        return code

    def story(self) -> str:
        return "\n".join([f"MNISTLAB_FAULTS_SEED={SEED}", *self.words, *self.told])


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(below for child in children for below in _descendants(child))]


def _processes_of(folder: Path) -> list[int]:
    """The processes of commands on this folder, also of one that has been killed."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes()
        except OSError:
            continue
        if f"MNISTLAB_ROOT={folder}\0".encode() in variables:
            found.append(int(process.name))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def weights(model: Path) -> dict[str, bytes]:
    """All arrays of a saved model, the optimizer's too: path in the file -> bytes."""
    arrays: dict[str, bytes] = {}
    with zipfile.ZipFile(model) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))

    def add(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[name] = node[()].tobytes()

    with h5py.File(content) as file:
        file.visititems(add)
    assert arrays
    return arrays


@dataclass
class Outcome:
    """What a finished run has recorded, without times."""

    metrics: dict[str, list[tuple[int, float]]]
    weights: dict[str, bytes]
    artifacts: list[str]


def outcome(folder: Path, run) -> Outcome:
    client = Store(folder).client
    names = [name for name in run.data.metrics if "second" not in name and not name.startswith("system/")]
    metrics = {
        name: [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, name)]
        for name in names
    }
    artifacts = client.list_artifacts(run.info.run_id)
    return Outcome(
        {name: sorted(history) for name, history in metrics.items()},
        weights(Path(run.data.tags["run.folder"]) / "model_files" / "model.keras"),
        sorted(artifact.path for artifact in artifacts),
    )


def finished(folder: Path, kind: str | None = None) -> list:
    return [run for run in Store(folder).runs(kind) if run.info.status == "FINISHED"]


def undisturbed(folder: Path, words: tuple[str, ...]) -> Path:
    folder.mkdir()
    killer = Killer(folder, words, random.Random(SEED))
    killer.train(0, "start")
    return folder


def test_a_training_that_is_killed_at_random_moments(tmp_path: Path) -> None:
    """In as many folders as are needed for all kills."""
    (expected,) = [outcome(tmp_path / "calm", run) for run in finished(undisturbed(tmp_path / "calm", RUN))]
    assert [step for step, _ in expected.metrics["val_loss"]] == list(range(1, EPOCHS + 1))
    generator, num_kills, attempt = random.Random(SEED), 0, 0
    while num_kills < NUM_KILLS:
        folder = tmp_path / f"killed{attempt}"
        folder.mkdir()
        killer = Killer(folder, RUN, generator)
        killer.train(NUM_KILLS, "store" if attempt % 2 else "start")
        store = Store(folder)
        (run,) = finished(folder) or pytest.fail(killer.story())
        assert outcome(folder, run) == expected, killer.story()
        assert set(store.statuses()) <= {"FINISHED", "KILLED"}, killer.story()
        num_kills, attempt = num_kills + len(killer.kills), attempt + 1
    print(f"MNISTLAB_FAULTS_SEED={SEED}: {num_kills} kills of {attempt} trainings")


@pytest.mark.parametrize("launcher", [(), PARALLEL], ids=["basic", "joblib"])
def test_a_sweep_that_is_killed_at_random_moments(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    words = (*SWEEP, *launcher)
    calm = undisturbed(tmp_path / "calm", words)
    expected = {run.data.tags["fingerprint"]: outcome(calm, run) for run in finished(calm, "job")}
    assert len(expected) == NUM_JOBS
    folder = tmp_path / "killed"
    folder.mkdir()
    killer = Killer(folder, words, random.Random(SEED))
    killer.train(NUM_SWEEP_KILLS, "store")
    jobs = finished(folder, "job")
    assert {run.data.tags["fingerprint"]: outcome(folder, run) for run in jobs} == expected, killer.story()
    assert len(jobs) == NUM_JOBS, killer.story()
    assert set(Store(folder).statuses()) <= {"FINISHED", "KILLED"}, killer.story()
    assert statuses_in_table(folder) == ["FINISHED"] * NUM_JOBS, killer.story()
    print(f"MNISTLAB_FAULTS_SEED={SEED}: {len(killer.kills)} kills of a sweep")


def statuses_in_table(folder: Path) -> list[str]:
    """The statuses of all jobs in the table of the newest sweep that has one."""
    newest = max((folder / "runs" / "sweeps").glob("*/jobs.csv"), key=lambda file: file.stat().st_mtime)
    with newest.open() as file:
        return [row["status"] for row in csv.DictReader(file)]
