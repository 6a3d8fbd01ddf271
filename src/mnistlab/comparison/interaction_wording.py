"""The sentences on an interaction: who leads in which column, and whether the order depends on the column."""

from collections.abc import Sequence
from dataclasses import dataclass

from mnistlab.comparison.results import ColumnLeader, Contrast, Interaction
from mnistlab.comparison.wording import describe_same_runs, format_difference, join_names, name_with_twins

MAX_NAMES = 4
METHOD = (
    "Differences of differences: for each two options and each two columns, a t test of the difference between the "
    "options' differences, paired by seed; p values Holm-corrected over all of them. That the order depends on the "
    "column is claimed if the test of two leaders is significant and each beats the other in its own column."
)


@dataclass(frozen=True)
class SharedLead(ColumnLeader):
    """A column without a leader: its best rows have the same mean.

    tied: these rows, those with the same runs in this column together. num_beaten: rows that all of them beat.
    """

    tied: list[list[str]]


def describe_contrast(contrast: Contrast, objective: str, is_by_data: bool) -> str:
    """The result of one contrast as a sentence without its full stop."""
    preposition = "on" if is_by_data else "with"
    subject = f"the advantage of {contrast.first} over {contrast.second}"
    columns = f"{preposition} {contrast.column} and {preposition} {contrast.other_column}"
    if contrast.num_seeds < 2:
        return f"{subject} {columns}: {'one seed' if contrast.num_seeds else 'no common seed'}: no claim"
    if contrast.difference is None or contrast.low is None or contrast.high is None:
        return f"{subject} {columns}: the same difference for every seed: zero variance, no test, no claim"
    if not contrast.significant:
        return f"{subject} is not distinguishable {columns}"
    difference = format_difference(objective, contrast.difference, contrast.low, contrast.high)
    return (
        f"{subject} is {difference} larger {preposition} {contrast.column} than {preposition} {contrast.other_column}"
    )


def describe_interaction(found: Interaction, is_order_certain: bool) -> str:
    """Who leads where, and whether that depends on the column, as a sentence without its full stop.

    is_order_certain: whether of two leaders each beats the other in its column.
    """
    if not any(cell.mean is not None for row in found.cells for cell in row):
        return "No result: no run of any option trained to the end"
    if is_one_option(found):
        return describe_one_option(found)
    leads = describe_leads(found)
    if len(_distinct_leaders(found)) < 2:
        sentence = f"{leads}{_describe_same_leader(found)}"
    else:
        sentence = _describe_changing_leader(found, leads, is_order_certain)
    return f"{sentence}{_describe_missing(found.missing)}"


def describe_leads(found: Interaction) -> str:
    """ "adam leads on both data sets (default, imbalanced)", "adam leads on default, momentum on imbalanced".

    Columns without a leader follow: "adam leads on default; adam and sgd tie on imbalanced".
    """
    preposition = "on" if found.is_by_data else "with"
    columns_of: dict[str, list[str]] = {}
    ties: dict[str, list[str]] = {}
    for leader in found.leaders:
        if leader.leader is not None:
            columns_of.setdefault(leader.leader, []).append(leader.column)
        elif isinstance(leader, SharedLead):
            ties.setdefault(_describe_tie(leader), []).append(leader.column)
    tied = [f"{tie} {preposition} {_describe_columns(found, columns)}" for tie, columns in ties.items()]
    if len(columns_of) == 1:
        ((leader_name, columns),) = columns_of.items()
        leads = f"{row_name(found, leader_name)} leads {preposition} {_describe_columns(found, columns)}"
        return "; ".join([leads, *tied])
    parts = [
        f"{row_name(found, name)}{'' if index else ' leads'} {preposition} {join_names(columns, MAX_NAMES)}"
        for index, (name, columns) in enumerate(columns_of.items())
    ]
    separator = "; " if any(len(columns) > 1 for columns in columns_of.values()) else ", "
    return "; ".join([separator.join(parts), *tied] if parts else tied)


def _describe_tie(leader: SharedLead) -> str:
    """ "adam and sgd tie", "minibatch_gd and sgd are the same runs": the best rows of a column."""
    if len(leader.tied) > 1:
        return f"{join_names([name_with_twins(group) for group in leader.tied], MAX_NAMES)} tie"
    best = " and have the best value" if leader.num_others else ""
    return f"{describe_same_runs(leader.tied[0])}{best}"


def is_one_option(found: Interaction) -> bool:
    """Whether there is nothing to compare: one option, or several that are the same runs."""
    return len(found.rows) == max([1, *map(len, found.same_runs)])


def describe_one_option(found: Interaction) -> str:
    """Why no options are compared, as a sentence without its full stop."""
    if found.same_runs:
        return f"{describe_same_runs(found.rows)}: nothing to compare"
    return f"Only one option, {found.rows[0]}: nothing to compare"


def row_name(found: Interaction, row: str) -> str:
    """The row's name, with the rows that are the same runs."""
    return name_with_twins(next((same for same in found.same_runs if row in same), [row]))


def axis_name(keys: Sequence[str]) -> str:
    """The axis in a sentence: "data", "model and fit.batch_size"."""
    return join_names(list(keys)) if list(keys) != ["data set"] else "the data set"


def is_one_seed(found: Interaction) -> bool:
    """Whether no cell has more than one trained seed, so that nothing can be claimed."""
    return max(cell.num_seeds for row in found.cells for cell in row) < 2


def _describe_columns(found: Interaction, columns: Sequence[str]) -> str:
    """ "both data sets (default, imbalanced)", "all 3 values of model (cnn, mlp and resnet)", "default"."""
    if len(columns) == 1:
        return columns[0]
    noun = "combinations" if len(found.column_axis) > 1 else "values"
    noun = "data sets" if found.is_by_data else f"{noun} of {axis_name(found.column_axis)}"
    complete = len(columns) == len(found.columns)
    count = f"{len(columns)} of {len(found.columns)}" if not complete else "both" if len(columns) == 2 else ""
    shown = columns if len(columns) <= MAX_NAMES else [*columns[: MAX_NAMES - 1]]
    more = "" if len(shown) == len(columns) else f" and {len(columns) - len(shown)} more"
    return f"{count or f'all {len(columns)}'} {noun} ({', '.join(shown)}{more})"


def _distinct_leaders(found: Interaction) -> list[str]:
    return list(dict.fromkeys(leader.leader for leader in found.leaders if leader.leader))


def _describe_same_leader(found: Interaction) -> str:
    """What follows if no two columns have other leaders: a significant contrast, not with options that are one run."""
    if is_one_seed(found):
        return " (one seed: no claim)"
    same = [
        (leader.column, group) for leader in found.leaders if isinstance(leader, SharedLead) for group in leader.tied
    ]
    for contrast in found.contrasts:
        columns, names = {contrast.column, contrast.other_column}, {contrast.first, contrast.second}
        if contrast.significant and not any(column in columns and names <= set(group) for column, group in same):
            return f"; {contrast.words}"
    return ""


def _describe_changing_leader(found: Interaction, leads: str, is_order_certain: bool) -> str:
    """The order depends on the column only if the difference of differences between leaders is significant."""
    led = {leader.column: leader.leader for leader in found.leaders}
    between = [
        contrast
        for contrast in found.contrasts
        if {contrast.first, contrast.second} == {led[contrast.column], led[contrast.other_column]}
    ]
    axis = axis_name(found.column_axis)
    num_seeds = sorted({contrast.num_seeds for contrast in between})
    if is_one_seed(found):
        return f"{leads} (one seed: no claim)"
    best = next((contrast for contrast in between if contrast.p is not None), None)
    if best is None:
        reason = "zero variance" if max(num_seeds, default=0) > 1 else "they have too few common seeds"
        return f"{leads}; whether the order depends on {axis} was not tested ({reason}): no claim"
    seeds = f"{best.num_seeds} seed{'s' if best.num_seeds > 1 else ''}"
    if not best.significant or best.difference is None or best.low is None or best.high is None:
        return f"{leads}; that the order depends on {axis} is not distinguishable from chance with {seeds}"
    difference = format_difference(found.objective, best.difference, best.low, best.high)
    measured = f"difference of differences {difference}"
    if is_order_certain:
        return f"The order depends on {axis}: {leads} ({measured})"
    return (
        f"How far the options are apart depends on {axis}: {leads} ({measured}); whether their order changes is not "
        f"certain with {seeds}"
    )


def _describe_missing(missing: Sequence[str]) -> str:
    """The cells without a trained run, in words."""
    return f"; no trained run: {join_names(list(missing), MAX_NAMES)}" if missing else ""


def describe_tests(found: Interaction) -> str:
    """What the leaders beat in their columns, as a sentence without its full stop; "" for one option."""
    tested = [leader for leader in found.leaders if leader.num_others and (leader.leader or leader.num_beaten)]
    if is_one_seed(found) or not tested:
        return ""
    preposition = "on" if found.is_by_data else "with"
    states: dict[str, list[str]] = {}
    for leader in tested:
        states.setdefault(_describe_test(found, leader), []).append(leader.column)
    each = "data set" if found.is_by_data else "value" if len(found.column_axis) == 1 else "combination"
    parts = [f"{preposition} {join_names(columns, MAX_NAMES)} {state}" for state, columns in states.items()]
    if len(states) == 1 and len(found.columns) > 1 and len(tested) == len(found.columns):
        parts = [f"{preposition} each {each} {state}" for state in states]
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:]


def _describe_test(found: Interaction, leader: ColumnLeader) -> str:
    """ "adam beats every other option", "adam is not distinguishable from momentum", "adam beats 2 of 4 others"."""
    if isinstance(leader, SharedLead):
        names = join_names([name_with_twins(group) for group in leader.tied], MAX_NAMES)
        others = f"{leader.num_beaten} of the {leader.num_others} other options"
        others = "every other option" if leader.num_beaten == leader.num_others else others
        return f"{names} {'each beat' if len(leader.tied) > 1 else 'beats'} {others}"
    name = row_name(found, leader.leader or "")
    runner_up = row_name(found, leader.runner_up or "")
    if leader.num_beaten == leader.num_others:
        return f"{name} beats {runner_up if leader.num_others == 1 else 'every other option'}"
    if leader.beats_runner_up is None:
        return f"{name} has the best value, but no claim is possible"
    if leader.num_beaten == 0:
        others = runner_up if leader.num_others == 1 else "any other option"
        return f"{name} is not distinguishable from {others}"
    return f"{name} beats {leader.num_beaten} of the {leader.num_others} other options"
