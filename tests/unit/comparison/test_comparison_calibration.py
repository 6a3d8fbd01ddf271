"""Simulated sweeps: error rate without differences, power with a true difference, coverage of the intervals."""

import numpy as np
import pytest

from mnistlab.comparison.options import compare_options
from mnistlab.comparison.statistics import compare_pairs

DRAWS = 1000
ALLOWED = 0.05 + 2.33 * (0.05 * 0.95 / DRAWS) ** 0.5  # 99 % of simulations of an exact test


def noise(kind, rng, options, seeds):
    """Noise of spread 1 around 0, shape (options, seeds); "uneven" spreads over a factor of nine."""
    if kind == "skewed":
        return 1 - rng.exponential(size=(options, seeds))
    if kind == "shared":
        return 0.8 * rng.normal(size=(options, seeds)) + 0.6 * rng.normal(size=(1, seeds))
    normal = rng.normal(size=(options, seeds))
    if kind == "uneven":
        return normal * np.geomspace(1 / 3, 3, options)[:, None]
    if kind == "one wild":
        normal[0] *= 10
    return normal


def false_winner_rate(kind, options, seeds, draws=DRAWS, missing=0.0):
    rng = np.random.default_rng([options, seeds])
    found = 0
    for _ in range(draws):
        scores = 0.95 + 0.002 * noise(kind, rng, options, seeds)
        scores[rng.random(scores.shape) < missing] = np.nan
        found += compare_pairs(scores).significant.any()
    return found / draws


@pytest.mark.parametrize("kind", ["normal", "skewed"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_the_guides_sweep_has_a_false_winner_at_most_once_in_twenty(kind, seeds):
    assert false_winner_rate(kind, 7, seeds) <= 0.05


@pytest.mark.parametrize("kind", ["normal", "skewed", "shared"])
@pytest.mark.parametrize(("options", "seeds"), [(2, 5), (3, 3), (5, 5), (10, 5)])
def test_no_sweep_claims_more_than_its_five_per_cent(kind, options, seeds):
    """Few options: the tests are exact and their true rate *is* 5 %; the simulation has its own error."""
    assert false_winner_rate(kind, options, seeds) <= ALLOWED


def test_three_options_on_three_seeds_name_a_false_best_at_most_once_in_twenty():
    """An option that "is best" must beat every other one."""
    rng = np.random.default_rng(3)
    best = 0
    for _ in range(DRAWS):
        tests = compare_pairs(rng.normal(size=(3, 3)))
        winners = np.where(tests.difference > 0, tests.first, tests.second)[tests.significant]
        best += np.bincount(winners, minlength=3).max() == 2
    assert best / DRAWS <= 0.05


@pytest.mark.parametrize("kind", ["uneven", "one wild"])
@pytest.mark.parametrize(("options", "seeds"), [(3, 3), (7, 5)])
def test_unequal_variances_do_not_raise_the_error_rate(kind, options, seeds):
    assert false_winner_rate(kind, options, seeds) <= ALLOWED


def test_missing_seeds_do_not_raise_the_error_rate():
    assert false_winner_rate("normal", 7, 6, missing=0.2) <= ALLOWED


def power(options, seeds, spread, draws=300, gap=0.01):
    """The share of (better option, other option) pairs found; a wrong claim against it fails the test."""
    rng = np.random.default_rng(7)
    found = np.zeros(draws)
    for draw in range(draws):
        scores = 0.95 + spread * rng.normal(size=(options, seeds))
        scores[0] += gap
        tests = compare_pairs(scores)
        against = tests.first == 0
        assert not (tests.significant & against & (tests.difference < 0)).any()
        found[draw] = tests.significant[against].mean()
    return found.mean()


@pytest.mark.parametrize(
    ("options", "seeds", "spread", "at_least"),
    [
        (2, 3, 0.0015, 0.93),
        (2, 5, 0.003, 0.93),
        (3, 5, 0.0015, 0.98),
        (3, 5, 0.003, 0.80),
        (7, 3, 0.0015, 0.80),
        (7, 5, 0.0015, 0.98),
        (7, 5, 0.003, 0.80),
    ],
)
def test_a_true_difference_of_one_point_is_detected_at_realistic_noise(options, seeds, spread, at_least):
    assert power(options, seeds, spread) >= at_least


def test_intervals_cover_the_truth():
    """Each pair's interval covers its true difference at least 95 times in 100, claims or not."""
    rng = np.random.default_rng(5)
    truth = 0.95 + 0.003 * np.arange(7)
    hits = []
    for _ in range(400):
        tests = compare_pairs(truth[:, None] + 0.002 * rng.normal(size=(7, 5)))
        differences = truth[tests.first] - truth[tests.second]
        hits.append((tests.low <= differences) & (differences <= tests.high))
    assert np.mean(hits) >= 0.95


def test_the_sentences_of_an_a_a_sweep_claim_no_difference():
    """The same error rate, counted in the sentences."""
    rng = np.random.default_rng(11)
    claims = 0
    for _ in range(200):
        pairs = compare_options("abc", 0.95 + 0.002 * rng.normal(size=(3, 4)), "val_accuracy", "higher")
        claims += any(" beats " in pair.words for pair in pairs)
    assert claims <= 0.085 * 200
