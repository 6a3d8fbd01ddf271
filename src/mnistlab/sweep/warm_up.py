"""Starts the processes of launch=joblib while the sweep's process checks the jobs: both load TensorFlow at once."""

import contextlib
import dataclasses
import os
import signal
import threading
from pathlib import Path

from mnistlab.config.compose import Command
from mnistlab.runtime import processes, resources, startup
from mnistlab.runtime.processes import process_name
from mnistlab.sweep import worker
from mnistlab.tracking import background

_threads: list[threading.Thread] = []


def start(command: Command) -> None:
    """Start as many processes as the launcher will probably want; it takes over those that there are."""
    launch = command.configs[0].launch
    if launch.name != "joblib" or any(word.startswith("hydra.launcher.") for word in command.words):
        return
    number = min(launch.workers or len(resources.processors()), max(len(command.configs), 1))
    _threads.append(threading.Thread(target=_start, args=(number,), name="warm-up", daemon=True))
    _threads[-1].start()


def _start(number: int) -> None:
    from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
    from joblib import Parallel, delayed

    settings = {key: value for key, value in dataclasses.asdict(JobLibLauncherConf()).items() if key != "_target_"}
    settings |= {"n_jobs": number, "backend": "loky", "batch_size": 1}  # as Hydra's launcher will ask
    with contextlib.suppress(Exception):  # the launcher starts others and says what is wrong
        Parallel(**settings)(delayed(load)(process_name()) for _ in range(number))


def load(sweep_process: str) -> None:
    """In a new process: load what a job needs."""
    worker.end_with(sweep_process)
    background.start()
    with startup.loading():
        import mnistlab.experiment  # noqa: F401


def wait() -> None:
    """Let the processes be ready: two threads must not start them at once."""
    for thread in _threads:
        thread.join()
    _threads.clear()


def abandon() -> None:
    """End the processes at once: there will be no sweep."""
    if not _threads:
        return
    _threads.clear()
    for pid in processes.descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if b"LokyProcess" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
