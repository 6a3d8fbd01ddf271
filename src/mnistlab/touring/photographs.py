"""Digits as a camera would see them, made from images of digits."""

from pathlib import Path

import numpy as np
from PIL import Image

from mnistlab.config import ConfigError


def write_photographs(digits: Path, folder: Path) -> None:
    """Ten PNG files, 0.png to 9.png: the strokes of digits as ink on unevenly lit paper. The same ones each time.

    Args:
        digits: a folder with a folder of images for each digit, light strokes on black; of each the first is taken.

    Raises:
        ConfigError: a digit is missing.
    """
    generator = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for digit in range(10):
        file = min((digits / str(digit)).glob("*.png"), default=None)
        if file is None:
            raise ConfigError(f"The photographs are made of images of digits. There are none in {digits / str(digit)}.")
        side = int(generator.integers(180, 320))
        strokes = Image.open(file).rotate(float(generator.uniform(-8, 8)))
        ink = np.asarray(strokes.resize((side, side), Image.Resampling.BICUBIC), dtype=float) / 255
        height, width = (int(generator.integers(side + 40, 460)) for _ in range(2))
        light = np.add.outer(np.linspace(0, -40, height), np.linspace(215, 175, width))
        paper = light + generator.normal(0, 3, light.shape)
        top, left = int(generator.integers(20, height - side)), int(generator.integers(20, width - side))
        paper[top : top + side, left : left + side] *= 1 - 0.75 * ink
        Image.fromarray(paper.clip(0, 255).astype(np.uint8)).save(folder / f"{digit}.png")
