"""The statistics of a comparison, on plain arrays: intervals, paired tests, Holm, seeds needed, Friedman.

What was chosen, and why:

- *Paired by seed.* Runs of one seed share initial weights and batch order, so their difference carries
  less luck than either run; a difference of two runs from one distribution is symmetric however skewed
  that distribution is, which is what a t test at five seeds needs.
- *A paired t test, not Wilcoxon's.* The smallest two-sided p of the signed-rank test is 2 / 2**n: 0.0625
  at five seeds. It cannot claim anything below six, and with Holm over 21 pairs not below ten.
- *Spread borrowed between pairs, in part.* From six options on, a pair's variance is shrunk towards the
  sweep's typical one (moderated t; Smyth 2004), with at most as many borrowed as own degrees of freedom.
  Five seeds measure a spread badly; borrowing finds a one-point gap among seven options (noise 0.3
  points) in 85 % of pairs instead of 37 %. The cap keeps false winners at or below 5 % also where the
  options' noise differs tenfold, which full pooling (one-way ANOVA, Tukey) does not: 15 to 20 %. With
  fewer options there is too little to borrow from, and it is scipy's `ttest_rel` to the last digit.
- *Holm (1979)* over all testable pairs: the chance of any false claim in the whole table is <= alpha.
- *One decision, one interval.* Each interval is drawn at the level its pair was tested with, so "beats"
  goes with an interval without 0, always, and "not distinguishable" with one that has it.

Sources: Demsar (2006), "Statistical comparisons of classifiers over multiple data sets", JMLR 7;
Holm (1979), Scand. J. Statist. 6; Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3; Efron (1987), JASA 82.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]

MODERATION_MIN_OPTIONS = 6
MAX_MORE_SEEDS = 100


@dataclass(frozen=True, eq=False)
class PairTests:
    """All pairs of options, one entry per pair and array; shape (pairs,).

    first, second: rows of the score matrix. num_seeds: seeds both options have. difference: mean over
    those of first - second, in the scores' unit. spread: the (moderated) standard deviation of one
    difference. low, high: interval at 1 - level. p, p_holm, low and high are NaN where nothing can be
    tested: fewer than two shared seeds, or differences without any spread.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    num_seeds: NDArray[np.int64]
    difference: Floats
    spread: Floats
    degrees: Floats
    p: Floats
    p_holm: Floats
    level: Floats
    low: Floats
    high: Floats
    significant: NDArray[np.bool_]


def bootstrap_interval(values: Floats, resamples: int = 2000) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean, BCa (Efron 1987) from three values on; None below two values.

    Two values give their range and equal values a point, as any bootstrap must. It describes one option
    and decides nothing: at five seeds a bootstrap interval is known to be too narrow.
    The same values give the same interval, in whatever order.
    """
    values = np.sort(values)
    if len(values) < 2 or resamples == 0:
        return None
    spread = float(values[-1] - values[0])
    if len(values) == 2 or spread <= 1e-12 * max(1.0, abs(float(values[-1]))):
        return float(values[0]), float(values[-1])
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, method="BCa", rng=np.random.default_rng(0), vectorized=True
    )
    low, high = map(float, result.confidence_interval)
    return (low, high) if math.isfinite(low + high) else (float(values[0]), float(values[-1]))


def holm(p_values: Floats) -> Floats:
    """Holm's (1979) step-down adjusted p values; NaN entries are not in the family and stay NaN."""
    adjusted = np.full(p_values.shape, np.nan)
    order = np.argsort(p_values)
    order = order[np.isfinite(p_values[order])]
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps * p_values[order]))
    return adjusted


def compare_pairs(scores: Floats, alpha: float = 0.05) -> PairTests:
    """Test all pairs of options on their shared seeds. scores: shape (options, seeds), NaN where missing."""
    first, second = np.triu_indices(len(scores), 1)
    differences = scores[first] - scores[second]
    present = np.isfinite(differences)
    num_seeds = present.sum(axis=1)
    filled = np.where(present, differences, 0.0)
    mean = np.where(num_seeds > 0, filled.sum(axis=1) / np.maximum(num_seeds, 1), np.nan)
    centred = np.where(present, filled - np.nan_to_num(mean)[:, None], 0.0)
    variance = (centred**2).sum(axis=1) / np.maximum(num_seeds - 1, 1)
    variance = _without_rounding_noise(variance, scores)
    degrees = np.maximum(num_seeds - 1, 0).astype(float)
    if len(scores) >= MODERATION_MIN_OPTIONS:
        variance, degrees = moderate_variances(variance, degrees)
    testable = (num_seeds >= 2) & (variance > 0)
    error = np.sqrt(np.where(testable, variance, 1.0) / np.maximum(num_seeds, 1))
    safe_degrees = np.where(testable, degrees, 1.0)
    p = np.where(testable, 2 * stats.t.sf(np.abs(np.nan_to_num(mean)) / error, safe_degrees), np.nan)
    p_holm = holm(p)
    level = _significance_levels(p, p_holm, alpha)
    half = stats.t.isf(np.where(testable, level, 0.5) / 2, safe_degrees) * error
    half = np.where(testable, half, np.nan)
    spread = np.where(num_seeds >= 2, np.sqrt(variance), np.nan)
    significant = np.nan_to_num(p_holm, nan=1.0) < alpha
    return PairTests(
        first, second, num_seeds, mean, spread, degrees, p, p_holm, level, mean - half, mean + half, significant
    )


def moderate_variances(variance: Floats, degrees: Floats) -> tuple[Floats, Floats]:
    """Variances shrunk towards their typical value, and the degrees of freedom that leaves.

    Smyth's (2004) empirical Bayes estimate of the prior variance and its degrees of freedom, from the
    log variances of all pairs with at least two seeds; the prior's degrees are capped at each pair's own.
    Unlike variances yield few prior degrees, hence little shrinkage.
    """
    use = degrees > 0
    if use.sum() < 2 or np.median(variance[use]) <= 0:
        return variance, degrees
    usable = np.maximum(variance[use], 1e-5 * np.median(variance[use]))
    half = degrees[use] / 2
    logs = np.log(usable) - special.digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - float(np.mean(special.polygamma(1, half)))
    prior_degrees = np.minimum(2 * _inverse_trigamma(excess) if excess > 0 else np.inf, degrees)
    half_prior = np.maximum(prior_degrees, 1e-9) / 2
    prior_variance = np.exp(logs.mean() + special.digamma(half_prior) - np.log(half_prior))
    total = np.maximum(prior_degrees + degrees, 1e-9)
    shrunk = (prior_degrees * prior_variance + degrees * variance) / total
    return np.where(use, shrunk, variance), np.where(use, prior_degrees + degrees, degrees)


def additional_seeds(tests: PairTests, power: float = 0.8) -> NDArray[np.int64]:
    """How many more seeds each pair would need to be told apart; 0 where nothing can be said.

    Power of the paired t test (noncentral t) at 80 %, at the level the pair was tested with, if the true
    difference and spread were the ones observed. They are not, so read it as an order of magnitude.
    MAX_MORE_SEEDS + 1 stands for "more than 100".
    """
    counts = np.zeros(len(tests.p), dtype=np.int64)
    extra = np.arange(1, MAX_MORE_SEEDS + 1)
    for index in np.flatnonzero(np.isfinite(tests.p) & ~tests.significant):
        total = tests.num_seeds[index] + extra
        degrees = tests.degrees[index] + extra
        effect = abs(tests.difference[index]) / tests.spread[index] * np.sqrt(total)
        critical = stats.t.isf(tests.level[index] / 2, degrees)
        reached = np.flatnonzero(np.nan_to_num(stats.nct.sf(critical, degrees, effect), nan=0.0) >= power)
        counts[index] = extra[reached[0]] if len(reached) else MAX_MORE_SEEDS + 1
    return counts


def friedman(scores: Floats) -> tuple[Floats, float, Floats]:
    """Ranks across data sets (Demsar 2006): mean ranks, Friedman's p, and Holm-adjusted p of all pairs.

    scores: shape (options, data sets), higher is better, no NaN; rank 1 is the best, ties share ranks.
    Pairs in the order of `numpy.triu_indices(options, 1)`, by z = (Ri - Rj) / sqrt(k (k + 1) / (6 N)).
    Two options are compared by Wilcoxon's signed-rank test, as Demsar advises. All p are NaN for a
    single data set, and the chi-squared approximation is rough below about ten.
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


def _significance_levels(p: Floats, p_holm: Floats, alpha: float) -> Floats:
    """The level at which Holm's procedure decided each pair: alpha / (m - i + 1), or its last step."""
    level = np.full(p.shape, np.nan)
    order = np.argsort(p)
    order = order[np.isfinite(p[order])]
    rejected = int((p_holm[order] < alpha).sum())
    steps = len(order) - np.minimum(np.arange(len(order)), rejected)
    level[order] = alpha / np.maximum(steps, 1)
    return level


def _without_rounding_noise(variance: Floats, scores: Floats) -> Floats:
    """Differences equal but for floating-point rounding have no spread, rather than a spread of 1e-17."""
    size = float(np.nanmax(np.abs(scores))) if np.isfinite(scores).any() else 0.0
    return np.where(variance <= (1e-12 * size) ** 2, 0.0, variance)


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
