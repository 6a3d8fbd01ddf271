"""The training numbers that curves are read by: of the trained model, measured as on the validation images."""

from __future__ import annotations

import numpy as np
import pytest

from mnistlab import experiment
from mnistlab.config.compose import compose_config
from mnistlab.training import training_sample

HEAVY_ZEROS = f"data.class_weight={{0: 20, {', '.join(f'{label}: 1' for label in range(1, 10))}}}"
SMALL = ("source=mnist_5k", "data.limit=300", "fit.epochs=2", "tracking=none")


@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_the_sample_is_measured_without_dropout_augmentation_and_class_weights(engine, tmp_path, monkeypatch) -> None:
    overrides = [*SMALL, f"fit.engine={engine}", "model.dropout=0.5", HEAVY_ZEROS]
    config = compose_config([*overrides, "+data.augmentation.rotation_range=30", f"paths.run={tmp_path}"])
    dataset = experiment.load_dataset(config)
    model = experiment.build_model(config, dataset)
    monkeypatch.setattr(training_sample, "MAX_IMAGES", 100)
    metrics, num_measured = training_sample.evaluate_training_sample(model, dataset, engine)
    assert num_measured == 100
    every_third = dataset.train.take(np.arange(0, 300, 3))
    expected = model.evaluate(every_third.images, dataset.targets(every_third.labels), verbose=0, return_dict=True)
    assert metrics == pytest.approx(expected, rel=1e-5)


def test_a_run_records_and_shows_the_training_numbers_of_the_saved_model(tmp_path, caplog) -> None:
    with caplog.at_level("INFO"):
        config = compose_config([*SMALL, "model.dropout=0.5", HEAVY_ZEROS, f"paths.run={tmp_path}"])
        result = experiment.run(config)
    assert result.metrics["train_loss"] < result.metrics["best_loss"]
    assert result.metrics["train_accuracy"] > result.metrics["best_accuracy"]
    shown = ["loss", *(f"{result.metrics[name]:.4f}" for name in ("train_loss", "best_val_loss", "test_loss"))]
    assert shown in [line.split() for line in caplog.text.splitlines()]
    assert result.reading.verdict != "diverged"
