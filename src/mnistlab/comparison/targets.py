"""Time-to-target: epochs, steps and seconds to a validation accuracy (AlgoPerf, Dahl et al. 2023)."""

import math
from collections.abc import Sequence

import numpy as np

from mnistlab.comparison.records import RunRecord, outcome
from mnistlab.comparison.results import TargetTime, finite_or_none

TARGETS = (0.95, 0.97, 0.98)


def first_epoch(record: RunRecord, metric: str, level: float, direction: str = "higher") -> int | None:
    """The first epoch, from 1, with at least (for "lower": at most) this value of the metric; None without one."""
    for epoch, value in enumerate(record.history.get(metric, ()), start=1):
        if math.isfinite(value) and (value >= level if direction == "higher" else value <= level):
            return epoch
    return None


def steps_until(record: RunRecord, epoch: int) -> float:
    """Optimizer steps to the end of that epoch; NaN without `metrics["steps_per_epoch"]`."""
    return epoch * record.metrics.get("steps_per_epoch", math.nan)


def seconds_until(record: RunRecord, epoch: int) -> float:
    """Training seconds to the end of that epoch; NaN without a full `history["epoch_seconds"]`."""
    seconds = record.history.get("epoch_seconds", ())
    return math.fsum(seconds[:epoch]) if len(seconds) >= epoch else math.nan


def time_to_target(group: Sequence[RunRecord], target: float, metric: str = "val_accuracy") -> TargetTime:
    """One option's time to one target, in whole epochs.

    A run that misses the target has an infinite time, so the median is None if half of the runs miss it
    (Dahl et al. 2023); excluding them would favour unreliable options. Failed and diverged runs miss the
    target; unfinished runs are excluded.
    """
    runs = [record for record in group if outcome(record) != "unfinished"]
    epochs = [first_epoch(record, metric, target) for record in runs]
    reached = [(run, epoch) for run, epoch in zip(runs, epochs, strict=True) if epoch is not None]
    missing = len(runs) - len(reached)
    return TargetTime(
        target,
        len(reached),
        len(runs),
        censored_median([float(epoch) for _, epoch in reached], missing),
        censored_median([steps_until(run, epoch) for run, epoch in reached], missing),
        censored_median([seconds_until(run, epoch) for run, epoch in reached], missing),
    )


def censored_median(values: Sequence[float], num_missing: int) -> float | None:
    """The median with `num_missing` additional infinite values; None if it is infinite or a value is NaN."""
    if not values or any(math.isnan(value) for value in values):
        return None
    ordered = np.sort([*values, *[math.inf] * num_missing])
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return finite_or_none(float(middle[0] + middle[1]) / 2)
