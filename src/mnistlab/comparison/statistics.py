"""The statistics of a comparison, on plain arrays: intervals, paired tests, Holm, sample size, Friedman.

What was chosen, and why:

- *Paired by seed.* Runs with the same seed share their initial weights and batch order, so their difference
  varies less than either score. The difference of two draws from one distribution is symmetric, however
  skewed the distribution: with five seeds, a t test needs that symmetry.
- *Paired t test, not Wilcoxon's signed-rank test.* The smallest two-sided p value of the signed-rank test is
  2 / 2**n, which is 0.0625 for n = 5. It cannot reject anything with fewer than six seeds, and with Holm's
  correction over 21 pairs it needs ten.
- *Moderated variance.* From six options on, each pair's variance is shrunk towards the typical variance of the
  sweep (moderated t; Smyth 2004). The prior gets at most as many degrees of freedom as the pair has itself.
  Five seeds estimate a variance badly. With seven options and noise of 0.3 points, moderation detects a
  difference of one point in 85 % of pairs instead of 37 %. The cap keeps the family-wise error rate at or
  below 5 % even if the options' noise differs tenfold; full pooling (one-way ANOVA, Tukey) gives 15 to 20 %.
  With fewer options there is too little to estimate a prior from, and the result equals scipy's `ttest_rel`.
- *No pair is less noisy than its scores can show.* An accuracy on n images is a multiple of 1 / n. Few differences of
  such scores coincide by chance, and would seem to have no variance. Rounding to a step u has the variance u**2 / 12,
  the difference of two scores twice that: no variance is taken to be smaller.
- *Holm (1979)* over all testable pairs: the family-wise error rate is at most alpha.
- *Intervals match the tests.* Each interval has the confidence level at which its pair was tested. It excludes
  0 exactly where the verdict says "beats", and contains 0 where it says "not distinguishable".

Sources: Demsar (2006), "Statistical comparisons of classifiers over multiple data sets", JMLR 7;
Holm (1979), Scand. J. Statist. 6; Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3; Efron (1987), JASA 82.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from mnistlab.comparison.sequential import Looks

Floats = NDArray[np.float64]

ALPHA = 0.05  # significance level; intervals have the level 1 - ALPHA
MODERATION_MIN_OPTIONS = 6
MAX_MORE_SEEDS = 100


@dataclass(frozen=True, eq=False)
class PairTests:
    """The tests of all pairs of options; every array has shape (pairs,).

    first, second: rows of the score matrix. num_seeds: seeds that both options have. difference: mean of
    first - second over those seeds, in the scores' unit. sd: the (moderated) standard deviation of the
    differences. level: significance level of the test; low, high: confidence interval at 1 - level.
    p, p_holm, low and high are NaN for untestable pairs: fewer than two shared seeds, or zero variance.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    num_seeds: NDArray[np.int64]
    difference: Floats
    sd: Floats
    degrees_of_freedom: Floats
    p: Floats
    p_holm: Floats
    level: Floats
    low: Floats
    high: Floats
    significant: NDArray[np.bool_]


def mean_and_sd(values: ArrayLike) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the finite values, None where there are too few; their order does not matter."""
    present = np.sort(np.asarray(values, dtype=float))
    present = present[np.isfinite(present)]
    mean = float(present.mean()) if len(present) else None
    return mean, float(present.std(ddof=1)) if len(present) > 1 else None


def bootstrap_interval(values: Floats, resamples: int = 2000) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean (BCa; Efron 1987), or None for fewer than two values.

    Two values give their range, equal values an interval of width zero. The interval describes one option
    and enters no test: with five seeds, bootstrap intervals are too narrow. It does not depend on the
    order of the values.
    """
    values = np.sort(values)
    if len(values) < 2 or resamples == 0:
        return None
    value_range = float(values[-1] - values[0])
    if len(values) == 2 or value_range <= 1e-12 * max(1.0, abs(float(values[-1]))):
        return float(values[0]), float(values[-1])
    settings = {"n_resamples": resamples, "method": "BCa", "vectorized": True, "rng": np.random.default_rng(0)}
    result = stats.bootstrap((values,), np.mean, confidence_level=1 - ALPHA, **settings)
    low, high = map(float, result.confidence_interval)
    return (low, high) if math.isfinite(low + high) else (float(values[0]), float(values[-1]))


def holm(p_values: Floats, family: int | None = None) -> Floats:
    """Holm's (1979) step-down adjusted p values; NaN entries are not part of the family and stay NaN.

    family: its size, if it has more members than are tested here; the correction is then conservative.
    """
    adjusted = np.full(p_values.shape, np.nan)
    order = np.argsort(p_values)
    order = order[np.isfinite(p_values[order])]
    steps = (family or len(order)) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps * p_values[order]))
    return adjusted


def compare_pairs(
    scores: Floats,
    alpha: float = ALPHA,
    resolution: float = 0.0,
    looks: Looks | None = None,
    moderated: bool | None = None,
) -> PairTests:
    """Test all pairs of options on their shared seeds.

    scores: shape (options, seeds), NaN for missing seeds; resolution: the step between scores, 0 for continuous ones;
    looks: if the options are compared again after every seed; moderated: None: from six options on, but not with looks,
    whose levels hold for the variance of a pair alone.
    """
    first, second = np.triu_indices(len(scores), 1)
    if moderated is None:
        moderated = looks is None and len(scores) >= MODERATION_MIN_OPTIONS
    least = 2 * rounding_variance(resolution)
    differences = scores[first] - scores[second]
    return paired_tests(first, second, differences, scores, alpha, moderated, least=least, looks=looks)


def rounding_variance(resolution: float) -> float:
    """Of values that are rounded to multiples of this step."""
    return resolution**2 / 12


def compare_contrasts(
    scores: Floats, contrasts: NDArray[np.intp], alpha: float, family: int | None, resolution: float = 0.0
) -> PairTests:
    """Test differences of differences (first - second in one column) - (first - second in another), paired by seed.

    scores: shape (rows, columns, seeds), NaN for missing seeds. contrasts: first row, second row, column and other
    column of each, shape (contrasts, 4). family: the number of contrasts, if not all of them are tested.
    """
    first, second, column, other = contrasts.T
    differences = scores[first, column] - scores[second, column] - scores[first, other] + scores[second, other]
    least = 4 * rounding_variance(resolution)
    return paired_tests(first, second, differences, scores, alpha, moderated=False, family=family, least=least)


def paired_tests(
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    differences: Floats,
    scores: Floats,
    alpha: float,
    moderated: bool,
    family: int | None = None,
    least: float = 0.0,
    looks: Looks | None = None,
) -> PairTests:
    """Test whether differences are 0 on average.

    differences: shape (tests, seeds), NaN for missing seeds; least: the variance that a difference has at least;
    looks: if the tests are repeated after every seed: p values, levels and intervals hold for all looks together.
    """
    present = np.isfinite(differences)
    num_seeds = present.sum(axis=1)
    filled = np.where(present, differences, 0.0)
    mean = filled.sum(axis=1) / np.maximum(num_seeds, 1)
    residuals = np.where(present, filled - mean[:, None], 0.0)
    variance = (residuals**2).sum(axis=1) / np.maximum(num_seeds - 1, 1)
    variance = np.maximum(_without_rounding_error(variance, scores), least)
    degrees = np.maximum(num_seeds - 1, 0).astype(float)
    if moderated:
        variance, degrees = moderate_variances(variance, degrees)
    testable = (num_seeds >= 2) & (variance > 0)
    standard_error = np.sqrt(np.where(testable, variance, 1.0) / np.maximum(num_seeds, 1))
    safe_degrees = np.where(testable, degrees, 1.0)
    p = np.where(testable, 2 * special.stdtr(safe_degrees, -np.abs(mean) / standard_error), np.nan)
    p = looks.overall(p) if looks else p
    p_holm = holm(p, family)
    level = significance_levels(p, p_holm, alpha, family)
    at_this_look = looks.nominal(level) if looks else level
    margin = -special.stdtrit(safe_degrees, np.where(testable, at_this_look, 0.5) / 2) * standard_error
    margin = np.where(testable, margin, np.nan)
    mean = np.where(num_seeds > 0, mean, np.nan)
    sd = np.where(num_seeds >= 2, np.sqrt(variance), np.nan)
    significant = p_holm < alpha
    return PairTests(
        first, second, num_seeds, mean, sd, degrees, p, p_holm, level, mean - margin, mean + margin, significant
    )


def moderate_variances(variance: Floats, degrees: Floats) -> tuple[Floats, Floats]:
    """Variances shrunk towards their typical value, and the posterior degrees of freedom.

    Smyth's (2004) empirical Bayes estimate of the prior variance and its degrees of freedom, from the log
    variances of all pairs with at least two seeds. The prior's degrees of freedom are capped at each pair's.
    Variances that differ widely yield few prior degrees of freedom, hence little shrinkage.
    """
    usable = degrees > 0
    if usable.sum() < 2 or np.median(variance[usable]) <= 0:
        return variance, degrees
    floored = np.maximum(variance[usable], 1e-5 * np.median(variance[usable]))
    half = degrees[usable] / 2
    logs = np.log(floored) - special.digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - float(np.mean(special.polygamma(1, half)))
    prior_degrees = np.minimum(2 * _inverse_trigamma(excess) if excess > 0 else np.inf, degrees)
    half_prior = np.maximum(prior_degrees, 1e-9) / 2
    prior_variance = np.exp(logs.mean() + special.digamma(half_prior) - np.log(half_prior))
    total = np.maximum(prior_degrees + degrees, 1e-9)
    shrunk = (prior_degrees * prior_variance + degrees * variance) / total
    return np.where(usable, shrunk, variance), np.where(usable, prior_degrees + degrees, degrees)


def additional_seeds(tests: PairTests, power: float = 0.8, looks: Looks | None = None) -> NDArray[np.int64]:
    """Estimate how many more seeds each pair needs for a significant difference; 0 without an estimate.

    For the given power of the paired t test (noncentral t) at the level at which the pair was tested,
    assuming that the observed difference and standard deviation are the true ones. They are estimates, so
    the result is an order of magnitude. MAX_MORE_SEEDS + 1 stands for "more than 100".
    """
    counts = np.zeros(len(tests.p), dtype=np.int64)
    open_pairs = np.flatnonzero(np.isfinite(tests.p) & ~tests.significant)
    effect = np.abs(tests.difference[open_pairs]) / tests.sd[open_pairs]
    level = looks.nominal(tests.level[open_pairs]) if looks else tests.level[open_pairs]

    def is_enough(extra: NDArray[np.int64]) -> NDArray[np.bool_]:
        degrees = tests.degrees_of_freedom[open_pairs] + extra
        critical = stats.t.isf(level / 2, degrees)
        achieved = stats.nct.sf(critical, degrees, effect * np.sqrt(tests.num_seeds[open_pairs] + extra))
        result: NDArray[np.bool_] = np.nan_to_num(achieved, nan=0.0) >= power
        return result

    low, high = np.zeros_like(open_pairs), np.full_like(open_pairs, MAX_MORE_SEEDS + 1)
    while np.any(high - low > 1):  # more seeds have more power: halve the interval with the smallest sufficient number
        middle = (low + high + 1) // 2
        sufficient = is_enough(middle)
        low, high = np.where(sufficient, low, middle), np.where(sufficient, middle, high)
    counts[open_pairs] = high
    return counts


def friedman(scores: Floats) -> tuple[Floats, float, Floats]:
    """Ranks across data sets (Demsar 2006): mean ranks, Friedman's p, and Holm-adjusted p of all pairs.

    scores: shape (options, data sets), higher is better, no NaN. Rank 1 is the best, ties share ranks. Pairs
    are in the order of `numpy.triu_indices(options, 1)`, tested by z = (Ri - Rj) / sqrt(k (k + 1) / (6 N)).
    Two options are compared by Wilcoxon's signed-rank test, as Demsar recommends. For a single data set all
    p values are NaN; below about ten, the chi-squared approximation is rough.
    """
    num_options, num_sets = scores.shape
    ranks = stats.rankdata(-scores, axis=0)
    mean_ranks = ranks.mean(axis=1)
    first, second = np.triu_indices(num_options, 1)
    if num_sets < 2 or num_options < 2:
        return mean_ranks, math.nan, np.full(len(first), np.nan)
    if num_options == 2:
        same = np.all(scores[0] == scores[1])
        p = 1.0 if same else float(stats.wilcoxon(scores[0], scores[1]).pvalue)
        return mean_ranks, p, np.array([p])
    if np.all(ranks == ranks[0]):
        return mean_ranks, 1.0, np.ones(len(first))
    p = float(stats.friedmanchisquare(*scores).pvalue)
    z = (mean_ranks[first] - mean_ranks[second]) / math.sqrt(num_options * (num_options + 1) / (6 * num_sets))
    return mean_ranks, p, holm(2 * stats.norm.sf(np.abs(z)))


def significance_levels(p: Floats, p_holm: Floats, alpha: float, family: int | None) -> Floats:
    """The level at which Holm's procedure tested each pair: alpha / (m - i + 1), constant after its last step."""
    level = np.full(p.shape, np.nan)
    order = np.argsort(p)
    order = order[np.isfinite(p[order])]
    rejected = int((p_holm[order] < alpha).sum())
    steps = (family or len(order)) - np.minimum(np.arange(len(order)), rejected)
    level[order] = alpha / np.maximum(steps, 1)
    return level


def _without_rounding_error(variance: Floats, scores: Floats) -> Floats:
    """Set the variance of differences to 0 if they are equal except for floating-point rounding."""
    largest = float(np.nanmax(np.abs(scores))) if np.isfinite(scores).any() else 0.0
    return np.where(variance <= (1e-12 * largest) ** 2, 0.0, variance)


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(y) = value by Newton's method (Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, y))
        y += step
        if -step / y < 1e-8:
            break
    return y


def finite_or_none(value: float) -> float | None:
    """A plain float, or None for NaN and infinities."""
    return float(value) if math.isfinite(value) else None
