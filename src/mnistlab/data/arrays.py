"""Check a user's arrays and convert them to the types of a `Split`; the error messages name the array."""

import warnings

import numpy as np

from mnistlab.config import ConfigError


def as_images(array: np.ndarray, name: str) -> np.ndarray:
    """The images as uint8, shape (n, height, width, channels).

    Raises:
        ConfigError: the array's shape, type or values are not those of images.
    """
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[3] not in (1, 3, 4) or 0 in array.shape[1:]:
        raise ConfigError(
            f"{name} must have the shape (n, height, width) or (n, height, width, 1, 3 or 4). Received: {array.shape}."
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "iufb":
        raise ConfigError(f"{name} must hold numbers, preferably uint8. Received: {array.dtype}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        converted = array.astype(np.uint8)
    if not np.array_equal(converted, array):
        raise ConfigError(
            f"{name} must hold whole numbers from 0 to 255, preferably as uint8. "
            f"Received: {array.dtype} from {array.min():g} to {array.max():g}. "
            f"For values in 0..1 save (255 * {name}).round().astype('uint8')."
        )
    return converted


def as_labels(array: np.ndarray, name: str) -> np.ndarray:
    """The labels as int64, shape (n,), from integers or one-hot rows.

    Raises:
        ConfigError: the array holds neither.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.size and np.array_equal(array.sum(axis=1), np.ones(len(array))):
        return array.argmax(axis=1).astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iufb" or not np.array_equal(array, array.astype(np.int64)):
        raise ConfigError(
            f"{name} must hold integer labels of shape (n,), or one-hot rows. Received: {array.dtype}, {array.shape}."
        )
    if array.size and array.min() < 0:
        raise ConfigError(f"{name} must hold labels from 0 on. Received: {array.min()}.")
    return array.astype(np.int64)
