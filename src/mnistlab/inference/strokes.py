"""Strokes on a ground, such as written digits: which of the two is darker, and their form as in MNIST."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from mnistlab.data.background import border_of

LONGEST = 1024  # pixels of a side; larger pictures are reduced first
LONGEST_OF_GROUND = 256
SMALL = 100  # pixels of a side; below, strokes are wide in proportion and shadows unlikely
NOTICEABLE = 0.08  # the least difference from the ground, of 1, that counts as a stroke
LEAST_CONTRAST = 0.1  # between strokes and ground, of 1
LEAST_SIGNAL = 3.0  # contrast in standard deviations of the ground
MUCH_MORE = 1.5  # times the signal, from which on the other kind of strokes is believed
LARGEST_SHARE = 0.5  # of a picture that strokes can cover
LEAST_NOISE = 1e-3
LEAST_SHARE = 0.04  # of the largest part, for a part of the strokes; smaller ones are specks
FIELD, BOX = 28, 20  # MNIST: digits fit into 20 x 20 pixels of 28 x 28
THIN, WIDTH = 1.6, 2.2  # pixels of a stroke in the field: below the first it is widened to the second
LEAST_INNER = 0.1  # of the largest part: from this size on, a part inside the picture counts before those at its edge


@dataclass(frozen=True)
class Field:
    """pixels: uint8, shape (height, width), strokes light on black; problem: why there are none; steps: what was
    done."""

    pixels: np.ndarray
    problem: str = ""
    steps: tuple[str, ...] = ()


def is_dark_on_light(gray: np.ndarray) -> bool:
    """Whether the strokes are darker than their ground, for uint8 of shape (height, width).

    The ground is a curved surface through the edge of the picture, so that uneven light does not matter. Where strokes
    of the other kind stand out much more, as on squared paper or under a shadow with a sharp edge, it is those.
    """
    values = _reduced(gray, LONGEST_OF_GROUND).astype(np.float64) / 255
    difference = values - _surface(values)
    is_dark = float(difference[np.abs(difference) > NOTICEABLE].sum()) < 0
    found, other = _signal(values if is_dark else 1 - values), _signal(1 - values if is_dark else values)
    return is_dark if other <= MUCH_MORE * found else not is_dark


def _signal(values: np.ndarray) -> float:
    """The contrast of strokes that are darker than their ground, in standard deviations of the ground; 0 for none."""
    ink = _ink(values)
    mask = ink > _otsu(ink)
    if not 0 < mask.mean() <= LARGEST_SHARE:
        return 0.0
    return float((ink[mask].mean() - ink[~mask].mean()) / max(float(ink[~mask].std()), LEAST_NOISE))


def _surface(values: np.ndarray) -> np.ndarray:
    """A surface of second order through the edge pixels; those far from it are left out (least trimmed squares)."""
    height, width = values.shape
    rows, columns = np.mgrid[0:height, 0:width]
    y, x = rows / max(1, height - 1) - 0.5, columns / max(1, width - 1) - 0.5
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
    edge_terms, edge = border_of(terms), border_of(values)
    kept = np.abs(edge - np.median(edge)) <= max(0.15, float(np.median(np.abs(edge - np.median(edge)))) * 3)
    weights = np.linalg.lstsq(edge_terms[kept], edge[kept], rcond=None)[0]
    surface: np.ndarray = np.clip(terms @ weights, values.min(), values.max())
    return surface


def as_mnist(gray: np.ndarray, size: tuple[int, int] = (FIELD, FIELD), dark_on_light: bool | None = None) -> Field:
    """The strokes of a picture as MNIST's digits were made: cut out, scaled to 20 of 28 pixels with their proportions,
    their centre of mass in the centre of the field (LeCun et al., 1998, Proceedings of the IEEE 86(11), III.A).

    Uneven light is divided out; the threshold is Otsu's (1979). Specks and frames are dropped, strokes that would be
    thinner than MNIST's are widened.

    Args:
        gray: uint8, shape (height, width).
        size: of the field, height and width.
        dark_on_light: whether the strokes are darker than the ground; None: told from the picture.
    """
    empty = np.zeros(size, np.uint8)
    dark = is_dark_on_light(gray) if dark_on_light is None else dark_on_light
    values = _reduced(gray, LONGEST).astype(np.float64) / 255
    ink = _ink(values if dark else 1 - values)
    mask, threshold = _strokes(ink)
    if mask is None:
        return Field(empty, "has no strokes that stand out from the ground")
    steps = ["strokes cut out, scaled and centred as in MNIST"] + (["inverted"] if dark else [])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    scale = BOX / FIELD * min(size) / max(np.ptp(rows) + 1, np.ptp(columns) + 1)
    width = 4 * float(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask].mean()) - 1
    soft = ndimage.binary_dilation(mask, iterations=2)
    ink = np.where(soft, ink, 0)
    if width * scale < THIN:
        radius = (WIDTH / scale - max(width, 1)) / 2
        margin = int(np.ceil(radius)) + 1
        mask, ink = np.pad(mask, margin), np.pad(ink, margin)
        wide = ndimage.distance_transform_edt(~mask) <= radius
        ink, mask = np.maximum(ink, wide * float(np.percentile(ink[mask], 75))), wide
        steps.append("thin strokes widened")
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    full = max(float(np.percentile(ink[mask], 75)), threshold)
    cut = np.clip(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / full, 0, 1)
    return Field(_placed(cut, size), steps=tuple(steps))


def _reduced(gray: np.ndarray, longest: int) -> np.ndarray:
    height, width = gray.shape
    if max(height, width) <= longest:
        return gray
    factor = longest / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BOX))


def _ink(values: np.ndarray) -> np.ndarray:
    """How much darker than its ground each pixel is, 0 to 1. The ground is what a grey-scale closing leaves, with a
    window that is wider than any stroke."""
    height, width = values.shape
    padded = np.pad(values, 2, mode="constant", constant_values=float(np.median(border_of(values))))
    small = _reduced((padded * 255).astype(np.uint8), LONGEST_OF_GROUND).astype(np.float64) / 255
    small = ndimage.median_filter(small, 3)
    window = max(3, round(max(small.shape) / (3 if max(height, width) < SMALL else 6)))
    ground = ndimage.gaussian_filter(ndimage.grey_closing(small, (window, window), mode="nearest"), 1)
    sized = Image.fromarray(ground.astype(np.float32)).resize(padded.shape[::-1], Image.Resampling.BILINEAR)
    ground = np.asarray(sized, np.float64)[2 : height + 2, 2 : width + 2]
    ink: np.ndarray = np.clip(1 - values / np.maximum(ground, 0.05), 0, 1)
    return ndimage.gaussian_filter(ink, max(height, width) / 400)


def _strokes(ink: np.ndarray) -> tuple[np.ndarray | None, float]:
    """Where the strokes are, and the threshold; None if nothing stands out."""
    threshold = _otsu(ink)
    mask = ink > threshold
    if not mask.any() or mask.all():
        return None, threshold
    contrast = float(ink[mask].mean() - ink[~mask].mean())
    if contrast < LEAST_CONTRAST or contrast < LEAST_SIGNAL * float(ink[~mask].std()):
        return None, threshold
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    inner = np.array([not _touches_edge(place, ink.shape) for place in ndimage.find_objects(labels)])
    if inner.any() and sizes[inner].max() >= LEAST_INNER * sizes.max():  # the others: frames, shadows, a neighbour
        sizes = np.where(inner, sizes, 0)
    return np.isin(labels, 1 + np.flatnonzero(sizes >= LEAST_SHARE * sizes.max())), threshold


def _touches_edge(place: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    return any(part.start == 0 or part.stop == side for part, side in zip(place, shape, strict=True))


def _otsu(values: np.ndarray) -> float:
    """The threshold that separates two groups best, by the variance between them (Otsu, 1979)."""
    if values.min() == values.max():
        return float(values.max())
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(np.where(above > 0, between, np.nan)))])


def _placed(ink: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The cut-out strokes, 0 to 1, in the field: uint8, shape `size`."""
    height, width = size
    scale = BOX / FIELD * min(size) / max(ink.shape)
    shape = (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale)))
    small = np.clip(np.asarray(Image.fromarray(ink.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)), 0, 1)
    center = ndimage.center_of_mass(small + 1e-9)
    top = int(np.clip(round((height - 1) / 2 - center[0]), 0, height - small.shape[0]))
    left = int(np.clip(round((width - 1) / 2 - center[1]), 0, width - small.shape[1]))
    field = np.zeros(size, np.uint8)
    field[top : top + small.shape[0], left : left + small.shape[1]] = np.rint(small * 255)
    return field
