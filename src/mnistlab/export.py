"""`python -m mnistlab.export source=mnist_5k to=digits`: write a source's images as PNG files for `source=directory`.

The files are numbered in the source's order, so `source=directory` reads the images in the same order.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mnistlab.config import ConfigError
from mnistlab.config.build import build
from mnistlab.config.compose import compose_config
from mnistlab.data.images import pixel_type
from mnistlab.data.sources import Images, Split
from mnistlab.runtime import errors, exits

USAGE = """Usage: python -m mnistlab.export source=SOURCE to=FOLDER [source.KEY=VALUE ...]

Writes a source's images as PNG files, FOLDER/train/CLASS/... and FOLDER/test/CLASS/..., for source=directory.

  python -m mnistlab.export source=mnist_5k to=digits
  python -m mnistlab.train source=directory source.path=digits model=cnn"""
COMPRESSION = 1  # zlib's fastest level; higher ones hardly make small images smaller


def export(images: Images, to: str | Path) -> Path:
    """Write every image as a PNG file. The folder `to` appears only when it is complete.

    Raises:
        ConfigError: the folder is not empty or cannot be written, or a class name cannot be a folder name.
    """
    folder = Path(to).expanduser()
    _check_names(images, folder)
    unfinished = folder.with_name(f".{folder.name}.half")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        for name, split in (("train", images.train), ("validation", images.validation), ("test", images.test)):
            if split is not None:
                _write_split(split, images.class_names, unfinished / name)
        if folder.exists():
            folder.rmdir()
        unfinished.replace(folder)
    except OSError as error:
        raise ConfigError(f"to={to} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _check_names(images: Images, folder: Path) -> None:
    problems = [
        f"The class {name!r} cannot be the name of a folder."
        for name in images.class_names
        if not name or name.startswith(".") or {"/", os.sep, "\0"} & set(name)
    ]
    if pixel_type(images.train.images) != "uint8":
        problems.append(f"The PNG files would hold 8 bits. Received: float32 images, {images.value_range}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        rule = f"to={folder} must be a new or an empty folder."
        problems.insert(0, f"{rule} Received: a file or a folder that is not empty.")
    if problems:
        raise ConfigError(problems)


def _write_split(split: Split, class_names: Sequence[str], folder: Path) -> None:
    for name in class_names:
        (folder / name).mkdir(parents=True)
    digits = len(str(len(split) - 1))
    for index, label in enumerate(split.labels):
        pixels = np.asarray(split.images[index])
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        image.save(folder / class_names[label] / f"{index:0{digits}}.png", compress_level=COMPRESSION)


def main() -> None:
    """The command. Exit status: 0 success, 2 a user's mistake, 130 interrupted, 143 terminated."""
    exits.leave(errors.run_command(lambda: export_from_arguments(sys.argv[1:]), USAGE))


def export_from_arguments(arguments: Sequence[str]) -> None:
    """Export the source that the command line names."""
    folders = [argument.removeprefix("to=") for argument in arguments if argument.startswith("to=")]
    overrides = [argument for argument in arguments if not argument.startswith("to=")]
    unknown = [override for override in overrides if override.split("=")[0].split(".")[0].lstrip("+") != "source"]
    if len(folders) != 1 or not folders[0] or unknown:
        raise ConfigError(f"Give to=FOLDER and settings of the source only. Received: {' '.join(arguments)}.\n{USAGE}")
    config = compose_config(overrides)
    if config.choices.get("source") == "directory":
        raise ConfigError(
            "source=directory already reads image folders. Choose another source: mnist, mnist_5k, npz, ..."
        )
    images: Images = build(config.source, "source")
    exits.catch_signals()
    folder = export(images, folders[0])
    splits = {"training": images.train, "validation": images.validation, "test": images.test}
    counts = ", ".join(f"{len(split):,} {name}" for name, split in splits.items() if split is not None)
    warning = f"WARNING: {images.warning}\n" if images.warning else ""
    print(f"{warning}{counts} images of {images.name} in {folder}")


if __name__ == "__main__":
    main()
