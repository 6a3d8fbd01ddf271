"""One option over its seeds: mean, standard deviation, failures, time-to-target and curve diagnosis."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.comparison.curves import diagnose_curves
from mnistlab.comparison.pairs import Direction
from mnistlab.comparison.records import RunRecord, option_values, outcome
from mnistlab.comparison.results import CurveDiagnosis, OptionSummary
from mnistlab.comparison.statistics import Floats, bootstrap_interval
from mnistlab.comparison.targets import time_to_target


def option_summary(
    name: str,
    group: Sequence[RunRecord],
    keys: Sequence[str],
    row: Floats,
    seeds: Sequence[int],
    objective: str,
    targets: Sequence[float],
    resamples: int,
) -> OptionSummary:
    """Summarize one option. row: its row of the score matrix, NaN for seeds without a trained run."""
    present = np.isfinite(row)
    values = np.sort(row[present])
    outcomes = [outcome(record, objective) for record in group]
    num_failed = outcomes.count("failed") + outcomes.count("diverged")
    num_finished = len(outcomes) - outcomes.count("unfinished")
    trained = [record for record, result in zip(group, outcomes, strict=True) if result == "trained"]
    return OptionSummary(
        name=name,
        values=dict(zip(keys, option_values(group[0], keys), strict=True)),
        seeds=[seed for seed, has_score in zip(seeds, present, strict=True) if has_score],
        scores=[float(value) for value in row[present]],
        mean=float(values.mean()) if len(values) else None,
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        interval=bootstrap_interval(values, resamples),
        num_runs=len(outcomes),
        num_diverged=outcomes.count("diverged"),
        num_failed=outcomes.count("failed"),
        num_unfinished=outcomes.count("unfinished"),
        failure_rate=num_failed / num_finished if num_finished else 0.0,
        test_accuracy=_mean_metric(trained, "test_accuracy"),
        train_seconds=_mean_metric(trained, "train_seconds"),
        targets=[time_to_target(group, target) for target in targets],
        reading=CurveDiagnosis(""),
    )


def _mean_metric(records: Sequence[RunRecord], name: str) -> float | None:
    values = np.array([record.metrics.get(name, np.nan) for record in records])
    values = np.sort(values[np.isfinite(values)])
    return float(values.mean()) if len(values) else None


def rank_options(options: Sequence[OptionSummary], direction: Direction) -> list[OptionSummary]:
    """Sort by mean, best first, then by name; options without a mean come last."""
    sign = -1.0 if direction == "higher" else 1.0
    return sorted(options, key=lambda option: (option.mean is None, sign * (option.mean or 0.0), option.name))


def with_diagnoses(
    options: Sequence[OptionSummary], groups: Mapping[str, Sequence[RunRecord]], metric: str, direction: Direction
) -> list[OptionSummary]:
    """The options with their curves diagnosed; the first option's mean is the best final value."""
    best = options[0].mean
    return [
        dataclasses.replace(option, reading=diagnose_curves(groups[option.name], metric, direction, best))
        for option in options
    ]
