"""One option over its seeds: its numbers, its failures, its curves read."""

from __future__ import annotations

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
    """One option's numbers; its row of the score matrix holds NaN for seeds without a trained run."""
    present = np.isfinite(row)
    values = np.sort(row[present])
    ends = [outcome(record, objective) for record in group]
    lost = ends.count("failed") + ends.count("diverged")
    finished = len(ends) - ends.count("unfinished")
    trained = [record for record, end in zip(group, ends, strict=True) if end == "trained"]
    return OptionSummary(
        name=name,
        values=dict(zip(keys, option_values(group[0], keys), strict=True)),
        seeds=[seed for seed, there in zip(seeds, present, strict=True) if there],
        scores=[float(value) for value in row[present]],
        mean=float(values.mean()) if len(values) else None,
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        interval=bootstrap_interval(values, resamples),
        num_runs=len(ends),
        num_diverged=ends.count("diverged"),
        num_failed=ends.count("failed"),
        num_unfinished=ends.count("unfinished"),
        failure_rate=lost / finished if finished else 0.0,
        test_accuracy=_mean_metric(trained, "test_accuracy"),
        train_seconds=_mean_metric(trained, "train_seconds"),
        targets=[time_to_target(group, target) for target in targets],
        reading=CurveDiagnosis(""),
    )


def _mean_metric(records: Sequence[RunRecord], name: str) -> float | None:
    found = np.array([record.metrics.get(name, np.nan) for record in records])
    values = np.sort(found[np.isfinite(found)])
    return float(values.mean()) if len(values) else None


def rank_options(options: Sequence[OptionSummary], direction: Direction) -> list[OptionSummary]:
    """Best mean first, then by name; options without a mean last."""
    sign = -1.0 if direction == "higher" else 1.0
    return sorted(
        options,
        key=lambda option: (option.mean is None, sign * (option.mean or 0.0), option.name),
    )


def with_diagnoses(
    options: Sequence[OptionSummary],
    groups: Mapping[str, Sequence[RunRecord]],
    metric: str,
    direction: Direction,
) -> list[OptionSummary]:
    """The options with their curves read; "close to the best" is measured against the first one's mean."""
    best = options[0].mean
    return [
        dataclasses.replace(option, reading=diagnose_curves(groups[option.name], metric, direction, best))
        for option in options
    ]
