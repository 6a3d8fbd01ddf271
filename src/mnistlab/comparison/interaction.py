"""Whether the order of the options depends on another axis, or on the data set: contrasts of differences by seed."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnistlab.comparison import statistics
from mnistlab.comparison.interaction_wording import SharedLead, describe_contrast, describe_interaction
from mnistlab.comparison.records import natural_order, option_name
from mnistlab.comparison.results import (
    ColumnLeader,
    Comparison,
    Contrast,
    Direction,
    Interaction,
    InteractionCell,
    OptionSummary,
    Pair,
)
from mnistlab.comparison.statistics import finite_or_none
from mnistlab.comparison.wording import ROUNDING

MAX_CONTRASTS = 300  # beyond: only those between the columns' leaders


@dataclass(frozen=True, eq=False)
class Grid:
    """Options by row and column. cells: (row, column) -> option; pairs: column -> its options' pairs."""

    is_by_data: bool
    row_axis: list[str]
    rows: list[str]
    column_axis: list[str]
    columns: list[str]
    objective: str
    direction: Direction
    alpha: float
    cells: Mapping[tuple[str, str], OptionSummary]
    pairs: Mapping[str, Mapping[frozenset[str], Pair]]
    resolution: float = 0.0


def interaction_of_axes(
    options: Sequence[OptionSummary],
    pairs: Sequence[Pair],
    keys: Sequence[str],
    objective: str,
    direction: Direction,
    alpha: float,
    resolution: float = 0.0,
) -> Interaction | None:
    """The first axis as rows, the combinations of the others as columns; None if fewer than two axes vary."""
    varied = [key for key in keys if len({option.values[key] for option in options}) > 1]
    if len(varied) < 2:
        return None
    ordered = sorted(options, key=lambda option: natural_order([option.values[key] for key in varied]))
    row_axis, column_axis = varied[:1], varied[1:]
    cells = {(_name(option, row_axis), _name(option, column_axis)): option for option in ordered}
    by_columns = sorted(options, key=lambda option: natural_order([option.values[key] for key in column_axis]))
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(_name(option, column_axis) for option in by_columns))
    pairs_of_column = dict.fromkeys(columns, _by_options(pairs))
    return _interaction(
        Grid(
            False, row_axis, rows, column_axis, columns, objective, direction, alpha, cells, pairs_of_column, resolution
        )
    )


def interaction_with_data(comparisons: Sequence[Comparison]) -> Interaction:
    """The options as rows, in the order of their names, and the data sets as columns."""
    first = comparisons[0]
    cells = {(option.name, one.data): option for one in comparisons for option in one.options}
    return _interaction(
        Grid(
            is_by_data=True,
            row_axis=first.axis,
            rows=sorted({row for row, _ in cells}),
            column_axis=first.data_axis or ["data set"],
            columns=[one.data for one in comparisons],
            objective=first.objective,
            direction=first.direction,
            alpha=first.alpha,
            cells=cells,
            pairs={one.data: _by_options(one.pairs) for one in comparisons},
            resolution=max(one.resolution for one in comparisons),
        )
    )


def group_same_options(
    names: Iterable[str], columns: Sequence[str], cells: Mapping[tuple[str, str], OptionSummary]
) -> list[list[str]]:
    """The rows in their order, those with the same runs in every column together; the shortest name first."""
    groups: dict[object, list[str]] = {}
    for name in names:
        found = [cells.get((name, column)) for column in columns]
        runs = tuple(tuple(option.run_ids) if option else () for option in found)
        groups.setdefault(runs if any(map(any, runs)) else name, []).append(name)
    return [sorted(group, key=lambda name: (len(name), name)) for group in groups.values()]


def _interaction(grid: Grid) -> Interaction:
    groups = group_same_options(grid.rows, grid.columns, grid.cells)
    distinct = [group[0] for group in groups]
    leaders = [_column_leader(grid, groups, column) for column in grid.columns]
    contrasts, family = _contrasts(grid, distinct, leaders)
    found = Interaction(
        is_by_data=grid.is_by_data,
        row_axis=grid.row_axis,
        rows=grid.rows,
        column_axis=grid.column_axis,
        columns=grid.columns,
        objective=grid.objective,
        direction=grid.direction,
        cells=[[_cell(grid, row, column) for column in grid.columns] for row in grid.rows],
        leaders=leaders,
        contrasts=contrasts,
        num_contrasts=family,
        same_runs=[group for group in groups if len(group) > 1],
        missing=[],
        sentence="",
    )
    preposition = "on" if grid.is_by_data else "with"
    empty = [cell for row in found.cells for cell in row if cell.mean is None]
    found = dataclasses.replace(found, missing=[f"{cell.row} {preposition} {cell.column}" for cell in empty])
    return dataclasses.replace(found, sentence=describe_interaction(found, _is_order_certain(grid, found)))


def _cell(grid: Grid, row: str, column: str) -> InteractionCell:
    option = grid.cells.get((row, column))
    if option is None:
        return InteractionCell(row, column, None, None, None, 0)
    return InteractionCell(row, column, option.mean, option.sd, option.interval, len(option.seeds))


def _column_leader(grid: Grid, groups: Sequence[Sequence[str]], column: str) -> ColumnLeader:
    """The best mean that no other row beats, as in the verdict of a comparison; no leader if several rows share it.

    groups: the rows, those with the same runs in every column together.
    """
    sign = -1.0 if grid.direction == "higher" else 1.0
    means = {group[0]: option.mean for group in groups if (option := grid.cells.get((group[0], column)))}
    trained = {row: sign * mean for row, mean in means.items() if mean is not None}
    ranked = sorted(trained, key=lambda row: (trained[row], row))
    if not ranked:
        return ColumnLeader(column, None, None, None, 0, 0)
    beaten = {other: [row for row in ranked if row != other and _beats(grid, row, other, column)] for other in ranked}
    unbeaten = [row for row in ranked if not beaten[row]] or ranked[:1]
    leader = unbeaten[0]
    equal = [row for row in unbeaten if math.isclose(trained[row], trained[leader], rel_tol=ROUNDING)]
    others = [row for row in ranked if row not in equal]
    num_beaten = sum(all(row in beaten[other] for row in equal) for other in others)
    if len(equal) > 1:
        shared = [name for group in groups if group[0] in equal for name in group]
        tied = group_same_options(shared, [column], grid.cells)
        return SharedLead(column, None, None, None, num_beaten, len(others), tied)
    tested = [pair for row in others if (pair := _pair(grid, leader, row, column)) and pair.p is not None]
    runner_up = others[0] if others else None
    beats = leader in beaten[runner_up] if runner_up and tested else None
    return ColumnLeader(column, leader, runner_up, beats, num_beaten, len(others))


def _contrasts(grid: Grid, distinct: Sequence[str], leaders: Sequence[ColumnLeader]) -> tuple[list[Contrast], int]:
    """The tested contrasts, the smallest p value first, and the number that Holm's correction counts."""
    scores = _scores(grid, distinct)
    rows = list(itertools.combinations(range(len(distinct)), 2))
    columns = list(itertools.combinations(range(len(grid.columns)), 2))
    family = len(rows) * len(columns)
    if not family:
        return [], 0
    chosen = [(*pair, *between) for pair in rows for between in columns]
    if family > MAX_CONTRASTS:
        at = [None if one.leader is None else distinct.index(one.leader) for one in leaders]
        chosen = [(at[i], at[j], i, j) for i, j in columns if at[i] != at[j]]  # type: ignore[misc]
        chosen = [contrast for contrast in chosen if None not in contrast]
    if not chosen:
        return [], family
    tested: NDArray[np.intp] = np.array(chosen, dtype=np.intp)
    sign = 1.0 if grid.direction == "higher" else -1.0
    counted = family if family > len(chosen) else None
    tests = statistics.compare_contrasts(sign * scores, tested, grid.alpha, counted, grid.resolution)
    found = [_contrast(grid, distinct, tests, index, *chosen[index]) for index in range(len(chosen))]
    order = np.argsort(np.nan_to_num(tests.p, nan=2.0), kind="stable")
    return [found[index] for index in order], family


def _scores(grid: Grid, rows: Sequence[str]) -> statistics.Floats:
    """Scores, shape (rows, columns, seeds), NaN without a trained run."""
    seeds = sorted({seed for option in grid.cells.values() for seed in option.seeds})
    scores = np.full((len(rows), len(grid.columns), max(len(seeds), 1)), np.nan)
    for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(grid.columns)):
        if option := grid.cells.get((row, column)):
            scores[i, j, [seeds.index(seed) for seed in option.seeds]] = option.scores
    return scores


def _contrast(
    grid: Grid, names: Sequence[str], tests: statistics.PairTests, index: int, i: int, j: int, c: int, d: int
) -> Contrast:
    """One contrast, the columns ordered so that it is not negative."""
    swap = bool(tests.difference[index] < 0)
    low, high = tests.low[index], tests.high[index]
    columns = [grid.columns[c], grid.columns[d]]
    contrast = Contrast(
        first=names[i],
        second=names[j],
        column=columns[swap],
        other_column=columns[not swap],
        num_seeds=int(tests.num_seeds[index]),
        difference=finite_or_none(abs(tests.difference[index])),
        low=finite_or_none(-high if swap else low),
        high=finite_or_none(-low if swap else high),
        confidence=finite_or_none(1 - tests.level[index]),
        p=finite_or_none(tests.p[index]),
        p_holm=finite_or_none(tests.p_holm[index]),
        significant=bool(tests.significant[index]),
        words="",
    )
    return dataclasses.replace(contrast, words=describe_contrast(contrast, grid.objective, grid.is_by_data))


def _is_order_certain(grid: Grid, interaction: Interaction) -> bool:
    """Whether of two leaders each beats the other in its column, which is more than a significant contrast."""
    led = {leader.column: leader.leader for leader in interaction.leaders if leader.leader}
    return any(
        _beats(grid, led[one], led[other], one) and _beats(grid, led[other], led[one], other)
        for one, other in itertools.combinations(led, 2)
        if led[one] != led[other]
    )


def _pair(grid: Grid, one: str, other: str, column: str) -> Pair | None:
    options = [grid.cells[row, column].name for row in (one, other) if (row, column) in grid.cells]
    return grid.pairs[column].get(frozenset(options))


def _beats(grid: Grid, one: str, other: str, column: str) -> bool:
    pair = _pair(grid, one, other, column)
    return pair is not None and pair.decision == "better" and pair.first == grid.cells[one, column].name


def _by_options(pairs: Sequence[Pair]) -> dict[frozenset[str], Pair]:
    return {frozenset((pair.first, pair.second)): pair for pair in pairs}


def _name(option: OptionSummary, keys: Sequence[str]) -> str:
    return option_name(keys, [option.values[key] for key in keys])
