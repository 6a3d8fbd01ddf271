"""From run records to a comparison: which option is better, by how much, is it significant, was it fair."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from mnistlab.comparison.answer_wording import describe_method
from mnistlab.comparison.answering import Scores, answer, distinct
from mnistlab.comparison.collection import collection_paused
from mnistlab.comparison.curves import TARGETS, describe_convergence, missed_targets, with_time_to_target
from mnistlab.comparison.data_sets import data_identity, group_by_data, is_data_comparison, split_by_data
from mnistlab.comparison.fairness import fairness_notes
from mnistlab.comparison.grid import GRID_AXES, at_best_rates, learning_rate_grid
from mnistlab.comparison.interaction import interaction_of_axes
from mnistlab.comparison.metric_names import curve_metric, metric_direction
from mnistlab.comparison.new_images import on_new_images
from mnistlab.comparison.options import compare_groups, option_summary, rank_options
from mnistlab.comparison.question import Question, parse_question
from mnistlab.comparison.records import RunRecord, axis_keys, check_axis, group_by_option, is_varied, score_matrix
from mnistlab.comparison.resolution import NUM_IMAGES, resolution
from mnistlab.comparison.results import Answer, Comparison, Direction, LearningRateGrid, Note, OptionSummary, Pair
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import ALPHA
from mnistlab.comparison.wording import verdict

# Metrics of a run that do not measure its quality: left out of the choices.
NO_OBJECTIVES = {"learning_rate", "epoch_seconds", "steps_per_epoch", "best_epoch", NUM_IMAGES}


@collection_paused()
def compare(
    records: Iterable[RunRecord],
    axis: str | Sequence[str] = "optimizer",
    objective: str = "best_epoch_val_accuracy",
    *,
    direction: Literal["auto", "higher", "lower"] = "auto",
    alpha: float = ALPHA,
    targets: Sequence[float] = TARGETS,
    resamples: int = 2000,
    default_learning_rates: Mapping[str, float] | None = None,
    question: str = "best",
    looks: Looks | None = None,
) -> Comparison:
    """Compare the options of an axis, paired by seed; the order of the records does not matter.

    axis: one or more settings ("optimizer", ("optimizer", "optimizer.learning_rate")). objective: a metric
    on validation data. direction: "auto" goes by Keras's metric names (`metric_direction`). alpha: the
    family-wise error rate over all pairs. targets: validation accuracies for the time-to-target. resamples:
    number of bootstrap resamples; 0 omits the intervals. default_learning_rates: {"adam": 0.001}.
    question: "best", "better_than:adam" or "equivalent:0.2" (`question.parse_question`). looks: if the options were
    compared again after every seed.
    Raises ValueError for records on different data (see `compare_by_data`), for an axis that no record has, for
    an objective of unknown direction, and for a `test_` objective: options selected on the test set would make its
    scores optimistic.
    """
    records, keys = with_time_to_target(records, objective), axis_keys(axis)
    _validate(records, keys, objective)
    data = split_by_data(records)
    if len(data) > 1 and not is_data_comparison(records, keys):
        raise ValueError(
            f"records: runs on {len(data)} different data sets cannot be compared in one table; "
            f"use compare_by_data(records). Received: {', '.join(data)}"
        )
    resolved, asked = _resolve_direction(objective, direction), (parse_question(question), looks)
    return _compare(records, keys, objective, resolved, alpha, targets, resamples, default_learning_rates, *asked)


def compare_by_data(
    records: Iterable[RunRecord],
    axis: str | Sequence[str] = "optimizer",
    objective: str = "best_epoch_val_accuracy",
    *,
    direction: Literal["auto", "higher", "lower"] = "auto",
    alpha: float = ALPHA,
    targets: Sequence[float] = TARGETS,
    resamples: int = 2000,
    default_learning_rates: Mapping[str, float] | None = None,
    question: str = "best",
    looks: Looks | None = None,
) -> list[Comparison]:
    """One comparison per data set, the one with the most runs first; arguments as for `compare`.

    Settings of the axis that change the data (decided by the data's hashes, `data_axes`) select the data set; the
    others distinguish its options. If all that vary change the data, the data sets are the options of a single
    comparison, with a note on what differs.
    """
    records, keys = with_time_to_target(records, objective), axis_keys(axis)
    _validate(records, keys, objective)
    settings = (_resolve_direction(objective, direction), alpha, targets, resamples, default_learning_rates)
    asked = (parse_question(question), looks)
    grouped = group_by_data(records, keys)
    compared = [_compare(one.records, grouped.axis, objective, *settings, *asked) for one in grouped.data_sets]
    count = len(compared)
    return [
        dataclasses.replace(comparison, data=one.name, data_axis=grouped.data_axis, num_data_sets=count)
        for comparison, one in zip(compared, grouped.data_sets, strict=True)
    ]


def _compare(
    records: Sequence[RunRecord],
    keys: Sequence[str],
    objective: str,
    direction: Direction,
    alpha: float,
    targets: Sequence[float],
    resamples: int,
    default_learning_rates: Mapping[str, float] | None,
    question: Question,
    looks: Looks | None,
) -> Comparison:
    """Compare records on the same data, or options that are data sets."""
    groups = group_by_option(records, keys)
    seeds, scores = score_matrix(groups, objective)
    step = resolution(records, objective)
    pairs = compare_groups(groups, scores, objective, direction, alpha, step, looks)
    summaries = [
        option_summary(name, group, keys, row, seeds, objective, targets, resamples)
        for (name, group), row in zip(groups.items(), scores, strict=True)
    ]
    metric = curve_metric(objective)
    options = rank_options(summaries, groups, metric, direction)
    is_grid = not any(is_varied(records, key) for key in keys if key not in GRID_AXES)
    defaults = default_learning_rates
    grid = learning_rate_grid(records, objective, direction, defaults, alpha, step) if is_grid else None
    notes = (
        fairness_notes(records, keys)
        + missed_targets(groups, objective)
        + [Note("warning", text) for text in (grid.warnings if grid else [])]
    )
    pairs = _sort_pairs(pairs, options)
    names, values = distinct(options, list(groups), scores, pairs)
    _, seconds = score_matrix({name: groups[name] for name in names}, "train_seconds", seeds)
    asked = Scores(names, values, objective, direction, alpha, step, looks, seconds)
    answered = answer(question, asked, options, pairs)
    has_own_table = grid is not None and set(GRID_AXES) <= set(keys)
    return Comparison(
        verdict=_verdict(options, answered, objective, grid),
        axis=list(keys),
        objective=objective,
        direction=direction,
        data=", ".join(one.name for one in group_by_data(records, keys).data_sets),
        alpha=alpha,
        seeds=seeds,
        options=options,
        pairs=pairs,
        notes=notes,
        convergence=_convergence(options, metric, direction),
        grid=grid,
        method=describe_method(len(names), alpha, step, question, looks),
        identity=data_identity(records),
        interaction=None
        if has_own_table
        else interaction_of_axes(options, pairs, keys, objective, direction, alpha, step),
        resolution=step,
        answer=answered,
        new_images=_on_new_images(groups, answered, pairs, options, objective, alpha),
    )


def _on_new_images(
    groups: Mapping[str, Sequence[RunRecord]],
    answered: Answer,
    pairs: Sequence[Pair],
    options: Sequence[OptionSummary],
    objective: str,
    alpha: float,
) -> str:
    """The leader and the next option on new images, for the accuracy of the saved epoch; "" if the runs cannot tell."""
    if objective != "best_epoch_val_accuracy":
        return ""
    leader = answered.winner or options[0].name
    against = answered.pairs if answered.winner else pairs
    pair = next((pair for pair in against if leader in (pair.first, pair.second) and pair.p is not None), None)
    if pair is None:
        return ""
    level = alpha if pair.confidence is None else 1 - pair.confidence
    found = on_new_images(groups[pair.first], groups[pair.second], (pair.first, pair.second), level)
    return found.words if found else ""


def _validate(records: Sequence[RunRecord], keys: Sequence[str], objective: str) -> None:
    if not records:
        raise ValueError("records: nothing to compare. Received: an empty list")
    known = {name for record in records for name in record.metrics if not _is_test_metric(name)}
    choices = ", ".join(sorted(known - NO_OBJECTIVES))
    if _is_test_metric(objective):
        raise ValueError(
            "objective: options are ranked on a validation metric; test metrics are shown but never ranked on, because "
            "the score of an option selected on the test set would be optimistic. "
            f"Received: {objective!r}. Choices: {choices}"
        )
    if objective not in known and any(record.metrics for record in records):
        raise ValueError(f"objective: no run has this metric. Received: {objective!r}. Choices: {choices}")
    check_axis(records, keys)


def _is_test_metric(name: str) -> bool:
    return curve_metric(name).startswith("test_")


def _verdict(options: Sequence[OptionSummary], answered: Answer, objective: str, grid: LearningRateGrid | None) -> str:
    """The answer; for a grid of several optimizers that was not asked another question, on each at its best rate."""
    chosen = at_best_rates(options, grid) if grid and len(grid.rows) > 1 else []
    if grid is None or len(chosen) < 2 or answered.question != "best" or answered.rounds:
        return answered.words
    optimizers = [dataclasses.replace(option, name=str(option.values["optimizer"])) for option in chosen]
    return f"Each at its best learning rate: {verdict(optimizers, grid.at_best, objective)}"


def _resolve_direction(objective: str, direction: Literal["auto", "higher", "lower"]) -> Direction:
    if direction != "auto":
        return direction
    known = metric_direction(objective)
    if known is None:
        raise ValueError(
            f"direction: whether a higher or a lower {objective} is better does not follow from its name. "
            "Choices: direction='higher', direction='lower'. Received: direction='auto'"
        )
    return known


def _convergence(options: Sequence[OptionSummary], metric: str, direction: Direction) -> str:
    if options[0].mean is None:
        return ""
    diagnoses = {option.name: option.reading for option in options}
    return describe_convergence(diagnoses, metric, options[0].name, direction)


def _sort_pairs(pairs: Sequence[Pair], options: Sequence[OptionSummary]) -> list[Pair]:
    """Sort pairs by the ranks of their options, so that those with the leader come first."""
    rank = {option.name: index for index, option in enumerate(options)}
    return sorted(pairs, key=lambda pair: sorted((rank[pair.first], rank[pair.second])))
