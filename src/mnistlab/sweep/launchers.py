"""Where the jobs of a sweep run (`launch`): one after the other in this process, or side by side in several others."""

from collections.abc import Sequence
from typing import NamedTuple

from mnistlab.config import ConfigError
from mnistlab.config.compose import Command
from mnistlab.data import Dataset, loading
from mnistlab.runtime import resources
from mnistlab.sweep import clusters
from mnistlab.sweep.estimate import expected_seconds
from mnistlab.sweep.plan import Sweep, SweepJob

PROCESS_GIGABYTES = 1.3  # TensorFlow and the program, with the background process
# Copies of the images that a process makes, measured with 0.9 GB of uint8 and 1.2 GB of float32 pixels: 2.9 and 4.8.
COPIES_OF_SHARED_IMAGES = 3
COPIES_OF_OWN_IMAGES = 5  # where the sweep has more data sets than are shared
# Measured on two processors with `python -m benchmarks --only launchers`.
START_SECONDS = 13.0  # more than in this process until the first job trains
EFFICIENCY = 0.75  # of several processes each is this share as fast as one alone, whose second thread they take

N_JOBS = "hydra.launcher.n_jobs"  # of Hydra's joblib launcher
TRIALS_AT_A_TIME = 8  # of a search on a cluster: a trial is chosen by the scores of those that have ended


class Launch(NamedTuple):
    """How the jobs are started.

    overrides: for Hydra; workers: processes at a time, 0: this process; why: a sentence for the user, or ''; shares:
    into how many parts they divide this machine's processors, 0: they do not.
    """

    overrides: tuple[str, ...]
    workers: int
    why: str
    shares: int = 0


IN_THIS_PROCESS = Launch((), 0, "")


def choose(sweep: Sweep, command: Command) -> Launch:
    """How to start the jobs of this sweep that are to run.

    Raises:
        ConfigError: sweep.isolate with launch: a job would run in a process of a process.
    """
    launch = sweep.jobs[0].config.launch
    jobs = [job for job in sweep.jobs if not job.is_done and job.same_as is None] or sweep.jobs
    number = _most_at_a_time(sweep, command)
    if launch.name is None or not (sweep.num_planned or _grows(sweep, command)):
        return IN_THIS_PROCESS
    if sweep.jobs[0].config.sweep.isolate:
        raise ConfigError(f"launch={launch.name} has processes of its own: leave out sweep.isolate=true.")
    if launch.name == "slurm" or (launch.name == "ray" and clusters.ray_address(launch) != "local"):
        where = "Slurm" if launch.name == "slurm" else f"the Ray cluster {clusters.ray_address(launch)}"
        if sweep.search and not launch.workers:  # all at once would be a random search
            why = f"The jobs run on {where}, {TRIALS_AT_A_TIME} at a time: launch.workers chooses another number."
            return Launch((f"launch.workers={TRIALS_AT_A_TIME}",), TRIALS_AT_A_TIME, why)
        return Launch((), launch.workers or number or len(sweep.jobs), f"The jobs run on {where}.")
    workers, limits = _workers(jobs, number, command)
    if launch.name != "auto":
        why = f"The jobs run in {_counted(workers)}: {limits}."
        return Launch(_overrides(launch.name, workers, command), workers, why, workers)
    if not clusters.is_installed("joblib"):
        return Launch(
            (), 0, f"The jobs run in this process: {clusters.how_to_install('joblib')} to run several at a time."
        )
    if workers == 1:
        return Launch((), 0, f"The jobs run one after the other in this process: {limits}.")
    if number is None:
        return Launch((), 0, "The jobs run in this process: the sweeper does not tell how many there will be.")
    known = [expected_seconds(job.settings, job.num_images, job.batch_size, sweep.finished) for job in jobs]
    seconds = [value for value in known if value is not None]
    if not seconds:
        return Launch((), 0, "The jobs run in this process: there is no earlier run to tell how long they take.")
    here = sum(seconds) * number / len(seconds)
    there = START_SECONDS + max(here / (workers * EFFICIENCY), max(seconds))
    compared = f"about {there:.0f} s in {_counted(workers)}, {here:.0f} s in this one"
    if there >= here:
        return Launch((), 0, f"The jobs run in this process: {compared}.")
    overrides = ("hydra/launcher=joblib", "hydra.launcher.batch_size=1", *_overrides("joblib", workers, command))
    return Launch(overrides, workers, f"The jobs run in {_counted(workers)}: {compared}.", workers)


def _grows(sweep: Sweep, command: Command) -> bool:
    """Whether jobs are added while the sweep runs."""
    return bool(sweep.looks or sweep.tuning or sweep.search or not command.is_grid)


def _most_at_a_time(sweep: Sweep, command: Command) -> int | None:
    """How many jobs are ready to run at once at most; None if the sweeper alone knows."""
    if not command.is_grid:
        return None
    rounds = sweep.looks or sweep.tuning  # a later one may have more jobs than are missing now
    return max(sweep.num_planned, len(sweep.jobs) if rounds else 0)


def _overrides(launcher: str, workers: int, command: Command) -> tuple[str, ...]:
    """What tells the launcher how many processes to start, unless the user does."""
    setting = N_JOBS if launcher == "joblib" else "launch.workers"
    given = any(word.lstrip("+").startswith(f"{setting}=") for word in command.words)
    return () if given else (f"{setting}={workers}",)


def _counted(workers: int) -> str:
    return f"{workers} processes" if workers > 1 else "1 process"


def _workers(jobs: Sequence[SweepJob], number: int | None, command: Command) -> tuple[int, str]:
    """How many processes at a time, and the limits that this follows from, in words. number: of jobs that may run at
    once, None: not known."""
    launch = jobs[0].config.launch
    gigabytes = launch.job_gigabytes or _gigabytes(_data_sets(jobs))
    free = resources.available_gigabytes()
    limits = {f"{number} job{'s' * (number > 1)} to run": number} if number is not None else {}
    n_jobs = next((word.partition("=")[2] for word in command.words if word.lstrip("+").startswith(f"{N_JOBS}=")), "")
    if launch.name == "joblib" and n_jobs.isdecimal() and int(n_jobs):  # a setting of Hydra's launcher
        return int(n_jobs), f"{N_JOBS}={n_jobs}"
    if launch.workers:
        limits[f"launch.workers={launch.workers}"] = launch.workers
    else:
        count = max(1, len(resources.processors()) // (launch.cpus or 1))
        limits[f"{count} processors" if not launch.cpus else f"{launch.cpus} processors a job"] = count
        if launch.gpus:
            there = resources.num_gpus()
            limits[f"{there} GPU{'s' * (there != 1)}, {launch.gpus:g} a job"] = int(there / launch.gpus)
        if free is not None:
            limits[f"{free:.1f} GB of memory are free, a job takes about {gigabytes:.1f}"] = int(free // gigabytes)
    words = min(limits, key=lambda words: limits[words])
    return max(1, limits[words]), words


def _data_sets(jobs: Sequence[SweepJob]) -> list[Dataset]:
    different = {loading.settings_of(job.config): job.config for job in jobs}
    return [loading.load(config) for config in different.values()]


def _gigabytes(datasets: Sequence[Dataset]) -> float:
    """The memory that the largest job of a sweep with these images is expected to take."""
    copies = COPIES_OF_SHARED_IMAGES if len(datasets) <= loading.KEPT else COPIES_OF_OWN_IMAGES
    return PROCESS_GIGABYTES + copies * max(dataset.resident_bytes for dataset in datasets) / 1e9
