"""The lines at the end of a run: a table of its metrics, what the learning curves show, where its files are."""

import math
from collections.abc import Mapping

from mnistlab.config.objectives import BEST_EPOCH, EXTREMES
from mnistlab.evaluation.curves import CurveReading
from mnistlab.runtime import terminal

COLUMNS = ("training", "validation", "test")


def summary(
    name: str,
    metrics: Mapping[str, float],
    num_epochs: int,
    reading: CurveReading,
    seconds: float,
    places: Mapping[str, str],
    reported: str = "best",
    monitor: str = "val_loss",
) -> str:
    """The end of a run in a few lines.

    Args:
        metrics: the final ones: of the saved model train_* (else best_epoch_*), best_epoch_val_* and test_*, of all
            epochs max_val_* and min_val_*, and train_seconds.
        seconds: of the whole run.
        places: label -> where something is: the model, the folder, the run's page.
        reported: 'best' or 'last', the epoch that `best_epoch` is; monitor: what the best one is best by.
    """
    rows = metric_rows(metrics)
    table = [terminal.table(["", *COLUMNS], rows)] if rows else []
    epoch = _epoch(metrics, num_epochs, reported, monitor)
    lines = [
        f"  {epoch}; trained in {metrics['train_seconds']:.1f} s ({seconds:.1f} s in total)",
        *(f"  {line}" for line in other_epochs(metrics)),
        f"  {reading.sentence}",
        *(f"  {label:7} {place}" for label, place in places.items()),
    ]
    return "\n".join(["", name, *table, *lines])


def markdown(
    metrics: Mapping[str, float],
    num_epochs: int,
    reading: CurveReading,
    reported: str = "best",
    monitor: str = "val_loss",
) -> str:
    """The summary for the run's description in MLflow; arguments as for `summary`."""
    rows = [["", *COLUMNS], ["---", *["---:"] * len(COLUMNS)], *metric_rows(metrics)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    epoch = f"{_epoch(metrics, num_epochs, reported, monitor)}; trained in {metrics['train_seconds']:.1f} s"
    return "\n\n".join([*([table] if len(rows) > 2 else []), epoch, *other_epochs(metrics), reading.sentence])


def metric_rows(metrics: Mapping[str, float]) -> list[list[str]]:
    """A row for each metric: on the training, the validation and the test images."""
    names = {key.removeprefix("test_") for key in metrics if key.startswith("test_") and "." not in key}
    at = BEST_EPOCH
    names = {name for name in names if {f"train_{name}", f"{at}{name}", f"{at}val_{name}"} & metrics.keys()}
    rows = []
    for metric in sorted(names, key=lambda metric: (metric != "loss", metric)):
        training = metrics.get(f"train_{metric}", metrics.get(f"{at}{metric}", math.nan))
        others = (metrics.get(key, math.nan) for key in (f"{at}val_{metric}", f"test_{metric}"))
        rows.append([metric, *(f"{value:.4f}" for value in (training, *others))])
    return rows


def _epoch(metrics: Mapping[str, float], num_epochs: int, reported: str, monitor: str) -> str:
    if "best_epoch" not in metrics:
        return "no finite epoch" if reported == "best" else "the last epoch is not finite"
    by = f" by {monitor}" if reported == "best" else ""
    return f"{reported} epoch {metrics['best_epoch']:.0f} of {num_epochs}{by}"


def other_epochs(metrics: Mapping[str, float]) -> list[str]:
    """A line of the validation metrics that were better in another epoch; none if there are none."""
    found = [
        f"{name} {value:.4f}"
        for name, value in metrics.items()
        if name.startswith(EXTREMES) and value != metrics.get(f"{BEST_EPOCH}{name[4:]}")
    ]
    return [f"over all epochs: {', '.join(found)}"] if found else []


def one_line(name: str, metrics: Mapping[str, float], reading: CurveReading, seconds: float, run: str) -> str:
    """The end of a sweep's job in one line. run: its id or folder."""
    keys = ("best_epoch_val_accuracy", "best_epoch_val_loss", "test_accuracy")
    shown = {key: f"{key} {metrics[key]:.4f}" for key in keys if key in metrics}
    highest = metrics.get("max_val_accuracy")
    if keys[0] in shown and highest not in (None, metrics[keys[0]]):
        shown[keys[0]] += f" (max_val_accuracy {highest:.4f})"
    numbers = "  ".join(shown.values())
    return f"{name}: {numbers}  {reading.verdict}  {seconds:.1f} s  run {run}"
