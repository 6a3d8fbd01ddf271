"""Simulated sweeps, judged as a verdict judges them: how often is there a winner where none is, and is a better option
found as often as by comparing all pairs? The long tests go through all shapes of sweeps; some of them are always run.

What is allowed: 5 % and three standard errors of the simulation, so an exact test fails in one of 700 cases.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import scores_as_runs

from mnistlab.comparison import compare
from mnistlab.comparison.race import race_for_best
from mnistlab.comparison.sequential import Looks

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks.verdict_errors import IMAGES, NOISE, OPTIONS, SEEDS, WILD, rates, scores_of, winner
from mnistlab.comparison.statistics import compare_pairs

SWEEPS = 200  # of one shape
RACES = 300
LOOKS = Looks(3, 20)
RACE_KINDS = ("normal", "noisy one", "counts of 50", "counts of 400", "heavy tails", "skewed")


def allowed(sweeps: int) -> float:
    return 0.05 + 3 * (0.05 * 0.95 / sweeps) ** 0.5


def check_shape(noise: str, options: int, seeds: int, all_images: tuple[int, ...] = IMAGES) -> None:
    """All numbers of images: each with its own simulation error, and all together with a smaller one."""
    found = [rates(noise, images, options, seeds, SWEEPS) for images in all_images]
    for name in ("winners", "tied_winners", "wrong", "claims"):
        shares = [getattr(now, name) for _, now in found]
        assert max(shares) <= allowed(SWEEPS), (name, shares)
        assert np.mean(shares) <= allowed(SWEEPS * len(all_images)), (name, shares)
    for before, now in found:
        if max(before.claims, before.winners, before.tied_winners) <= 0.035:  # with more it finds more because it errs
            assert now.won >= before.won - 0.02
            assert now.found >= before.found - 0.03


@pytest.mark.long
@pytest.mark.parametrize("noise", [*NOISE, WILD])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seeds", SEEDS)
def test_a_verdict_names_a_false_winner_at_most_once_in_twenty(noise: str, options: int, seeds: int) -> None:
    check_shape(noise, options, seeds)


def test_a_verdict_names_a_false_winner_at_most_once_in_twenty_for_six_options_on_three_seeds() -> None:
    check_shape("normal", 6, 3, (400, 0))


@pytest.mark.parametrize(("options", "seeds"), [(3, 5), (7, 5), (10, 10)])
def test_the_search_for_the_best_finds_more_winners_than_all_pairs(options: int, seeds: int) -> None:
    """A better option by twice the spread over seeds: the share of sweeps in which it is named best."""
    generator, won, won_by_pairs = np.random.default_rng([options, seeds]), 0, 0
    for _ in range(SWEEPS):
        scores = scores_of(generator, "normal", 0, options, seeds, gap=0.01)
        tests = compare_pairs(scores)
        won += winner(scores, tests, 0.0) == 0
        against = tests.first == 0
        won_by_pairs += (tests.significant & (tests.difference > 0))[against].all()
    assert won > won_by_pairs + 0.05 * SWEEPS


def race_scores(generator: np.random.Generator, kind: str, options: int, tied: bool) -> tuple[np.ndarray, float]:
    """Scores of 20 seeds around 0.6 with a spread of 1 point, shape (options, 20), and their resolution.

    tied: all but the first two options are 30 points behind.
    """
    shape = (options, LOOKS.last)
    if kind == "heavy tails":
        noise = generator.standard_t(3, shape) / 3**0.5
    elif kind == "skewed":
        noise = generator.exponential(size=shape) - 1
    else:
        noise = generator.normal(size=shape)
    noise[0] *= 10 if kind == "noisy one" else 1
    scores = 0.6 + 0.01 * noise
    scores[2:] -= 0.3 if tied else 0.0
    images = int(kind.removeprefix("counts of ")) if kind.startswith("counts") else 0
    return (np.rint(scores * images) / images, 1 / images) if images else (scores, 0.0)


def race_winners(kind: str, options: int, tied: bool, races: int) -> float:
    """The share of races that end with a winner. They have a look after each of 3 to 20 seeds."""
    generator, found = np.random.default_rng([options, tied, RACE_KINDS.index(kind)]), 0
    for _ in range(races):
        scores, resolution = race_scores(generator, kind, options, tied)
        found += len(race_for_best("abcdefg"[:options], scores, LOOKS, 0.05, resolution).open) == 1
    return found / races


@pytest.mark.long
@pytest.mark.parametrize("kind", RACE_KINDS)
@pytest.mark.parametrize(("options", "tied"), [(2, False), (4, False), (4, True), (7, False), (7, True)])
def test_a_race_has_a_false_winner_at_most_once_in_twenty(kind: str, options: int, tied: bool) -> None:
    assert race_winners(kind, options, tied, RACES) <= allowed(RACES)


def test_a_race_of_four_equal_options_has_a_false_winner_at_most_once_in_twenty() -> None:
    assert race_winners("counts of 400", 4, False, 100) <= allowed(100)


@pytest.mark.long
def test_a_race_finds_the_better_option_more_often_and_with_fewer_runs_than_all_pairs_on_ten_seeds() -> None:
    """Four options, one better by the spread over seeds; the race counts the runs that it starts."""
    generator, won, won_by_pairs, runs = np.random.default_rng(0), 0, 0, 0
    for _ in range(RACES):
        scores = 0.01 * generator.normal(size=(4, LOOKS.last))
        scores[0] += 0.02
        race = race_for_best("abcd", scores, LOOKS, 0.05, 0.0)
        won += race.open == [0]
        runs += race.rounds[-1].num_runs
        tests = compare_pairs(scores[:, :10])
        won_by_pairs += (tests.significant & (tests.difference > 0))[tests.first == 0].all()
    assert won > won_by_pairs
    assert runs < RACES * 4 * 10


def claims(question: str, decision: str, means: list[float], seeds: int, looks: Looks | None, sweeps: int) -> float:
    """The share of sweeps with a pair of this decision in the answer; scores are losses with a spread of 1."""
    generator, found = np.random.default_rng([len(means), seeds, sweeps]), 0
    for _ in range(sweeps):
        scores = np.array(means)[:, None] + generator.normal(size=(len(means), seeds))
        records = scores_as_runs(scores, "val_loss")
        answer = compare(records, objective="val_loss", question=question, looks=looks, resamples=0).answer
        found += any(pair.decision == decision for pair in answer.pairs)
    return found / sweeps


@pytest.mark.long
@pytest.mark.parametrize("options", [2, 4])
@pytest.mark.parametrize(("seeds", "looks"), [(3, None), (10, None), (12, Looks(3, 12))])
def test_no_option_differs_from_an_equal_baseline(options: int, seeds: int, looks: Looks | None) -> None:
    sweeps = RACES if looks else 3 * RACES
    assert claims("better_than:a", "better", [0.0] * options, seeds, looks, sweeps) <= allowed(sweeps)


@pytest.mark.long
@pytest.mark.parametrize("options", [2, 4])
@pytest.mark.parametrize(("seeds", "looks"), [(3, None), (10, None), (12, Looks(3, 12))])
def test_no_pair_that_differs_by_the_margin_is_called_equivalent(options: int, seeds: int, looks: Looks | None) -> None:
    """The margin is 2.5 spreads, so that ten seeds would show equivalence if there were a smaller difference. Four
    options: each differs by the margin, or by a multiple of it, from every other one."""
    means, sweeps = [2.5 * number for number in range(options)], RACES if looks else 3 * RACES
    assert claims("equivalent:2.5", "equivalent", means, seeds, looks, sweeps) <= allowed(sweeps)


def test_equal_options_are_found_equivalent_and_those_that_differ_by_the_margin_are_not() -> None:
    assert claims("equivalent:2.5", "equivalent", [0.0, 0.0], 10, None, 50) > 0.9
    assert claims("equivalent:2.5", "equivalent", [0.0, 2.5], 10, None, 50) <= allowed(50)
