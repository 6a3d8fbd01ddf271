"""Diagnosis of learning curves, as in Part 8 of the guide, and which option converges first."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from mnistlab.comparison.records import RunRecord, outcome
from mnistlab.comparison.results import CurveDiagnosis
from mnistlab.comparison.targets import censored_median, first_epoch, seconds_until

DIAGNOSIS_RULE = (
    "Diverged: the loss became infinite or the run ended at chance level. Overfitting: the final validation loss is "
    "more than 5 % above its minimum, and training loss decreased after that minimum. Underfitting: validation loss "
    "never fell below half the loss of random guessing, ln(number of classes). Otherwise a good fit; still improving "
    "if validation loss decreased by more than 2 % in the last epoch."
)


def diagnose_run(record: RunRecord) -> str:
    """Diagnose one run's curves by DIAGNOSIS_RULE; without a history, its `fit_reading` tag."""
    result = outcome(record)
    if result != "trained":
        return result
    losses = list(record.history.get("val_loss", ()))
    if len(losses) < 2:
        return record.tags.get("fit_reading") or "too few epochs"
    if not all(map(math.isfinite, losses)):
        return "diverged"
    best = losses.index(min(losses))
    training = list(record.history.get("loss", ()))
    training_fell = len(training) == len(losses) and training[-1] < training[best]
    if losses[-1] > 1.05 * losses[best] and training_fell:
        return "overfitting"
    if losses[best] > 0.5 * _random_guessing_loss(record, losses):
        return "underfitting"
    return "good fit, still improving" if losses[-1] < 0.98 * losses[-2] else "good fit"


def diagnose_option(group: Sequence[RunRecord]) -> str:
    """The diagnoses of an option's runs, most frequent first, with their counts unless all agree."""
    counts = Counter(diagnose_run(record) for record in group if outcome(record) != "unfinished")
    if not counts:
        return "no finished run"
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1:
        return ordered[0][0]
    return "; ".join(f"{diagnosis} in {count} of {counts.total()}" for diagnosis, count in ordered)


def diagnose_curves(
    group: Sequence[RunRecord], metric: str, direction: str, best_value: float | None
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
    """The level that counts as near a value: 1 % below it, or 10 % above it where lower is better."""
    return value - 0.01 * abs(value) if direction == "higher" else value + 0.1 * abs(value)


def describe_convergence(diagnoses: Mapping[str, CurveDiagnosis], metric: str, best: str, direction: str) -> str:
    """Which option comes near the best final value first, in epochs and in seconds, and which ends best."""
    margin = "1 %" if direction == "higher" else "10 %"
    reached = {name: curves for name, curves in diagnoses.items() if curves.level_epoch is not None}
    ends = f"{best} ends {'highest' if direction == 'higher' else 'lowest'}"
    if not reached:
        return f"{ends}; no option's median run came within {margin} of its {metric}."
    fewest = min(_inf_if_none(curves.level_epoch) for curves in reached.values())
    by_epoch = [name for name, curves in reached.items() if curves.level_epoch == fewest]
    sentence = f"Within {margin} of the best final {metric} first: {_join_names(by_epoch)} (median epoch {fewest:g})"
    timed = [name for name, curves in reached.items() if curves.level_seconds is not None]
    if timed:
        fastest = min(timed, key=lambda name: (_inf_if_none(reached[name].level_seconds), name))
        seconds = _inf_if_none(reached[fastest].level_seconds)
        sentence += f"; in seconds: {fastest} ({seconds:.3g} s)"
    return f"{sentence}; {ends}."


def _random_guessing_loss(record: RunRecord, losses: Sequence[float]) -> float:
    """Cross-entropy of random guessing; twice the first loss, which disables the rule, if the classes are unknown."""
    num_classes = len(record.class_names) or len(record.confusion or ())
    return math.log(num_classes) if num_classes > 1 else 2.0 * losses[0] + 1e-12


def _inf_if_none(value: float | None) -> float:
    return math.inf if value is None else value


def _join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
