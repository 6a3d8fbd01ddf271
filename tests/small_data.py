"""What the smoke tests share, made once per process: few digits, and an empty tracking store."""

from __future__ import annotations

import atexit
import functools
import gc
import shutil
import tempfile
from pathlib import Path

from mnistlab.data import Dataset, prepare
from mnistlab.data.sources import Images, mnist_5k
from mnistlab.tracking import mlflow_store

gc.freeze()  # TensorFlow's objects are no garbage: collections need not walk through them


@functools.cache
def digits() -> Images:
    """mnist_5k: 4,000 training and 1,000 test images."""
    return mnist_5k()


@functools.cache
def few_digits(limit: int = 300) -> Dataset:
    """So many training images, 400 for validation, 1,000 for the test."""
    return prepare(digits(), limit=limit)


def copy_empty_database(root: Path) -> Path:
    """A new database of MLflow's, if this root folder has none yet; MLflow takes seconds to create one."""
    file = root / "mlruns" / "mlflow.db"
    file.parent.mkdir(exist_ok=True)
    return file if file.exists() else Path(shutil.copyfile(empty_database(), file))


@functools.cache
def empty_database() -> Path:
    """A database as mnistlab creates it, to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="mnistlab-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    mlflow_store._create_database(folder / "mlflow.db")
    return folder / "mlflow.db"
