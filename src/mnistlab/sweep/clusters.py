"""What starts the processes of a sweep: whether it is installed and can be reached. Ray as an engine of `sweep.remote`:
what a job gets, what its end looks like."""

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig

from mnistlab.config import ConfigError, LaunchConfig
from mnistlab.sweep.remote import Crashed, Ended, Engine, Task, run_there, variables_passed_on

MODULES = {  # launcher -> what it needs, and the extra that brings it
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "ray": ("ray", "ray"),
    "slurm": ("submitit", "slurm"),
    "submitit_local": ("submitit", "slurm"),
}
ANSWER_SECONDS = 4  # of a Ray cluster
CANCEL_SECONDS = 20  # for jobs to close their runs
OBJECT_STORE_BYTES = 100_000_000  # the jobs exchange nothing of size
NEEDS = (  # of a job: its name in Ray, the resource, the setting, and its unit
    ("num_cpus", "CPU", "launch.cpus", 1, "processors"),
    ("num_gpus", "GPU", "launch.gpus", 1, "GPUs"),
    ("memory", "memory", "launch.job_gigabytes", 1e9, "GB of memory"),
)


def check(launch: LaunchConfig) -> None:
    """Check that what starts the processes is installed and can be reached.

    Raises:
        ConfigError: an extra or Slurm's commands are missing; Slurm refuses such jobs; the Ray cluster does not answer.
    """
    if launch.name not in (None, "auto") and not is_installed(launch.name):
        extra = how_to_install(launch.name)
        raise ConfigError(f"{launch.name} is not installed: {extra}. Received: launch={launch.name}.")
    if launch.name == "slurm" and not shutil.which("sbatch"):
        raise ConfigError(
            "launch=slurm needs Slurm's sbatch on this machine, and there is none. Run the command on a login node of "
            "the cluster, or choose launch=submitit_local, launch=joblib or launch=ray."
        )
    if launch.name in ("slurm", "submitit_local"):
        from mnistlab.sweep import slurm

        slurm.check(launch)
    address = ray_address(launch)
    if launch.name == "ray" and address not in ("local", "auto"):
        host, port = _host_and_port(address)
        try:
            socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            said = (
                f"no answer within {ANSWER_SECONDS} s" if isinstance(error, TimeoutError) else error.strerror or error
            )
            raise ConfigError(
                f"launch.address={address}: no Ray cluster answers there ({said}). Start one with "
                f"`ray start --head --port={port}` on {host}, or leave launch.address out for this machine alone."
            ) from error


def is_installed(launcher: str) -> bool:
    """Whether what this launcher needs is installed."""
    try:
        return importlib.util.find_spec(MODULES[launcher][0]) is not None
    except ModuleNotFoundError:  # no plugin at all
        return False


def how_to_install(launcher: str) -> str:
    """The command that installs what a launcher needs."""
    return f"pip install 'mnistlab[{MODULES[launcher][1]}]'"


def ray_address(launch: LaunchConfig | DictConfig) -> str:
    """The address of the Ray cluster: `launch.address`, else $RAY_ADDRESS; 'local': a cluster of this machine alone."""
    return launch.address or os.environ.get("RAY_ADDRESS") or "local"


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        raise ConfigError(f"launch.address must be HOST:PORT, ray://HOST:PORT, auto or local. Received: {address}.")
    return host.strip("[]"), int(port)


def engine_of(config: DictConfig) -> Engine:
    """The engine of this sweep. Raises ConfigError: it cannot be started."""
    if config.launch.name == "ray":
        return RayEngine(config.launch)
    from mnistlab.sweep.slurm import SubmititEngine

    return SubmititEngine(config)


class RayEngine:
    """Jobs as tasks of Ray, each with the processors, the memory and the GPUs that it needs."""

    def __init__(self, launch: DictConfig) -> None:
        import ray

        self.limit = launch.workers
        # A cluster that runs already has the environment of its own start.
        self.variables = {} if ray_address(launch) == "local" else variables_passed_on()
        needs = {"num_cpus": launch.cpus or 1, "num_gpus": launch.gpus or 0}
        needs["memory"] = int((launch.job_gigabytes or 0) * 1e9)
        if not ray.is_initialized():
            _connect(launch)
        _check_needs(needs, ray.cluster_resources(), is_local=ray_address(launch) == "local")
        self._run = ray.remote(**needs, max_retries=0)(run_there)  # `sweep.remote` starts a job again, once

    def submit(self, task: Task) -> Any:
        """Start a job; returns Ray's reference to its result."""
        return self._run.remote(task)

    def finished(self, handles: Sequence[Any], seconds: float) -> Iterable[Any]:
        """Those that have ended, waited for at most so long."""
        import ray

        ready, _ = ray.wait(list(handles), num_returns=1, timeout=seconds)
        return list(ready)

    def waiting(self, handles: Sequence[Any]) -> str:
        """Nothing: a lack of processors or memory was told at the start."""
        return ""

    def result(self, handle: Any) -> Ended:
        """What a job has left. Raises Crashed."""
        import ray

        try:
            ended: Ended = ray.get(handle)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise Crashed(f"{type(error).__name__} of Ray") from error
        return ended

    def cancel(self, handles: Sequence[Any]) -> None:
        """Stop these jobs, and give them time to close their runs."""
        import ray

        for handle in handles:
            ray.cancel(handle, force=False)
        if handles:
            ray.wait(list(handles), num_returns=len(handles), timeout=CANCEL_SECONDS)


def _connect(launch: DictConfig) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address, shared = ray_address(launch), {"log_to_driver": False, "logging_level": "error"}
    try:
        if address == "local":
            cpus = (launch.workers or os.cpu_count() or 1) * (launch.cpus or 1)
            size = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES}
            ray.init("local", **size, include_dashboard=False, **shared)
        else:
            ray.init(address, **shared)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ConfigError(f"The Ray cluster {address} cannot be used: {_why_refused(error)}") from error


def _why_refused(error: BaseException) -> str:
    """Why a cluster did not accept this process: Ray names a wrong token in a cause of the error only."""
    causes: list[BaseException | None] = [error]
    while causes[-1] is not None and len(causes) < 10:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    if any("InvalidAuthToken" in str(cause) for cause in causes):
        return (
            "it asks for a token. Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or the file ~/.ray/auth_token with the "
            "cluster's token."
        )
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _check_needs(needs: dict[str, float], offered: dict[str, float], is_local: bool) -> None:
    for name, resource, setting, unit, words in NEEDS:
        needed, there = needs[name] / unit, offered.get(resource, 0) / unit
        if needed <= there:
            continue
        lacking = f"{setting}={needed:g}: the Ray cluster has {there:.3g} {words}."
        if is_local:
            raise ConfigError(lacking)
        print(f"WARNING: {lacking} The jobs wait until a node has as many.", flush=True)
