"""Learning-rate grids: each optimizer at its default and its best rate; warnings if the best is at an edge."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.comparison.pairs import Direction, compare_options
from mnistlab.comparison.records import RunRecord, outcome, score_matrix
from mnistlab.comparison.results import GridPoint, GridRow, LearningRateGrid

LEARNING_RATE = "optimizer.learning_rate"
MIN_RATES = 3

Runs = dict[str, dict[float, list[RunRecord]]]


def learning_rate_grid(
    records: Sequence[RunRecord],
    objective: str,
    direction: Direction = "higher",
    defaults: Mapping[str, float] | None = None,
    alpha: float = 0.05,
) -> LearningRateGrid | None:
    """The grid if an optimizer was run at three or more learning rates, otherwise None.

    defaults: each optimizer's default rate, {"adam": 0.001}; otherwise the tag `default.learning_rate` of its
    runs; without both there are no ranks at the default. The best rate has the best mean among those where
    fewer than half of the runs failed. It is selected on the scores that are then compared (selection bias):
    `at_best` is slightly optimistic for every optimizer.
    """
    runs = _runs(records)
    if max((len(rates) for rates in runs.values()), default=0) < MIN_RATES:
        return None
    rows = [_grid_row(name, rates, objective, direction, defaults) for name, rates in sorted(runs.items())]
    at_best = {row.optimizer: row.best for row in rows}
    at_default = {row.optimizer: row.default for row in rows}
    ranks_best = _ranks(rows, at_best, direction)
    ranks_default = _ranks(rows, at_default, direction)
    ranked = [
        dataclasses.replace(
            row, rank_at_best=ranks_best.get(row.optimizer), rank_at_default=ranks_default.get(row.optimizer)
        )
        for row in rows
    ]
    chosen = {name: runs[name][rate] for name, rate in at_best.items() if rate is not None}
    _, scores = score_matrix(chosen, objective)
    pairs = compare_options(list(chosen), scores, objective, direction, alpha)
    return LearningRateGrid(ranked, _edge_warnings(rows), pairs)


def _runs(records: Sequence[RunRecord]) -> Runs:
    """Records by optimizer and by learning rate, ascending; runs with a schedule are excluded."""
    runs: Runs = {}
    for record in records:
        rate = record.params.get(LEARNING_RATE)
        if isinstance(rate, int | float) and not isinstance(rate, bool):
            rates = runs.setdefault(str(record.params.get("optimizer", "all runs")), {})
            rates.setdefault(float(rate), []).append(record)
    return {name: dict(sorted(rates.items())) for name, rates in runs.items()}


def _grid_row(
    name: str,
    rates: Mapping[float, list[RunRecord]],
    objective: str,
    direction: Direction,
    defaults: Mapping[str, float] | None,
) -> GridRow:
    points = [_grid_point(rate, group, objective) for rate, group in rates.items()]
    eligible = [point for point in points if point.mean is not None and 2 * point.num_failed < point.num_runs]
    sign = 1 if direction == "higher" else -1
    best = max(eligible, key=lambda point: sign * (point.mean or 0.0)).learning_rate if eligible else None
    return GridRow(name, points, best, _default_rate(name, rates, defaults), None, None)


def _grid_point(rate: float, group: Sequence[RunRecord], objective: str) -> GridPoint:
    outcomes = [outcome(record, objective) for record in group]
    values = np.array(
        [record.metrics[objective] for record, result in zip(group, outcomes, strict=True) if result == "trained"]
    )
    mean = float(np.sort(values).mean()) if len(values) else None
    sd = float(np.sort(values).std(ddof=1)) if len(values) > 1 else None
    failed = sum(result in ("failed", "diverged") for result in outcomes)
    return GridPoint(rate, mean, sd, len(outcomes) - outcomes.count("unfinished"), failed)


def _default_rate(
    name: str, rates: Mapping[float, list[RunRecord]], defaults: Mapping[str, float] | None
) -> float | None:
    """The rate of the grid that is the optimizer's default; None if it is unknown or not on the grid."""
    tags = {tag for group in rates.values() for run in group if (tag := run.tags.get("default.learning_rate"))}
    default = (defaults or {}).get(name, float(min(tags)) if tags else math.nan)
    return next((rate for rate in rates if math.isclose(rate, default)), None)


def _ranks(rows: Sequence[GridRow], chosen: Mapping[str, float | None], direction: Direction) -> dict[str, int]:
    """Ranks, from 1, of the optimizers' means at the chosen rates; optimizers without a mean are omitted."""
    means = {
        row.optimizer: point.mean
        for row in rows
        for point in row.points
        if point.learning_rate == chosen[row.optimizer] and point.mean is not None
    }
    ordered = sorted(means.values(), reverse=direction == "higher")
    return {name: ordered.index(mean) + 1 for name, mean in means.items()}


def _edge_warnings(rows: Sequence[GridRow]) -> list[str]:
    """One warning per optimizer whose best rate is the grid's lowest or highest."""
    warnings = []
    for row in rows:
        rates = [point.learning_rate for point in row.points]
        if row.best is None or len(rates) < 2 or row.best not in (rates[0], rates[-1]):
            continue
        edge, more = ("lowest", "smaller") if row.best == rates[0] else ("highest", "larger")
        text = f"{row.optimizer}: the best learning rate, {row.best:g}, is the {edge} of the grid"
        text += f"; the optimum may be outside: add {more} values of {LEARNING_RATE}"
        warnings.append(text)
    return warnings
