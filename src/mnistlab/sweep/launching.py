"""Starts the jobs of a sweep through Hydra's launcher, again where one of its processes was killed.

A launcher such as joblib's gives up all jobs when one of its processes dies. The job that was the cause counts as
failed; the others without a result run again.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mnistlab.config import ConfigError
from mnistlab.data import loading
from mnistlab.runtime import errors, exits, files, resources, space
from mnistlab.runtime.processes import process_name
from mnistlab.sweep import live, outcomes
from mnistlab.sweep.outcomes import Outcome
from mnistlab.sweep.plan import Sweep, SweepJob
from mnistlab.tracking import background, orphans

MISTAKES = (ConfigError, HydraException, OmegaConfBaseException)
IMAGES = ".images"  # in the sweep's folder
KILLED = "the process of the job was killed or crashed: out of memory, a crash in native code, or kill -9"


class LauncherFailed(Exception):
    """Hydra's launcher ended before all jobs had a result."""


def write_plan(sweep: Sweep) -> Path:
    """Write the file that tells each job its name, its parent run, and whether it has to run."""
    if not sweep.start:  # otherwise it is a further round
        sweep.start = f"{time.time_ns():x}"
        outcomes.forget_all(sweep.folder)
        forget_images(sweep.folder)  # of a start that was killed: the data may have changed
    file = sweep.folder / f"plan-{sweep.start}.json"
    jobs = {}
    for number, job in enumerate(sweep.jobs, start=1):
        objective = job.run.metrics.get(job.config.sweep.objective) if job.run else None
        line = f"[{number}/{len(sweep.jobs)}] {job.name}"
        jobs[job.key] = {"name": job.name, "runs": not job.is_done and job.same_as is None}
        jobs[job.key] |= {"objective": objective, "line": line, "trial": job.trial}
    content = {
        "sweep": sweep.id,
        "start": sweep.start,
        "process": process_name(),
        "parent": sweep.parent.run_id if sweep.parent else None,
        "folder": str(sweep.folder),
        "processors": resources.processors(),
        "workers": sweep.workers,
        "shares": sweep.shares,
        "images": str(share_images(sweep)),
        "jobs": jobs,
    }
    files.write_text(file, json.dumps(content, indent=1))
    return file


def share_images(sweep: Sweep) -> Path:
    """Write the data sets for processes of this machine, each once; returns their folder.

    Only where the disk has room for them and for what the jobs will write, and only so many as a process keeps.
    """
    folder = sweep.folder / IMAGES
    different = {loading.settings_of(job.config): job.config for job in sweep.jobs}
    if sweep.shares < 2 or len(different) > loading.KEPT:
        return folder
    needed = [job.needed_space for job in sweep.jobs if not job.is_done and job.same_as is None]
    for config in different.values():
        with contextlib.suppress(ConfigError):
            images = {folder: loading.load(config).resident_bytes}
            space.check_space(space.total([*needed, images]), "This sweep with its images")
            loading.share(config, folder)
    return folder


def forget_images(folder: Path) -> None:
    """Remove the data sets from a sweep's folder. Processes that have mapped them keep them."""
    shutil.rmtree(folder / IMAGES, ignore_errors=True)


def launch_jobs(sweep: Sweep, launch: Callable[[Path], object]) -> None:
    """Start the jobs and wait until all have ended.

    Args:
        launch: starts Hydra with the file of the plan; returns when its launcher is done.

    Raises:
        LauncherFailed: the launcher failed for a reason of its own.
    """
    plan = write_plan(sweep)
    lost_before: set[str] = set()
    while True:
        try:
            with live.showing(sweep):
                launch(plan)
            return
        except MISTAKES:
            raise
        except Exception as error:
            if exits.is_stopping():  # the launcher's processes got the signal, too
                raise exits.Stopped from error
            lost = [job for job in sweep.jobs if _is_lost(sweep, job)]
            if not lost:
                raise LauncherFailed(f"the launcher or the sweeper failed: {errors.describe(error)[:500]}") from error
            print("\nA process of the launcher was killed. The jobs without a result run again.", flush=True)
            for job in _killed(sweep, lost, lost_before):
                print(f"  {job.name:32} {KILLED}", flush=True)
                started = outcomes.read(sweep.folder, "started", job.key) or Outcome()
                outcomes.leave(sweep.folder, "failures", job.key, Outcome(started.folder, error=KILLED))
            close_lost_runs(sweep)
            lost_before |= {job.key for job in lost}
            for job in lost:
                if not outcomes.has_ended(sweep.folder, job.key):
                    outcomes.forget(sweep.folder, job.key)


def _is_lost(sweep: Sweep, job: SweepJob) -> bool:
    """Whether the job was started and has no result."""
    started = outcomes.read(sweep.folder, "started", job.key)
    return started is not None and not outcomes.has_ended(sweep.folder, job.key)


def _killed(sweep: Sweep, lost: Sequence[SweepJob], lost_before: set[str]) -> list[SweepJob]:
    """Of the jobs that were running when a process of the launcher died, the one that ran in that process.

    Its background process says so. Those of the others were killed with them by the launcher. If none says so, it is
    the only one, or it is found because it is lost again.
    """
    outcomes.wait_until_gone(sweep.folder, [job.key for job in lost])
    noted = [job for job in lost if outcomes.read(sweep.folder, "killed", job.key)]
    if noted or len(lost) == 1:
        return noted or list(lost)
    return [job for job in lost if job.key in lost_before]


def close_lost_runs(sweep: Sweep) -> None:
    """End the runs of this start whose process is gone: with the reason that the job left, else as KILLED."""
    if not sweep.start:
        return
    lost = [job for job in sweep.jobs if _is_lost(sweep, job)]
    outcomes.wait_until_gone(sweep.folder, [job.key for job in lost])
    killed = "the sweep was stopped" if exits.is_stopping() else "its process was ended with the launcher's"
    for job in sweep.jobs:
        failed = outcomes.read(sweep.folder, "failures", job.key)
        with contextlib.suppress(OSError):
            if failed is not None and failed.folder:
                orphans.end_folder(Path(failed.folder), failed.status, failed.error)
    for run in sweep.find(f"tags.`sweep.start` = '{sweep.start}'"):
        failed = outcomes.read(sweep.folder, "failures", run.tags.get("sweep.job", ""))
        if run.status in ("RUNNING", "KILLED") and failed is not None and failed.status == "FAILED":
            background.call_or_run_here(orphans.end_run, sweep.store, run, "FAILED", failed.error)
        elif run.status == "RUNNING" and orphans.why_orphaned(run):
            background.call_or_run_here(orphans.end_run, sweep.store, run, "KILLED", killed)
    orphans.close_orphaned_folders(sweep.jobs[0].config.paths.root)
