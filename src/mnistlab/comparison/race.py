"""Rounds of seeds: after each, which options are still in doubt, and whether further seeds can help.

The rounds are computed from the scores alone, so a sweep that goes on, and a report on it, come to the same ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

from mnistlab.comparison.best import Exclusion, Search, find_best
from mnistlab.comparison.question import Round, Standing, Stopped
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import Floats, PairTests, compare_pairs, finite_or_none

HOPELESS_FROM = 5  # seeds; before, the spread is hardly known
HOPELESS_POWER = 0.1

Settle = Callable[[Floats, Sequence[int]], dict[int, str]]  # scores, open rows -> rows that are settled, why


@dataclass
class Race:
    """The rounds so far. excluded, search: of the question which option is best; stopped, why: as in `Answer`."""

    rounds: list[Round] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    excluded: list[Exclusion] = field(default_factory=list)
    search: Search | None = None
    stopped: Stopped = ""
    why: str = ""


def race_for_best(names: Sequence[str], scores: Floats, looks: Looks, alpha: float, resolution: float) -> Race:
    """Exclude beaten options after each round, until one is left or all rounds that have scores are done.

    scores: shape (options, seeds), higher is better, NaN for missing seeds; columns in the order of the rounds.
    """
    race = Race()

    def settle(seen: Floats, rows: Sequence[int]) -> dict[int, str]:
        race.search = find_best(seen, alpha, resolution, looks, rows)
        race.excluded += race.search.excluded
        race.open = race.search.candidates
        return {one.option: f"out: behind {names[one.beaten_by]}" for one in race.search.excluded}

    _run(race, names, scores, looks, alpha, resolution, settle)
    if race.rounds and len(race.open) == 1:
        race.stopped, race.why = "clear", f"{names[race.open[0]]} is best"
    elif race.rounds and race.search is not None:
        _look_ahead(race, race.search, names, looks)
    return race


def race_to_settle(
    names: Sequence[str], scores: Floats, looks: Looks, alpha: float, resolution: float, settle: Settle
) -> Race:
    """Rounds until every option is settled, or all rounds that have scores are done. settle: tells which ones are."""
    race = Race()

    def settled(seen: Floats, rows: Sequence[int]) -> dict[int, str]:
        found = settle(seen, rows)
        race.open = [row for row in rows if row not in found]
        return found

    _run(race, names, scores, looks, alpha, resolution, settled)
    if race.rounds and not race.open:
        race.stopped, race.why = "clear", "every comparison that was asked for is decided"
    elif race.rounds and race.rounds[-1].num_seeds >= looks.last:
        race.stopped, race.why = "max_seeds", f"{looks.last} seeds are the limit (sweep.max_seeds)"
    return race


def _run(
    race: Race, names: Sequence[str], scores: Floats, looks: Looks, alpha: float, resolution: float, settle: Settle
) -> None:
    race.open = list(range(len(names)))
    words: dict[int, str] = {}
    num_runs = 0
    for num_seeds in range(looks.first, min(looks.last, scores.shape[1]) + 1):
        seen = scores[:, :num_seeds]
        num_runs += len(race.open) * (num_seeds if num_seeds == looks.first else 1)
        untrained = [row for row in race.open if np.isfinite(seen[row]).sum() < 2]
        words |= dict.fromkeys(untrained, f"fewer than 2 of its {num_seeds} runs trained")
        race.open = [row for row in race.open if row not in untrained]
        words |= settle(seen, list(race.open)) if race.open else {}
        tests = compare_pairs(seen, alpha, resolution, looks)
        race.rounds.append(_round(names, seen, race.open, words, tests, num_runs, alpha, looks))
        if len(race.open) < 2 and not _needs_one(race):
            return


def _needs_one(race: Race) -> bool:
    """Whether a single open option still needs seeds: against a baseline, but not in a search for the best."""
    return race.search is None and len(race.open) == 1


def _round(
    names: Sequence[str],
    seen: Floats,
    open_rows: Sequence[int],
    words: dict[int, str],
    tests: PairTests,
    num_runs: int,
    alpha: float,
    looks: Looks,
) -> Round:
    counts = np.isfinite(seen).sum(axis=1)
    sums = np.where(np.isfinite(seen), seen, 0.0).sum(axis=1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
    ranked = sorted(range(len(names)), key=lambda row: (row not in open_rows, -means[row], names[row]))
    leader = max(open_rows or range(len(names)), key=lambda row: means[row])
    if not open_rows:
        ranked = sorted(ranked, key=lambda row: -means[row])
    level = float(looks.nominal(2 * alpha / max(len(open_rows), 2)))
    standings = []
    for row in ranked:
        found = (None, None, None) if row == leader else _ahead(tests, leader, row, level)
        mean = finite_or_none(float(means[row]))
        standings.append(Standing(names[row], int(counts[row]), mean, *found, row in open_rows, words.get(row, "")))
    return Round(seen.shape[1], num_runs, names[leader], standings)


def _ahead(tests: PairTests, leader: int, row: int, level: float) -> tuple[float | None, float | None, float | None]:
    """How far the leader is ahead of an option, with an interval at this nominal level."""
    index, sign = find_pair(tests, leader, row)
    difference = sign * float(tests.difference[index])
    margin = half_width(tests, index, level)
    return finite_or_none(difference), finite_or_none(difference - margin), finite_or_none(difference + margin)


def find_pair(tests: PairTests, row: int, other: int) -> tuple[int, int]:
    """The index of a pair of rows in the tests, and 1 if its difference is row - other, else -1."""
    index = np.flatnonzero((tests.first == min(row, other)) & (tests.second == max(row, other)))[0]
    return int(index), 1 if row < other else -1


def half_width(tests: PairTests, index: int, nominal_level: float) -> float:
    """Half the width of a pair's interval; NaN without a test."""
    if not np.isfinite(tests.p[index]):
        return float("nan")
    standard_error = tests.sd[index] / np.sqrt(tests.num_seeds[index])
    return float(-special.stdtrit(tests.degrees_of_freedom[index], nominal_level / 2) * standard_error)


def _look_ahead(race: Race, search: Search, names: Sequence[str], looks: Looks) -> None:
    """Stop at the last look, and before it if no rival of the leader is likely to be beaten in the remaining ones."""
    last = race.rounds[-1]
    if last.num_seeds >= looks.last:
        race.stopped, race.why = "max_seeds", f"{looks.last} seeds are the limit (sweep.max_seeds)"
        return
    leader = names.index(last.leader)
    rivals = [row for row in race.open if row != leader]
    power = {names[row]: _power(search, leader, row, looks) for row in rivals}
    if last.num_seeds >= HOPELESS_FROM and power and max(power.values()) < HOPELESS_POWER:
        race.stopped = "hopeless"
        race.why = (
            f"even with {looks.last} seeds, the probability to tell {last.leader} from "
            f"{' or '.join(power)} is below {HOPELESS_POWER:.0%}".replace("%", " %")
        )


def _power(search: Search, leader: int, rival: int, looks: Looks) -> float:
    """The probability of a significant difference at the last look, if the true one is a standard error larger than the
    observed one."""
    index, sign = find_pair(search.tests, leader, rival)
    sd, num_seeds = float(search.tests.sd[index]), int(search.tests.num_seeds[index])
    if not np.isfinite(search.tests.p[index]) or sd == 0:
        return 1.0
    effect = sign * float(search.tests.difference[index]) / sd + 1 / np.sqrt(num_seeds)
    critical = stats.t.isf(float(looks.nominal(search.level)) / 2, looks.last - 1)
    return float(stats.nct.sf(critical, looks.last - 1, effect * np.sqrt(looks.last)))
