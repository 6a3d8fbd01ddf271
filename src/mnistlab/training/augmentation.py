"""`data.augmentation`: ImageDataGenerator's arguments as Keras layers inside the network.

Only training images are augmented: the layers do nothing outside the training. The `generator` loader takes the
arguments as they are.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from mnistlab.config import ConfigError
from mnistlab.data import Dataset
from mnistlab.data.folders import generator
from mnistlab.data.folders.generator import to_pixels

FILL_ARGUMENTS = ("fill_mode", "cval", "interpolation_order")
FILL_MODES = ("nearest", "constant", "reflect", "wrap")
INTERPOLATIONS = {0: "nearest", 1: "bilinear"}


def layers(
    arguments: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    scale: float = 1.0,
    offset: float = 0.0,
    seed: int | None = None,
) -> list[keras.Layer]:
    """Keras's random layers for ImageDataGenerator's arguments; active in training only.

    Args:
        arguments: of ImageDataGenerator, under its names.
        image_shape: (height, width, channels), to turn shifts in pixels into shares.
        scale, offset: of the pixels that reach the layers, so that `cval` can be a raw one (0 to 255).
        seed: of the layers' random numbers; None: derived from the run's seed.

    Raises:
        ConfigError: all arguments that no layer corresponds to.
    """
    given = {name: value for name, value in arguments.items() if _has_effect(name, value)}
    filling, problems = _fill_settings(given, scale, offset)
    problems += [problem for name, value in given.items() if (problem := _problem(name, value))]
    if problems:
        raise ConfigError(problems)
    filling["seed"] = seed
    made: list[keras.Layer] = []
    if "rotation_range" in given:
        made.append(kl.RandomRotation(given["rotation_range"] / 360, **filling))
    if "zoom_range" in given:
        made.append(kl.RandomZoom(*_zoom(given["zoom_range"]), **filling))
    if {"height_shift_range", "width_shift_range"} & set(given):
        sides = zip(("height_shift_range", "width_shift_range"), image_shape, strict=False)
        made.append(kl.RandomTranslation(*(_share(given.get(name, 0), side) for name, side in sides), **filling))
    flips = "_and_".join(name.removesuffix("_flip") for name in ("horizontal_flip", "vertical_flip") if name in given)
    return [*made, kl.RandomFlip(flips, seed=seed)] if flips else made


def _problem(name: str, value: Any) -> str | None:
    """Why no layer corresponds to an argument."""
    is_number = isinstance(value, int | float)
    if name in FILL_ARGUMENTS or name.endswith("_flip"):
        return None
    if name in ("height_shift_range", "width_shift_range"):
        return None if is_number else _no_layer(f"data.augmentation.{name}={value} (a list)")
    if name == "rotation_range":
        return None if is_number else f"data.augmentation.{name} is a number of degrees. Received: {value}."
    if name == "zoom_range":
        message = f"data.augmentation.{name} is a number or [lowest, highest]. Received: {value}."
        return None if _is_zoom(value) else message
    return _no_layer(f"data.augmentation.{name}={value}")


def _has_effect(name: str, value: Any) -> bool:
    """Whether the value differs from ImageDataGenerator's default, which has no effect."""
    return name in FILL_ARGUMENTS or value not in (None, 0, 0.0, False)


def _fill_settings(given: Mapping[str, Any], scale: float, offset: float) -> tuple[dict[str, Any], list[str]]:
    """How the layers fill pixels outside the image and interpolate between pixels."""
    mode, order = given.get("fill_mode", "nearest"), given.get("interpolation_order", 1)
    problems = []
    if mode not in FILL_MODES:
        problems.append(f"data.augmentation.fill_mode is one of {', '.join(FILL_MODES)}. Received: {mode}.")
    if order not in INTERPOLATIONS:
        problems.append(_no_layer(f"data.augmentation.interpolation_order={order}"))
    value = float(given.get("cval", 0.0)) * scale + offset
    return {"fill_mode": mode, "fill_value": value, "interpolation": INTERPOLATIONS.get(order, "bilinear")}, problems


def _no_layer(setting: str) -> str:
    return f"{setting}: no Keras layer does the same inside the network. Use source.loader=generator for it."


def _is_zoom(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) == 2 and all(isinstance(entry, int | float) for entry in value)
    return isinstance(value, int | float)


def _zoom(value: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Height and width factors; above 1 shows more of the image, as in ImageDataGenerator, and each has its own."""
    low, high = value if isinstance(value, list | tuple) else (1 - value, 1 + value)
    return (low - 1, high - 1), (low - 1, high - 1)


def _share(shift: float, side: int) -> float:
    """A shift below 1 is a share of the side, above it a number of pixels."""
    return float(shift) if abs(shift) < 1 else float(shift) / side


def augmented_versions(dataset: Dataset, image: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Random versions of a training image as the training may see them, (count, height, width, channels)."""
    if dataset.loader == "generator":
        return generator.augmented_versions(dataset.augmentation, image, count, seed)
    return versions(np.repeat(image[np.newaxis], count, axis=0), dataset.augmentation, seed)


def versions(images: np.ndarray, arguments: Mapping[str, Any], seed: int) -> np.ndarray:
    """One random version of each image, made by the layers, of the images' type: uint8 or float32."""
    height, width, channels = images.shape[1:]
    values = keras.ops.convert_to_tensor(images.astype(np.float32))
    for layer in layers(arguments, (height, width, channels), seed=seed):
        values = layer(values, training=True)
    made = keras.ops.convert_to_numpy(values)
    return to_pixels(made) if images.dtype == np.uint8 else made
