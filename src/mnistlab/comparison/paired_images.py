"""Which of two trained models is right on more images, tested image by image: about new images, not new seeds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mnistlab.comparison.statistics import ALPHA


@dataclass(frozen=True)
class ImagePairs:
    """Two models on the same images.

    first, second: accuracies, 0 to 1; only_first, only_second: the number of images that only one of them has right;
    difference: first - second, with its interval from low to high; p: of the hypothesis that both are equally good.
    """

    num_images: int
    first: float
    second: float
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p: float
    alpha: float

    @property
    def first_is_better(self) -> bool:
        return self.p < self.alpha and self.difference > 0

    @property
    def second_is_better(self) -> bool:
        return self.p < self.alpha and self.difference < 0

    def in_words(self) -> str:
        """'95.75 % against 94.50 %: +1.25 points [+0.31, +1.87] on 400 images (p = 0.011)'."""
        low, high, difference = (100 * value for value in (self.low, self.high, self.difference))
        probability = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return (
            f"{100 * self.first:.2f} % against {100 * self.second:.2f} %: {difference:+.2f} points "
            f"[{low:+.2f}, {high:+.2f}] on {self.num_images:,} images ({probability})"
        )


def compare_on_images(first: NDArray[np.bool_], second: NDArray[np.bool_], alpha: float = ALPHA) -> ImagePairs:
    """Compare two models by the images on which only one of them is right (McNemar 1947, Psychometrika 12; exact).

    The interval is the exact one of Clopper and Pearson (1934) for the share of these images that the first has right,
    in the scale of the difference. It excludes 0 where p < alpha.

    Args:
        first, second: whether each image is classified correctly, shape (n,).
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"first and second must have one entry an image. Received: {first.shape} and {second.shape}.")
    num_images = len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    accuracies = float(first.mean()), float(second.mean())
    difference = (only_first - only_second) / num_images
    if not differing:
        return ImagePairs(num_images, *accuracies, 0, 0, 0.0, 0.0, 0.0, 1.0, alpha)
    test = stats.binomtest(only_first, differing, 0.5)
    low, high = ((2 * share - 1) * differing / num_images for share in test.proportion_ci(1 - alpha, method="exact"))
    p = float(test.pvalue)
    return ImagePairs(num_images, *accuracies, only_first, only_second, difference, low, high, p, alpha)
