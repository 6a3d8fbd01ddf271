"""A run's figures from plain data; the background process draws them with `plots`."""

import logging
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

log = logging.getLogger("mnistlab")

DOTS_PER_INCH = 110


@dataclass(frozen=True)
class WrongImages:
    """Test images that were classified wrongly with high confidence.

    images: uint8, shape (n, height, width, channels); truth, predicted: class names.
    """

    images: np.ndarray
    truth: Sequence[str]
    predicted: Sequence[str]
    confidence: np.ndarray


@dataclass(frozen=True)
class AugmentedImage:
    """A training image, uint8 of shape (1, height, width, channels), and its augmented versions, (n, ...)."""

    original: np.ndarray
    versions: np.ndarray
    label: str
    augmentation: Mapping[str, object]


@dataclass(frozen=True)
class RunFigures:
    """The data of a run's figures. epochs: a row of metrics each; confusion: int, shape (classes, classes)."""

    class_names: Sequence[str]
    confusion: np.ndarray
    epochs: Sequence[Mapping[str, float]]
    best_epoch: int | None
    wrong: WrongImages
    augmented: AugmentedImage | None = None


def draw(folder: Path, data: RunFigures) -> None:
    """Write each figure as a PNG file into the folder. An error does not fail the run: it is logged, and its traceback
    is in figures/error.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _draw(folder, data)
    except Exception as error:
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        log.warning("WARNING: figures are missing in %s: %s: %s", folder, type(error).__name__, error)


def _draw(folder: Path, data: RunFigures) -> None:
    from mnistlab.evaluation import plots

    wrong, augmented = data.wrong, data.augmented
    figures = {
        "confusion_matrix": plots.confusion_matrix(data.confusion, data.class_names, "Test images"),
        "learning_curves": plots.learning_curves(data.epochs, data.best_epoch),
        "wrong_images": plots.wrong_images(wrong.images, wrong.truth, wrong.predicted, wrong.confidence),
    }
    if augmented is not None:
        figures["augmented_images"] = plots.augmented_images(
            augmented.original, augmented.versions, augmented.label, augmented.augmentation
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a class name in a script that the font lacks
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH, pil_kwargs={"compress_level": 1})
