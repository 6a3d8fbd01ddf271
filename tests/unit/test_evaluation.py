"""Metrics against scikit-learn's, readings of curves against their rules, the lines at the end of a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from mnistlab.comparison.curves import DIAGNOSIS_RULE
from mnistlab.evaluation import CurveReading, curves, evaluate, most_confident_errors, read_curves
from mnistlab.evaluation.summary import markdown, one_line, summary


@pytest.mark.parametrize("classes", [2, 10])
def test_evaluation_agrees_with_scikit_learn(classes: int) -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, classes, 300)
    probabilities = generator.dirichlet(np.ones(classes), 300)
    probabilities[np.arange(200), labels[:200]] += 1
    evaluated = evaluate(probabilities, labels, [f"c{index}" for index in range(classes)])
    precision, recall, f1, _ = precision_recall_fscore_support(labels, probabilities.argmax(1), zero_division=0)
    metrics = evaluated.metrics()
    for index in range(classes):
        assert metrics[f"test_precision.c{index}"] == pytest.approx(precision[index])
        assert metrics[f"test_recall.c{index}"] == pytest.approx(recall[index])
        assert metrics[f"test_f1.c{index}"] == pytest.approx(f1[index])
    assert metrics["test_f1.macro"] == pytest.approx(f1.mean())
    assert evaluated.confusion.sum() == 300
    assert evaluated.confusion[0, 1] == ((labels == 0) & (probabilities.argmax(1) == 1)).sum()
    assert evaluated.table()["class"][:2] == ["c0", "c1"]


def test_a_class_without_test_images_stays_in_the_matrix() -> None:
    evaluated = evaluate(np.array([[0.9, 0.1, 0.0]]), np.array([0]), ["a", "b", "c"])
    assert evaluated.confusion.shape == (3, 3)


def test_the_most_confident_errors_come_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    evaluated = evaluate(probabilities, np.array([0, 0, 0, 1]), ["a", "b"])
    assert most_confident_errors(evaluated).tolist() == [2, 1]
    assert most_confident_errors(evaluated, count=1).tolist() == [2]


def rows(losses, validation, accuracy=0.95, val_accuracy=None):
    return [
        {"loss": loss, "val_loss": value, "accuracy": accuracy, "val_accuracy": val_accuracy or accuracy}
        for loss, value in zip(losses, validation, strict=True)
    ]


@pytest.mark.parametrize(
    ("epochs", "steps", "verdict", "text"),
    [
        (rows([0.5, 0.3, 0.2], [0.4, 0.3, 0.25]), 1000, "good fit", "0.950 and validation accuracy 0.950 are close"),
        (rows([0.5, 0.3, 0.2], [0.4, 0.3, 0.25]), 1000, "good fit", "it still falls, more epochs may help"),
        (rows([0.5, 0.3, 0.1], [0.4, 0.3, 0.5]), 1000, "overfitting", "best in epoch 2 (0.300) and ended at 0.500"),
        (rows([0.5, 0.3, 0.2], [0.4, 0.279, 0.298]), 1000, "overfitting", "best in epoch 2 (0.279)"),
        (rows([0.5, 0.3, 0.4], [0.4, 0.3, 0.5]), 1000, "unstable", "best in epoch 2 (0.300) and ended at 0.500"),
        (rows([0.5, 0.3, 0.31], [0.4, 0.3, 0.32]), 1000, "good fit", "ended at 0.320, within 10 % of its best"),
        (rows([2.2, 2.1], [2.2, 2.1], accuracy=0.4), 1000, "underfitting", "accuracy below 0.85"),
        (rows([2.2, 1.8], [2.2, 1.8], accuracy=0.4), 1000, "too few epochs to tell", "from 2.200 to 1.800"),
        (rows([2.3, 2.3], [2.3, 2.3], accuracy=0.1), 1000, "diverged", "no better than guessing among 10 classes"),
        (rows([2.3, 2.3], [2.3, 2.3], accuracy=0.1), 1, "too few epochs to tell", "2 steps are few"),
        (rows([0.5], [0.4], accuracy=0.8, val_accuracy=0.87), 57, "too few epochs to tell", "one epoch, 57 steps"),
        (rows([0.5, 0.4], [0.3, 0.29], accuracy=0.8, val_accuracy=0.9), 500, "good fit", "validation accuracy 0.900"),
        (rows([0.5, math.nan], [0.4, math.nan]), 1000, "diverged", "epoch 2"),
        (rows([0.5, math.inf], [0.4, 0.4]), 1000, "diverged", "epoch 2"),
        ([{"loss": 0.5}, {"loss": 0.4}], 1000, "good fit", "nothing rose"),
        ([{"loss": 2.0, "val_loss": 2.0}] * 2, 1000, "underfitting", "the training loss 2.000 is high"),
    ],
)
def test_curves_are_read_by_their_rules(epochs, steps, verdict, text) -> None:
    reading = read_curves(epochs, num_classes=10, steps_per_epoch=steps)
    assert reading.verdict == verdict
    assert reading.sentence.startswith(verdict)
    assert text in reading.sentence


FLAT = {"loss": 0.3, "val_loss": 0.3, "accuracy": 0.9, "val_accuracy": 0.9}


@pytest.mark.parametrize(
    ("last", "training", "test", "sizes", "verdict", "text"),
    [
        # learned by heart: 400 images, the validation loss still near its best
        (
            {"loss": 0.003, "accuracy": 1.0, "val_loss": 0.305},
            {"accuracy": 1.0},
            {"accuracy": 0.9},
            {},
            "overfitting",
            "the training accuracy is 1.000, the validation accuracy 0.900",
        ),
        # the same gap in 20 images is chance
        ({}, {"accuracy": 1.0}, {"accuracy": 0.9}, {"training": 400, "validation": 10, "test": 9}, "good fit", "close"),
        ({}, {"accuracy": 0.94}, {"accuracy": 0.9}, {}, "good fit", "training accuracy 0.940"),
        # class weights: the weighted training loss and accuracy are far from those of the validation images
        ({"loss": 2.5, "accuracy": 0.6}, {"accuracy": 0.93}, {"accuracy": 0.9}, {}, "good fit", "0.930"),
        ({"loss": 0.01, "accuracy": 0.99}, {"accuracy": 0.92}, {"accuracy": 0.9}, {}, "good fit", "0.920"),
        # dropout and augmentation lower the training accuracy
        ({"accuracy": 0.55}, {"accuracy": 0.91}, {"accuracy": 0.9}, {}, "good fit", "0.910"),
        (
            {"val_accuracy": 0.99},
            {"accuracy": 0.99},
            {"accuracy": 0.31},
            {},
            "test set differs",
            "the test accuracy 0.310 is far below the validation accuracy 0.990",
        ),
        (
            {"val_accuracy": 0.7, "accuracy": 0.7},
            {"accuracy": 0.7},
            {"accuracy": 0.31},
            {},
            "underfitting",
            "Besides, the test accuracy 0.310 is far below the validation accuracy 0.700.",
        ),
        ({}, {"accuracy": 0.9}, {"accuracy": 0.31}, {"validation": 5, "test": 3}, "good fit", "close"),
        ({}, {"accuracy": 0.9}, {"accuracy": 0.99}, {}, "good fit", "But the test accuracy 0.990 is far above"),
        ({}, None, None, {}, "good fit", "training accuracy 0.900"),
    ],
)
def test_curves_are_read_by_comparable_numbers(last, training, test, sizes, verdict, text) -> None:
    reading = read_curves([FLAT, FLAT | last], 10, 1000, training=training, test=test, sizes=sizes)
    assert (reading.verdict, reading.sentence.startswith(f"{verdict}: ")) == (verdict, True)
    assert text in reading.sentence


def test_the_reading_is_of_the_saved_epoch() -> None:
    epochs = [FLAT, FLAT | {"val_accuracy": 0.6, "val_loss": 0.31}]
    assert read_curves(epochs, 10, 1000, best_epoch=1).verdict == "good fit"
    assert read_curves(epochs, 10, 1000).verdict == "overfitting"


@pytest.mark.parametrize(
    ("num_classes", "accuracy", "verdict"),
    [(2, 0.54, "diverged"), (2, 0.7, "underfitting"), (100, 0.014, "diverged"), (100, 0.05, "underfitting")],
)
def test_guessing_depends_on_the_number_of_classes(num_classes, accuracy, verdict) -> None:
    assert read_curves(rows([1.0, 1.0], [1.0, 1.0], accuracy), num_classes, 1000).verdict == verdict


@pytest.mark.parametrize("name", ["acc", "sparse_categorical_accuracy", "binary_accuracy"])
def test_other_names_of_accuracy_are_read_too(name) -> None:
    epochs = [{"loss": 0.5, "val_loss": 0.5, name: 0.6, f"val_{name}": 0.6}] * 2
    assert "the accuracy 0.600 is low" in read_curves(epochs, 10, 1000).sentence


def test_the_report_states_the_rule_of_the_reading() -> None:
    numbers = [f"{round(100 * (rise - 1))} %" for rise in (curves.RISE, curves.UNSTABLE_RISE)]
    numbers += [f"below {curves.LOW_ACCURACY}", f"{curves.LARGE_GAP} below", f"{curves.SMALL_GAP} with twice"]
    verdicts = ["diverged", curves.TOO_FEW, "overfitting", "unstable", "underfitting", curves.TEST_DIFFERS, "good fit"]
    assert [text for text in (*numbers, *verdicts) if text not in DIAGNOSIS_RULE.lower()] == []


def test_keras_metrics_and_reports() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    evaluated = evaluate(probabilities, np.array([0, 0, 1]), ["a", "b"], {"loss": 0.25, "accuracy": 2 / 3})
    assert evaluated.metrics()["test_loss"] == 0.25
    assert evaluated.metrics()["test_accuracy"] == pytest.approx(2 / 3)
    assert "test_accuracy" not in evaluate(probabilities, np.array([0, 0, 1]), ["a", "b"]).metrics()
    reports = evaluated.reports()
    assert reports["confusion_matrix.json"] == {"class_names": ["a", "b"], "counts": [[1, 1], [0, 1]]}
    assert reports["predictions.npz"]["predicted"].tolist() == [0, 1, 1]
    assert reports["predictions.npz"]["confidence"].tolist() == [0.9, 0.6, 0.8]
    assert reports["classification_report.json"]["b"]["recall"] == 1.0
    assert "precision" in reports["classification_report.txt"]


READING = CurveReading("good fit", "good fit: training and validation loss fell together.")
METRICS = {
    "best_epoch": 2,
    "best_epoch_loss": 0.5,
    "best_epoch_accuracy": 0.75,
    "best_epoch_val_loss": 0.625,
    "best_epoch_val_accuracy": 0.7,
    "max_val_accuracy": 0.7,
    "min_val_loss": 0.625,
    "test_accuracy": 0.6875,
    "test_loss": 0.65,
    "test_precision.7": 0.1,
    "train_seconds": 1.25,
    "steps_per_epoch": 10,
}


def test_the_summary_of_a_run() -> None:
    text = summary("adam-lr0.1", METRICS, 3, READING, 12.34, {"model": "models:/m-1", "folder": "/runs/x"})
    assert [line.split() for line in text.splitlines()] == [
        [],
        ["adam-lr0.1"],
        ["training", "validation", "test"],
        ["loss", "0.5000", "0.6250", "0.6500"],
        ["accuracy", "0.7500", "0.7000", "0.6875"],
        ["best", "epoch", "2", "of", "3", "by", "val_loss;", "trained", "in", "1.2", "s", "(12.3", "s", "in", "total)"],
        READING.sentence.split(),
        ["model", "models:/m-1"],
        ["folder", "/runs/x"],
    ]


def test_the_summary_says_what_was_better_in_another_epoch() -> None:
    better = {**METRICS, "max_val_accuracy": 0.75}
    text = summary("adam", better, 3, READING, 1.0, {}, monitor="val_mae")
    assert text.splitlines()[5:7] == [
        "  best epoch 2 of 3 by val_mae; trained in 1.2 s (1.0 s in total)",
        "  over all epochs: max_val_accuracy 0.7500",
    ]
    both = {**better, "min_val_loss": 0.5}
    assert "over all epochs: max_val_accuracy 0.7500, min_val_loss 0.5000" in markdown(both, 3, READING).splitlines()
    assert "over all epochs" not in markdown(METRICS, 3, READING)
    assert "accuracy 0.7000 (max_val_accuracy 0.7500)  best_epoch_val_loss" in one_line("a", better, READING, 1.0, "r")


def test_the_summary_shows_the_training_numbers_of_the_saved_model() -> None:
    measured = {**METRICS, "train_loss": 0.4, "train_accuracy": 0.8}
    lines = [line.split() for line in summary("adam", measured, 3, READING, 1.0, {}).splitlines()]
    assert lines[3:5] == [["loss", "0.4000", "0.6250", "0.6500"], ["accuracy", "0.8000", "0.7000", "0.6875"]]


def test_the_summary_of_a_run_without_a_finite_epoch() -> None:
    reading = CurveReading("diverged", "diverged: the loss of epoch 1 is not a finite number.")
    numbers = {"train_seconds": 0.5, "steps_per_epoch": 10}
    text = summary("sgd", numbers, 1, reading, 1.0, {"folder": "/runs/x"})
    lines = [line.strip() for line in text.splitlines()]
    assert lines == [
        "",
        "sgd",
        "no finite epoch; trained in 0.5 s (1.0 s in total)",
        reading.sentence,
        "folder  /runs/x",
    ]


def test_the_summary_names_the_last_epoch_where_it_is_the_one_that_counts() -> None:
    text = summary("adam", {**METRICS, "best_epoch": 3}, 3, READING, 12.34, {}, "last")
    assert "  last epoch 3 of 3; trained in 1.2 s (12.3 s in total)" in text.splitlines()
    text = summary("adam", {"train_seconds": 1.25}, 3, READING, 12.34, {}, "last")
    assert "  the last epoch is not finite; trained in 1.2 s (12.3 s in total)" in text.splitlines()


def test_the_line_of_a_job() -> None:
    assert one_line("adam", METRICS, READING, 12.34, "0123abcd") == (
        "adam: best_epoch_val_accuracy 0.7000  best_epoch_val_loss 0.6250  test_accuracy 0.6875  good fit  12.3 s  "
        "run 0123abcd"
    )
    assert one_line("sgd", {}, READING, 1.0, "r") == "sgd:   good fit  1.0 s  run r"
