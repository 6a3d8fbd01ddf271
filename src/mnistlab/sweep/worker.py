"""A process that runs jobs for a sweep in another process: it does not outlive the sweep."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from mnistlab.data import loading
from mnistlab.runtime import devices, exits, processes
from mnistlab.tracking import background

LOOK_SECONDS = 1.0
CLOSING_SECONDS = 30  # to close the run after the sweep has ended

_threads: list[threading.Thread] = []
_busy = threading.Event()
WORKER_LOCKS = ".worker-*.lock"  # in the sweep's folder: who holds one has this place among the workers
_share: list[FileLock] = []  # this process's place among the workers of the sweep


def end_with(sweep_process: str) -> None:
    """End this process soon after the sweep's process; a run that is under way is closed as KILLED.

    A worker of a parallel launcher would go on after a kill -9 of the sweep, and then wait for jobs for minutes.
    """
    if not _threads:
        _threads.append(threading.Thread(target=_watch, args=(sweep_process,), name="sweep", daemon=True))
        _threads[0].start()


def take_share(plan: Path) -> None:
    """Keep this process to its share of the processors, so that the jobs of a sweep do not slow each other down, and
    let it use the images that the sweep has in memory.

    TensorFlow gets as many threads as it has in the sweep's process: with fewer it would add in another order, and the
    numbers would differ in their last digits. Once for all jobs of this process.
    """
    if _share:
        return
    planned = json.loads(plan.read_text(encoding="utf-8"))
    available, workers = planned.get("processors", []), planned.get("shares", 0)
    if available:
        os.environ.setdefault(devices.THREADS, str(len(available)))
    if not workers or not _is_here(planned["process"]):
        return
    loading.use_shared(Path(planned["images"]))
    if not hasattr(os, "sched_setaffinity"):
        return
    background.start()  # it may use all processors
    for place in range(workers):
        lock = FileLock(plan.with_name(WORKER_LOCKS.replace("*", str(place))))
        with contextlib.suppress(Timeout, OSError):
            lock.acquire(blocking=False)
            _share.append(lock)  # until this process ends
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, share_of(place, workers, available))
            return


def _is_here(sweep_process: str) -> bool:
    name, own = processes.parse_name(sweep_process), processes.parse_name(processes.process_name())
    return name is not None and own is not None and (name.host, name.boot) == (own.host, own.boot)


def share_of(place: int, workers: int, available: Sequence[int]) -> set[int]:
    """The processors of one of several workers: each has at least one, and all are used if there are enough workers."""
    if workers >= len(available):
        return {available[place % len(available)]}
    return set(available[place::workers])


def set_busy(busy: bool) -> None:
    """Tell whether a job runs in this process."""
    if busy:
        _busy.set()
    else:
        _busy.clear()


def _watch(sweep_process: str) -> None:
    while not processes.why_ended(sweep_process):
        time.sleep(LOOK_SECONDS)
    if _busy.is_set():
        exits.stop("the process of the sweep has ended")
    deadline = time.monotonic() + CLOSING_SECONDS
    while _busy.is_set() and time.monotonic() < deadline:
        time.sleep(0.1)
    os._exit(exits.TERMINATED)
