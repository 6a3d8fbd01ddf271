"""Starts a command again and again, and kills it with SIGKILL at random moments of each phase."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conftest import TIMEOUT, Store, environment, wait_until

SEED = int(os.environ.get("MNISTLAB_FAULTS_SEED", time.time_ns() % 1_000_000))


@dataclass
class Seen:
    """What a command has written so far, read from outside. Each number changes when something happens."""

    folder: Path

    def store(self) -> int:
        """Changes when the first migration begins, and during it."""
        return len(list((self.folder / "mlruns").glob("*")))

    def epochs(self) -> int:
        return sum(file.read_bytes().count(b"\n") for file in self.files("metrics.jsonl"))

    def checkpoints(self) -> int:
        """The newest change of a checkpoint, also of one that is being written."""
        return max((_changed(file) for file in self.files("checkpoint/*")), default=0)

    def models(self) -> int:
        return max((_changed(file) for file in self.files("model_files/*")), default=0)

    def ends(self) -> int:
        """Changes when a run's status becomes FINISHED. A reader never finds a torn file."""
        return sum(json.loads(file.read_text())["status"] == "FINISHED" for file in self.files("status.json"))

    def resumes(self) -> int:
        """How often the runs were continued, as their folders say."""
        return sum(int(json.loads(file.read_text()).get("resumed.count", "0")) for file in self.files("tags.json"))

    def has_checkpoints(self) -> bool:
        return bool(self.files("checkpoint/[ab].checkpoint"))

    def files(self, name: str) -> list[Path]:
        """The files of this name or pattern in all run folders."""
        runs = self.folder / "runs"
        return [*runs.glob(f"*-*-*/*/{name}"), *runs.glob(f"*-*-*/*-sweep/*/{name}")]


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # it was a temporary file
        return 0


@dataclass(frozen=True)
class Moment:
    """When to kill: a random time within `seconds` after `sign` has changed; None: after the start."""

    sign: Callable[[Seen], int] | None
    seconds: float


MOMENTS = {
    "loading": Moment(None, 6.0),
    "first migration": Moment(Seen.store, 1.5),
    "training": Moment(Seen.epochs, 0.4),
    "logging": Moment(Seen.epochs, 0.02),
    "checkpointing": Moment(Seen.checkpoints, 0.03),
    "saving": Moment(Seen.models, 0.5),
    "end": Moment(Seen.ends, 0.3),
}


class Kills:
    """The kills that are still to be done, and those that were, by phase; in an order that the seed gives."""

    def __init__(self, wanted: Mapping[str, int], generator: random.Random) -> None:
        self.generator = generator
        self.wanted = [name for name, number in wanted.items() for _ in range(number)]
        self.generator.shuffle(self.wanted)
        self.done: Counter[str] = Counter()

    def next(self, is_new: bool) -> str | None:
        """The phase for the next kill, None if all are done. is_new: the folder is: only there is a migration."""
        fitting = [name for name in self.wanted if is_new or name != "first migration"]
        first = [name for name in fitting if name == "first migration"]
        return next(iter([*first, *fitting]), None)

    def note(self, phase: str) -> None:
        self.wanted.remove(phase)
        self.done[phase] += 1

    def table(self) -> str:
        rows = [f"{name:16} {self.done[name]:3}" for name in MOMENTS]
        return "\n".join([f"MNISTLAB_FAULTS_SEED={SEED}", *rows, f"{'in all':16} {self.done.total():3}"])


@dataclass
class Killer:
    """Starts a command in a folder until it ends by itself.

    resumes: how often a start continued a run, as seen from outside; told: what is printed if a test fails.
    """

    folder: Path
    words: tuple[str, ...]
    kills: Kills
    resumes: int = 0
    told: list[str] = field(default_factory=list)
    _before: tuple[int, int, bool] = (0, 0, False)  # resumes, runs, and whether there were checkpoints

    def train(self) -> None:
        """Start the command again and again, with a kill in each start while there are kills to do."""
        while phase := self.kills.next(is_new=not self.told):
            if self._has_ended(phase):
                return
        assert self._wait(self._start()) == 0, self.story()

    def _has_ended(self, phase: str) -> bool:
        """Start it, kill it in this phase. True if it has ended, or has recorded its end, before."""
        moment, seen, generator = MOMENTS[phase], Seen(self.folder), self.kills.generator
        before = moment.sign(seen) if moment.sign else 0
        wait, whole = generator.uniform(0, moment.seconds), generator.random() < 0.5
        command, log = self._start()
        while moment.sign and moment.sign(seen) == before and command.poll() is None:
            time.sleep(0.001)
        try:
            command.wait(wait)
        except subprocess.TimeoutExpired:
            for pid in [command.pid, *(_descendants(command.pid) if whole else [])]:
                _kill(pid)
            self.kills.note(phase)
            who = "the command and its processes" if whole else "the command"
            self.told.append(f"{phase}: killed {who} after {wait:.3f} s")
        code = self._wait((command, log))
        assert code in (0, -signal.SIGKILL), self.story()
        return code == 0 or self._run_is_recorded()

    def _run_is_recorded(self) -> bool:
        """Whether a single run was killed when all was done. The process that records it may still be at work."""
        if "--multirun" in self.words or not Seen(self.folder).models():
            return False
        wait_until(lambda: not _processes_of(self.folder))
        return "FINISHED" in Store(self.folder).statuses()

    def _start(self) -> tuple[subprocess.Popen[bytes], Path]:
        seen = Seen(self.folder)
        self._before = seen.resumes(), len(seen.files("tags.json")), seen.has_checkpoints()
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
        output = log.read_text()
        self.told.append(f"exit status {code}: {output[-1500:]}")
        assert "Traceback" not in output, self.story()
        self._note_resumes(output)
        return code

    def _note_resumes(self, output: str) -> None:
        """A start continues each interrupted run at most once, says so, and begins no other run in its place."""
        seen, (resumes, num_runs, was_interrupted) = Seen(self.folder), self._before
        num_resumes, num_said = seen.resumes() - resumes, output.count("Continuing ")
        assert num_said <= num_resumes, self.story()  # a kill may come before the line
        if "--multirun" not in self.words:
            assert num_resumes <= 1, self.story()
            assert not was_interrupted or len(seen.files("tags.json")) == num_runs, self.story()
        self.resumes += num_resumes

    def story(self) -> str:
        return "\n".join([self.kills.table(), *self.words, *self.told])


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
