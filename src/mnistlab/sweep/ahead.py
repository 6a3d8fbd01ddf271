"""Compiles the programs of a sweep's jobs while earlier jobs train, where the jobs run in the process of the sweep."""

import contextlib
from collections.abc import Callable, Sequence

from mnistlab.sweep.plan import SweepJob

_planned: list[Callable[[], None]] = []  # of this process's sweep


def plan(jobs: Sequence[SweepJob]) -> None:
    """Note what the jobs that will run need compiled, each once, in their order."""
    runs = [job for job in jobs if not job.is_done and job.same_as is None and job.compile_ahead]
    _planned[:] = dict.fromkeys(job.compile_ahead for job in runs if job.compile_ahead)
    for job in jobs:
        job.compile_ahead = None  # it holds a network


def start() -> None:
    """Let a thread begin; called by the first job that runs in this process."""
    while _planned:
        with contextlib.suppress(Exception):  # of another job, which meets it again
            _planned.pop(0)()
