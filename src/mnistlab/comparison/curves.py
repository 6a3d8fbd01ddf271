"""Learning curves: time to a target, diagnosis (Part 8 of the guide), and which option converges first."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mnistlab.comparison.metric_names import TIME_TO_TARGET
from mnistlab.comparison.records import RunRecord, outcome
from mnistlab.comparison.results import CurveDiagnosis, Direction, Note, TargetTime
from mnistlab.comparison.statistics import finite_or_none
from mnistlab.comparison.wording import join_names

TARGETS = (0.95, 0.97, 0.98)
DIAGNOSIS_RULE = (
    "As each run read its own curves (its tag fit_reading). Diverged: a loss became infinite, or the accuracy stayed "
    "at that of guessing. Too few epochs to tell: one epoch, or a low accuracy that still rises. Overfitting: the "
    "validation loss ends 5 % or more above its minimum and the training loss fell since, or the validation accuracy "
    "is 0.1 below the training accuracy (0.05 with twice the errors), both of the saved model without dropout, "
    "augmentation and class weights. Unstable: the validation loss ends 10 % or more above its minimum and the "
    "training loss rose too. Underfitting: both accuracies below 0.85. Test set differs: as a good fit, but the test "
    "accuracy is far below the validation accuracy. Otherwise a good fit."
)


def first_epoch(record: RunRecord, metric: str, level: float, direction: Direction = "higher") -> int | None:
    """The first epoch, from 1, with at least (for "lower": at most) this value of the metric; None without one."""
    for epoch, value in enumerate(record.history.get(metric, ()), start=1):
        if math.isfinite(value) and (value >= level if direction == "higher" else value <= level):
            return epoch
    return None


def time_to_target(
    group: Sequence[RunRecord], target: float, metric: str = "val_accuracy", direction: Direction = "higher"
) -> TargetTime:
    """One option's time to one target, in whole epochs (AlgoPerf, Dahl et al. 2023).

    A run that misses the target has an infinite time, so the median is None if half of the runs miss it;
    excluding them would favour unreliable options. Failed and diverged runs miss the target; unfinished runs
    are excluded. Steps are None without `metrics["steps_per_epoch"]`, seconds without `history["epoch_seconds"]`;
    they exclude compilation (see `training_seconds`).
    """
    runs = [record for record in group if outcome(record) != "unfinished"]
    reached = [(run, epoch) for run in runs if (epoch := first_epoch(run, metric, target, direction))]
    missing = len(runs) - len(reached)
    return TargetTime(
        target,
        len(reached),
        len(runs),
        censored_median([float(epoch) for _, epoch in reached], missing),
        censored_median([epoch * run.metrics.get("steps_per_epoch", math.nan) for run, epoch in reached], missing),
        censored_median([_seconds_until(run, epoch) for run, epoch in reached], missing),
    )


def with_time_to_target(records: Iterable[RunRecord], objective: str) -> list[RunRecord]:
    """The records, for an objective such as "seconds_to_0.97" with that number among their metrics.

    Seconds, steps or epochs of the training until the validation accuracy is at least that; infinite, so that the run
    counts as one without a result, if it never is. The seconds are those without compilation, `training_seconds`.
    """
    asked = TIME_TO_TARGET.fullmatch(objective)
    if asked is None:
        return list(records)
    unit, target = asked[1], float(asked[2])
    return [_with_time(record, objective, unit, target) for record in records]


def _with_time(record: RunRecord, objective: str, unit: str, target: float) -> RunRecord:
    if outcome(record) != "trained" or not record.history.get("val_accuracy"):
        return record
    found = time_to_target([record], target)
    value = {"seconds": found.seconds, "steps": found.steps, "epochs": found.epochs}[unit]
    metrics = {**record.metrics, objective: math.inf if value is None else value}
    return dataclasses.replace(record, metrics=metrics)


def missed_targets(groups: Mapping[str, Sequence[RunRecord]], objective: str) -> list[Note]:
    """A warning for each option of which some runs have missed the target of a time to target."""
    asked = TIME_TO_TARGET.fullmatch(objective)
    if asked is None:
        return []
    notes = []
    for name, group in groups.items():
        times = [record.metrics[objective] for record in group if objective in record.metrics]
        if missed := sum(math.isinf(time) for time in times):
            counted = f"{missed} of {len(times)} runs of {name} did not reach {100 * float(asked[2]):g} %"
            flatters = ", and the mean of the others flatters it" if missed < len(times) else ""
            notes.append(Note("warning", f"{counted}: they count as diverged{flatters}"))
    return notes


def censored_median(values: Sequence[float], num_missing: int) -> float | None:
    """The median with `num_missing` additional infinite values; None if it is infinite or a value is NaN."""
    if not values or any(math.isnan(value) for value in values):
        return None
    ordered = np.sort([*values, *[math.inf] * num_missing])
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return finite_or_none(float(middle[0] + middle[1]) / 2)


def diagnose_run(record: RunRecord) -> str:
    """What one run's curves show: the run's own reading, its tag `fit_reading`, if it trained."""
    result = outcome(record)
    return record.tags.get("fit_reading", "not read") if result == "trained" else result


def diagnose_option(group: Sequence[RunRecord]) -> str:
    """The diagnoses of an option's runs, most frequent first, with their counts unless all agree."""
    diagnoses = sorted(diagnose_run(record) for record in group if outcome(record) != "unfinished")
    counts = Counter(diagnoses).most_common()
    if not counts:
        return "no finished run"
    if len(counts) == 1:
        return diagnoses[0]
    return "; ".join(f"{diagnosis} in {count} of {len(diagnoses)}" for diagnosis, count in counts)


def diagnose_curves(
    group: Sequence[RunRecord], metric: str, direction: Direction, best_value: float | None
) -> CurveDiagnosis:
    """Diagnose an option's curves, and find when they came near their final value and the best option's.

    Near: within 1 % of an accuracy, 10 % of a loss (relative). best_value: the best option's mean.
    """
    trained = [record for record in group if outcome(record) == "trained" and record.history.get(metric)]
    settled = [first_epoch(run, metric, near_level(run.history[metric][-1], direction), direction) for run in trained]
    epochs = [float(epoch) for epoch in settled if epoch is not None]
    settled_epoch = censored_median(epochs, len(trained) - len(epochs))
    if best_value is None:
        return CurveDiagnosis(diagnose_option(group), settled_epoch)
    near_best = time_to_target(trained, near_level(best_value, direction), metric, direction)
    return CurveDiagnosis(diagnose_option(group), settled_epoch, near_best.epochs, near_best.seconds)


def near_level(value: float, direction: Direction) -> float:
    """The level that counts as near a value: 1 % below it, or 10 % above it where lower is better."""
    return value - 0.01 * abs(value) if direction == "higher" else value + 0.1 * abs(value)


def describe_convergence(diagnoses: Mapping[str, CurveDiagnosis], metric: str, best: str, direction: Direction) -> str:
    """Which option comes near the best final value first, in epochs and in seconds, and which ends best."""
    margin, extreme = ("1 %", "highest") if direction == "higher" else ("10 %", "lowest")
    epochs = {name: curves.level_epoch for name, curves in diagnoses.items() if curves.level_epoch is not None}
    seconds = {name: curves.level_seconds for name, curves in diagnoses.items() if curves.level_seconds is not None}
    if not epochs:
        return f"{best} ends {extreme}; no option's median run came within {margin} of its {metric}."
    fewest = min(epochs.values())
    first = join_names([name for name, epoch in epochs.items() if epoch == fewest])
    sentence = f"Within {margin} of the best final {metric} first: {first} (median epoch {fewest:g})"
    if seconds:
        fastest = min(seconds, key=lambda name: (seconds[name], name))
        sentence += f"; in seconds: {fastest} ({seconds[fastest]:.3g} s)"
    return f"{sentence}; {best} ends {extreme}."


def training_seconds(record: RunRecord) -> list[float]:
    """The seconds of each epoch without the compilation of the network, which takes place in the first one.

    No run records it, so the first epoch counts as the median of the later ones if it took longer. A run of one epoch
    keeps what it took.
    """
    seconds = [float(value) for value in record.history.get("epoch_seconds", ())]
    return [min(seconds[0], float(np.median(seconds[1:]))), *seconds[1:]] if len(seconds) > 1 else seconds


def _seconds_until(record: RunRecord, epoch: int) -> float:
    """Training seconds to the end of that epoch; NaN without a full `history["epoch_seconds"]`."""
    seconds = training_seconds(record)
    return math.fsum(seconds[:epoch]) if len(seconds) >= epoch else math.nan
