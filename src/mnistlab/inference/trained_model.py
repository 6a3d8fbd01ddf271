"""A trained model with the names of its classes and what its inputs are."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.value_range import UINT8, ValueRange
from mnistlab.inference.pictures import ModelInput
from mnistlab.tracking.chosen_models import ChosenModel
from mnistlab.training import model_files, saved_models
from mnistlab.training.fitting import evaluation_batch_size

BATCH_SIZE = 1000
FEW = 64  # images for which compiling takes longer than it saves
PIXELS = ("auto", "raw", "unit")
UNIT = ValueRange(0, 1, "unit")
# Data sets with light strokes or clothes on black, for runs that did not record their background.
ON_BLACK = ("mnist", "mnist_5k", "fashion_mnist", "kmnist", "emnist")


@dataclass(frozen=True)
class TrainedModel:
    """A model that is ready to predict.

    chosen: what `run=` named; class_names: one per class; input: the images that it takes; notes: what was assumed
    where no run says it.
    """

    chosen: ChosenModel
    model: keras.Model
    class_names: tuple[str, ...]
    input: ModelInput
    notes: tuple[str, ...] = ()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities, float32, shape (n, classes), of images, shape (n, height, width, channels)."""
        images = images.reshape(len(images), *self.model.input_shape[1:])
        if not len(images):
            return np.empty((0, len(self.class_names)), np.float32)
        if len(images) <= FEW:
            outputs = np.asarray(self.model(images, training=False))
        else:
            size = min(BATCH_SIZE, evaluation_batch_size(self.model))
            outputs = self.model.predict(images, batch_size=size, verbose=0)
        return _probabilities(outputs)


def load(chosen: ChosenModel, pixels: str = "auto") -> TrainedModel:
    """Load the model in safe mode.

    Args:
        pixels: the values that a model without a run takes: 'raw' 0 to 255, 'unit' 0 to 1; 'auto': raw if it scales
            them itself.

    Raises:
        ConfigError: the file is damaged, holds code or weights only, or is no classifier of pictures.
    """
    found = model_files.read(chosen.file, "run")
    model_files.check_name(chosen.file, found, "run")
    if found.kind == "weights":
        raise ConfigError(
            f"{chosen.place} has the weights of a model only, not the model. Name its .keras or .h5 file, or its run."
        )
    model = saved_models.load(chosen.file, found, "run")
    shape = _image_shape(model, chosen)
    names = _class_names(model, chosen)
    values, notes = _values(model, chosen, pixels)
    if not chosen.class_names:
        notes = (*notes, f"The classes have no names: they are numbered from 0 to {len(names) - 1}.")
    dtype = str(chosen.dataset.get("dtype", "uint8" if values is UINT8 else "float32"))
    return TrainedModel(chosen, model, names, ModelInput(shape, values, dtype, _background(chosen)), notes)


def _image_shape(model: keras.Model, chosen: ChosenModel) -> tuple[int, int, int]:
    """Height, width and channels of the images, also for a model that takes them without channels or flat."""
    splits: dict[str, Any] = chosen.dataset.get("splits", {})
    recorded = splits.get("train", {}).get("image_shape")
    shape = model.input_shape
    if recorded and isinstance(shape, tuple) and np.prod(recorded) == np.prod([side or 0 for side in shape[1:]]):
        height, width, channels = recorded
        return int(height), int(width), int(channels)
    sides = shape[1:] if isinstance(shape, tuple) else ()
    if len(sides) in (2, 3) and all(sides):
        return (*sides, 1) if len(sides) == 2 else sides
    if len(sides) == 1 and sides[0] and (side := round(sides[0] ** 0.5)) ** 2 == sides[0]:
        return side, side, 1
    raise ConfigError(
        f"{chosen.place} must take pictures of one size: height, width and 1, 3 or 4 channels. Its input has the "
        f"shape {shape}."
    )


def _class_names(model: keras.Model, chosen: ChosenModel) -> tuple[str, ...]:
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or not shape[1]:
        raise ConfigError(f"{chosen.place} must give one number per class. Its output has the shape {shape}.")
    num_classes = 2 if shape[1] == 1 else shape[1]
    names = chosen.class_names or tuple(map(str, range(num_classes)))
    if len(names) != num_classes:
        raise ConfigError(
            f"{chosen.place} gives {num_classes} classes, and its run recorded {len(names)}: {', '.join(names[:10])}. "
            "The file is of another run."
        )
    return names


def _values(model: keras.Model, chosen: ChosenModel, pixels: str) -> tuple[ValueRange, tuple[str, ...]]:
    """The value range of the model's inputs, and notes on what was assumed."""
    if recorded := chosen.dataset.get("value_range"):
        return ValueRange(float(recorded["black"]), float(recorded["white"]), str(recorded["kind"])), ()
    if pixels not in PIXELS:
        raise ConfigError(f"pixels must be one of {', '.join(PIXELS)}. Received: {pixels}.")
    scales = any(isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization) for layer in _layers(model))
    if pixels == "raw" or (pixels == "auto" and scales):
        return UINT8, ()
    if pixels == "unit":
        return UNIT, ()
    return UNIT, ("The model has no scaling of its own: it gets pixels from 0 to 1. Others: pixels=raw, 0 to 255.",)


def _layers(model: keras.Model) -> list[keras.Layer]:
    return [inner for layer in model.layers for inner in (_layers(layer) if hasattr(layer, "layers") else [layer])]


def _background(chosen: ChosenModel) -> float | None:
    """The background of the training images, 0 black to 1 white; None if it is not known or not uniform."""
    if "background" in chosen.dataset:
        recorded = chosen.dataset["background"]
        return None if recorded is None else float(recorded)
    return 0.0 if chosen.dataset.get("name") in ON_BLACK else None


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    """Class probabilities from a model's outputs: of one sigmoid unit both classes, of logits their softmax."""
    outputs = np.asarray(outputs, np.float32)
    is_share = outputs.min() >= 0 and outputs.max() <= 1
    if outputs.shape[1] == 1:
        share = outputs if is_share else 1 / (1 + np.exp(-outputs))
        return np.concatenate([1 - share, share], axis=1)
    if is_share:
        return outputs
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def ranked(probabilities: np.ndarray, count: int = 2) -> np.ndarray:
    """The most probable classes of each image, the first the most probable: int, shape (n, count)."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
