"""Compare finished runs: `python -m mnistlab.compare` for the latest sweep, and the same from a notebook.

From Python:
    records = load_runs("tags.`sweep.id` = '0123456789ab'")
    print(terminal_summary(compare(records, axis="optimizer")))
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from mnistlab.comparison import RunRecord, compare, compare_by_data, fairness, print_summary, terminal_summary
from mnistlab.config import ConfigError, parse_settings, project_root
from mnistlab.config.objectives import current_name
from mnistlab.runtime import errors, exits, terminal
from mnistlab.sweep import earlier
from mnistlab.sweep.report import ComparisonRequest, write_comparison
from mnistlab.sweep.results import SweepResults
from mnistlab.tracking import history, stores
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

__all__ = ["RunRecord", "compare", "compare_by_data", "fairness", "load_runs", "print_summary", "terminal_summary"]

USAGE = """Compare finished runs and write a report.

Usage: python -m mnistlab.compare [sweep=ID] [filter="MLFLOW FILTER"] [axis=optimizer] [objective=METRIC]
                                  [direction=auto] [question=best] [paths.root=FOLDER] [tracking.uri=STORE]
                                  [tracking.experiment=NAME]

  sweep=ID      a sweep, by the id of its parent run or its own id; without it and without a filter: the latest
  filter=...    any runs, as MLflow's search_runs takes it: filter="params.model = 'cnn'"
  axis=KEY      what to compare; several: axis=optimizer,data; of a sweep: what it compared
  objective=M   the metric to rank by: best_epoch_val_loss, max_val_accuracy, ..., never of the test; without it: of a
                sweep what it ranked by, of other runs what save.monitor names, or best_epoch_val_accuracy
  direction=D   higher or lower, whichever is better; auto: known for Keras's metrics
  question=Q    best, better_than:adam, equivalent:0.2, fastest_within:0.5; without it: what the sweep asked

Examples
  python -m mnistlab.compare
  python -m mnistlab.compare filter="params.`fit.epochs` = '3'" axis=model
"""
SETTINGS = ("sweep", "filter", "axis", "objective", "direction", "question", *stores.SETTING_NAMES)
DIRECTIONS = ("auto", "higher", "lower")


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
    given = {"tracking.experiment": experiment, "tracking.uri": uri, "paths.root": root}
    store = _store({name: value for name, value in given.items() if value})
    return history.records_of(store, earlier.find_runs(store, condition))


def _store(settings: dict[str, str]) -> StoreAddress:
    store = stores.existing_address(settings)
    open_store(store, create=False)
    return store


def main() -> None:
    """The command. Exit status: 0 success, 2 a user's mistake, 130 interrupted, 143 terminated."""
    exits.leave(errors.run_command(_compare, USAGE))


def _compare() -> None:
    settings = parse_settings(sys.argv[1:], SETTINGS)
    root = settings.get("paths.root") or settings.get("root") or project_root()
    store, results = _chosen(root, settings)
    nothing = ConfigError(f"There are no finished runs to compare ({results.sweep}).")
    if not results.jobs:
        raise nothing
    results = _asked(results, settings)
    folder = Path(root) / "runs" / "comparisons" / time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        compared = write_comparison(ComparisonRequest(store, results, folder, terminal_width=terminal.width()))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if compared is None:
        raise nothing
    print(f"{len({job.run for job in results.jobs if job.run})} runs ({results.sweep})\n")
    print("\n\n".join(compared.summaries))
    print(f"\n  report  {folder / 'report.html'}")


def _chosen(root: str, settings: dict[str, str]) -> tuple[StoreAddress | None, SweepResults]:
    """The runs to compare, and the store that has them; None for a sweep with tracking=none."""
    untracked = None if "filter" in settings else earlier.untracked_sweep(root, settings.get("sweep"))
    if untracked is not None:
        return None, untracked
    store = _store(settings)
    if "filter" in settings:
        return store, earlier.filtered_runs(store, settings["filter"])
    return store, earlier.stored_sweep(store, settings.get("sweep"))


def _asked(results: SweepResults, settings: dict[str, str]) -> SweepResults:
    """The results with the question that the command line asks of them, where it differs from the sweep's."""
    changes: dict[str, Any] = {"direction": settings["direction"]} if "direction" in settings else {}
    if "objective" in settings:
        changes = {"direction": "auto", **changes, "objective": current_name(settings["objective"])}
    if "question" in settings:
        changes["question"] = settings["question"]
    if "axis" in settings:
        changes["axes"] = [name.strip() for name in settings["axis"].split(",")]
    if changes.get("direction", "auto") not in DIRECTIONS:
        raise ConfigError(f"direction must be one of {', '.join(DIRECTIONS)}. Received: {changes['direction']}.")
    return dataclasses.replace(results, **changes)


if __name__ == "__main__":
    main()
