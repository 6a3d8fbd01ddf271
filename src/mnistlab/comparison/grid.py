"""Learning-rate grids: each optimizer at its default and its best rate; warnings if the best is at an edge."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from mnistlab.comparison.options import compare_groups
from mnistlab.comparison.records import RunRecord, outcome, score_matrix
from mnistlab.comparison.results import Direction, GridPoint, GridRow, LearningRateGrid, OptionSummary
from mnistlab.comparison.statistics import ALPHA, mean_and_sd

LEARNING_RATE = "optimizer.learning_rate"
GRID_AXES = ("optimizer", LEARNING_RATE)
MIN_RATES = 3


def learning_rate_grid(
    records: Sequence[RunRecord],
    objective: str,
    direction: Direction = "higher",
    defaults: Mapping[str, float] | None = None,
    alpha: float = ALPHA,
    resolution: float = 0.0,
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
    ranks_at_best = _ranks(rows, [row.best for row in rows], direction)
    ranks_at_default = _ranks(rows, [row.default for row in rows], direction)
    ranked = [
        dataclasses.replace(row, rank_at_best=at_best, rank_at_default=at_default)
        for row, at_best, at_default in zip(rows, ranks_at_best, ranks_at_default, strict=True)
    ]
    chosen = {row.optimizer: runs[row.optimizer][row.best] for row in rows if row.best is not None}
    _, scores = score_matrix(chosen, objective)
    pairs = compare_groups(chosen, scores, objective, direction, alpha, resolution)
    return LearningRateGrid(ranked, _edge_warnings(rows), pairs)


def at_best_rates(options: Sequence[OptionSummary], grid: LearningRateGrid) -> list[OptionSummary]:
    """The options of a sweep over optimizers and learning rates that are an optimizer at its best rate."""
    best = {(row.optimizer, row.best) for row in grid.rows}
    return [option for option in options if (option.values.get("optimizer"), option.values.get(LEARNING_RATE)) in best]


def grid_points(records: Sequence[RunRecord], objective: str) -> dict[str, list[GridPoint]]:
    """Optimizer -> its learning rates, ascending, with what their runs came to."""
    runs = _runs(records)
    return {
        name: [_grid_point(rate, group, objective) for rate, group in rates.items()] for name, rates in runs.items()
    }


def _runs(records: Sequence[RunRecord]) -> dict[str, dict[float, list[RunRecord]]]:
    """Records by optimizer and by learning rate, ascending; runs with a schedule are excluded."""
    runs: dict[str, dict[float, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        rate = record.params.get(LEARNING_RATE)
        if isinstance(rate, int | float) and not isinstance(rate, bool):
            runs[str(record.params.get("optimizer", "all runs"))][float(rate)].append(record)
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
    num_failed = outcomes.count("failed") + outcomes.count("diverged")
    trained = [record for record, result in zip(group, outcomes, strict=True) if result == "trained"]
    mean, sd = mean_and_sd([record.metrics[objective] for record in trained])
    return GridPoint(rate, mean, sd, len(outcomes) - outcomes.count("unfinished"), num_failed)


def _default_rate(
    name: str, rates: Mapping[float, list[RunRecord]], defaults: Mapping[str, float] | None
) -> float | None:
    """The rate of the grid that is the optimizer's default; None if it is unknown or not on the grid."""
    tags = {tag for group in rates.values() for run in group if (tag := run.tags.get("default.learning_rate"))}
    default = (defaults or {}).get(name, float(min(tags)) if tags else math.nan)
    return next((rate for rate in rates if math.isclose(rate, default)), None)


def _ranks(rows: Sequence[GridRow], rates: Sequence[float | None], direction: Direction) -> list[int | None]:
    """Each optimizer's rank, from 1, by its mean at the given rate; None without a mean."""
    means = [
        next((point.mean for point in row.points if point.learning_rate == rate), None)
        for row, rate in zip(rows, rates, strict=True)
    ]
    ordered = sorted((mean for mean in means if mean is not None), reverse=direction == "higher")
    return [None if mean is None else ordered.index(mean) + 1 for mean in means]


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
