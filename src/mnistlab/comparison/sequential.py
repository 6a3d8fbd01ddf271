"""Tests that are repeated while seeds are added: p values that stay valid however often one looks.

A t test at 5 % after every seed makes far more than 5 % false claims. If there is no difference, the t statistics of
the first n, n + 1, ... seeds have a joint distribution that depends on nothing unknown. So that of the smallest of
their p values is known, too, and a series of tests at level a makes each at the nominal level below which the smallest
p value falls with probability a: Pocock's boundary of constant nominal levels, exact for t tests.

Sources: Pocock (1977), Biometrika 64; Jennison and Turnbull (2000), Group Sequential Methods, chapters 2 and 4; Shao
and Feng (2007), Stat. Med. 26 (t tests with few observations).
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

NUM_SIMULATED = 100_000
CHUNK = 10_000
NUM_RELIABLE = 100  # a quantile below that many simulated values is replaced by its bound


@dataclass(frozen=True)
class Looks:
    """The numbers of seeds at which the options are compared: first, first + 1, ..., last.

    Raises ValueError unless 2 <= first <= last.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 2 <= self.first <= self.last:
            raise ValueError(f"looks: 2 <= first <= last. Received: first={self.first}, last={self.last}")

    @property
    def count(self) -> int:
        """How often is looked."""
        return self.last - self.first + 1

    def overall(self, p: ArrayLike) -> Floats:
        """From the p value of a t test at one look to that of the whole series of looks; NaN stays NaN."""
        p = np.asarray(p, dtype=float)
        if self.count == 1:
            return p
        smallest = _smallest_p_values(self.first, self.last)
        share = np.searchsorted(smallest, p, side="right") / len(smallest)
        bound = np.minimum(self.count * p, NUM_RELIABLE / len(smallest))  # Bonferroni's, where simulated values are few
        found = np.where(share * len(smallest) >= NUM_RELIABLE, share, bound)
        return np.where(np.isnan(p), np.nan, np.maximum(found, p))

    def nominal(self, level: ArrayLike) -> Floats:
        """From the level of the whole series of looks to that of the t test at each; NaN stays NaN."""
        level = np.asarray(level, dtype=float)
        if self.count == 1:
            return level
        smallest = _smallest_p_values(self.first, self.last)
        place = np.nan_to_num(level) * len(smallest)
        index = np.clip(place.astype(np.int64) - 1, 0, len(smallest) - 1)
        found = np.where(place >= NUM_RELIABLE, smallest[index], level / self.count)
        return np.where(np.isnan(level), np.nan, found)


@functools.lru_cache(maxsize=8)
def _smallest_p_values(first: int, last: int) -> Floats:
    """Sorted: the smallest p value of the two-sided t tests of the first n differences, n from first to last, for
    differences that are normal with mean 0."""
    generator = np.random.default_rng([first, last])
    numbers = np.arange(1, last + 1)
    found = []
    for _ in range(NUM_SIMULATED // CHUNK):
        values = generator.normal(size=(CHUNK, last))
        means = np.cumsum(values, axis=1) / numbers
        variances = (np.cumsum(values**2, axis=1) - numbers * means**2) / np.maximum(numbers - 1, 1)
        statistic = np.abs(means[:, first - 1 :]) / np.sqrt(variances[:, first - 1 :] / numbers[first - 1 :])
        found.append(2 * special.stdtr(numbers[first - 1 :] - 1, -statistic).min(axis=1))
    return np.sort(np.concatenate(found))
