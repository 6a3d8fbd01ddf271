"""The training command with timers around the functions that it calls; mnistlab itself has no timers.

Usage: python -m benchmarks.timed_command OUT.json ARGUMENTS...     (as for mnistlab.train; started by stages.py)
A stage's seconds are exclusive: stages inside it are subtracted. OUT.json holds for each job the seconds by stage since
the previous job (or since the start), and those after the last.
"""

from __future__ import annotations

import atexit
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
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path
from typing import Any

from mnistlab.runtime import startup
from mnistlab.tracking import background

STARTED = "MNISTLAB_BENCH_STARTED"  # time.time() of the parent when it started this process

# (module, function or method, stage). A test checks that they all exist.
TIMED = (
    ("mnistlab.sweep.command_line", "check_command", "command line"),
    ("hydra._internal.config_loader_impl", "ConfigLoaderImpl.load_configuration", "compose"),
    ("mnistlab.sweep.conduct", "plan_sweep", "plan"),
    ("mnistlab.sweep.conduct", "compare_jobs", "report"),
    ("mnistlab.data.loading", "load", "data"),
    ("mnistlab.training.fitting", "resident_of", "data"),
    ("mnistlab.experiment", "build_model", "model"),
    ("mnistlab.training.building", "build_callbacks", "model"),
    ("mnistlab.training.plan", "choose_engine", "compile"),
    ("mnistlab.training.engine.program", "Program.prepare", "compile"),
    ("mnistlab.sweep.ahead", "start", "compile"),
    ("mnistlab.training", "fit", "train"),
    ("mnistlab.training", "predict", "evaluate"),
    ("concurrent.futures", "Future.result", "background"),
    ("mnistlab.tracking.stores", "check_reachable", "database"),
    ("mnistlab.experiment", "open_record", "database"),
    ("mnistlab.experiment", "describe_run", "record"),
    ("mnistlab.tracking.recorder", "Recorder.log_metrics", "record"),
    ("mnistlab.tracking.recorder", "Recorder.set_tags", "record"),
    ("mnistlab.tracking.recorder", "Recorder.end", "record"),
    ("mnistlab.experiment", "write_reports", "record"),
    ("mnistlab.experiment", "draw_figures", "record"),
    ("mnistlab.experiment", "save", "save"),
)
JOB = ("mnistlab.experiment", "run")
WHOLE = ("report",)  # stages inside one of these are not subtracted: it waits for the background process, which draws
REST = "rest"
# They execute modules, at once or, for `startup.DeferringFinder`, on first use.
LOADERS = ((SourceFileLoader, "exec_module"), (ExtensionFileLoader, "create_module"))


class Stages:
    """Exclusive seconds of nested stages, in the main thread.

    seconds: stage -> seconds so far; jobs: the seconds by stage of each finished job.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.jobs: list[dict[str, float]] = []
        self._stack = [REST]
        self._since = time.perf_counter()
        self._main = threading.get_ident()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge the time inside to this stage."""
        if threading.get_ident() != self._main or self._stack[-1] in WHOLE:
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
        """Store the seconds since the previous job and start again from zero."""
        self.charge()
        self.jobs.append(dict(self.seconds))
        self.seconds.clear()


def time_calls(function: Callable, stages: Stages, name: str) -> Callable:
    """The function, its time charged to a stage."""

    @functools.wraps(function)
    def timed(*arguments: Any, **settings: Any) -> Any:
        with stages.stage(name):
            return function(*arguments, **settings)

    return timed


def end_job_after(function: Callable, stages: Stages) -> Callable:
    """The function, whose return ends a job."""

    @functools.wraps(function)
    def timed(*arguments: Any, **settings: Any) -> Any:
        try:
            return function(*arguments, **settings)
        finally:
            stages.end_job()

    return timed


def wrap(module: str, name: str, wrapper: Callable[[Callable], Callable]) -> None:
    """Replace a module's function, or a method ('Class.method'), by its wrapped version."""
    parent: Any = importlib.import_module(module)
    *classes, last = name.split(".")
    parent = operator.attrgetter(".".join(classes))(parent) if classes else parent
    setattr(parent, last, wrapper(getattr(parent, last)))


def time_imports(stages: Stages) -> None:
    """Charge the execution of modules to the stage 'imports', wherever it happens."""
    for loader, method in LOADERS:
        setattr(loader, method, time_calls(getattr(loader, method), stages, "imports"))


def main() -> None:
    """Run the command and write the seconds by stage."""
    out, *arguments = sys.argv[1:]
    stages = Stages()
    stages.seconds["Python"] = time.time() - float(os.environ.get(STARTED, time.time()))
    time_imports(stages)
    background.start()  # as the command does
    with stages.stage("imports"), startup.loading():
        importlib.import_module("mnistlab.experiment")
        command = importlib.import_module("mnistlab.train")
    for module, name, stage in TIMED:
        wrap(module, name, functools.partial(time_calls, stages=stages, name=stage))
    wrap(*JOB, functools.partial(end_job_after, stages=stages))
    sys.argv = ["mnistlab-train", *arguments]
    atexit.register(write, stages, Path(out))  # the command leaves by os._exit, after the exit functions
    command.main()


def write(stages: Stages, out: Path) -> None:
    """Write the seconds by stage as JSON."""
    stages.charge()
    out.write_text(json.dumps({"jobs": stages.jobs, "after": dict(stages.seconds)}), encoding="utf-8")


if __name__ == "__main__":
    main()
