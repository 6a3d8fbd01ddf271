"""The guide's own numbers on the genuine 70,000 images; without these, the same sweep on the embedded 5,000.

MNISTLAB_TEST_MNIST names an mnist.npz (keys x_train, y_train, x_test, y_test).
"""

from __future__ import annotations

import json
import os

import pytest

FULL = os.environ.get("MNISTLAB_TEST_MNIST")
# Validation accuracy of the notebook after 3 epochs, and how far a run may be from it.
NOTEBOOK = {
    "minibatch_gd": (0.927, 0.01),
    "momentum": (0.968, 0.01),
    "adagrad": (0.946, 0.01),
    "rmsprop": (0.958, 0.01),
    "adam": (0.958, 0.01),
    "sgd": (0.971, 0.01),
    "batch_gd": (0.14, 0.06),
}
# The same on the embedded subset, where three epochs are fewer steps.
EMBEDDED = {
    "minibatch_gd": (0.80, 0.06),
    "momentum": (0.91, 0.03),
    "adagrad": (0.88, 0.03),
    "rmsprop": (0.92, 0.03),
    "adam": (0.92, 0.03),
    "sgd": (0.92, 0.03),
    "batch_gd": (0.12, 0.08),
}


@pytest.mark.slow
def test_the_seven_strategies_reach_what_the_notebook_reaches(train, tmp_path) -> None:
    source = [f"source.path={FULL}"] if FULL else ["source=mnist_5k"]
    done = train("sweep=optimizers", "data=notebook", "tracking=none", *source)
    assert done.code == 0, done.err
    last = {}
    for file in (tmp_path / "runs").glob("*/*-sweep/*/metrics.jsonl"):
        rows = [json.loads(line)["metrics"] for line in file.read_text().splitlines()]
        choice = json.loads((file.parent / "parameters.json").read_text())["optimizer"]
        last[choice] = [row["val_accuracy"] for row in rows if "val_accuracy" in row][-1]
    expected = NOTEBOOK if FULL else EMBEDDED
    assert set(last) == set(expected)
    for name, (value, tolerance) in expected.items():
        assert last[name] == pytest.approx(value, abs=tolerance), name
