"""Compare finished runs: `python -m mnistlab.compare` for the latest sweep, and the same from a notebook.

From Python:
    records = load_runs("tags.`sweep.id` = '0123456789ab'")
    print(terminal_summary(compare(records, axis="optimizer")))
"""

import sys
import time
from pathlib import Path

from mnistlab.comparison import RunRecord, compare, compare_by_data, fairness, print_summary, terminal_summary
from mnistlab.config import ConfigError, TrackingConfig, parse_settings, project_root
from mnistlab.runtime import errors, exits
from mnistlab.tracking import history, stores
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

__all__ = ["RunRecord", "compare", "compare_by_data", "fairness", "load_runs", "print_summary", "terminal_summary"]

USAGE = """Compare finished runs and write a report.

Usage: python -m mnistlab.compare [sweep=ID] [filter="MLFLOW FILTER"] [axis=optimizer] [objective=best_val_accuracy]
                                  [experiment=NAME] [uri=STORE] [root=FOLDER]

  sweep=ID      a sweep, by the id of its parent run or its own id; without it and without a filter: the latest
  filter=...    any runs, as MLflow's search_runs takes it: filter="params.model = 'cnn'"
  axis=KEY      what to compare; several: axis=optimizer,optimizer.learning_rate
  objective=M   the metric to rank by: of the validation, never of the test

Examples
  python -m mnistlab.compare
  python -m mnistlab.compare filter="params.`fit.epochs` = '3'" axis=model
"""
SETTINGS = ("sweep", "filter", "axis", "objective", "experiment", "uri", "root")


def load_runs(
    condition: str = "", *, experiment: str | None = None, uri: str | None = None, root: str | None = None
) -> list[RunRecord]:
    """Training runs out of the tracking store as plain records, the newest first; without the parent runs of sweeps.

    Args:
        condition: an MLflow filter, "params.model = 'cnn' and attributes.status = 'FINISHED'".
        experiment, uri, root: where the runs are; None: as for training (environment, else `<root>/mlruns`).

    Raises:
        ConfigError: there is no such store or experiment, or the condition is not an MLflow filter.
    """
    store = _store(experiment, uri, root)
    return [history.record_of(store, run) for run in _find(store, condition) if run.tags.get("sweep.kind") != "parent"]


def _store(experiment: str | None, uri: str | None, root: str | None) -> StoreAddress:
    tracking = TrackingConfig(backend="mlflow", uri=uri, experiment=experiment)
    return stores.checked_address(tracking, root or project_root())


def _find(store: StoreAddress, condition: str) -> list[StoredRun]:
    open_store(store)
    try:
        return history.find(store, condition)
    except Exception as error:
        raise ConfigError(f"filter={condition!r} is not an MLflow filter: {str(error).splitlines()[0]}") from error


def main() -> None:
    """The command. Exit status: 0 success, 2 a user's mistake, 130 interrupted, 143 terminated."""
    exits.leave(errors.run_command(_compare, USAGE))


def _compare() -> None:
    settings = parse_settings(sys.argv[1:], SETTINGS)
    root = settings.get("root") or project_root()
    store = _store(settings.get("experiment"), settings.get("uri"), root)
    runs, title, axis = _chosen(store, settings)
    if not runs:
        raise ConfigError(f"There are no finished runs to compare ({title}).")
    records = [history.record_of(store, run) for run in runs]
    axes = (settings.get("axis") or axis).split(",")
    objective = settings.get("objective", "best_val_accuracy")
    try:
        compared = compare_by_data(records, [name.strip() for name in axes], objective)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    folder = Path(root) / "runs" / "comparisons" / time.strftime("%Y-%m-%d_%H-%M-%S")

    from mnistlab.comparison.report import write_report

    write_report(compared, records, folder)
    print(f"{len(records)} runs ({title})\n")
    for one in compared:
        print_summary(one)
        print()
    print(f"  report  {folder / 'report.html'}")


def _chosen(store: StoreAddress, settings: dict[str, str]) -> tuple[list[StoredRun], str, str]:
    """The runs to compare, a title for them, and the axis."""
    if "filter" in settings:
        runs = [run for run in _find(store, settings["filter"]) if run.status in ("FINISHED", "FAILED")]
        jobs = [run for run in runs if run.tags.get("sweep.kind") != "parent"]
        return jobs, settings["filter"], "optimizer"
    parents = _find(store, "tags.`sweep.kind` = 'parent'")
    wanted = settings.get("sweep")
    for parent in parents:
        if wanted in (None, parent.run_id, parent.tags.get("sweep.id")):
            runs = history.with_ids(store, parent.tags.get("sweep.runs", "").split())
            return runs, f"sweep {parent.tags['sweep.id']}", parent.tags["sweep.axes"]
    if not parents:
        raise ConfigError("There are no sweeps yet. Start one: python -m mnistlab.train --multirun optimizer=sgd,adam")
    known = ", ".join(parent.tags["sweep.id"] for parent in parents[:10])
    raise ConfigError(f"There is no sweep {wanted!r}. Latest sweeps: {known}.")


if __name__ == "__main__":
    main()
