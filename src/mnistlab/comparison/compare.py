"""From run records to a comparison: which option is better, by how much, is it significant, was it fair."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from mnistlab.comparison.curves import TARGETS, describe_convergence
from mnistlab.comparison.fairness import fairness
from mnistlab.comparison.grid import at_best_rates, learning_rate_grid
from mnistlab.comparison.options import compare_options, option_summary, rank_options
from mnistlab.comparison.records import RunRecord, axis_keys, group_by_option, is_data_axis, score_matrix, split_by_data
from mnistlab.comparison.results import Comparison, Direction, LearningRateGrid, Note, OptionSummary, Pair
from mnistlab.comparison.statistics import ALPHA
from mnistlab.comparison.wording import describe_method, verdict


def compare(
    records: Iterable[RunRecord],
    axis: str | Sequence[str] = "optimizer",
    objective: str = "best_val_accuracy",
    *,
    direction: Literal["auto", "higher", "lower"] = "auto",
    alpha: float = ALPHA,
    targets: Sequence[float] = TARGETS,
    resamples: int = 2000,
    default_learning_rates: Mapping[str, float] | None = None,
) -> Comparison:
    """Compare the options of an axis, paired by seed; the order of the records does not matter.

    axis: one or more settings ("optimizer", ("optimizer", "optimizer.learning_rate")). objective: a metric
    on validation data. direction: "auto" means lower is better for losses, errors and seconds. alpha: the
    family-wise error rate over all pairs. targets: validation accuracies for the time-to-target. resamples:
    number of bootstrap resamples; 0 omits the intervals. default_learning_rates: {"adam": 0.001}.
    Raises ValueError for records on different data (see `compare_by_data`), for an axis that no record has,
    and for a `test_` objective: options selected on the test set would make its scores optimistic.
    """
    records = list(records)
    keys = axis_keys(axis)
    _validate(records, keys, objective)
    groups = group_by_option(records, keys)
    seeds, scores = score_matrix(groups, objective)
    resolved = _resolve_direction(objective, direction)
    pairs = compare_options(list(groups), scores, objective, resolved, alpha)
    summaries = [
        option_summary(name, group, keys, row, seeds, objective, targets, resamples)
        for (name, group), row in zip(groups.items(), scores, strict=True)
    ]
    metric = objective.removeprefix("best_")
    options = rank_options(summaries, groups, metric, resolved)
    grid = learning_rate_grid(records, objective, resolved, default_learning_rates, alpha)
    notes = fairness(records, keys) + [Note("warning", text) for text in (grid.warnings if grid else [])]
    return Comparison(
        verdict=_verdict(options, pairs, objective, grid),
        axis=list(keys),
        objective=objective,
        direction=resolved,
        data=", ".join(split_by_data(records)),
        alpha=alpha,
        seeds=seeds,
        options=options,
        pairs=_sort_pairs(pairs, options),
        notes=notes,
        convergence=_convergence(options, metric, resolved),
        grid=grid,
        method=describe_method(len(groups), alpha),
    )


def compare_by_data(
    records: Iterable[RunRecord],
    axis: str | Sequence[str] = "optimizer",
    objective: str = "best_val_accuracy",
    **settings: Any,
) -> list[Comparison]:
    """One comparison per data set, the one with the most runs first; settings: keyword arguments of `compare`.

    A data setting on the axis ("source" next to "optimizer") then selects the data set, not an option.
    An axis that consists of data settings only gives a single comparison, with a warning.
    """
    keys = axis_keys(axis)
    if is_data_axis(keys):
        groups, option_keys = {"": list(records)}, keys
    else:
        groups = split_by_data(records)
        option_keys = tuple(key for key in keys if len(groups) == 1 or not is_data_axis([key]))
    return [compare(members, option_keys, objective, **settings) for members in groups.values()]


def _validate(records: Sequence[RunRecord], keys: Sequence[str], objective: str) -> None:
    if not records:
        raise ValueError("records: nothing to compare. Received: an empty list")
    if objective.startswith("test_"):
        raise ValueError(
            "objective: options are ranked on a validation metric; test metrics are shown but never ranked on. "
            f"Received: {objective!r}"
        )
    known = sorted({name for record in records for name in record.metrics if not name.startswith("test_")})
    if objective not in known and any(record.metrics for record in records):
        raise ValueError(f"objective: no run has the metric {objective!r}. Choices: {', '.join(known)}")
    data = split_by_data(records)
    if len(data) > 1 and not is_data_axis(keys):
        raise ValueError(
            f"records: runs on {len(data)} different data sets cannot be compared in one table; "
            f"use compare_by_data(records). Received: {', '.join(data)}"
        )


def _verdict(
    options: Sequence[OptionSummary], pairs: Sequence[Pair], objective: str, grid: LearningRateGrid | None
) -> str:
    """The verdict on the options; for a grid of several optimizers, on each at its best learning rate."""
    chosen = at_best_rates(options, grid) if grid and len(grid.rows) > 1 else []
    if grid is None or len(chosen) < 2:
        return verdict(options, pairs, objective)
    optimizers = [dataclasses.replace(option, name=str(option.values["optimizer"])) for option in chosen]
    return f"Each at its best learning rate: {verdict(optimizers, grid.at_best, objective)}"


def _resolve_direction(objective: str, direction: Literal["auto", "higher", "lower"]) -> Direction:
    if direction != "auto":
        return direction
    return "lower" if any(word in objective for word in ("loss", "error", "seconds")) else "higher"


def _convergence(options: Sequence[OptionSummary], metric: str, direction: Direction) -> str:
    if options[0].mean is None:
        return ""
    diagnoses = {option.name: option.reading for option in options}
    return describe_convergence(diagnoses, metric, options[0].name, direction)


def _sort_pairs(pairs: Sequence[Pair], options: Sequence[OptionSummary]) -> list[Pair]:
    """Sort pairs by the ranks of their options, so that those with the leader come first."""
    rank = {option.name: index for index, option in enumerate(options)}
    return sorted(pairs, key=lambda pair: sorted((rank[pair.first], rank[pair.second])))
