"""A trade of two aims: the fastest option among those whose score is within a margin of the best one's."""

import dataclasses

import numpy as np
from scipy import stats

from mnistlab.comparison import statistics
from mnistlab.comparison.answer_wording import format_margin
from mnistlab.comparison.best import find_best
from mnistlab.comparison.race import find_pair, half_width
from mnistlab.comparison.results import Decision, Pair
from mnistlab.comparison.statistics import Floats, compare_pairs, finite_or_none
from mnistlab.comparison.wording import describe_seeds, format_difference, format_value, join_names


@dataclasses.dataclass(frozen=True, eq=False)
class Trade:
    """What a trade is computed from. leader: the row with the best mean; scores: shape (options, seeds), higher is
    better; seconds: of each training, the same shape; margin: in the objective's unit."""

    names: list[str]
    leader: int
    mean: float
    scores: Floats
    seconds: Floats
    margin: float
    objective: str
    alpha: float
    resolution: float


def find_fastest(trade: Trade, margin_as_given: float) -> tuple[str, list[Pair], str | None]:
    """The answer in words, the pairs of the leader with the others, the winner or None.

    An option is within the margin if a one-sided t test says that it is less than the margin behind the leader, with
    Holm's correction over all other options. Of these and the leader the fastest is searched by the logarithms of their
    seconds, as the best is searched by scores.
    """
    pairs = _within(trade, format_margin(margin_as_given, trade.objective))
    near = [trade.leader, *(trade.names.index(pair.second) for pair in pairs if pair.decision == "equivalent")]
    leader, value = trade.names[trade.leader], format_value(trade.objective, trade.mean)
    best = f"{leader}, which has the best mean ({value} {trade.objective})"
    margin, seeds = format_margin(margin_as_given, trade.objective), describe_seeds(pairs)
    if len(near) == 1:
        return f"No other option is shown to be within {margin} of {best} ({seeds}).", pairs, None
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = -np.log(trade.seconds[near])
    search = find_best(np.where(np.isfinite(speed), speed, np.nan), trade.alpha)
    fastest = [near[row] for row in search.candidates]
    group = f"the {len(near)} options within {margin} of {best}"
    if len(fastest) > 1:
        names = join_names([trade.names[row] for row in fastest], limit=4)
        return f"The fastest of {group} is not distinguishable: {names} ({seeds}).", pairs, None
    (row,) = fastest
    if row == trade.leader:
        return f"{leader} is both: the fastest of {group} ({seeds}).", pairs, leader
    pair = next(pair for pair in pairs if pair.second == trade.names[row])
    behind = format_difference(trade.objective, pair.advantage or 0.0, pair.low or 0.0, pair.high or 0.0)
    share = _share_of_seconds(trade, row)
    words = f"{trade.names[row]} is the fastest of {group}: it is behind by {behind} and takes {share} of its seconds"
    return f"{words} ({seeds}).", pairs, trade.names[row]


def _within(trade: Trade, margin: str) -> list[Pair]:
    """The leader with every other option, and whether that one is within the margin."""
    tests = compare_pairs(trade.scores, trade.alpha, trade.resolution, moderated=False)
    others = [row for row in range(len(trade.names)) if row != trade.leader and np.isfinite(trade.scores[row]).any()]
    places = [find_pair(tests, trade.leader, row) for row in others]
    behind = np.array([sign * tests.difference[index] for index, sign in places])
    indices = np.array([index for index, _ in places], dtype=np.intp)
    testable = np.isfinite(tests.p[indices])
    error = np.where(testable, tests.sd[indices] / np.sqrt(np.maximum(tests.num_seeds[indices], 1)), 1.0)
    degrees = np.where(testable, tests.degrees_of_freedom[indices], 1.0)
    p = np.where(testable, stats.t.sf((trade.margin - behind) / error, degrees), np.nan)
    p_holm = statistics.holm(p)
    levels = statistics.significance_levels(p, p_holm, trade.alpha, None)
    found = []
    for row, index, value, adjusted, level, difference in zip(others, indices, p, p_holm, levels, behind, strict=True):
        tested = trade.alpha if np.isnan(level) else float(level)
        half = half_width(tests, int(index), 2 * tested)
        is_within = bool(adjusted < trade.alpha)
        numbers = [float(difference), float(difference) - half, float(difference) + half]
        shown = format_difference(trade.objective, *numbers) if np.isfinite(half) else "an unknown difference"
        name, leader = trade.names[row], trade.names[trade.leader]
        words = f"{name} is {'' if is_within else 'not shown to be '}within {margin} of {leader}: behind by {shown}"
        low, high, p_value = (finite_or_none(float(number)) for number in (numbers[1], numbers[2], value))
        decision: Decision = "equivalent" if is_within else "undecided"
        pair = Pair(
            leader, name, int(tests.num_seeds[index]), finite_or_none(numbers[0]), low, high, 1 - 2 * tested, p_value,
            finite_or_none(float(adjusted)), decision, None, words,
        )  # fmt: skip
        found.append(pair)
    return found


def _share_of_seconds(trade: Trade, row: int) -> str:
    """The option's seconds as a share of the leader's, by paired differences of logarithms: "0.42 [0.35, 0.5]"."""
    differences = np.log(trade.seconds[row]) - np.log(trade.seconds[trade.leader])
    present = differences[np.isfinite(differences)]
    mean = float(present.mean())
    if len(present) < 2:
        return f"{np.exp(mean):.2g}"
    half = float(stats.t.isf(trade.alpha / 2, len(present) - 1) * present.std(ddof=1) / np.sqrt(len(present)))
    return f"{np.exp(mean):.2g} [{np.exp(mean - half):.2g}, {np.exp(mean + half):.2g}]"
