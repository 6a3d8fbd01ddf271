"""Whether a difference between two options also holds for new images: seeds and images both vary.

The runs' correct answers form a table of seeds by images for each option. The mean of the paired differences has two
sources of chance: the seeds (the variance of the seeds' means) and the images (the variance of the images' means).
With both random, its variance is at most the sum of the two (crossed random effects, as for readers and cases in
Gallas 2006, Acad. Radiol. 13); the degrees of freedom are those of Satterthwaite (1946).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mnistlab.comparison.records import RunRecord, outcome
from mnistlab.comparison.resolution import NUM_IMAGES
from mnistlab.comparison.wording import format_difference

CORRECT = "validation_correct"
MIN_SEEDS = 2


@dataclass(frozen=True)
class OnNewImages:
    """A difference of accuracies, first - second, with its interval for new seeds and new images.

    seed_share: the share of the variance that is due to the seeds; low, high: at the level of the pair's test.
    """

    first: str
    second: str
    num_images: int
    num_seeds: int
    difference: float
    low: float
    high: float
    seed_share: float

    @property
    def words(self) -> str:
        """ "For new images, too: a is ahead of b by 0.8 points [0.2, 1.4]"."""
        shown = format_difference("accuracy", self.difference, self.low, self.high)
        source = "the seeds" if self.seed_share >= 0.5 else "the images"
        most = f"; {100 * max(self.seed_share, 1 - self.seed_share):.0f} % of the uncertainty is due to {source}"
        if self.low > 0:
            return f"For new images, too, not only new seeds: {self.first} beats {self.second} by {shown}{most}"
        names = f"{self.first} and {self.second}"
        return f"For new images as well as new seeds, {names} are not distinguishable: {shown}{most}"


def on_new_images(
    first: Sequence[RunRecord], second: Sequence[RunRecord], names: tuple[str, str], level: float
) -> OnNewImages | None:
    """Two options on the validation images of their runs with the same seeds; None if fewer than two recorded them.

    level: the significance level of the pair's test over seeds.
    """
    ours, theirs = _correct_of(first), _correct_of(second)
    seeds = [seed for seed in ours if seed in theirs and len(ours[seed]) == len(theirs[seed])]
    if len(seeds) < MIN_SEEDS or len({len(ours[seed]) for seed in seeds}) != 1:
        return None
    differences = np.array([ours[seed].astype(np.int8) - theirs[seed].astype(np.int8) for seed in seeds], dtype=float)
    num_seeds, num_images = differences.shape
    mean = float(differences.mean())
    by_seed = float(differences.mean(axis=1).var(ddof=1)) / num_seeds
    by_image = float(differences.mean(axis=0).var(ddof=1)) / num_images
    variance = by_seed + by_image
    if variance <= 0:
        return None
    degrees = variance**2 / (by_seed**2 / (num_seeds - 1) + by_image**2 / (num_images - 1))
    half = float(stats.t.isf(level / 2, degrees)) * math.sqrt(variance)
    share = by_seed / variance
    return OnNewImages(*names, num_images, num_seeds, mean, mean - half, mean + half, share)


def _correct_of(runs: Sequence[RunRecord]) -> dict[int, NDArray[np.bool_]]:
    """Seed -> whether each validation image was classified correctly, of the trained runs that say so."""
    found = {}
    for run in runs:
        bits, count = (run.predictions or {}).get(CORRECT), int(run.metrics.get(NUM_IMAGES, 0))
        if outcome(run) == "trained" and bits is not None and 0 < count <= 8 * len(bits):
            found[run.seed] = np.unpackbits(np.asarray(bits, dtype=np.uint8), count=count).astype(bool)
    return found
