"""What the terminal shows while the jobs of a sweep run side by side: a line for each that has ended, and below, on a
terminal, a table of those that run. The jobs' own lines are in their log files."""

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mnistlab.config.secrets import hide_secrets
from mnistlab.runtime import files, terminal
from mnistlab.sweep import outcomes
from mnistlab.sweep.outcomes import Outcome
from mnistlab.sweep.plan import Sweep, SweepJob

LOOK_SECONDS = 0.5
TAIL_BYTES = 4096  # of metrics.jsonl, which hold its last line
KILLED_SECONDS = 3.0  # until a job that was stopped counts as ended: it may be started again
UNNAMED = ("sweep.", "hydra", "launch")  # overrides that are no part of a job's name
SHOWN = ("loss", "val_loss", "val_accuracy")


@contextlib.contextmanager
def showing(sweep: Sweep) -> Iterator[None]:
    """Show the jobs of this start of the sweep until the block ends."""
    if not sweep.workers:
        yield
        return
    shown = _Jobs(sweep)
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(shown, ended), name="live table", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(shown: "_Jobs", ended: threading.Event) -> None:
    table = terminal.start_rows()
    try:
        while True:
            last = ended.is_set()  # the jobs that ended before are told of
            for line in shown.new_lines(last):
                print(line, flush=True)
            if table is not None:
                table.update(shown.running())
            if last:
                return
            ended.wait(LOOK_SECONDS)
    finally:
        if table is not None:
            table.stop()


@dataclass(frozen=True)
class _Job:
    """What is shown of a job; epochs: that it is to train."""

    key: str
    name: str
    epochs: int
    objective: str


class _Jobs:
    """The jobs that run in this start of a sweep, as their files tell."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep, self._folder = sweep, sweep.folder
        self._waiting = [] if sweep.sweeper else [_shown(job) for job in sweep.jobs if _is_to_run(job, sweep.folder)]
        self._total, self._ended = len(self._waiting), 0
        self._known = set[str]()  # of those that another sweeper chooses

    def _add_started(self) -> None:
        """Of a sweeper that chooses the jobs while it runs: those that it has started."""
        config, own = self._sweep.jobs[0].config, [hide_secrets(word) for word in self._sweep.words]
        for key in sorted({file.name for file in (self._folder / "started").glob("[!.]*")} - self._known):
            if (started := outcomes.read(self._folder, "started", key)) is not None:
                self._known.add(key)
                chosen = [word for word in started.overrides if word not in own and not word.startswith(UNNAMED)]
                name = " ".join(chosen) or "with the given settings"
                self._waiting.append(_Job(key, name, config.fit.epochs, config.sweep.objective))

    def new_lines(self, last: bool) -> list[str]:
        """A line for each job that has ended since the last call. last: none will be started again."""
        lines = []
        if self._sweep.sweeper:
            self._add_started()
        for job in tuple(self._waiting):
            done, failed = (outcomes.read(self._folder, kind, job.key) for kind in ("done", "failures"))
            if done is None and (failed is None or (not last and self._may_run_again(job, failed))):
                continue
            self._waiting.remove(job)
            self._ended += 1
            text = _result(job, done, _changed(self._folder / "started" / job.key)) if done else ""
            if failed:
                cause, _, _ = failed.error.partition("\n")
                text = f"{failed.status}: {cause}"
            number = f"{self._ended}/{self._total}" if self._total else f"{self._ended}"
            lines.append(hide_secrets(f"[{number}] {job.name}: {text}"))
        return lines

    def _may_run_again(self, job: _Job, failed: Outcome) -> bool:
        """Whether the launcher may not have seen yet that this job was stopped."""
        return (
            failed.status == "KILLED" and time.time() - _changed(self._folder / "failures" / job.key) < KILLED_SECONDS
        )

    def running(self) -> list[list[str]]:
        """A row for each job that runs: its name, last epoch, its metrics, seconds since its start."""
        rows = []
        for job in self._waiting:
            started = outcomes.read(self._folder, "started", job.key)
            if started is None:
                continue
            epoch, metrics = _last_epoch(Path(started.folder))
            since = time.time() - _changed(self._folder / "started" / job.key)
            numbers = "  ".join(f"{name} {metrics[name]:.4f}" for name in SHOWN if name in metrics)
            at = f"epoch {epoch}/{job.epochs}" if epoch else "starts"
            rows.append([job.name, at, numbers, f"{since:.0f} s"])
        return rows


def _is_to_run(job: SweepJob, sweep_folder: Path) -> bool:
    return not job.is_done and job.same_as is None and not outcomes.has_ended(sweep_folder, job.key)


def _shown(job: SweepJob) -> _Job:
    return _Job(job.key, job.name, job.config.fit.epochs, job.config.sweep.objective)


def _result(job: _Job, done: Outcome, started: float) -> str:
    """The objective of a job that is done, and its seconds in this start of the sweep: it may continue a run."""
    value, ended = done.objective, files.read_json(Path(done.folder, "status.json")).get("ended")
    shown = "no finite value" if value is None or math.isnan(value) else f"{job.objective} {value:.4f}"
    return shown if ended is None else f"{shown}  {ended - started:.1f} s"


def _last_epoch(folder: Path) -> tuple[int, dict[str, float]]:
    """The number and the metrics of the last epoch that a run has recorded; 0 and none before the first."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            line = json.loads(file.read().splitlines()[-1])
        return int(line["step"]), {k: v for k, v in line["metrics"].items() if isinstance(v, float)}
    except (OSError, ValueError, IndexError, KeyError):
        return 0, {}


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return time.time()
