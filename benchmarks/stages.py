"""mnistlab's command with a timer around what it calls; from the outside, so the program itself knows nothing of it.

Usage: python -m benchmarks.stages OUT.json WORDS...     (WORDS as for mnistlab.train; started by benchmarks/where.py)
A stage's seconds are its own: what it calls that is a stage too is taken out. OUT.json holds for each job the stages'
seconds since the job before (or since the start), and those after the last.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import functools
import importlib
import json
import operator
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnistlab.runtime import background, startup

STARTED = "MNISTLAB_BENCH_STARTED"  # time.time() of the parent when it started this process

# (module, function or method, stage). A test holds that they all exist.
TIMED = (
    ("mnistlab.train", "check_command", "command line"),
    ("mnistlab.data.loading", "load", "data"),
    ("mnistlab.training", "resident_of", "data"),
    ("mnistlab.experiment", "build_model", "model"),
    ("mnistlab.experiment", "build_callbacks", "model"),
    ("mnistlab.training", "choose_engine", "compile"),
    ("mnistlab.training.engine.program", "Program.prepare", "compile"),
    ("mnistlab.training", "fit", "train"),
    ("mnistlab.training", "predict", "evaluate"),
    ("mnistlab.runtime.background", "Pending.result", "second"),
    ("mnistlab.tracking.stores", "check_reachable", "database"),
    ("mnistlab.experiment", "open_record", "database"),
    ("mnistlab.experiment", "describe", "record"),
    ("mnistlab.tracking.recorder", "Recorder.log_metrics", "record"),
    ("mnistlab.tracking.recorder", "Recorder.set_tags", "record"),
    ("mnistlab.tracking.recorder", "Recorder.end", "record"),
    ("mnistlab.experiment", "write_reports", "record"),
    ("mnistlab.experiment", "figures_of", "record"),
    ("mnistlab.experiment", "save", "save"),
)
JOB = ("mnistlab.experiment", "run")
REST = "rest"


class Stages:
    """Exclusive seconds of nested stages, in the main thread.

    seconds: stage -> seconds so far; jobs: the stages' seconds of each job ended.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.jobs: list[dict[str, float]] = []
        self._stack = [REST]
        self._since = time.perf_counter()
        self._main = threading.get_ident()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge what happens inside to this stage."""
        if threading.get_ident() != self._main:
            yield
            return
        self.charge()
        self._stack.append(name)
        try:
            yield
        finally:
            self.charge()
            self._stack.pop()

    def charge(self) -> None:
        """Charge the time since the last charge to the running stage."""
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def end_job(self) -> None:
        """Keep the seconds since the job before and begin anew."""
        self.charge()
        self.jobs.append(dict(self.seconds))
        self.seconds.clear()

    @property
    def importing(self) -> bool:
        """Whether the running stage is an import, or this is another thread."""
        return self._stack[-1] == "imports" or threading.get_ident() != self._main


def timed(stages: Stages, function: Callable, name: str) -> Callable:
    """The function, charged to a stage."""

    @functools.wraps(function)
    def measured(*arguments: Any, **settings: Any) -> Any:
        with stages.stage(name):
            return function(*arguments, **settings)

    return measured


def job_of(stages: Stages, function: Callable) -> Callable:
    """The function, at whose end a job ends."""

    @functools.wraps(function)
    def measured(*arguments: Any, **settings: Any) -> Any:
        try:
            return function(*arguments, **settings)
        finally:
            stages.end_job()

    return measured


def replace(module: str, name: str, wrapped: Callable[[Callable], Callable]) -> None:
    """Put a wrapped function in the place of a module's function or of a class's method."""
    owner: Any = importlib.import_module(module)
    *parents, last = name.split(".")
    owner = operator.attrgetter(".".join(parents))(owner) if parents else owner
    setattr(owner, last, wrapped(getattr(owner, last)))


def time_imports(stages: Stages) -> None:
    """Charge every import that loads something, wherever it stands, to the stage 'imports'."""
    plain, loaded = builtins.__import__, sys.modules

    def measured(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        known = (
            not level
            and name in loaded
            and all(word in getattr(loaded[name], "__dict__", ()) for word in fromlist or ())
        )
        if known or stages.importing:
            return plain(name, globals, locals, fromlist, level)
        with stages.stage("imports"):
            return plain(name, globals, locals, fromlist, level)

    builtins.__import__ = measured


def main() -> None:
    """Run the command and write what it took."""
    out, *words = sys.argv[1:]
    stages = Stages()
    stages.seconds["Python"] = time.time() - float(os.environ.get(STARTED, time.time()))
    time_imports(stages)
    background.begin()  # as the command does
    with stages.stage("imports"), startup.loading():
        importlib.import_module("mnistlab.experiment")
        command = importlib.import_module("mnistlab.train")
    for module, name, stage in TIMED:
        replace(module, name, functools.partial(timed, stages, name=stage))
    replace(*JOB, functools.partial(job_of, stages))
    sys.argv = ["mnistlab-train", *words]
    atexit.register(write, stages, Path(out))  # the command may leave by os._exit, after what is registered here
    command.main()


def write(stages: Stages, out: Path) -> None:
    """The stages' seconds as JSON."""
    stages.charge()
    out.write_text(json.dumps({"jobs": stages.jobs, "after": dict(stages.seconds)}), encoding="utf-8")


if __name__ == "__main__":
    main()
