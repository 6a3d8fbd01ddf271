"""Saving a trained model as plain Keras files, and starting from one (Part 7)."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from mnistlab.config import ConfigError
from mnistlab.runtime.files import replacing
from mnistlab.training import model_files, saved_models

FILE_NAMES = {"keras": "model.keras", "h5": "model.h5", "weights": "model.weights.h5"}
CHECKPOINTS = 3  # two that are whole, and one that is being written
MOST_SLOTS = 2  # values that an optimizer keeps for each weight, before it is built


def save_model(model: keras.Model, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write the model into the folder: 'keras' and 'h5' files are complete, 'weights' has the weights only."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / FILE_NAMES[name] for name in dict.fromkeys(formats)]
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)  # Keras warns that HDF5 is legacy; the user chose it
    try:
        for file in files:
            _write(model, file)
    finally:
        absl.setLevel(level)
    return files


def _write(model: keras.Model, file: Path) -> None:
    suffix = ".weights.h5" if file.name.endswith(".weights.h5") else file.suffix
    with replacing(file, suffix=suffix) as half:
        if suffix == ".weights.h5":
            _uncompiled(model).save_weights(half)
        else:
            model.save(half)


def saved_bytes(model: keras.Model) -> dict[str, int]:
    """About how large a model's files will be: format -> bytes; 'checkpoint': the files of an interrupted run."""
    weights = sum(math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in model.variables)
    slots = [variable for variable in model.optimizer.variables if variable.shape]
    of_optimizer = sum(math.prod(slot.shape) * tf.as_dtype(slot.dtype).size for slot in slots)
    complete = weights + (of_optimizer if model.optimizer.built else MOST_SLOTS * weights)
    one_checkpoint = complete + 2 * weights  # those of the best and of the latest epoch
    return {"keras": complete, "h5": complete, "weights": weights, "checkpoint": CHECKPOINTS * one_checkpoint}


def _uncompiled(model: keras.Model) -> keras.Model:
    """A copy without optimizer: Keras would write the optimizer's state into a weights file, and require it on load."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def mlflow_file(model: keras.Model, folder: Path, run_folder: Path) -> tuple[Path, bool]:
    """The .keras file that MLflow's model is made of, and whether it is temporary: not one of the saved formats."""
    file = folder / FILE_NAMES["keras"]
    if file.is_file():
        return file, False
    file = run_folder / "mlflow_model.keras"
    _write(model, file)
    return file, True


def load_weights(model: keras.Model, file: Path) -> None:
    """Start from a saved model (.keras, .h5) or saved weights (.weights.h5) of the same architecture.

    Raises:
        ConfigError: the file does not exist, is no model or a damaged one, holds code, or has another architecture
            (both sets of shapes are shown).
    """
    if not file.is_file():
        what = "which is no regular file" if file.exists() else "which does not exist"
        raise ConfigError(f"init.from must be a saved model's file or the id of a run. Received: {file}, {what}.")
    if not file.name.endswith((".keras", ".h5")):
        raise ConfigError(f"init.from must be a .keras, .h5 or .weights.h5 file. Received: {file}.")
    found = model_files.read(file, "init.from")
    model_files.check_name(file, found, "init.from")
    if found.kind == "weights":
        _load_weights_file(model, file)
        return
    loaded = saved_models.load(file, found, "init.from")
    values = loaded.get_weights()
    _check_shapes(file, [value.shape for value in values], model)
    model.set_weights(values)


def _load_weights_file(model: keras.Model, file: Path) -> None:
    shapes = _shapes_in(file)
    trained = {tuple(weight.shape) for weight in model.trainable_weights}
    if not trained <= set(shapes):
        _check_shapes(file, shapes, model)
    try:
        copy = _uncompiled(model)
        copy.load_weights(file)
        model.set_weights(copy.get_weights())
    except Exception as error:
        raise ConfigError(
            f"init.from={file} does not fit this model: {_first_line(error)}. "
            f"The file has {_shown(shapes)}; the model has {_shown(_shapes_of(model))}."
        ) from error


def _shapes_in(file: Path) -> list[tuple[int, ...]]:
    """The shapes of the variables in a weights file, the optimizer's left out."""
    import h5py

    shapes: list[tuple[int, ...]] = []

    def gather(name: str, entry: object) -> None:
        if isinstance(entry, h5py.Dataset) and not name.startswith("optimizer"):
            shapes.append(tuple(entry.shape))

    try:
        with h5py.File(file) as opened:
            opened.visititems(gather)
    except (OSError, KeyError, RuntimeError, ValueError) as error:  # h5py's, by the place of the damage
        raise ConfigError(f"init.from={file} cannot be read; it may be damaged: {_first_line(error)}.") from error
    return shapes


def _shapes_of(model: keras.Model) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in model.weights]


def _check_shapes(file: Path, shapes: Sequence[tuple[int, ...]], model: keras.Model) -> None:
    if list(shapes) != _shapes_of(model):
        raise ConfigError(
            f"init.from={file} has another architecture. "
            f"The file has {_shown(shapes)}; the model has {_shown(_shapes_of(model))}."
        )


def _shown(shapes: Sequence[tuple[int, ...]]) -> str:
    return "weight shapes " + ", ".join(str(tuple(int(side) for side in shape)) for shape in shapes)


def _first_line(error: Exception) -> str:
    lines = str(error).strip("'\" \n").splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
