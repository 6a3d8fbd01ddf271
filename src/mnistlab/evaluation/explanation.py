"""What a trained model has learned and where it errs: which images and numbers each figure of an explanation shows.

The looking into the network is done by a `ModelView`, such as `training.attribution.View`: this package knows no Keras.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mnistlab.evaluation import calibration, embedding
from mnistlab.evaluation.calibration import Calibration
from mnistlab.evaluation.confusions import frequent_confusions, most_confident_right
from mnistlab.evaluation.metrics import Evaluation, most_confident_errors

log = logging.getLogger("mnistlab")

Figure = tuple[Any, ...] | str  # its arguments, or why it is left out

NUM_ATTRIBUTED = 8  # right images, and as many wrong ones
CHUNK = 250  # images that are read at once
FIGURES = ("first_layer", "saliency_right", "saliency_wrong", "reliability", "confusions", "embedding")
ONE_CLASS = "there is one class only"
REPORT = "reports/explanation.json"  # in the folder of a run or of an explanation


class ModelView(Protocol):
    """What is seen inside a network. Instead of an array a method may return the reason why there is none."""

    def first_layer(self) -> Any:
        """kind, 'units' or 'filters'; name of the layer; weights, shape (units, height, width, channels)."""

    def saliency(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray | str:
        """The saliency of each pixel for the score of a class, at least 0, shape (n, height, width)."""

    def class_activation(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray | str:
        """The share of each place in the score of a class, at least 0, shape (n, height, width)."""

    def last_hidden(self, images: np.ndarray) -> np.ndarray | str:
        """The outputs of the last hidden layer, shape (n, outputs)."""


@dataclass(frozen=True)
class SeenImages:
    """The images that a model was evaluated on.

    name: for titles, 'mnist, test images'; at: rows -> raw values, shape (n, height, width, channels); as_pixels: raw
    values -> uint8.
    """

    name: str
    at: Callable[[np.ndarray], np.ndarray]
    as_pixels: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Explanation:
    """shown: name of a figure -> arguments of its function in `explanation_figures`; left_out: name -> why it has none;
    calibration: None if the probabilities are not finite."""

    shown: dict[str, tuple[Any, ...]]
    left_out: dict[str, str]
    calibration: Calibration | None

    def metrics(self, split: str) -> dict[str, float]:
        """The numbers by name: 'test_expected_calibration_error'."""
        found = self.calibration.metrics() if self.calibration else {}
        return {f"{split}_{name}": value for name, value in found.items()}

    def report(self) -> dict[str, Any]:
        """The numbers, the bins and what was left out, as plain values."""
        found = self.calibration
        measured = {**found.metrics(), "reading": found.sentence, "bins": found.bins()} if found else {}
        return {**measured, "figures": list(self.shown), "left_out": self.left_out}

    def lines(self) -> Iterator[str]:
        """The numbers and what was left out, for the terminal."""
        if found := self.calibration:
            yield (
                f"expected calibration error {found.expected_error:.4f} (95 %: {found.low:.4f} to {found.high:.4f}), "
                f"maximum {found.max_error:.4f}"
            )
            yield found.sentence
        yield from (f"{name} is left out: {reason}." for name, reason in self.left_out.items())


def explain(evaluated: Evaluation, images: SeenImages, view: ModelView) -> Explanation:
    """Choose and compute what the figures show. A method that does not apply to this model or these images leaves its
    figure out; the reason is kept."""
    measured, reason = None, _reason_for_none(evaluated)
    makers: dict[str, Callable[[], Figure]] = {"first_layer": lambda: _first_layer(evaluated, view)}
    if not reason:
        right, wrong = most_confident_right(evaluated, NUM_ATTRIBUTED), most_confident_errors(evaluated, NUM_ATTRIBUTED)
        makers["saliency_right"] = lambda: _saliency(evaluated, images, view, right, "no image was classified rightly")
        makers["saliency_wrong"] = lambda: _saliency(evaluated, images, view, wrong, "no image was classified wrongly")
    if not reason and len(evaluated.class_names) > 1:
        measured = calibration.calibration(evaluated.confidence, evaluated.predicted == evaluated.labels)
        makers["reliability"] = lambda: (measured, images.name)
        makers["confusions"] = lambda: _confusions(evaluated, images)
        makers["embedding"] = lambda: _embedding(evaluated, images, view)
    found = {name: _made(name, makers[name]) if name in makers else reason or ONE_CLASS for name in FIGURES}
    shown = {name: value for name, value in found.items() if not isinstance(value, str)}
    return Explanation(shown, {name: value for name, value in found.items() if isinstance(value, str)}, measured)


def _reason_for_none(evaluated: Evaluation) -> str:
    """Why there are no figures of predictions; '' if there are some."""
    if not len(evaluated.labels):
        return "there are no images"
    return "" if np.isfinite(evaluated.confidence).all() else "the model's outputs are not finite numbers"


def _made(name: str, make: Callable[[], Figure]) -> Figure:
    """A figure's arguments. An error leaves the figure out, so that it costs no training: models may be anything."""
    try:
        return make()
    except Exception as error:
        log.debug("%s failed", name, exc_info=True)
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _first_layer(evaluated: Evaluation, view: ModelView) -> Figure:
    layer = view.first_layer()
    if isinstance(layer, str):
        return layer
    kind, name, weights = layer
    if not np.isfinite(weights).all():
        return f"the weights of {name} are not finite numbers"
    is_output = kind == "units" and len(weights) == len(evaluated.class_names)
    return weights, kind, name, evaluated.class_names if is_output else ()


def _saliency(evaluated: Evaluation, images: SeenImages, view: ModelView, rows: np.ndarray, without: str) -> Figure:
    """The images in these rows with their maps for the predicted class. without: the reason if there are none."""
    if not len(rows):
        return without
    raw, predicted = images.at(rows), evaluated.predicted[rows]
    maps = view.saliency(raw, predicted)
    if isinstance(maps, str):
        return maps
    activation = view.class_activation(raw, predicted)
    shown = [maps] if isinstance(activation, str) else [maps, activation]
    names = evaluated.class_names
    truth = [names[label] for label in evaluated.labels[rows]]
    guesses = [names[label] for label in predicted]
    return images.as_pixels(raw), shown, truth, guesses, evaluated.confidence[rows], images.name


def _confusions(evaluated: Evaluation, images: SeenImages) -> Figure:
    found = frequent_confusions(evaluated)
    if not found:
        return "no image was classified wrongly"
    pixels = [images.as_pixels(images.at(one.rows)) for one in found]
    names = [(evaluated.class_names[one.true], evaluated.class_names[one.predicted]) for one in found]
    return pixels, names, [(one.count, one.of) for one in found], images.name


def _embedding(evaluated: Evaluation, images: SeenImages, view: ModelView) -> Figure:
    rows = embedding.sample_rows(len(evaluated.labels))
    chunks: list[np.ndarray] = []
    for start in range(0, len(rows), CHUNK):
        outputs = view.last_hidden(images.at(rows[start : start + CHUNK]))
        if isinstance(outputs, str):
            return outputs
        chunks.append(outputs)
    features = np.concatenate(chunks)
    reason = embedding.problem(features)
    seen = features, evaluated.labels[rows], evaluated.predicted[rows], evaluated.class_names, images.name
    return reason or seen
