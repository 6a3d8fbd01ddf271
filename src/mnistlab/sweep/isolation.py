"""A job of a sweep in a process of its own (`sweep.isolate=true`), with limits for its memory and its time.

The launcher's process starts the job's process, waits for it, and records why it ended if the job itself could not.
"""

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, open_dict, read_write

from mnistlab.config import Config, SweepConfig, register
from mnistlab.runtime import errors, exits, processes
from mnistlab.sweep import outcomes
from mnistlab.sweep.outcomes import Outcome

START = "import sys; sys.path[:] = {path!r}; from mnistlab.sweep.isolation import main; main()"
LOOK_SECONDS = 0.25
CLOSING_SECONDS = 20  # for a job that is stopped to close its run, and for its other processes to end


def run_isolated(composed: DictConfig, config: Config, sweep_folder: Path) -> float | None:
    """Run a job in a process of its own; returns the objective, None if the job failed."""
    code = START.format(path=[str(entry) for entry in sys.path])
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True)
    try:
        if process.stdin is not None:
            with process.stdin as stream:
                pickle.dump((composed, _hydra_config()), stream)
        exceeded = _wait(process, config.sweep)
    except KeyboardInterrupt as error:
        _stop(process, exits.stop_reason(error)[0] - 128)
        raise
    except BrokenPipeError:  # it has ended already
        exceeded = ""
    finally:
        _stop(process, signal.SIGKILL)
    key = config.sweep_job.key
    if exceeded or not outcomes.has_ended(sweep_folder, key):
        reason = exceeded or _why_ended(process.returncode)
        outcomes.leave(sweep_folder, "failures", key, Outcome(config.paths.run or "", error=reason))
    done = outcomes.read(sweep_folder, "done", key)
    return None if done is None else done.objective


def _hydra_config() -> DictConfig:
    """Hydra's own configuration of this job, without launcher and sweeper, whose classes cannot be pickled."""
    config: Any = copy.deepcopy(HydraConfig.instance().cfg)
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.launcher = config.hydra.sweeper = None
    composed: DictConfig = config
    return composed


def _wait(process: subprocess.Popen[bytes], limits: SweepConfig) -> str:
    """Wait for the end of a job's process; stop it at a limit, and return which one, else ''."""
    deadline = time.monotonic() + (limits.job_max_seconds or float("inf"))
    while True:
        try:
            process.wait(LOOK_SECONDS)
            return ""
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                _stop(process, signal.SIGTERM)
                return f"took longer than sweep.job_max_seconds={limits.job_max_seconds:g}"
            used = memory_gigabytes(process.pid) if limits.memory_gigabytes else 0.0
            if limits.memory_gigabytes and used > limits.memory_gigabytes:
                _stop(process, signal.SIGKILL)
                return f"used {used:.2f} GB of memory, more than sweep.memory_gigabytes={limits.memory_gigabytes:g}"


def _stop(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a process that still runs, wait for its end and that of its own processes, then kill them."""
    others = [(pid, processes.start_time(pid)) for pid in processes.descendants(process.pid)]
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    deadline = time.monotonic() + CLOSING_SECONDS
    while (left := [pid for pid, start in others if processes.is_running(pid, start)]) and time.monotonic() < deadline:
        time.sleep(0.02)  # they complete the run's record
    _kill(left)


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _why_ended(code: int) -> str:
    """Why a job's process ended without a result, by its exit status."""
    if code >= 0:
        return f"the job's process ended by itself with exit status {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    hint = ": kill -9, or out of memory" if code == -signal.SIGKILL else ""
    return f"the job's process was ended by {name}{hint}"


def memory_gigabytes(pid: int) -> float:
    """The memory of a process and of those that it started, without what they share (libraries); Linux only."""
    kilobytes = 0
    for one in (pid, *processes.descendants(pid)):
        try:
            lines = Path(f"/proc/{one}/status").read_text(errors="replace").splitlines()
        except OSError:
            continue
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
    return kilobytes / 2**20


# ---- in the job's process -------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Run the job that stands, pickled, in the standard input."""
    exits.leave(errors.run_command(_run))


def _run() -> None:
    from mnistlab.sweep import job

    register()
    setup_globals()
    composed, hydra_config = _read_input()
    HydraConfig.instance().set_config(hydra_config)
    configure_log(hydra_config.hydra.job_logging, hydra_config.hydra.verbose)
    job.run_here(composed)


def _read_input() -> tuple[DictConfig, Any]:
    composed, hydra_config = pickle.load(sys.stdin.buffer)
    return composed, hydra_config
