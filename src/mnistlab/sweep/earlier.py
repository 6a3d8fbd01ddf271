"""Earlier sweeps and runs, as the results that a comparison starts from."""

import contextlib
import re
from pathlib import Path

from mnistlab.config import ConfigError
from mnistlab.config.objectives import BEST_EPOCH, USUAL_MONITOR, USUAL_OBJECTIVE, usual_objective
from mnistlab.sweep.results import FILE_NAME, JobResult, SweepResults, read_results
from mnistlab.tracking import history
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.stores import StoreAddress

PARENTS = "tags.`sweep.kind` = 'parent'"
MAX_NAMED = 10  # sweeps in a message
UNREADABLE = (OSError, ValueError, KeyError, TypeError)  # missing, damaged, or of an earlier version


def find_runs(store: StoreAddress, condition: str) -> list[StoredRun]:
    """The training runs that meet an MLflow filter, the newest first.

    Raises:
        ConfigError: the condition is not an MLflow filter.
    """
    try:
        return [run for run in history.find(store, condition) if history.is_training(run)]
    except Exception as error:
        raise ConfigError(f"filter={condition!r} is not an MLflow filter: {str(error).splitlines()[0]}") from error


def filtered_runs(store: StoreAddress, condition: str) -> SweepResults:
    """Runs that meet an MLflow filter and have ended, under the settings that they recorded."""
    runs = [run for run in find_runs(store, condition) if run.status in ("FINISHED", "FAILED")]
    return _recorded(condition, ["optimizer"], runs)


def stored_sweep(store: StoreAddress, wanted: str | None = None) -> SweepResults:
    """A sweep in the tracking store, under the settings that it asked for.

    wanted: its id or that of its parent run; None: the latest.

    Raises:
        ConfigError: there is no such sweep.
    """
    for parent in _parents(store, wanted):
        with contextlib.suppress(*UNREADABLE):
            return read_results(history.artifact(store, parent, FILE_NAME))
        condition = f"tags.`sweep.id` = '{parent.tags['sweep.id']}'"
        return _recorded(parent.tags["sweep.id"], parent.tags["sweep.axes"].split(", "), find_runs(store, condition))
    latest = history.find(store, PARENTS, MAX_NAMED)
    if not latest:
        raise ConfigError("There are no sweeps yet. Start one: python -m mnistlab.train --multirun optimizer=sgd,adam")
    known = ", ".join(parent.tags["sweep.id"] for parent in latest)
    raise ConfigError(f"There is no sweep {wanted!r}. Latest sweeps: {known}.")


def _parents(store: StoreAddress, wanted: str | None) -> list[StoredRun]:
    """The parent run of a sweep, as the only one of a list; none if there is no such sweep."""
    if wanted is None:
        return history.find(store, PARENTS, 1)
    if not re.fullmatch(r"[\w-]+", wanted):
        return []
    conditions = (f"tags.`sweep.id` = '{wanted}'", f"attributes.run_id = '{wanted}'")
    found = (history.find(store, f"{PARENTS} and {condition}", 1) for condition in conditions)
    return next((parents for parents in found if parents), [])


def untracked_sweep(root: str, wanted: str | None = None) -> SweepResults | None:
    """A sweep with tracking=none, from its folder: this one, or the latest sweep; None if that one was tracked."""
    files = list((Path(root) / "runs" / "sweeps").glob(f"{wanted or '*'}/{FILE_NAME}"))
    with contextlib.suppress(*UNREADABLE):
        results = read_results(max(files, key=lambda file: file.stat().st_mtime))
        if all(Path(job.run).is_absolute() for job in results.jobs if job.run):
            return results
    return None


def _recorded(title: str, axes: list[str], runs: list[StoredRun]) -> SweepResults:
    jobs = [JobResult(run.name, run.run_id, {}, {}, run.run_id, "trained", run.status) for run in runs]
    return SweepResults(title, axes, _objective(runs), "auto", None, jobs)


def _objective(runs: list[StoredRun]) -> str:
    """What `sweep.objective=auto` stands for in these runs, if it is the same for all, else the accuracy."""
    found = {
        usual_objective(run.params.get("save.monitor", USUAL_MONITOR), names)
        for run in runs
        if (names := _validation_metrics(run))
    }
    return found.pop() if len(found) == 1 else USUAL_OBJECTIVE


def _validation_metrics(run: StoredRun) -> list[str]:
    """The names of the metrics that a run has of its saved epoch: 'loss', 'accuracy'."""
    start = f"{BEST_EPOCH}val_"
    return [name.removeprefix(start) for name in run.metrics if name.startswith(start)]
