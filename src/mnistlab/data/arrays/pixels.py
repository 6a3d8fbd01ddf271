"""Arrays of images as uint8 pixels of shape (n, height, width, channels), or an error with the line that converts them.

No value is rounded: an array is converted only if the result, or the result divided by 255, holds the same numbers.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.config import ConfigError

CHANNELS = (1, 3, 4)
SHAPES = "(n, height, width) or (n, height, width, 1, 3 or 4)"
MIN_FLAT_SIDE = 4  # rows of four or nine numbers are measurements, not pictures
CHUNK_VALUES = 1 << 22  # values converted at once, which limits the memory for intermediate results
DARK = 64  # if no pixel of any image reaches this, white is probably not 255


def pixels(arrays: Mapping[str, np.ndarray], image_shape: Sequence[int] | None) -> tuple[list[np.ndarray], list[str]]:
    """The arrays, name -> images, as uint8 of shape (n, height, width, channels), and sentences on what was done.

    All arrays are on one scale: whether 1 means white is decided by all of them together.

    Args:
        image_shape: (height, width, channels) of flat images, or (channels, height, width) of images whose first axis
            is the channels; None: by the array's shape.

    Raises:
        ConfigError: a shape or values that are not those of images.
    """
    shaped, sentences = [], []
    for name, array in arrays.items():
        _check_type(array, name)
        images, sentence = _with_channels_last(array, name, image_shape)
        if len(images) == 0:
            raise ConfigError(f"{name} must hold at least one image. Received: 0.")
        shaped.append(images)
        sentences += [sentence] if sentence and sentence not in sentences else []
    shapes = [images.shape[1:] for images in shaped]
    for name, shape in zip(arrays, shapes, strict=True):
        if shape != shapes[0]:
            raise ConfigError(
                f"{next(iter(arrays))} and {name} must have images of one shape. Received: {shapes[0]} and {shape}."
            )
    converted, values = _as_uint8(dict(zip(arrays, shaped, strict=True)))
    return converted, [*sentences, *([values] if values else [])]


def _check_type(array: np.ndarray, name: str) -> None:
    if array.dtype.kind in "iufb":
        return
    text = " For image files choose source=directory." if array.dtype.kind in "SU" else ""
    raise ConfigError(f"{name} must hold numbers, preferably uint8. Received: {array.dtype}.{text}")


def _with_channels_last(array: np.ndarray, name: str, image_shape: Sequence[int] | None) -> tuple[np.ndarray, str]:
    """The images with shape (n, height, width, channels), and a sentence if their axes were changed."""
    if image_shape is not None:
        return _with_given_shape(array, name, tuple(image_shape))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]  # flat images with an axis for the channel
    if array.ndim == 3 and 0 not in array.shape[1:]:
        return array[..., np.newaxis], ""
    if array.ndim == 2 and (side := math.isqrt(array.shape[1])) >= MIN_FLAT_SIDE and side**2 == array.shape[1]:
        sentence = f"Rows of {side**2:,} values are images of {side} x {side} pixels, one channel."
        return array.reshape(-1, side, side, 1), sentence
    if array.ndim == 4 and 0 not in array.shape[1:]:
        first, last = array.shape[1] in CHANNELS, array.shape[3] in CHANNELS
        if first and last and array.shape[2] == array.shape[3] != array.shape[1]:
            shapes = [list(array.shape[1:]), [*array.shape[2:], array.shape[1]]]
            raise ConfigError(
                f"The shape of {name}, {array.shape}, has two meanings. Set source.image_shape='{shapes[0]}' if the "
                f"channels are the last axis. If they are the first, save np.moveaxis({name}, 1, -1)."
            )
        if last:
            return array, ""
        if first:
            return _channels_moved_last(array)
    raise ConfigError(f"{name} must have the shape {SHAPES}. Received: {array.shape}.{_advice_on_shape(array, name)}")


def _channels_moved_last(array: np.ndarray) -> tuple[np.ndarray, str]:
    sentence = f"The channels, {array.shape[1]}, were the first axis of an image and are now the last."
    return np.moveaxis(array, 1, -1), sentence


def _with_given_shape(array: np.ndarray, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """The images, whose shape the user gives."""
    if len(shape) == 2:
        shape = (*shape, 1)
    channels_first = len(shape) == 3 and shape[0] in CHANNELS and shape[2] not in CHANNELS
    if len(shape) != 3 or min(shape) < 1 or not (channels_first or shape[2] in CHANNELS):
        raise ConfigError(
            f"source.image_shape must be [height, width], [height, width, 1, 3 or 4] or [1, 3 or 4, height, width]. "
            f"Received: {list(shape)}."
        )
    if array.ndim < 2 or math.prod(array.shape[1:]) != math.prod(shape):
        raise ConfigError(
            f"{name} must hold {math.prod(shape):,} values for each image, as source.image_shape={list(shape)} says. "
            f"Received: the shape {array.shape}."
        )
    if array.ndim > 2 and array.shape[1:] not in (shape, shape[:2]):
        raise ConfigError(
            f"{name} must have images of the shape {shape} (source.image_shape) or flat ones. "
            f"Received: {array.shape[1:]}."
        )
    images = array.reshape(-1, *shape)
    return _channels_moved_last(images) if channels_first else (images, "")


def _advice_on_shape(array: np.ndarray, name: str) -> str:
    """How to give the images a shape that is accepted; empty if nothing is known."""
    if (
        array.ndim == 2
        and array.shape[1] % 3 == 0
        and (side := math.isqrt(array.shape[1] // 3)) ** 2 * 3 == array.shape[1]
    ):
        return (
            f" If the rows are colour images, set source.image_shape='[{side},{side},3]', or '[3,{side},{side}]' if "
            "all red values come first, as in CIFAR's files."
        )
    if array.ndim == 2:
        return " For flat images that are not square set source.image_shape='[HEIGHT,WIDTH]'."
    if array.ndim == 4 and array.shape[2] in CHANNELS:
        return f" If the last axis counts the images, save np.moveaxis({name}, -1, 0)."
    if array.ndim == 5 and 1 in array.shape[1:]:
        return f" To drop the axes of length 1, save {name}.squeeze()."
    return ""


def _as_uint8(arrays: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], str]:
    """The arrays as uint8, and a sentence if 1 meant white, or if the values look too dark."""
    ranges = {name: _range(array, name) for name, array in arrays.items()}
    lowest, highest = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
    factor = 255 if 0 < highest <= 1 and lowest >= 0 else 1
    converted = []
    for name, array in arrays.items():
        images = _multiplied(array, factor)
        if images is None or (factor == 1 < highest and 0 < ranges[name][1] <= 1):
            raise ConfigError(_wrong_values(name, array.dtype, ranges))
        converted.append(images)
    if factor == 1:
        dark = f"WARNING: no pixel is above {highest:g}. If that is white, multiply the images by 255 / {highest:g}."
        return converted, dark if 0 < highest < DARK else ""
    if all(np.isin(images, (0, 255)).all() for images in converted):
        return converted, "The pixels were 0 and 1 only; 1 became 255, white."
    return converted, "The pixels were whole numbers divided by 255; multiplied by 255 they are exact."


def _range(array: np.ndarray, name: str) -> tuple[float, float]:
    """The lowest and the highest value. Raises ConfigError if there are values that are not finite."""
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        raise ConfigError(
            f"{name} must hold finite numbers. Received: NaN or infinite values in {bad.sum():,} of {len(array):,} "
            f"images, the first at index {bad.argmax()}. Leave these images and their labels out, or save "
            f"np.nan_to_num({name}, nan=0, posinf=255, neginf=0) if such a pixel is a black or white one."
        )
    return low.item(), high.item()


def _multiplied(array: np.ndarray, factor: int) -> np.ndarray | None:
    """factor * array as uint8; None if these are not whole numbers from 0 to 255 up to the array's own rounding."""
    if array.dtype == np.uint8 and factor == 1:
        return np.ascontiguousarray(array)
    tolerance = 0.0  # relative; for k / 255 in float32, also if it has become float64 since
    if factor != 1 and array.dtype.kind == "f":
        tolerance = max(np.finfo(array.dtype).eps, 2 * np.finfo(np.float32).eps)
    result = np.empty(array.shape, np.uint8)
    step = max(1, CHUNK_VALUES // math.prod(array.shape[1:]))
    for start in range(0, len(array), step):
        scaled = array[start : start + step].astype(np.float64) * factor
        rounded = np.rint(scaled)
        if rounded.min() < 0 or rounded.max() > 255 or (np.abs(rounded - scaled) > tolerance * scaled).any():
            return None
        result[start : start + step] = rounded
    return result


def _wrong_values(name: str, dtype: np.dtype, ranges: Mapping[str, tuple[float, float]]) -> str:
    """The error for an array whose values are not 0 to 255: the rule, the range and the line that converts it."""
    low, high = ranges[name]
    others = [other for other in ranges if other != name]
    received = (
        f"{name} must hold whole numbers from 0 to 255, preferably as uint8. Received: {dtype} from {low:g} to {high:g}"
    )
    joint_high = max(top for _, top in ranges.values())
    if low >= 0 and high <= 1 < joint_high:
        other = next(key for key, (_, top) in ranges.items() if top > 1)
        return f"{received}, but {other} reaches {ranges[other][1]:g}. Save (255 * {name}).round().astype('uint8')."
    same = f" Do the same with {' and '.join(others)}." if others else ""
    if low >= 0 and high <= 1:
        return f"{received}. For values in 0..1 save (255 * {name}).round().astype('uint8').{same}"
    if dtype == np.int8:
        return (
            f"{received}. Save {name}.view('uint8') if bytes were stored as int8, or "
            f"({name}.astype('int16') + 128).astype('uint8') if -128 is black.{same}"
        )
    if low >= 0 and high <= 255:
        return f"{received}, with fractions. Save {name}.round().astype('uint8').{same}"
    if low >= 0:
        white = (1 << int(joint_high).bit_length()) - 1
        return (
            f"{received}. If {white} is white ({white.bit_length()} bits), save "
            f"({name} * (255 / {white})).round().astype('uint8').{same}"
        )
    joint_low = min(bottom for bottom, _ in ranges.values())
    if joint_low >= -1 and joint_high <= 1:
        return f"{received}. If -1 is black and 1 white, save (({name} + 1) * 127.5).round().astype('uint8').{same}"
    return (
        f"{received}. These look standardized. Save the original images, or "
        f"(({name} - {joint_low:g}) * (255 / {joint_high - joint_low:g})).round().astype('uint8').{same}"
    )
