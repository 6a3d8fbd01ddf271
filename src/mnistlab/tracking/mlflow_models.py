"""Saved Keras models in MLflow's format, written without loading Keras."""

import contextlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from mnistlab.tracking import raw_images
from mnistlab.tracking.mlflow_internals import write_environment

EXAMPLE = {  # as MLflow describes the input example of a model that takes an array
    "artifact_path": "input_example.json",
    "type": "ndarray",
    "serving_input_path": "serving_input_example.json",
}

LOADER = "mnistlab_raw_images"  # the name of raw_images.py in a logged model


def example_in(folder: Path) -> Path | None:
    """The request in a run's folder, if it has one."""
    file = folder / EXAMPLE["serving_input_path"]
    return file if file.is_file() else None


class ModelFacts(TypedDict):
    """What MLflow records about a model, as in a run's model.json.

    input_shape: (height, width, channels); dtype: of the pixels; num_outputs: numbers an image; register: the
    registered model that it becomes a version of, or None.
    """

    input_shape: Sequence[int]
    dtype: str
    num_outputs: int
    register: NotRequired[str | None]


class KerasFile:
    """A model in a .keras file, written as MLflow's Keras flavor writes one, but without loading Keras for it.

    As a function (`mlflow.pyfunc`, the model server) it takes raw pixels in all forms: `raw_images`.

    Args:
        example: a file with a request, {"inputs": [images]}; None: the model has no input example.
    """

    def __init__(self, file: Path, facts: ModelFacts, run_id: str, example: Path | None = None) -> None:
        self.file, self.facts, self.run_id, self.example = file, facts, run_id, example

    def signature(self) -> Any:
        """Raw pixels, shape (n, height, width, channels), give float32 (n, outputs)."""
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        pixels = TensorSpec(np.dtype(self.facts["dtype"]), (-1, *self.facts["input_shape"]))
        outputs = TensorSpec(np.dtype("float32"), (-1, self.facts["num_outputs"]))
        return ModelSignature(Schema([pixels]), Schema([outputs]))

    def save_model(self, path: str, mlflow_model: Any, validate_serving_input: bool = False) -> None:
        """Make the folder that `mlflow.keras.load_model` and `mlflow.pyfunc.load_model` read.

        validate_serving_input: an option of MLflow's `Model.log`, which hands it on.
        """
        from mlflow import pyfunc

        folder = Path(path)
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "keras_module.txt").write_text("keras")
        shutil.copyfile(self.file, folder / "data" / "model.keras")
        taken = {"shape": list(self.facts["input_shape"]), "dtype": self.facts["dtype"]}
        (folder / "data" / "images.json").write_text(json.dumps(taken))
        (folder / "code").mkdir()
        shutil.copyfile(raw_images.__file__, folder / "code" / f"{LOADER}.py")
        version = importlib.metadata.version("keras")
        mlflow_model.signature, mlflow_model.run_id = self.signature(), self.run_id
        if self.example is not None:
            shutil.copyfile(self.example, folder / EXAMPLE["serving_input_path"])
            images = json.loads(self.example.read_text(encoding="utf-8"))["inputs"]
            (folder / EXAMPLE["artifact_path"]).write_text(json.dumps(images), encoding="utf-8")
            mlflow_model.saved_input_example_info = dict(EXAMPLE)
        mlflow_model.add_flavor(
            "keras", data="data", keras_version=version, keras_backend="tensorflow", save_exported_model=False
        )
        pyfunc.add_to_model(
            mlflow_model, loader_module=LOADER, code="code", conda_env="conda.yaml", python_env="python_env.yaml"
        )
        mlflow_model.model_size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        mlflow_model.save(str(folder / "MLmodel"))
        needed = [f"{package}=={importlib.metadata.version(package)}" for package in ("tensorflow", "keras", "numpy")]
        write_environment(folder, needed)


@contextlib.contextmanager
def fluent_store(uri: str) -> Iterator[None]:
    """Set MLflow's process-wide tracking URI, for its functions that take no client. MLflow sets the environment
    variable too, which later runs would take for the user's choice: both are restored."""
    import mlflow

    was_set, before = mlflow.is_tracking_uri_set(), os.environ.get("MLFLOW_TRACKING_URI")
    previous = mlflow.get_tracking_uri() if was_set else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(previous)  # type: ignore[arg-type]
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
