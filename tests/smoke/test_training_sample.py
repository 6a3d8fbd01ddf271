"""What a run records of its end: training numbers measured as on the validation images, the steps that it took."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mnistlab import experiment
from mnistlab.config import ConfigError
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
    assert result.metrics["train_loss"] < result.metrics["best_epoch_loss"]
    assert result.metrics["train_accuracy"] > result.metrics["best_epoch_accuracy"]
    shown = ["loss", *(f"{result.metrics[name]:.4f}" for name in ("train_loss", "best_epoch_val_loss", "test_loss"))]
    assert shown in [line.split() for line in caplog.text.splitlines()]
    assert result.reading.verdict != "diverged"


def test_the_steps_of_a_run_are_those_that_it_took(tmp_path) -> None:
    stopping = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.learning_rate=0"]
    result = experiment.run(compose_config([*SMALL, *stopping, "fit.epochs=9", f"paths.run={tmp_path}"]))
    tags = json.loads((tmp_path / "tags.json").read_text())
    assert (len(result.epochs), tags["steps"], tags["steps_planned"]) == (2, "20", "90")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+optimizer.momentm=0.9", "optimizer.momentm is not an argument of keras.optimizers.Adam."),
        ("model.layers.1.units=-3", "model.layers.1: keras.layers.Dense rejected its arguments"),
    ],
)
def test_optimizer_and_layers_are_checked_before_the_data_are_loaded(override: str, message: str) -> None:
    overrides = ["source=npz", "source.path=no_such_file.npz", "model=layers", override]
    with pytest.raises(ConfigError) as error:
        experiment.run(compose_config(overrides))
    assert str(error.value).startswith(message)


@pytest.mark.long
def test_the_check_before_the_data_changes_no_result(tmp_path, monkeypatch) -> None:
    losses = []
    for name in ("checked", "unchecked"):
        overrides = [*SMALL, "model=layers", f"paths.run={tmp_path / name}"]
        losses.append([row["loss"] for row in experiment.run(compose_config(overrides)).epochs])
        monkeypatch.setattr(experiment, "check_without_data", lambda config: None)
    assert losses[0] == losses[1]
    layers = [json.loads((tmp_path / name / "tags.json").read_text()) for name in ("checked", "unchecked")]
    assert layers[0]["hash.initial_weights"] == layers[1]["hash.initial_weights"]
