"""Which option is best: the options that are beaten are excluded step by step, until one is left.

An option is beaten if another candidate is better at the one-sided level alpha / m, with m candidates. The best option
is beaten by a given other one with at most that probability, so by any of the m - 1 others with less than alpha. The
claim "A is best" so rests on fewer tests than the comparison of all pairs, m instead of m (m - 1) / 2. m falls with the
options that are excluded, as in Holm's (1979) procedure; the last two candidates are tested at alpha, two-sided.

Variances are those of the pair alone, except that with six candidates or more they are shrunk towards the typical one
(Smyth 2004, `statistics`), unless the pair's own is more than twice as large: with a noisy option among many, shrinking
would make false claims. Two seeds do not show which pair is noisy, so their variances are not shrunk.
`python -m benchmarks.verdict_errors` has the simulation.

Related: Hsu (1984), "Constrained simultaneous confidence intervals for multiple comparisons with the best", Ann. Stat.
12; Maron and Moore (1993), "Hoeffding races", NIPS 6 (excluding options while data comes in).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnistlab.comparison import statistics
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import Floats, PairTests

NOISY = 2.0  # a pair whose variance is that many times the typical one keeps its own


@dataclass(frozen=True)
class Exclusion:
    """An option that is beaten: its row, the row of the candidate that beats it with the smallest p value, the
    two-sided level of the test, and the tests of all pairs at that time."""

    option: int
    beaten_by: int
    level: float
    tests: PairTests


@dataclass(frozen=True)
class Search:
    """The rows that are left after all exclusions. level, tests: of the last comparison of all pairs."""

    candidates: list[int]
    excluded: list[Exclusion]
    level: float
    tests: PairTests


def find_best(
    scores: Floats,
    alpha: float = statistics.ALPHA,
    resolution: float = 0.0,
    looks: Looks | None = None,
    candidates: Sequence[int] | None = None,
) -> Search:
    """Exclude the beaten options until no further one is beaten.

    scores: shape (options, seeds), higher is better, NaN for missing seeds; candidates: the rows that are not excluded
    yet, by default all; looks: if the options are compared again after every seed.
    """
    left = list(range(len(scores)) if candidates is None else candidates)
    own = statistics.compare_pairs(scores, alpha, resolution, looks, moderated=False)
    is_shared = looks is None and len(left) >= statistics.MODERATION_MIN_OPTIONS
    shared = _guarded(own, scores, alpha, resolution) if is_shared else own
    excluded: list[Exclusion] = []
    while True:
        tests = shared if len(left) >= statistics.MODERATION_MIN_OPTIONS else own
        level = 2 * alpha / max(len(left), 2)
        beaten = _beaten(tests, left, level, len(scores))
        kept = [row for row in left if row not in beaten]
        if not beaten or not kept:
            return Search(left, excluded, level, tests)
        excluded += [Exclusion(row, by, level, tests) for row, by in beaten.items()]
        left = kept


def _beaten(tests: PairTests, candidates: Sequence[int], level: float, num_options: int) -> dict[int, int]:
    """Beaten candidate -> the candidate that beats it with the smallest p value."""
    p = np.full((num_options, num_options), np.inf)  # of the row being better than the column
    is_first = tests.difference > 0
    better, worse = np.where(is_first, tests.first, tests.second), np.where(is_first, tests.second, tests.first)
    p[better, worse] = np.where(np.isfinite(tests.p) & (tests.difference != 0), tests.p, np.inf)
    among = p[np.ix_(candidates, candidates)]
    found = np.flatnonzero(among.min(axis=0) <= level).tolist()
    return {candidates[column]: candidates[int(among[:, column].argmin())] for column in found}


def _guarded(own: PairTests, scores: Floats, alpha: float, resolution: float) -> PairTests:
    """The tests with shrunk variances, those of noisy pairs with their own."""
    shrunk = statistics.compare_pairs(scores, alpha, resolution, moderated=True)
    prior_degrees = shrunk.degrees_of_freedom - own.degrees_of_freedom
    with np.errstate(invalid="ignore", divide="ignore"):
        prior = (shrunk.degrees_of_freedom * shrunk.sd**2 - own.degrees_of_freedom * own.sd**2) / prior_degrees
        is_noisy = (prior_degrees <= 1e-6) | (own.sd**2 > NOISY * prior) | (own.degrees_of_freedom < 2)
    parts = ("p", "sd", "degrees_of_freedom")
    chosen = {part: np.where(is_noisy, getattr(own, part), getattr(shrunk, part)) for part in parts}
    return dataclasses.replace(own, **chosen)
