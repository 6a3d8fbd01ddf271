"""Numbers against scikit-learn's, readings of curves against their rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from mnistlab.evaluation.metrics import evaluate, most_wrong, read_curves


@pytest.mark.parametrize("classes", [2, 10])
def test_evaluation_agrees_with_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, classes, 300)
    probabilities = generator.dirichlet(np.ones(classes), 300)
    probabilities[np.arange(200), labels[:200]] += 1
    judged = evaluate(probabilities, labels, [f"c{index}" for index in range(classes)])
    precision, recall, f1, _ = precision_recall_fscore_support(labels, probabilities.argmax(1), zero_division=0)
    metrics = judged.class_metrics()
    for index in range(classes):
        assert metrics[f"test_precision.c{index}"] == pytest.approx(precision[index])
        assert metrics[f"test_recall.c{index}"] == pytest.approx(recall[index])
        assert metrics[f"test_f1.c{index}"] == pytest.approx(f1[index])
    assert metrics["test_f1.macro"] == pytest.approx(f1.mean())
    assert judged.confusion.sum() == 300
    assert judged.confusion[0, 1] == ((labels == 0) & (probabilities.argmax(1) == 1)).sum()
    assert judged.table()["class"][:2] == ["c0", "c1"]


def test_a_class_that_the_test_set_lacks_stays_in_the_matrix() -> None:
    judged = evaluate(np.array([[0.9, 0.1, 0.0]]), np.array([0]), ["a", "b", "c"])
    assert judged.confusion.shape == (3, 3)


def test_most_wrong_are_the_surest_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    judged = evaluate(probabilities, np.array([0, 0, 0, 1]), ["a", "b"])
    assert most_wrong(judged).tolist() == [2, 1]
    assert most_wrong(judged, count=1).tolist() == [2]


def rows(losses, validation, accuracy=0.95):
    return [
        {"loss": loss, "val_loss": value, "accuracy": accuracy, "val_accuracy": accuracy}
        for loss, value in zip(losses, validation, strict=True)
    ]


@pytest.mark.parametrize(
    ("epochs", "steps", "verdict", "words"),
    [
        (rows([0.5, 0.3, 0.2], [0.4, 0.3, 0.25]), 1000, "good fit", "fell together"),
        (rows([0.5, 0.3, 0.1], [0.4, 0.3, 0.5]), 1000, "overfitting", "best in epoch 2"),
        (rows([0.5, 0.3, 0.4], [0.4, 0.3, 0.5]), 1000, "good fit", ""),
        (rows([2.2, 2.1], [2.2, 2.1], accuracy=0.4), 1000, "underfitting", "below 0.85"),
        (rows([2.3, 2.3], [2.3, 2.3], accuracy=0.1), 1000, "diverged", "no better than guessing"),
        (rows([2.3, 2.3], [2.3, 2.3], accuracy=0.1), 1, "underfitting", "2 steps are few"),
        (rows([0.5, math.nan], [0.4, math.nan]), 1000, "diverged", "epoch 2"),
        (rows([0.5, math.inf], [0.4, 0.4]), 1000, "diverged", "epoch 2"),
        ([{"loss": 0.5, "val_loss": 0.5}], 1000, "good fit", ""),
        ([{"loss": 2.0, "val_loss": 2.0}], 1000, "underfitting", "loss 2.000"),
    ],
)
def test_readings_follow_their_rules(epochs, steps, verdict, words) -> None:
    reading = read_curves(epochs, num_classes=10, steps_per_epoch=steps)
    assert reading.verdict == verdict
    assert reading.sentence.startswith(verdict)
    assert words in reading.sentence
