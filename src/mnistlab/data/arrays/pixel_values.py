"""The values of images: uint8 where that is exact, else float32, with the value range that the training images decide.

No value is rounded, except to float32. Images of other splits do not decide anything: where they are on another scale,
that is an error.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.value_range import CHUNK_VALUES, DARK, UINT8, ValueRange, number, value_range_of

EXACT_IN_FLOAT32 = 2**24  # all whole numbers up to this
EXACT_IN_FLOAT64 = 2**53
TOO_DARK = 1 / 200  # a split that reaches no more of white is on another scale: 0 to 1 beside 0 to 255
BEYOND = 0.1  # of the value range: how far other splits may exceed it
REASONS = {
    "unit": "0 is black, 1 is white",
    "signed": "-1 is black, 1 is white",
    "pixels": "with fractions",
    "standardized": "standardized; the lowest and the highest training value",
    "range": "the lowest and the highest training value",
    "given": "source.value_range",
}

Ranges = Mapping[str, tuple[float, float]]


def converted(
    arrays: Mapping[str, np.ndarray], given: Sequence[float] | None = None
) -> tuple[list[np.ndarray], ValueRange, str]:
    """The arrays as uint8 if this is exact for all of them, else as float32; their value range; a sentence on both.

    Args:
        arrays: name -> images, shape (n, height, width, channels), the training images first.
        given: (black, white), the user's value range.

    Raises:
        ConfigError: values that are not finite, have two meanings, cannot be held, or are on different scales.
    """
    stated = None if given is None else _given_range(given)
    ranges = {name: _range(array, name) for name, array in arrays.items()}
    if stated is None:
        for name, array in arrays.items():
            if array.dtype == np.int8 and ranges[name][0] < 0:
                raise ConfigError(_two_meanings(name, ranges[name]))
    else:
        _check_given(stated, next(iter(arrays.items())), ranges)
    exact = _as_uint8(arrays, ranges, stated)
    if exact is not None:
        return exact
    return _as_floats(arrays, ranges, stated)


def _given_range(given: Sequence[float]) -> ValueRange:
    numbers = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else []
    valid = len(numbers) == 2 and all(type(value) in (int, float) and math.isfinite(value) for value in numbers)
    if not valid or numbers[0] >= numbers[1]:
        raise ConfigError(
            "source.value_range must be two numbers, the values of black and white, black below white: '[0,4095]'. "
            f"Received: {given}."
        )
    return ValueRange(numbers[0], numbers[1], "given")


def _check_given(stated: ValueRange, training: tuple[str, np.ndarray], ranges: Ranges) -> None:
    name, array = training
    low, high = ranges[name]
    outside = low < stated.black - stated.width or high > stated.white + stated.width
    if outside or 0 < high - low < TOO_DARK * stated.width:
        raise ConfigError(
            f"source.value_range='[{number(stated.black)},{number(stated.white)}]' must be the values of black and "
            f"white in {name}. Received: {_received(array, ranges[name])}."
        )


def _as_uint8(
    arrays: Mapping[str, np.ndarray], ranges: Ranges, stated: ValueRange | None
) -> tuple[list[np.ndarray], ValueRange, str] | None:
    """The arrays as uint8, and a sentence if 1 meant white, or if the values look too dark; None if not exact."""
    lowest, highest = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
    factor = 255 if stated is None and 0 < highest <= 1 and lowest >= 0 else 1
    if lowest < 0 or highest * factor > 255:
        return None
    exact = []
    for array in arrays.values():
        images = _multiplied(array, factor)
        if images is None:
            return None
        exact.append(images)
    if stated is not None:
        return exact, stated, f"Value range: {stated} (source.value_range)."
    for name in arrays:
        if factor == 1 < highest and 0 < ranges[name][1] <= 1:
            raise ConfigError(_other_scale(name, arrays, ranges))
    if factor == 1:
        return exact, UINT8, _dark(highest, 255)
    if all(np.isin(images, (0, 255)).all() for images in exact):
        return exact, UINT8, "The pixels were 0 and 1 only; 1 became 255, white."
    return exact, UINT8, "The pixels were whole numbers divided by 255; multiplied by 255 they are exact."


def _dark(highest: float, white: float) -> str:
    if not 0 < highest < DARK * white:
        return ""
    return f"WARNING: no pixel is above {highest:g}. If that is white, set source.value_range='[0,{highest:g}]'."


def _multiplied(array: np.ndarray, factor: int) -> np.ndarray | None:
    """factor * array as uint8; None if these are not whole numbers from 0 to 255 up to the array's own rounding."""
    if array.dtype == np.uint8 and factor == 1:
        return np.ascontiguousarray(array)
    tolerance = 0.0  # relative; for k / 255 in float32, also if it has become float64 since
    if factor != 1 and array.dtype.kind == "f":
        tolerance = max(np.finfo(array.dtype).eps, 2 * np.finfo(np.float32).eps)
    result = np.empty(array.shape, np.uint8)
    for chunk in _chunks(array):
        scaled = array[chunk].astype(np.float64) * factor
        rounded = np.rint(scaled)
        if rounded.min() < 0 or rounded.max() > 255 or (np.abs(rounded - scaled) > tolerance * scaled).any():
            return None
        result[chunk] = rounded
    return result


def _as_floats(
    arrays: Mapping[str, np.ndarray], ranges: Ranges, stated: ValueRange | None
) -> tuple[list[np.ndarray], ValueRange, str]:
    """The arrays as float32, and their value range."""
    training = next(iter(arrays))
    high = ranges[training][1]
    values = stated or range_of_training(arrays[training], training)
    if stated is None:
        for name in arrays:
            if _is_on_another_scale(name, arrays, ranges, values):
                raise ConfigError(_other_scale(name, arrays, ranges))
    images = [_as_float32(array, name, ranges[name]) for name, array in arrays.items()]
    reason = REASONS.get(values.kind, "")
    if values.kind == "bits":
        bits = int(values.white).bit_length()
        reason = f"{bits} bits, the least of 10, 12, 14 and 16 for the highest training value, {number(high)}"
    sentence = (
        f"The values are not all whole numbers from 0 to 255 and are kept as float32. Value range: {values} ({reason})"
    )
    if stated is not None:
        return images, values, f"{sentence}."
    dark = _dark(high, values.white) if values.kind in ("unit", "pixels") else ""
    return images, values, f"{sentence}; another: source.value_range='[BLACK,WHITE]'.{' ' if dark else ''}{dark}"


def range_of_training(array: np.ndarray, name: str) -> ValueRange:
    """The value range of training images. Raises ConfigError if all have one value that says nothing."""
    low, high = _range(array, name)
    values = value_range_of(low, high, _has_fractions(array))
    if values.width == 0:
        raise ConfigError(f"{name} must hold different values. Received: {number(low)} in all images.")
    return values


def _is_on_another_scale(name: str, arrays: Mapping[str, np.ndarray], ranges: Ranges, values: ValueRange) -> bool:
    """Whether a split cannot be on the training images' scale: beyond their range, or in a small part of it."""
    training, array = next(iter(arrays)), arrays[name]
    low, high = ranges[name]
    if name == training:
        return False
    margin = (1.0 if values.kind == "standardized" else BEYOND) * values.width
    if low < values.black - margin or high > values.white + margin:
        return True
    if low == high:
        return False
    if values.black >= 0:
        other_type = array.dtype.itemsize == 1 and arrays[training].dtype.itemsize > 1
        return high <= TOO_DARK * values.white or (values.kind == "bits" and other_type)
    return low >= 0 and -values.black > BEYOND * values.width


def _as_float32(array: np.ndarray, name: str, limits: tuple[float, float]) -> np.ndarray:
    """The array as float32. Raises ConfigError if it holds numbers that float32 cannot hold."""
    largest = max(map(abs, limits))
    whole = array.dtype.kind in "iu"
    held = largest <= (EXACT_IN_FLOAT64 if whole else float(np.finfo(np.float32).max))
    if not held or (whole and largest > EXACT_IN_FLOAT32 and not _is_exact_in_float32(array)):
        what = "whole numbers that float32 cannot hold exactly" if whole else "numbers beyond float32"
        raise ConfigError(
            f"{name} must hold numbers that float32 can hold. Received: {_received(array, limits)}, {what}. "
            f"Save them on a smaller scale, such as ({name} / {largest:g}).astype('float32')."
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def _is_exact_in_float32(array: np.ndarray) -> bool:
    return all(
        np.array_equal(array[chunk].astype(np.float32).astype(np.float64), array[chunk].astype(np.float64))
        for chunk in _chunks(array)
    )


def _has_fractions(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and any((array[chunk] != np.rint(array[chunk])).any() for chunk in _chunks(array))


def _chunks(array: np.ndarray) -> list[slice]:
    step = max(1, CHUNK_VALUES // math.prod(array.shape[1:]))
    return [slice(start, start + step) for start in range(0, len(array), step)]


def _range(array: np.ndarray, name: str) -> tuple[float, float]:
    """The lowest and the highest value. Raises ConfigError if there are values that are not finite."""
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        finite = np.isfinite(array)
        bad = ~finite.reshape(len(array), -1).all(axis=1)
        values = _range_of_finite(array[finite])
        raise ConfigError(
            f"{name} must hold finite numbers. Received: NaN or infinite values in {bad.sum():,} of {len(array):,} "
            f"images, the first at index {bad.argmax()}. Leave these images and their labels out, or save "
            f"np.nan_to_num({name}, nan={number(values.black)}, posinf={number(values.white)}, "
            f"neginf={number(values.black)}) if such a pixel is a black or white one."
        )
    return low.item(), high.item()


def _range_of_finite(numbers: np.ndarray) -> ValueRange:
    """The value range of these numbers, to be advised."""
    if numbers.size == 0:
        return UINT8
    return value_range_of(float(numbers.min()), float(numbers.max()), bool((numbers != np.rint(numbers)).any()))


def _received(array: np.ndarray, limits: tuple[float, float]) -> str:
    return f"{array.dtype} from {limits[0]:g} to {limits[1]:g}"


def _two_meanings(name: str, limits: tuple[float, float]) -> str:
    return (
        f"{name} must not hold negative int8 numbers, which have two meanings. Received: int8 from {limits[0]:g} to "
        f"{limits[1]:g}. Save {name}.view('uint8') if bytes were stored as int8, or set "
        "source.value_range='[-128,127]' if -128 is black."
    )


def _other_scale(name: str, arrays: Mapping[str, np.ndarray], ranges: Ranges) -> str:
    """The error for a split on another scale than the training images."""
    training = next(iter(arrays))
    other = training if name != training else max(ranges, key=lambda one: ranges[one][1])
    first, second = (one for one in arrays if one in (name, other))
    advice = "If they are, state black and white of all of them: source.value_range='[BLACK,WHITE]'."
    for one, white in ((name, ranges[other][1]), (other, ranges[name][1])):
        if ranges[one][0] >= 0 and ranges[one][1] <= 1 < white <= 255:
            advice = f"Save (255 * {one}).round().astype('uint8')."
    return (
        f"{first} and {second} must be on one scale. Received: {_received(arrays[first], ranges[first])} and "
        f"{_received(arrays[second], ranges[second])}. {advice}"
    )
