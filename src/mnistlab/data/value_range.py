"""The values that mean black and white in a data set's images, decided by its training images."""

from dataclasses import dataclass

import numpy as np

BITS = (10, 12, 14, 16)  # of cameras, microscopes and CT scanners
DARK = 64 / 255  # if no pixel reaches this share of white, white is probably another value
OVERSHOOT = 1.1  # interpolation and noise leave values up to this multiple of white
STANDARDIZED = 20.0  # the largest distance from 0 of standardized values
CHUNK_VALUES = 1 << 22  # values converted at once, which limits the memory for intermediate results


@dataclass(frozen=True)
class ValueRange:
    """black, white: raw values; kind: 'uint8', 'unit' (0 to 1), 'signed' (-1 to 1), 'pixels' (0 to 255 with fractions),
    'bits' (0 to 2**b - 1), 'standardized' or 'range' (both: lowest to highest training value), or 'given'."""

    black: float
    white: float
    kind: str

    @property
    def width(self) -> float:
        return self.white - self.black

    def __str__(self) -> str:
        return f"{number(self.black)} to {number(self.white)}"

    def as_pixels(self, images: np.ndarray) -> np.ndarray:
        """The images as uint8, black as 0 and white as 255, to be shown; rounded and clipped."""
        if images.dtype == np.uint8 and (self.black, self.white) == (0, 255):
            return images
        shown = np.empty(images.shape, np.uint8)
        step = max(1, CHUNK_VALUES // max(1, images[:1].size))
        for start in range(0, len(images), step):
            shares = (images[start : start + step].astype(np.float64) - self.black) / self.width
            shown[start : start + step] = np.rint(np.clip(shares, 0, 1) * 255)
        return shown


UINT8 = ValueRange(0, 255, "uint8")


def value_range_of(low: float, high: float, has_fractions: bool) -> ValueRange:
    """The value range of training images with these lowest and highest values."""
    if low < 0:
        if low >= -1 and high <= 1:
            return ValueRange(-1, 1, "signed")
        return ValueRange(low, high, "standardized" if max(-low, high) <= STANDARDIZED else "range")
    if high <= 1 or (has_fractions and high <= OVERSHOOT):
        return ValueRange(0, 1, "unit")
    if has_fractions and high < DARK * 255:
        return ValueRange(0, high, "range")
    if high <= 255 or (has_fractions and high <= OVERSHOOT * 255):
        return ValueRange(0, 255, "pixels")
    for bits in BITS:
        if high <= (white := 2**bits - 1):
            return ValueRange(0, white, "bits")
    return ValueRange(low, high, "range")


def number(value: float) -> str:
    """A value without needless digits: 65535, 0.5, -1000."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.9g}"
