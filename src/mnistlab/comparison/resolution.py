"""How finely a score is measured: an accuracy on n images is a multiple of 1 / n."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mnistlab.comparison.metric_names import curve_metric
from mnistlab.comparison.records import RunRecord

NUM_IMAGES = "num_validation_images"
MIN_VALUES = 10  # different ones, to tell the number of images from them
MAX_IMAGES = 20_000  # with more, rounding to one image does not matter
NEAR = 0.01  # of a whole number, for float32 values


def resolution(records: Sequence[RunRecord], objective: str) -> float:
    """The step between two scores that are possible: 1 / n for an accuracy on n images, 0 for a continuous score.

    The runs say on how many images they were validated; of runs that do not, the validation accuracies of all epochs
    tell. Of runs with different numbers the coarsest step counts. 0 if it cannot be told.
    """
    if "accuracy" not in objective:
        return 0.0
    numbers = {record.metrics[NUM_IMAGES] for record in records if record.metrics.get(NUM_IMAGES, 0) >= 1}
    if numbers:
        return 1 / min(numbers)
    name = curve_metric(objective)
    values = [record.metrics.get(objective, np.nan) for record in records]
    values += [value for record in records for value in record.history.get(name, ())]
    number = number_of_images(np.array(values, dtype=float))
    return 1 / number if number else 0.0


def number_of_images(values: NDArray[np.float64]) -> int | None:
    """The smallest n of which all these accuracies are multiples of 1 / n; None if there is none, or too few values."""
    inner = np.unique(values[np.isfinite(values) & (values > 0) & (values < 1)])
    if len(inner) < MIN_VALUES:
        return None
    candidates = np.arange(2, MAX_IMAGES + 1)
    for value in inner:
        counts = candidates * value
        candidates = candidates[np.abs(counts - np.rint(counts)) <= NEAR + 1e-7 * candidates]
    return int(candidates[0]) if len(candidates) else None
