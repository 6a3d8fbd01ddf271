"""Whether a model's confidence is its accuracy: reliability by bins and the expected calibration error."""

from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_BINS = 15
NUM_RESAMPLES = 500
CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Calibration:
    """The reliability of a model's confidence on n images.

    counts: images in each bin, int, shape (bins,); bin b has the confidences above b / bins up to (b + 1) / bins;
    confidence, accuracy: their means, NaN in an empty bin; expected_error, max_error: the ECE and the MCE; low, high:
    the 95 % interval of the ECE; chance_error: the ECE that a calibrated model with these confidences exceeds in 5 % of
    all test sets of this size, by chance alone.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    expected_error: float
    max_error: float
    low: float
    high: float
    chance_error: float

    @property
    def num_images(self) -> int:
        return int(self.counts.sum())

    def _mean(self, of_bins: np.ndarray) -> float:
        return float(np.nansum(self.counts * of_bins) / self.num_images)

    @property
    def mean_confidence(self) -> float:
        """Over all images."""
        return self._mean(self.confidence)

    @property
    def mean_accuracy(self) -> float:
        """Over all images."""
        return self._mean(self.accuracy)

    @property
    def sentence(self) -> str:
        """What the numbers say, in a sentence."""
        if self.expected_error <= self.chance_error:
            return f"no miscalibration seen: chance alone gives up to {self.chance_error:.4f} on so few images"
        difference = self.mean_confidence - self.mean_accuracy
        direction = "overconfident" if difference > 0 else "underconfident"
        return (
            f"{direction}: its mean confidence is {self.mean_confidence:.4f}, its accuracy {self.mean_accuracy:.4f} "
            f"(chance alone gives an error of up to {self.chance_error:.4f})"
        )

    def metrics(self) -> dict[str, float]:
        """The numbers by name."""
        return {
            "expected_calibration_error": self.expected_error,
            "expected_calibration_error.low": self.low,
            "expected_calibration_error.high": self.high,
            "expected_calibration_error.chance": self.chance_error,
            "max_calibration_error": self.max_error,
            "mean_confidence": self.mean_confidence,
        }

    def bins(self) -> list[dict[str, Any]]:
        """One row per bin that has images, as plain values."""
        width = 1 / len(self.counts)
        return [
            {
                "above": index * width,
                "to": (index + 1) * width,
                "images": int(self.counts[index]),
                "mean_confidence": float(self.confidence[index]),
                "accuracy": float(self.accuracy[index]),
            }
            for index in np.flatnonzero(self.counts)
        ]


def calibration(confidence: np.ndarray, right: np.ndarray, seed: int = 0) -> Calibration:
    """The calibration in 15 equal-width bins.

    Naeini, Cooper & Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning" (AAAI); Guo,
    Pleiss, Sun & Weinberger 2017, "On calibration of modern neural networks" (ICML).

    The ECE of a sample is too high on average, most for a calibrated model, and the ECE of a resample of it is too high
    again: the percentile interval of the bootstrap may lie above the true value altogether. So the basic interval is
    taken, 2 * ECE minus the quantiles (Davison & Hinkley 1997, "Bootstrap methods", section 5.2), and it starts at 0
    where the ECE may be chance, by the resampling of outcomes of Bröcker & Smith 2007, "Increasing the reliability of
    reliability diagrams" (Weather and Forecasting 22). In simulations of 200 to 10,000 images it had the true value in
    85 to 96 % of the cases, the percentile interval in 0 to 95 %.

    Args:
        confidence: of the predicted class, 0 to 1, shape (n,), n >= 1; right: whether the prediction is right, shape
            (n,).
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    bins = bin_numbers(confidence)
    counts = np.bincount(bins, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, NUM_BINS) / counts
        accuracy = np.bincount(bins, right, NUM_BINS) / counts
    found = _error(bins, right - confidence)
    generator = np.random.default_rng(seed)
    samples = [generator.integers(0, len(bins), len(bins)) for _ in range(NUM_RESAMPLES)]
    resampled = [_error(bins[sample], (right - confidence)[sample]) for sample in samples]
    by_chance = [_error(bins, (generator.random(len(bins)) < confidence) - confidence) for _ in range(NUM_RESAMPLES)]
    chance = float(np.quantile(by_chance, CONFIDENCE_LEVEL))
    tail = (1 - CONFIDENCE_LEVEL) / 2
    lower, upper = np.quantile(resampled, [tail, 1 - tail])
    return Calibration(
        counts=counts,
        confidence=mean_confidence,
        accuracy=accuracy,
        expected_error=found,
        max_error=float(np.nanmax(np.abs(accuracy - mean_confidence))),
        low=0.0 if found <= chance else float(np.clip(2 * found - upper, 0, found)),
        high=float(np.clip(2 * found - lower, found, 1)),
        chance_error=chance,
    )


def bin_numbers(confidence: np.ndarray) -> np.ndarray:
    """The number of each confidence's bin, from 0; the upper edge belongs to a bin: int, shape (n,)."""
    edges = np.linspace(0, 1, NUM_BINS + 1)[1:-1]
    return np.searchsorted(edges, confidence, side="left")


def _error(bins: np.ndarray, gaps: np.ndarray) -> float:
    """The ECE: the bins' shares of the images times their differences of accuracy and confidence. gaps: of images."""
    return float(np.abs(np.bincount(bins, gaps, NUM_BINS)).sum() / len(bins))
