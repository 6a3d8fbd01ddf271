"""The statistics against scipy, published numbers and their defining properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mnistlab.comparison.statistics import (
    MAX_MORE_SEEDS,
    additional_seeds,
    bootstrap_interval,
    compare_pairs,
    friedman,
    holm,
    moderate_variances,
)

SCORES = st.integers(2, 8).flatmap(
    lambda k: st.integers(1, 6).flatmap(
        lambda n: arrays(float, (k, n), elements=st.floats(0, 1).map(lambda x: round(x, 4)) | st.just(math.nan))
    )
)


def test_two_options_are_scipys_paired_t_test():
    scores = np.random.default_rng(0).normal(0.95, 0.01, (2, 5))
    tests, expected = compare_pairs(scores), stats.ttest_rel(scores[0], scores[1])
    interval = expected.confidence_interval(0.95)
    assert tests.p[0] == pytest.approx(expected.pvalue)
    assert (tests.low[0], tests.high[0]) == pytest.approx((interval.low, interval.high))


def test_fewer_options_than_moderation_needs_are_scipys_paired_t_tests():
    scores = np.random.default_rng(1).normal(0.95, 0.01, (5, 4))
    tests = compare_pairs(scores)
    expected = [stats.ttest_rel(scores[i], scores[j]).pvalue for i, j in zip(tests.first, tests.second, strict=True)]
    np.testing.assert_allclose(tests.p, expected)


def test_missing_seeds_are_left_out_pair_by_pair():
    scores = np.array([[0.9, 0.8, 0.7, np.nan], [0.5, 0.61, np.nan, 0.4], [0.3, 0.1, 0.2, 0.25]])
    tests = compare_pairs(scores)
    assert tests.num_seeds.tolist() == [2, 3, 3]
    assert tests.p[0] == pytest.approx(stats.ttest_rel([0.9, 0.8], [0.5, 0.61]).pvalue)
    assert tests.p[1] == pytest.approx(stats.ttest_rel([0.9, 0.8, 0.7], [0.3, 0.1, 0.2]).pvalue)


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.4, np.nan, 0.03])), [0.4, np.nan, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_moderation_shrinks_equal_variances_to_one_and_leaves_unlike_ones_almost_alone():
    equal, degrees = moderate_variances(np.full(15, 4.0), np.full(15, 4.0))
    np.testing.assert_allclose(degrees, 8.0)
    assert np.ptp(equal) < 1e-12
    unlike = np.geomspace(1e-6, 1e6, 15)
    shrunk, degrees = moderate_variances(unlike, np.full(15, 4.0))
    assert degrees.max() < 4.3
    assert np.all(np.diff(shrunk) > 0)
    assert shrunk[-1] == pytest.approx(unlike[-1], rel=0.1)


def test_moderated_variance_lies_between_the_sample_variance_and_the_typical_one():
    variance = np.random.default_rng(3).chisquare(4, 21) / 4
    shrunk, degrees = moderate_variances(variance, np.full(21, 4.0))
    assert np.ptp(shrunk) < np.ptp(variance)
    assert np.all((degrees > 4) & (degrees <= 8))
    assert np.all(np.argsort(shrunk) == np.argsort(variance))


@settings(max_examples=200, deadline=None)
@given(SCORES)
def test_a_difference_is_significant_exactly_if_the_interval_excludes_zero(scores):
    tests = compare_pairs(scores)
    testable = np.isfinite(tests.p)
    outside = (tests.low > 0) | (tests.high < 0)
    assert np.array_equal(tests.significant[testable], outside[testable])
    assert not tests.significant[~testable].any()
    assert np.isnan(tests.low[~testable]).all()
    assert np.all(tests.p_holm[testable] >= tests.p[testable])


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(2, 6), st.integers(0, 10**6), st.floats(-5, 5))
def test_a_constant_added_to_all_scores_changes_no_difference(k, n, seed, constant):
    scores = np.random.default_rng(seed).normal(0, 1, (k, n))
    before, after = compare_pairs(scores), compare_pairs(scores + constant)
    np.testing.assert_allclose(after.difference, before.difference, atol=1e-12)
    np.testing.assert_allclose(after.p_holm, before.p_holm, rtol=1e-6)


def test_an_effect_of_the_seed_on_all_options_cancels():
    scores = np.random.default_rng(0).normal(0, 0.01, (7, 5))
    effect_of_seed = np.array([0.3, -0.2, 0.0, 0.1, 0.5])
    np.testing.assert_allclose(compare_pairs(scores + effect_of_seed).p, compare_pairs(scores).p, rtol=1e-6)


def test_no_test_without_variance_or_with_fewer_than_two_seeds():
    same = compare_pairs(np.array([[0.9, 0.8, 0.7], [0.8, 0.7, 0.6]]))
    assert math.isnan(same.p[0]) and not same.significant[0] and same.sd[0] == 0
    assert math.isnan(compare_pairs(np.array([[0.9], [0.8]])).p[0])
    apart = compare_pairs(np.array([[0.9, np.nan], [np.nan, 0.8]]))
    assert apart.num_seeds[0] == 0 and math.isnan(apart.difference[0])


@pytest.mark.parametrize(("effect", "expected"), [(0.5, 34), (0.8, 15)])
def test_seeds_needed_agree_with_g_power(effect, expected):
    """G*Power: a paired t test at 5 % and 80 % power needs 34 pairs for dz = 0.5, 15 for dz = 0.8."""
    noise = np.array([-1.0, 0.0, 1.0])
    scores = np.array([noise / noise.std(ddof=1) + effect, np.zeros(3)])
    tests = compare_pairs(scores)
    assert not tests.significant[0]
    assert 3 + additional_seeds(tests)[0] == expected


def test_seeds_needed_for_next_to_no_difference_are_capped():
    scores = np.array([[1.0, 2.0, 3.001], [1.1, 1.9, 3.0]])
    assert additional_seeds(compare_pairs(scores))[0] == MAX_MORE_SEEDS + 1


def test_bootstrap_is_scipys_bca_and_ignores_the_order():
    values = np.array([0.951, 0.957, 0.949, 0.96, 0.955])
    expected = stats.bootstrap((np.sort(values),), np.mean, n_resamples=2000, rng=np.random.default_rng(0))
    assert bootstrap_interval(values) == pytest.approx(tuple(expected.confidence_interval))
    assert bootstrap_interval(values[::-1]) == bootstrap_interval(values)


def test_bootstrap_of_few_or_equal_values():
    assert bootstrap_interval(np.array([0.9])) is None
    assert bootstrap_interval(np.array([0.9, 0.8])) == (0.8, 0.9)
    assert bootstrap_interval(np.array([0.9, 0.9, 0.9])) == (0.9, 0.9)


def test_friedman_by_hand():
    """Ranks with a tie by hand; p from scipy; the pairs' z by Demsar's formula, k = 3 options, N = 4 sets."""
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.8, 0.6, 0.5], [0.1, 0.2, 0.3, 0.4]])
    mean_ranks, p, p_pairs = friedman(scores)
    np.testing.assert_allclose(mean_ranks, [(1 + 1.5 + 1 + 1) / 4, (2 + 1.5 + 2 + 2) / 4, 3.0])
    assert p == pytest.approx(stats.friedmanchisquare(*scores).pvalue)
    error = math.sqrt(3 * 4 / (6 * 4))
    raw = [2 * stats.norm.sf(gap / error) for gap in (0.75, 1.875, 1.125)]
    np.testing.assert_allclose(p_pairs, [2 * max(raw[0] / 2, raw[2]), 3 * raw[1], 2 * raw[2]])


def test_friedman_of_two_options_is_wilcoxon_and_of_one_data_set_nothing():
    scores = np.random.default_rng(0).normal(0, 1, (2, 9))
    assert friedman(scores)[1] == pytest.approx(stats.wilcoxon(scores[0], scores[1]).pvalue)
    assert math.isnan(friedman(np.array([[1.0], [2.0], [3.0]]))[1])
