"""Loads a Keras model for MLflow's `pyfunc` and its model server: images in every form in which people send them.

MLflow copies this file into each logged model, where it runs without mnistlab: it needs Keras, NumPy and MLflow only.

MLflow compares every request with the signature to the letter: it would refuse images without the axis of the channels,
floats, CSV and tables with a column a pixel. The model itself knows what it takes. So the signature stands in the
model's record, for people and programs, and the model checks its requests.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

MAX_BATCH = 256


def _load_pyfunc(path: str) -> RawImages:
    """What `mlflow.pyfunc` calls. path: the folder of the logged model."""
    import keras

    _let_the_model_check()
    model = keras.models.load_model(Path(path) / "data" / "model.keras", compile=False)
    facts = json.loads((Path(path) / "data" / "images.json").read_text(encoding="utf-8"))
    return RawImages(model, tuple(facts["shape"]), facts["dtype"])


def _let_the_model_check() -> None:
    """Have MLflow pass requests to the models of this module as they are; those of others stay as they were."""
    from mlflow.models import Model

    original = Model.get_input_schema
    if getattr(original, "passes_raw_images", False):
        return

    def get_input_schema(self: Any) -> Any:
        flavor = self.flavors.get("python_function", {})
        return None if flavor.get("loader_module") == __name__ else original(self)

    get_input_schema.passes_raw_images = True  # type: ignore[attr-defined]
    Model.get_input_schema = get_input_schema


class RawImages:
    """A Keras model that takes raw pixels.

    shape: (height, width, channels) of an image; dtype: 'uint8' for pixels from 0 to 255, else any numbers.
    """

    def __init__(self, model: Any, shape: tuple[int, ...], dtype: str) -> None:
        self.model, self.shape, self.dtype = model, shape, dtype

    def get_raw_model(self) -> Any:
        """The Keras model."""
        return self.model

    def predict(self, data: Any, params: Any = None) -> np.ndarray:
        """The model's outputs, float32, shape (n, outputs).

        data: n images, or one, as an array, nested lists, a data frame with an image a row (in one column, or a column
            a pixel), or a dictionary with one of these. An image may lack the axis of its one channel, or all axes.
        params: not used.

        Raises:
            MlflowException: the images have another shape, or values that are no raw pixels.
        """
        images = self.images_of(data)
        starts = range(0, len(images), MAX_BATCH)
        batches = [self.model.predict_on_batch(images[start : start + MAX_BATCH]) for start in starts]
        return np.concatenate(batches).astype(np.float32)

    def images_of(self, data: Any) -> np.ndarray:
        """The images of a request, shape (n, height, width, channels)."""
        values = self._as_numbers(data)
        size = math.prod(self.shape)
        one = [(size,), self.shape, *([self.shape[:-1]] if self.shape[-1] == 1 else [])]
        if values.shape in one:
            values = values[np.newaxis]
        if len(values) == 0 or values.shape[1:] not in one:
            expected = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in reversed(one))
            raise _refusal(f"The images must have the shape {expected}. Received: {values.shape}.")
        images = values.reshape(-1, *self.shape)
        self._check_values(images)
        return np.round(images).astype(np.uint8) if self.dtype == "uint8" else images.astype(self.dtype)

    def _as_numbers(self, data: Any) -> np.ndarray:
        if isinstance(data, dict):
            if len(data) != 1:
                raise _refusal(f"A request must have the images under one name. Received: {', '.join(map(str, data))}.")
            (data,) = data.values()
        if hasattr(data, "columns"):  # a data frame
            one_column = len(data.columns) == 1
            data = [np.asarray(_nested(cell)) for cell in data.iloc[:, 0]] if one_column else data.to_numpy()
        try:
            values = np.asarray(_nested(data))
            return values if values.dtype.kind in "biuf" else values.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise _refusal(f"The images must be numbers, all images of one shape ({error}).") from error

    def _check_values(self, images: np.ndarray) -> None:
        if not np.isfinite(images).all():
            raise _refusal("The images have values that are not finite.")
        if self.dtype != "uint8":
            return
        low, high = images.min(), images.max()
        if low < 0 or high > 255:
            raise _refusal(f"The pixels must be from 0 to 255. Received: {low:g} to {high:g}.")
        if high <= 1 and not np.array_equal(images, np.round(images)):
            raise _refusal("The pixels must be raw, from 0 to 255. Received: values from 0 to 1. Multiply them by 255.")


def _nested(value: Any) -> Any:
    """The lists in a text, as CSV has them: '[[0, 255], ...]'."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise _refusal(f"An image must be numbers or nested lists of them. Received: {value[:40]!r}.") from error


def _refusal(message: str) -> Exception:
    """An error that a model server answers with the status 400 and the message."""
    from mlflow.exceptions import MlflowException

    return MlflowException.invalid_parameter_value(message)
