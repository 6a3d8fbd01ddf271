"""A process that runs jobs for a sweep in another process: it does not outlive the sweep."""

import os
import threading
import time

from mnistlab.runtime import exits, processes

LOOK_SECONDS = 1.0
CLOSING_SECONDS = 30  # to close the run after the sweep has ended

_threads: list[threading.Thread] = []
_busy = threading.Event()


def end_with(sweep_process: str) -> None:
    """End this process soon after the sweep's process; a run that is under way is closed as KILLED.

    A worker of a parallel launcher would go on after a kill -9 of the sweep, and then wait for jobs for minutes.
    """
    if not _threads:
        _threads.append(threading.Thread(target=_watch, args=(sweep_process,), name="sweep", daemon=True))
        _threads[0].start()


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
