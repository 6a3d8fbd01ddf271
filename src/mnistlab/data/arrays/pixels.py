"""Arrays of images as pixels of shape (n, height, width, channels), or an error with the line that converts them."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.arrays.pixel_values import converted
from mnistlab.data.value_range import ValueRange

CHANNELS = (1, 3, 4)
SHAPES = "(n, height, width) or (n, height, width, 1, 3 or 4)"
MIN_FLAT_SIDE = 4  # rows of four or nine numbers are measurements, not pictures


def pixels(
    arrays: Mapping[str, np.ndarray], image_shape: Sequence[int] | None, value_range: Sequence[float] | None = None
) -> tuple[list[np.ndarray], ValueRange, list[str]]:
    """The arrays, name -> images, as uint8 or float32 of shape (n, height, width, channels), their value range, and
    sentences on what was done.

    Args:
        arrays: the training images first: they decide the value range.
        image_shape: (height, width, channels) of flat images, or (channels, height, width) of images whose first axis
            is the channels; None: by the array's shape.
        value_range: (black, white), `source.value_range`; None: by the training images.

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
    made, values, sentence = converted(dict(zip(arrays, shaped, strict=True)), value_range)
    return made, values, [*sentences, *([sentence] if sentence else [])]


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
