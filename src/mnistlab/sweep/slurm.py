"""Slurm and submitit's local executor as an engine of `sweep.remote`: what a job asks for, whether it waits, its end.

The states of Slurm's jobs are asked of `squeue`. submitit asks `sacct`, which needs an accounting database that many
clusters do not have; without it the end of a killed job would never be seen.
"""

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnistlab.config import ConfigError, LaunchConfig
from mnistlab.runtime import exits
from mnistlab.sweep.remote import Crashed, Ended, Task, run_there

ANSWER_SECONDS = 8  # of Slurm's controller
QUEUE_SECONDS = 5.0  # between two questions to it
CANCEL_SECONDS = 20  # for jobs to close their runs
NOT_FLAGS = {  # parameters of submitit that are none of sbatch
    *("additional_parameters", "array_parallelism", "setup", "signal_delay_s", "srun_args", "stderr_to_stdout"),
    *("teardown", "use_srun"),
}
RENAMED = {"name": "job_name", "timeout_min": "time", "mem_gb": "mem"}  # submitit's common name -> sbatch's
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
GONE = "no longer known to Slurm"
CUT_OFF = "stopped by Slurm: its time limit (launch.options.timeout_min) is near, or another job needs the node"


def check(launch: LaunchConfig) -> None:
    """Check what a job asks for: by submitit, and for Slurm by `sbatch --test-only`, which starts nothing.

    Raises:
        ConfigError: an option that does not exist; Slurm refuses such jobs, or does not answer.
    """
    executor = executor_of(launch, Path.cwd())
    if launch.name != "slurm":
        return
    more = executor.parameters.get("additional_parameters") or {}
    given = {key: value for key, value in executor.parameters.items() if key not in NOT_FLAGS} | more
    flags = [_flag(key, value) for key, value in given.items() if value is not None and value is not False]
    try:
        command = ["sbatch", "--test-only", *flags, "--wrap=true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"Slurm does not answer: `sbatch --test-only` took more than {ANSWER_SECONDS} s. `scontrol ping` tells "
            f"whether its controller runs."
        ) from error
    if done.returncode:
        asked = " ".join(flag for flag in flags if not flag.startswith("--job-name="))
        raise ConfigError(
            f"Slurm does not accept such jobs ({_said(done.stderr)}). Asked for: {asked}. `sinfo` lists the "
            f"partitions; launch.options, launch.cpus, launch.gpus and launch.job_gigabytes say what a job asks for."
        )


def _flag(key: str, value: Any) -> str:
    name = f"--{key.replace('_', '-')}"
    return name if value is True else f"{name}={value}"


def _said(text: str) -> str:
    """What one of Slurm's programs complains of, without its name."""
    return "; ".join(line.split("error: ")[-1].split("failure: ")[-1] for line in text.strip().splitlines())


def executor_of(launch: LaunchConfig | DictConfig, folder: Path) -> Any:
    """submitit's executor with what each job asks for. folder: for its files.

    Raises:
        ConfigError: an option that submitit does not have.
    """
    import submitit

    options: Any = OmegaConf.to_container(launch.options) if OmegaConf.is_config(launch.options) else launch.options
    needs = {"cpus_per_task": launch.cpus, "gpus_per_node": math.ceil(launch.gpus or 0) or None}
    needs["mem_gb"] = launch.job_gigabytes if launch.name == "slurm" else None
    given = {key: value for key, value in (needs | options).items() if value is not None}
    try:
        if launch.name == "slurm":
            executor = submitit.SlurmExecutor(folder)
            given = {RENAMED.get(key, key.removeprefix("slurm_")): value for key, value in given.items()}
            given |= {"mem": f"{math.ceil(given['mem'] * 1024)}MB"} if "mem" in given else {}
        else:
            executor = submitit.AutoExecutor(folder, cluster="local")
        executor.update_parameters(**{"job_name" if launch.name == "slurm" else "name": "mnistlab"} | given)
    except (TypeError, NameError, ValueError) as error:
        raise ConfigError(f"launch.options: {str(error).splitlines()[0]}") from error
    return executor


class SubmititEngine:
    """Jobs of Slurm, or of submitit's local executor, which starts the same scripts on this machine."""

    def __init__(self, config: DictConfig) -> None:
        self.limit = config.launch.workers
        hides_gpus = config.launch.name == "submitit_local" and not config.launch.gpus  # unless a job asks for some
        self.variables = {name: os.environ.get(name) for name in (["CUDA_VISIBLE_DEVICES"] if hides_gpus else [])}
        folder = Path(str(config.hydra.sweep.dir)) / ".submitit" / "%j"
        self._executor = executor_of(config.launch, folder)
        self._queue = Queue() if config.launch.name == "slurm" else None

    def submit(self, task: Task) -> Any:
        """Start a job; returns submitit's."""
        job = self._executor.submit(run_submitted, task)
        if self._queue:
            self._queue.add(job.job_id)
            job.watcher = self._queue
        return job

    def finished(self, handles: Sequence[Any], seconds: float) -> Iterable[Any]:
        """Those that have ended, waited for at most so long."""
        if ended := [job for job in handles if job.done()]:
            return ended
        time.sleep(seconds)
        return []

    def waiting(self, handles: Sequence[Any]) -> str:
        """Why no job runs, '' if one does."""
        return self._queue.waiting([job.job_id for job in handles]) if self._queue else ""

    def result(self, handle: Any) -> Ended:
        """What a job has left. Raises Crashed."""
        import submitit

        try:
            ended: Ended = handle.result()
        except submitit.core.utils.UncompletedJobError as error:
            raise Crashed(self._without_result(handle)) from error
        except submitit.core.utils.FailedJobError as error:
            raise Crashed(_exception_in(str(error))) from error
        if ended.stopped and self._queue:
            _scancel([handle.job_id])  # Slurm may have put a job that it stopped back into its queue
        return ended

    def _without_result(self, handle: Any) -> str:
        job, output = f"job {handle.job_id} of {'Slurm' if self._queue else 'submitit'}", handle.paths.stderr
        state = f" ({handle.state})" if self._queue else ""
        return f"{job} ended without a result{state}{f'; its output: {output}' if output.is_file() else ''}"

    def cancel(self, handles: Sequence[Any]) -> None:
        """Stop these jobs, and give them time to close their runs."""
        if self._queue:
            self._queue.seconds = 1.0
            _scancel([job.job_id for job in handles])
        else:
            for job in handles:
                job.cancel()
        deadline = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < deadline and not all(job.done() for job in handles):
            time.sleep(0.2)


def run_submitted(task: Task) -> Ended:
    """Run a job in this process, which submitit has started. A signal that ends it closes the run as KILLED."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit ignores it; the run that will start catches it
    signal.signal(signal.SIGUSR2, lambda number, frame: exits.stop(CUT_OFF))  # before Slurm's time limit
    return run_there(task)


def _exception_in(text: str) -> str:
    """The exception of a job, from submitit's message, which holds its traceback between two lines of hyphens."""
    traceback = text.partition("----------------------\n")[2].partition("\n----------------------")[0]
    return next(iter(traceback.strip().splitlines()[-1:]), text)


def _scancel(job_ids: Sequence[str]) -> None:
    if job_ids:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["scancel", *job_ids], capture_output=True, timeout=CANCEL_SECONDS, check=False)


class Queue:
    """The states of this sweep's jobs in Slurm's queue, asked every `seconds`. In place of submitit's watcher."""

    def __init__(self) -> None:
        self.seconds = QUEUE_SECONDS
        self._found: dict[str, tuple[str, str]] = {}  # job -> state, and the reason why it waits
        self._open: set[str] = set()
        self._asked = -math.inf
        self._warned = False

    def add(self, job_id: str) -> None:
        """Follow a job that was submitted."""
        self._open.add(job_id)
        self._found[job_id] = ("PENDING", "None")

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """Slurm's word for the job's state. mode: as submitit's, without effect."""
        if job_id in self._open and time.monotonic() - self._asked > self.seconds:
            self._ask()
        return self._found[job_id][0]

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether the job has ended, well or not."""
        return self.get_state(job_id, mode) in {*ENDED, GONE}

    def waiting(self, job_ids: Sequence[str]) -> str:
        """How many of these jobs wait and why, if none runs; else ''."""
        found = [self._found[job_id] for job_id in job_ids]
        reasons = sorted({reason for state, reason in found if state == "PENDING"} - {"None"})
        if not reasons or any(state != "PENDING" for state, _ in found):
            return ""
        counted = "1 job waits" if len(found) == 1 else f"{len(found)} jobs wait"
        return f"{counted} in Slurm's queue: {', '.join(reasons)}."

    def _ask(self) -> None:
        command = [
            "squeue",
            "--noheader",
            "--states=all",
            "--format=%A|%T|%r",
            f"--jobs={','.join(sorted(self._open))}",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            failed = done.returncode != 0 and "Invalid job id" not in done.stderr  # so it answers if it knows none
            problem = _said(done.stderr) if failed else ""
        except (OSError, subprocess.SubprocessError) as error:
            problem = str(error)
        self._asked = time.monotonic()
        if problem:
            if not self._warned:
                print(f"WARNING: Slurm's squeue fails ({problem}). The sweep waits for its jobs.", flush=True)
            self._warned = True
            return
        rows = [line.split("|", 2) for line in done.stdout.splitlines()]
        answered = {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}
        for job_id in tuple(self._open):
            self._found[job_id] = answered.get(job_id, (GONE, "None"))
            if self._found[job_id][0] in {*ENDED, GONE}:
                self._open.discard(job_id)
