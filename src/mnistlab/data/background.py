"""The background of a data set's images: what surrounds a digit, a letter, a garment."""

from typing import Any

import numpy as np

from mnistlab.data.value_range import ValueRange

MAX_SAMPLED = 500  # arrays by which the background is told; of files fewer, because each is decoded
MAX_FILES = 32
NEAR, UNIFORM = 0.1, 0.8  # a uniform background: this share of the border pixels is this near to their median


def border_of(image: np.ndarray) -> np.ndarray:
    """The pixels at the edge of an image: shape (n,) or, with channels, (n, channels)."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def background_of(images: Any, value_range: ValueRange) -> float | None:
    """The median of the border pixels of a sample of images, shape (n, height, width, channels), from 0 black to 1
    white; None if they have no uniform background."""
    most = MAX_SAMPLED if isinstance(images, np.ndarray) else MAX_FILES
    chosen = np.arange(0, len(images), max(1, len(images) // most))
    sample = value_range.as_pixels(np.asarray(images[chosen]))
    border = np.concatenate([border_of(image).ravel() for image in sample]) / 255
    middle = float(np.median(border))
    return round(middle, 4) if (np.abs(border - middle) <= NEAR).mean() >= UNIFORM else None
