"""Metrics of the predictions on the test set, from plain arrays (Part 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """The predictions on a test set and their metrics.

    labels, predicted: int, shape (n,); confidence: the predicted class's probability, shape (n,);
    confusion: int, shape (classes, classes), rows truth, columns predicted;
    report: scikit-learn's classification report as nested dictionaries, text: the same as text;
    keras_metrics: the compiled loss and metrics.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    confusion: np.ndarray
    class_names: tuple[str, ...]
    report: dict[str, Any]
    text: str
    keras_metrics: dict[str, float]

    def metrics(self) -> dict[str, float]:
        """test_loss and so on, and precision, recall and F1 of each class ('test_precision.7') and their means."""
        short = {"precision": "precision", "recall": "recall", "f1-score": "f1"}
        rows = {name: row for name, row in self.report.items() if name not in ("accuracy", "weighted avg")}
        return {f"test_{name}": value for name, value in self.keras_metrics.items()} | {
            f"test_{short[key]}.{'macro' if name == 'macro avg' else name}": float(row[key])
            for name, row in rows.items()
            for key in short
        }

    def reports(self) -> dict[str, Any]:
        """File name -> content of the reports: classification report, confusion matrix, predictions."""
        return {
            "classification_report.txt": self.text,
            "classification_report.json": self.report,
            "confusion_matrix.json": {"class_names": list(self.class_names), "counts": self.confusion.tolist()},
            "predictions.npz": {"predicted": self.predicted, "confidence": self.confidence},
        }

    def table(self) -> dict[str, list[Any]]:
        """The report as columns."""
        rows = {name: row for name, row in self.report.items() if isinstance(row, Mapping)}
        names = ("precision", "recall", "f1-score", "support")
        return {"class": list(rows), **{name: [row[name] for row in rows.values()] for name in names}}


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    keras_metrics: Mapping[str, float] | None = None,
) -> Evaluation:
    """Evaluate class probabilities, shape (n, classes), against labels, shape (n,)."""
    from sklearn.metrics import classification_report, confusion_matrix

    predicted = probabilities.argmax(axis=1)
    classes = np.arange(len(class_names))
    settings = {"labels": classes, "target_names": list(class_names), "zero_division": 0}
    return Evaluation(
        labels=labels,
        predicted=predicted,
        confidence=probabilities.max(axis=1),
        confusion=confusion_matrix(labels, predicted, labels=classes),
        class_names=tuple(class_names),
        report=classification_report(labels, predicted, output_dict=True, **settings),
        text=classification_report(labels, predicted, digits=4, **settings),
        keras_metrics=dict(keras_metrics or {}),
    )


def most_confident_errors(evaluation: Evaluation, count: int = 25) -> np.ndarray:
    """Indices of the wrong predictions, the most confident first, at most `count`."""
    wrong = np.flatnonzero(evaluation.predicted != evaluation.labels)
    return wrong[np.argsort(-evaluation.confidence[wrong], kind="stable")][:count]
