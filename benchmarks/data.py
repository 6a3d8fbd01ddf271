"""The images that are measured on: MNIST if there is a copy, else the 5,000 digits that mnistlab brings along."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.common import ImageFile


def find_images(given: Path | None, folder: Path, small: bool = False) -> ImageFile:
    """The file given, else $MNISTLAB_TEST_MNIST, else Keras's cache, else (or if `small`) the embedded mnist_5k.

    Args:
        folder: where the embedded images are written as an .npz.

    Raises:
        SystemExit: the file that was given does not exist.
    """
    named = given or (Path(os.environ["MNISTLAB_TEST_MNIST"]) if os.environ.get("MNISTLAB_TEST_MNIST") else None)
    if named is not None and not named.is_file():
        raise SystemExit(f"No such file: {named}")
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    found = [file for file in (named, home / "datasets" / "mnist.npz") if file is not None and file.is_file()]
    if found and not small:
        return described(found[0].resolve(), "MNIST")
    return described(write_embedded(folder / "mnist_5k.npz"), "the EMBEDDED SUBSET mnist_5k (goals are not judged)")


def described(file: Path, name: str) -> ImageFile:
    """Its size, and its name in words."""
    with np.load(file) as arrays:
        num_train, num_test = len(arrays["y_train"]), len(arrays["y_test"])
    return ImageFile(file, num_train, num_test, f"{name}: {num_train:,} training and {num_test:,} test images")


def write_embedded(file: Path) -> Path:
    """The embedded digits as an .npz like MNIST's, 4,000 to train and 1,000 to test."""
    from mnistlab.data.sources import mnist_5k

    images = mnist_5k()
    np.savez_compressed(
        file,
        x_train=images.train.images[..., 0],
        y_train=images.train.labels,
        x_test=images.test.images[..., 0],
        y_test=images.test.labels,
    )
    return file
