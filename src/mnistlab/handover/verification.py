"""Runs a script's sections up to the compiled model, and compares what they make with the run's data and model."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mnistlab.data import Dataset
from mnistlab.handover.document import Section
from mnistlab.handover.network import seed_states

NAMES = {"train": "train", "validation": "val", "test": "test"}  # of the splits, and in the script
NUM_FILES = 32  # of a split that is not in memory, compared pixel by pixel
NUM_IMAGES = 8  # that both models classify
SAME_OUTPUTS = 1e-5


def run_sections(sections: Sequence[Section], folder: Path, names: dict[str, Any]) -> None:
    """Run the code of sections in a folder, with these names, quietly."""
    code = "\n\n".join(section.code for section in sections)
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "the script", "exec"), names)


def data_differences(names: Mapping[str, Any], dataset: Dataset) -> Iterator[str]:
    """What differs between the arrays of the script, before they are scaled, and the run's."""
    for split, short in NAMES.items():
        images, labels = names[f"X_{short}"], names[f"{short}_labels"]
        expected = dataset.splits[split]
        if len(images) != len(expected) or not np.array_equal(labels, expected.labels):
            yield f"the {split} images are others"
        elif isinstance(images, np.ndarray) and expected.resident:
            same_shape = images.shape == expected.images.shape
            if not same_shape or not np.array_equal(images.astype(np.float32), np.asarray(expected.images)):
                yield f"the pixels of the {split} images differ"
        else:
            rows = np.unique(np.linspace(0, len(images) - 1, NUM_FILES).astype(int))
            if not np.array_equal(images[rows], expected.images[rows]):
                yield f"the pixels of the {split} images differ"


def preparation_differences(names: Mapping[str, Any], dataset: Dataset) -> Iterator[str]:
    """What differs between the script's targets and class weights and the run's."""
    for split, short in NAMES.items():
        if not np.array_equal(names[f"y_{short}"], dataset.targets(dataset.splits[split].labels)):
            yield f"the targets of the {split} images differ"
    expected = dataset.class_weight or {}
    given = {int(label): float(weight) for label, weight in names.get("class_weight", {}).items()}
    if given.keys() != expected.keys() or not all(np.isclose(given[one], expected[one]) for one in expected):
        yield "the class weights differ"


def model_differences(script_model: keras.Model, model: keras.Model, names: Mapping[str, Any], data: Dataset) -> str:
    """The first difference between the script's compiled model and the run's, both untrained; '' if there is none."""
    ours, theirs = script_model.get_weights(), model.get_weights()
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        return "the layers have other shapes"
    if not all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True)):
        return "the initial weights differ"
    if len(script_model.trainable_weights) != len(model.trainable_weights):
        return "other layers are trained"
    if random_states(script_model) != random_states(model):
        return "the seeds of the random layers differ"
    rows = np.arange(min(NUM_IMAGES, len(data.train)))
    output, expected = script_model(names["X_train"][rows]), model(data.train.images[rows])
    if not np.allclose(np.asarray(output), np.asarray(expected), atol=SAME_OUTPUTS):
        return "the outputs differ"
    if not np.isclose(sum(map(float, script_model.losses)), sum(map(float, model.losses))):
        return "the regularization differs"
    compiled = [_compiled(one) for one in (script_model, model)]
    return "" if compiled[0] == compiled[1] else "optimizer, loss or metrics differ"


def random_states(model: keras.Model) -> list[list[int]]:
    """The states of the layers that draw random numbers while they train."""
    return [np.asarray(keras.ops.convert_to_numpy(one)).tolist() for one in seed_states(model)]


def _compiled(model: keras.Model) -> Any:
    config = model.get_compile_config()
    return [_without_names(config["optimizer"]), _without_names(config["loss"]), config["metrics"]]


def _without_names(value: Any) -> Any:
    """A configuration without the names of its objects, which Keras counts."""
    if isinstance(value, Mapping):
        return {key: _without_names(entry) for key, entry in value.items() if key != "name"}
    return [_without_names(entry) for entry in value] if isinstance(value, list) else value
