"""The images that are measured on: MNIST, or the 5,000 digits that come with mnistlab; folders of image files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import ImageFile


def find_images(given: Path | None, folder: Path, small: bool = False) -> ImageFile:
    """The given file, else $MNISTLAB_TEST_MNIST, else Keras's cache, else (or if `small`) the embedded mnist_5k.

    Args:
        folder: where the embedded images are written as an .npz.

    Raises:
        SystemExit: the given file does not exist.
    """
    named = given or (Path(os.environ["MNISTLAB_TEST_MNIST"]) if os.environ.get("MNISTLAB_TEST_MNIST") else None)
    if named is not None and not named.is_file():
        raise SystemExit(f"No such file: {named}")
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    found = [file for file in (named, home / "datasets" / "mnist.npz") if file is not None and file.is_file()]
    if found and not small:
        return describe_file(found[0].resolve(), "MNIST")
    return describe_file(write_embedded(folder / "mnist_5k.npz"), "the EMBEDDED SUBSET mnist_5k (goals not checked)")


def describe_file(file: Path, name: str) -> ImageFile:
    """The file with its size and its description."""
    with np.load(file) as arrays:
        num_train, num_test = len(arrays["y_train"]), len(arrays["y_test"])
    return ImageFile(file, num_train, num_test, f"{name}: {num_train:,} training and {num_test:,} test images")


def write_embedded(file: Path) -> Path:
    """Write the embedded digits as an .npz like MNIST's, 4,000 for training and 1,000 for the test."""
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


def make_digits(folder: Path) -> Path:
    """The 5,000 embedded digits as PNG files."""
    from mnistlab.data import sources
    from mnistlab.export import export

    export(sources.mnist_5k(), folder)
    for file in (folder / "test").glob("*/*.png"):
        file.rename(folder / "train" / file.parent.name / f"test_{file.name}")
    return folder / "train"


def make_photos(folder: Path, count: int, size: tuple[int, int] = (400, 300), distinct: int = 400) -> Path:
    """JPEG files of two classes, (width, height); beyond `distinct` they are hard links to the first ones."""
    generator = np.random.default_rng(0)
    files: list[Path] = []
    for index in range(count):
        file = folder / ("cat", "dog")[index % 2] / f"{index:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        if len(files) >= distinct:
            os.link(files[index % distinct], file)
            continue
        coarse = generator.integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        image = (image + generator.integers(-6, 7, image.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(file, quality=85)
        files.append(file)
    return folder
