"""`source=cifar10`, `cifar100`: the Python batches of CIFAR-10 and CIFAR-100, https://www.cs.toronto.edu/~kriz/cifar.html.

They are pickles, which can run any code: `BatchUnpickler` accepts what these files need, arrays and text, and nothing
else.
"""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.arrays.assemble import images_from_arrays
from mnistlab.data.images import Images

SHAPE = (3, 32, 32)  # all red values first
FILES = {
    "cifar-10": {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]},
    "cifar-100": {"train": ["train"], "test": ["test"]},
}
NAMES = {"cifar-10": ("batches.meta", "label_names"), "cifar-100": ("meta", "fine_label_names")}
LABELS = {"cifar-10": "labels", "cifar-100": "fine_labels"}


def _bytes_of_python_2(text: str, encoding: str) -> bytes:
    return text.encode("latin1") if encoding == "latin1" else b""


RECONSTRUCT: Any = np.empty(0).__reduce__()[0]  # what NumPy's arrays name in a pickle
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _bytes_of_python_2,
}


class BatchUnpickler(pickle.Unpickler):
    """Loads dictionaries, lists, numbers, text and arrays of numbers; any other object is an UnpicklingError."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not loaded because it may run code")
        return ALLOWED[module, name]


def images_from_cifar(path: str, class_names: Sequence[str] | None = None) -> Images:
    """The data set in a folder of batches; class_names: None: those in its batches.meta or meta."""
    folder = Path(path).expanduser()
    kind = next((kind for kind, files in FILES.items() if (folder / files["train"][0]).is_file()), None)
    if kind is None:
        raise ConfigError(
            "source.path must be the folder cifar-10-batches-py (data_batch_1, ...) or cifar-100-python (train, test). "
            f"Received: {path}, which {'holds none of these files' if folder.is_dir() else 'is no folder'}."
        )
    arrays = {}
    for split, files in FILES[kind].items():
        batches = [_batch(folder / file) for file in files]
        for role, key in (("x", "data"), ("y", LABELS[kind])):
            arrays[f"{role}_{split}"] = _joined([_entry(batch, key, folder) for batch in batches], key, folder)
    file, key = NAMES[kind]
    if class_names is None and (folder / file).is_file():
        names = _entry(_batch(folder / file), key, folder)
        if not isinstance(names, list):
            raise ConfigError(f"{key} in {folder / file} must be a list of names. Received: {type(names).__name__}.")
        class_names = [str(name) for name in names]
    sentences = [f"From {folder.name}: {', '.join(file for files in FILES[kind].values() for file in files)}."]
    return images_from_arrays(arrays, kind, str(folder.resolve()), class_names, image_shape=SHAPE, sentences=sentences)


def _batch(file: Path) -> Mapping[str, Any]:
    """A file's dictionary with text as keys and values."""
    try:
        with file.open("rb") as stream:
            content = BatchUnpickler(stream, encoding="latin1").load()
    except FileNotFoundError as error:
        raise ConfigError(f"{file.parent} must hold all batches. Missing: {file.name}.") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise ConfigError(f"{file} cannot be read as a CIFAR batch: {error}. Download it again.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must hold a dictionary. Received: {type(content).__name__}.")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _entry(batch: Mapping[str, Any], key: str, folder: Path) -> Any:
    if key not in batch:
        raise ConfigError(f"The batches in {folder} must hold {key}. Received: {', '.join(batch) or 'nothing'}.")
    return batch[key]


def _joined(entries: Sequence[Any], key: str, folder: Path) -> np.ndarray:
    """The arrays or lists of all batches, one after the other."""
    try:
        return np.concatenate([np.asarray(entry) for entry in entries])
    except ValueError as error:
        raise ConfigError(f"{key} of all batches in {folder} must be arrays of one shape: {error}.") from error
