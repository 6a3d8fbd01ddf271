"""All pairs of options as plain records with a sentence each, from the arrays of the statistics."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from mnistlab.comparison.results import Decision, Pair, finite_or_none
from mnistlab.comparison.statistics import Floats, PairTests, additional_seeds, compare_pairs
from mnistlab.comparison.wording import describe_pair

Direction = Literal["higher", "lower"]


def compare_options(
    names: Sequence[str], scores: Floats, objective: str, direction: Direction, alpha: float = 0.05
) -> list[Pair]:
    """Compare every pair of options, paired by seed; pairs are in the order of the names.

    scores: shape (options, seeds), NaN where an option has no trained run with a seed.
    """
    sign = 1.0 if direction == "higher" else -1.0
    tests = compare_pairs(sign * scores, alpha)
    extra_seeds = additional_seeds(tests)
    return [_pair(names, tests, index, int(extra_seeds[index]), objective) for index in range(len(tests.p))]


def _pair(names: Sequence[str], tests: PairTests, index: int, extra_seeds: int, objective: str) -> Pair:
    """One pair, ordered so that the better option comes first."""
    swap = tests.difference[index] < 0
    better, worse = (tests.second, tests.first) if swap else (tests.first, tests.second)
    low, high = tests.low[index], tests.high[index]
    pair = Pair(
        first=names[better[index]],
        second=names[worse[index]],
        num_seeds=int(tests.num_seeds[index]),
        advantage=finite_or_none(abs(tests.difference[index])),
        low=finite_or_none(-high if swap else low),
        high=finite_or_none(-low if swap else high),
        confidence=finite_or_none(1 - tests.level[index]),
        p=finite_or_none(tests.p[index]),
        p_holm=finite_or_none(tests.p_holm[index]),
        decision=_decision(tests, index),
        more_seeds=extra_seeds or None,
        words="",
    )
    return dataclasses.replace(pair, words=describe_pair(pair, objective))


def _decision(tests: PairTests, index: int) -> Decision:
    if tests.num_seeds[index] == 0:
        return "no shared seeds"
    if tests.num_seeds[index] == 1:
        return "one seed"
    if not np.isfinite(tests.p[index]):
        return "no spread"
    return "better" if tests.significant[index] else "undecided"
