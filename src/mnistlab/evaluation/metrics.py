"""Numbers from plain arrays: how good the predictions are, and what the learning curves say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FEW_STEPS = 100


@dataclass(frozen=True)
class Evaluation:
    """Predictions on a test set, judged (Part 5).

    predicted: int, shape (n,); confidence: the predicted class's probability, shape (n,);
    confusion: int, shape (classes, classes), rows truth, columns predicted;
    report: scikit-learn's classification report as nested dictionaries, text: the same as text.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    confusion: np.ndarray
    report: dict[str, Any]
    text: str

    def class_metrics(self) -> dict[str, float]:
        """'test_precision.7' and the like: precision, recall and F1 of each class and their macro means."""
        wanted = {"precision": "precision", "recall": "recall", "f1-score": "f1"}
        rows = {name: row for name, row in self.report.items() if name not in ("accuracy", "weighted avg")}
        return {
            f"test_{short}.{'macro' if name == 'macro avg' else name}": float(row[key])
            for name, row in rows.items()
            for key, short in wanted.items()
        }

    def table(self) -> dict[str, list[Any]]:
        """The report as columns."""
        rows = {name: row for name, row in self.report.items() if isinstance(row, Mapping)}
        columns: dict[str, list[Any]] = {"class": list(rows)}
        for key in ("precision", "recall", "f1-score", "support"):
            columns[key] = [row[key] for row in rows.values()]
        return columns


def evaluate(probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Evaluation:
    """Judge class probabilities, shape (n, classes), against labels, shape (n,)."""
    from sklearn.metrics import classification_report, confusion_matrix

    predicted = probabilities.argmax(axis=1)
    classes = np.arange(len(class_names))
    settings = {"labels": classes, "target_names": list(class_names), "zero_division": 0}
    return Evaluation(
        labels=labels,
        predicted=predicted,
        confidence=probabilities.max(axis=1),
        confusion=confusion_matrix(labels, predicted, labels=classes),
        report=classification_report(labels, predicted, output_dict=True, **settings),
        text=classification_report(labels, predicted, digits=4, **settings),
    )


def most_wrong(evaluation: Evaluation, count: int = 25) -> np.ndarray:
    """Indices of the wrong predictions, the most confident first, at most `count`."""
    wrong = np.flatnonzero(evaluation.predicted != evaluation.labels)
    return wrong[np.argsort(-evaluation.confidence[wrong], kind="stable")][:count]


@dataclass(frozen=True)
class Reading:
    """What the learning curves say (Part 8): one word, and one sentence with the rule that was applied."""

    verdict: str
    sentence: str


def read_curves(epochs: Sequence[Mapping[str, float]], num_classes: int, steps_per_epoch: int) -> Reading:
    """Read the losses and accuracies of a training.

    Args:
        epochs: per epoch a row with loss, val_loss and, if measured, accuracy and val_accuracy.

    The rules, the first that holds:
        diverged: a loss that is not finite; or, after 100 steps or more, an accuracy within 1.5 times guessing.
        underfitting: training accuracy below 0.85 (loss above half of guessing's if no accuracy was measured).
        overfitting: the validation loss ends 10 % or more above its best epoch while the training loss went on falling.
        good fit: everything else.
    """
    first, last = epochs[0], epochs[-1]
    guessing_loss = math.log(num_classes)
    steps = steps_per_epoch * len(epochs)
    accuracy = last.get("accuracy", math.nan)
    if not all(math.isfinite(row[name]) for row in epochs for name in ("loss", "val_loss") if name in row):
        epoch = 1 + next(i for i, row in enumerate(epochs) if not math.isfinite(row["loss"] + row.get("val_loss", 0.0)))
        return Reading("diverged", f"diverged: the loss of epoch {epoch} is not a finite number.")
    if accuracy < 1.5 / num_classes and steps >= FEW_STEPS:
        return Reading(
            "diverged",
            f"diverged: after {steps:,} steps the training accuracy is {accuracy:.3f}, no better than guessing "
            f"(rule: below 1.5 / {num_classes} classes); a smaller learning rate may help.",
        )
    if accuracy < 0.85 or (math.isnan(accuracy) and last["loss"] > guessing_loss / 2):
        few = f" {steps} steps are few;" if steps < FEW_STEPS else ""
        shown = f"accuracy {accuracy:.3f}" if math.isfinite(accuracy) else f"loss {last['loss']:.3f}"
        return Reading(
            "underfitting",
            f"underfitting: the training {shown} is still poor (rule: accuracy below 0.85);{few} "
            "more epochs or a larger network may help.",
        )
    return _overfitting(epochs, first, last) or Reading(
        "good fit",
        "good fit: training and validation loss fell together "
        f"(rule: validation loss {last.get('val_loss', math.nan):.3f} within 10 % of its best).",
    )


def _overfitting(
    epochs: Sequence[Mapping[str, float]], first: Mapping[str, float], last: Mapping[str, float]
) -> Reading | None:
    validation = [row["val_loss"] for row in epochs if "val_loss" in row]
    if not validation:
        return None
    best = min(range(len(validation)), key=validation.__getitem__)
    if validation[-1] < 1.1 * validation[best] or last["loss"] >= epochs[best]["loss"]:
        return None
    return Reading(
        "overfitting",
        f"overfitting: the validation loss was best in epoch {best + 1} ({validation[best]:.3f}) and ended at "
        f"{validation[-1]:.3f} while the training loss went on falling (rule: 10 % or more above its best).",
    )
