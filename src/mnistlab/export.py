"""`python -m mnistlab.export source=mnist_5k to=digits`: any source in memory as folders of PNG files by class.

The folders are `to/train/CLASS/…png` and `to/test/CLASS/…png`. Files are numbered in the source's order, so that
`source=directory` finds the images in the order in which they were.
"""

from __future__ import annotations

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
from mnistlab.data.sources import Images, Split

USAGE = """Usage: python -m mnistlab.export source=SOURCE to=FOLDER [source.KEY=VALUE ...]

Writes a source's images as PNG files, FOLDER/train/CLASS/... and FOLDER/test/CLASS/..., for source=directory.

  python -m mnistlab.export source=mnist_5k to=digits
  python -m mnistlab.train source=directory source.path=digits model=cnn"""
COMPRESSION = 1  # of zlib: fast to write; small images hardly get smaller with more


def export(images: Images, to: str | Path) -> Path:
    """Write every image; the folder appears when it is complete.

    Raises:
        ConfigError: the folder exists and holds something, or cannot be written, or a class name is no folder name.
    """
    folder = Path(to).expanduser()
    _check(images, folder)
    half = folder.with_name(f".{folder.name}.half")
    try:
        shutil.rmtree(half, ignore_errors=True)
        for name, split in (("train", images.train), ("validation", images.validation), ("test", images.test)):
            if split is not None:
                _write_split(split, images.class_names, half / name)
        if folder.exists():
            folder.rmdir()
        half.replace(folder)
    except OSError as error:
        raise ConfigError(f"to={to} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


def _check(images: Images, folder: Path) -> None:
    problems = []
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problems.append(f"to={folder} must be a new or an empty folder. Received: one that holds something.")
    problems += [
        f"The class {name!r} cannot be a folder's name."
        for name in images.class_names
        if not name or name.startswith(".") or "/" in name or os.sep in name or "\0" in name
    ]
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


def main(words: Sequence[str] | None = None) -> int:
    """The command: exit status 0 done, 2 a user's mistake."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or {"-h", "--help"} & set(words):
        print(USAGE)
        return 0 if words else 2
    try:
        print(_exported(words))
    except ConfigError as error:
        print("\n".join(["Refused:", *(f"  - {problem}" for problem in error.problems)]), file=sys.stderr)
        return 2
    return 0


def _exported(words: Sequence[str]) -> str:
    targets = [word.removeprefix("to=") for word in words if word.startswith("to=")]
    others = [word for word in words if not word.startswith("to=")]
    strange = [word for word in others if word.split("=")[0].split(".")[0].lstrip("+") != "source"]
    if len(targets) != 1 or not targets[0] or strange:
        received = " ".join(words)
        raise ConfigError(f"An export takes to=FOLDER and settings of the source. Received: {received}.\n{USAGE}")
    config = compose_config(others)
    if config.choices.get("source") == "directory":
        raise ConfigError("source=directory is folders already. Choose a source in memory: mnist, mnist_5k, npz, ...")
    images: Images = build(config.source, "source")
    folder = export(images, targets[0])
    counts = {"training": images.train, "validation": images.validation, "test": images.test}
    said = ", ".join(f"{len(split):,} {name}" for name, split in counts.items() if split is not None)
    warning = f"WARNING: {images.warning}\n" if images.warning else ""
    return f"{warning}{said} images of {images.name} in {folder}"


if __name__ == "__main__":
    sys.exit(main())
