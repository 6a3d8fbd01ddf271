"""Saved Keras models in MLflow's format, written without loading Keras."""

import contextlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnistlab.tracking.mlflow_internals import write_environment


class KerasFile:
    """A model in a .keras file, written as MLflow's Keras flavor writes one, but without loading Keras for it."""

    def __init__(self, file: Path, signature: Any, run_id: str) -> None:
        self.file, self.signature, self.run_id = file, signature, run_id

    def save_model(self, path: str, mlflow_model: Any) -> None:
        """Make the folder that `mlflow.keras.load_model` and `mlflow.pyfunc.load_model` read."""
        from mlflow import pyfunc

        folder = Path(path)
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "keras_module.txt").write_text("keras")
        shutil.copyfile(self.file, folder / "data" / "model.keras")
        version = importlib.metadata.version("keras")
        mlflow_model.signature, mlflow_model.run_id = self.signature, self.run_id
        mlflow_model.add_flavor(
            "keras", data="data", keras_version=version, keras_backend="tensorflow", save_exported_model=False
        )
        pyfunc.add_to_model(
            mlflow_model, loader_module="mlflow.keras", conda_env="conda.yaml", python_env="python_env.yaml"
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
