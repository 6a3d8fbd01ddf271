"""Learning curves in words, as Part 8 of the guide reads them, and which option gets there first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from mnistlab.comparison.records import RunRecord, outcome
from mnistlab.comparison.results import CurveDiagnosis
from mnistlab.comparison.targets import censored_median, first_epoch, seconds_until

DIAGNOSIS_RULE = (
    "Diverged: the loss became infinite or the run ended at chance level. Overfitting: validation loss "
    "ends more than 5 % above its lowest while training loss went on falling. Underfitting: validation "
    "loss never fell below half the loss of guessing, ln(number of classes). Otherwise a good fit; still "
    "improving if validation loss fell by more than 2 % in the last epoch."
)


def diagnose_run(record: RunRecord) -> str:
    """One run's curves in words, by DIAGNOSIS_RULE; its `fit_reading` tag if it has no history of losses."""
    ended = outcome(record)
    if ended != "trained":
        return ended
    losses = list(record.history.get("val_loss", ()))
    if len(losses) < 2:
        return record.tags.get("fit_reading") or "too short to read"
    if not all(map(math.isfinite, losses)):
        return "diverged"
    lowest = losses.index(min(losses))
    training = list(record.history.get("loss", ()))
    training_fell = len(training) == len(losses) and training[-1] < training[lowest]
    if losses[-1] > 1.05 * losses[lowest] and training_fell:
        return "overfitting"
    if losses[lowest] > 0.5 * _guessing_loss(record, losses):
        return "underfitting"
    return "good fit, still improving" if losses[-1] < 0.98 * losses[-2] else "good fit"


def diagnose_option(group: Sequence[RunRecord]) -> str:
    """The most common reading of an option's runs, with its count where they do not all agree."""
    readings = Counter(diagnose_run(record) for record in group if outcome(record) != "unfinished")
    if not readings:
        return "no finished run"
    ordered = sorted(readings.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1:
        return ordered[0][0]
    return "; ".join(f"{words} in {count} of {readings.total()}" for words, count in ordered)


def diagnose_curves(
    group: Sequence[RunRecord], metric: str, direction: str, best_value: float | None
) -> CurveDiagnosis:
    """An option's reading, and the epochs at which it was close to its own and to the best final value.

    Close: within 1 % of an accuracy, 10 % of a loss (relative). best_value: the best option's mean.
    """
    trained = [record for record in group if outcome(record) == "trained" and record.history.get(metric)]
    settled = [first_epoch(run, metric, near_level(run.history[metric][-1], direction), direction) for run in trained]
    epochs = [float(epoch) for epoch in settled if epoch is not None]
    settled_epoch = censored_median(epochs, len(trained) - len(epochs))
    if best_value is None:
        return CurveDiagnosis(diagnose_option(group), settled_epoch)
    level = near_level(best_value, direction)
    reached = [(run, epoch) for run in trained if (epoch := first_epoch(run, metric, level, direction))]
    missing = len(trained) - len(reached)
    return CurveDiagnosis(
        diagnose_option(group),
        settled_epoch,
        censored_median([float(epoch) for _, epoch in reached], missing),
        censored_median([seconds_until(run, epoch) for run, epoch in reached], missing),
    )


def near_level(value: float, direction: str) -> float:
    """The level that counts as close to a value: 1 % below it, or 10 % above where lower is better."""
    return value - 0.01 * abs(value) if direction == "higher" else value + 0.1 * abs(value)


def describe_convergence(readings: Mapping[str, CurveDiagnosis], metric: str, best: str, direction: str) -> str:
    """Which option gets near the best final value first, in epochs and in seconds, and which ends better."""
    margin = "1 %" if direction == "higher" else "10 %"
    reached = {name: reading for name, reading in readings.items() if reading.level_epoch is not None}
    ends = f"{best} ends {'highest' if direction == 'higher' else 'lowest'}"
    if not reached:
        return f"{ends}; no option's median run came within {margin} of its {metric}."
    fewest = min(_known(reading.level_epoch) for reading in reached.values())
    by_epoch = [name for name, reading in reached.items() if reading.level_epoch == fewest]
    words = f"Within {margin} of the best final {metric} first: {_join_names(by_epoch)} (median epoch {fewest:g})"
    timed = [name for name, reading in reached.items() if reading.level_seconds is not None]
    if timed:
        quickest = min(timed, key=lambda name: (_known(reached[name].level_seconds), name))
        seconds = _known(reached[quickest].level_seconds)
        words += f"; in seconds: {quickest} ({seconds:.3g} s)"
    return f"{words}; {ends}."


def _guessing_loss(record: RunRecord, losses: Sequence[float]) -> float:
    """Cross-entropy of guessing; without known classes twice the first loss, which disables the rule."""
    num_classes = len(record.class_names) or len(record.confusion or ())
    return math.log(num_classes) if num_classes > 1 else 2.0 * losses[0] + 1e-12


def _known(value: float | None) -> float:
    return math.inf if value is None else value


def _join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
