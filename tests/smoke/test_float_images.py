"""Images that are no bytes: both engines train as plain Keras on scaled ones; the saved model takes raw ones."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from small_data import copy_empty_database, digits, few_digits

from mnistlab import experiment
from mnistlab.config.compose import compose_config
from mnistlab.data import Dataset, prepare
from mnistlab.data.sources import Images, Split
from mnistlab.data.value_range import UINT8, ValueRange
from mnistlab.tracking.mlflow_models import fluent_store
from mnistlab.training import augmentation, building, fit, models, plan, plan_fit, predict, start_job

STORED = {  # how 0..255 is stored, the scaling that auto chooses, and the values that reach the network, of 0..1
    "twelve_bits": (
        lambda pixels: pixels.astype(np.uint16) * 16,
        "unit, (value - 0) / 4095",
        lambda p: p * 4080 / 4095,
    ),
    "fractions": (lambda pixels: pixels / 255 * 0.997, "unit, (value - 0) / 1", lambda p: p * 0.997),
    "fractions_up_to_255": (lambda pixels: pixels * 0.997, "unit, (value - 0) / 255", lambda p: p * 0.997),
    "minus_1_to_1": (lambda pixels: pixels / 127.5 - 1, "none, value", lambda p: 2 * p - 1),
    "standardized": (lambda pixels: (pixels - 51.0) / 102, "none, value", lambda p: 2.5 * p - 0.5),
    "ct": (lambda pixels: pixels.astype(np.int16) * 16 - 1000, "unit, (value + 1000) / 4080", lambda p: p),
}


@functools.cache
def stored(kind: str) -> Images:
    splits = [Split(STORED[kind][0](split.images), split.labels) for split in (digits().train, digits().test)]
    return Images(kind, *splits, digits().class_names, "made")


def stored_digits(kind: str, **preparation: Any) -> Dataset:
    return prepare(stored(kind), limit=320, **preparation)


def trained(dataset: Dataset, engine: str, batch_size: int | str, epochs: int, *overrides: str) -> tuple[Any, Any]:
    """The untrained network's layers as a model of scaled images, and the trained model with its history."""
    start_job(0, deterministic=False)
    config = compose_config(["model.units=16", *overrides])
    model = building.build_model(config, dataset)
    assert model.inputs[0].dtype == dataset.dtype
    behind = keras.Sequential([keras.Input(dataset.image_shape), *model.layers[1:]])
    behind = keras.models.clone_model(behind)
    behind.set_weights(model.get_weights())
    chosen = plan_fit(model, dataset, epochs=epochs, batch_size=batch_size, seed=0, engine=engine)
    assert chosen.engine == engine
    return behind, (model, fit(model, dataset, chosen, keep="last").history)


@pytest.mark.long_after(2)
@pytest.mark.parametrize("kind", STORED)
def test_the_engines_train_as_plain_keras_on_scaled_images(kind: str) -> None:
    dataset, (_, scaling, reaches) = stored_digits(kind), STORED[kind]
    assert building.describe_scaling(compose_config([]), dataset) == scaling
    assert dataset.dtype == "float32"
    behind, (_, (one_step,)) = trained(dataset, "fused", "all", 1)
    behind.compile(loss="categorical_crossentropy")
    meant = reaches(few_digits(320).train.images / 255).astype(np.float32)
    plain = behind.evaluate(meant, dataset.targets(dataset.train.labels), batch_size=320, verbose=0)
    assert one_step["loss"] == pytest.approx(plain, rel=1e-5)


def test_both_engines_give_equal_histories_probabilities_and_weights_of_classes() -> None:
    dataset = stored_digits("ct", class_weight="balanced")
    (_, (fused_model, fused_rows)), (_, (_, keras_rows)) = (
        trained(dataset, engine, 32, 2) for engine in ("fused", "keras")
    )
    for ours, theirs in zip(fused_rows, keras_rows, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours | {"epoch_seconds": 0} == pytest.approx(theirs | {"epoch_seconds": 0}, rel=1e-4, abs=1e-5)
    assert fused_rows[1]["loss"] < 0.8 * fused_rows[0]["loss"]
    (metrics, probabilities), (other_metrics, others) = (
        predict(fused_model, dataset, "test", engine) for engine in ("fused", "keras")
    )
    assert metrics == pytest.approx(other_metrics, rel=1e-5)
    np.testing.assert_allclose(probabilities, others, atol=1e-5)


def test_augmentation_fills_with_a_raw_value() -> None:
    """cval is a raw value: the corners of an image that is moved away are black, -1000, before the scaling."""
    arguments = {"width_shift_range": 0.5, "height_shift_range": 0.5, "fill_mode": "constant", "cval": -1000}
    dataset = stored_digits("ct", augmentation=arguments)
    image = np.full((28, 28, 1), 3080, np.float32)
    versions = augmentation.augmented_versions(dataset, image, 20, seed=1)
    assert versions.dtype == np.float32
    assert (versions.min(), versions.max()) == (-1000, 3080)
    shown = dataset.value_range.as_pixels(versions)
    assert (shown.min(), shown.max()) == (0, 255)
    _, (_, (row,)) = trained(dataset, "fused", 64, 1)
    assert np.isfinite(row["loss"])
    layers = augmentation.layers(arguments, (28, 28, 1), *models.scale_and_offset("unit", dataset.value_range))
    assert layers[0].fill_value == pytest.approx(0, abs=1e-7)


SCALINGS = {
    "unit": ((1 / 255, 0.0), (1 / 4080, 1000 / 4080)),
    "centered": ((1 / 127.5, -1.0), (2 / 4080, -1 + 2000 / 4080)),
    "pixels": ((1.0, 0.0), (255 / 4080, 255000 / 4080)),
    "none": ((1.0, 0.0), (1.0, 0.0)),
    "auto": ((1 / 255, 0.0), (1 / 4080, 1000 / 4080)),
}


@pytest.mark.parametrize("scaling", SCALINGS)
def test_scalings_map_the_value_range(scaling: str) -> None:
    """For uint8 exactly the numbers of earlier versions; -0.0 would be another configuration of the layer."""
    of_bytes, of_ct = SCALINGS[scaling]
    assert repr(models.scale_and_offset(scaling)) == repr(of_bytes)
    assert models.scale_and_offset(scaling, ValueRange(-1000, 3080, "range")) == pytest.approx(of_ct)


@pytest.mark.long
def test_auto_and_its_choice_are_one_computation() -> None:
    def identity(dataset: Dataset, *overrides: str) -> str:
        return experiment.identity(compose_config(list(overrides)), dataset)["fingerprint"]

    dataset, signed = few_digits(), stored_digits("minus_1_to_1")
    assert identity(dataset) == identity(dataset, "data.scaling=unit") == identity(dataset, "data.rescale=1/255")
    assert identity(dataset) != identity(dataset, "data.scaling=centered")
    assert identity(dataset) != identity(dataset, "data.rescale=1/256")
    assert identity(signed) == identity(signed, "data.scaling=none") != identity(signed, "data.scaling=unit")
    assert dataset.value_range == UINT8


def test_memory_is_counted_in_bytes() -> None:
    assert plan._gigabytes(stored_digits("ct")) == 4 * plan._gigabytes(few_digits(320))


def test_a_run_records_the_scaling_and_its_models_take_raw_images(tmp_path: Path, caplog) -> None:
    """From the file to the served model, which takes the numbers as they are stored."""
    store = f"sqlite:///{copy_empty_database(tmp_path)}"
    train, test = digits().train.take(np.arange(0, 4000, 10)), digits().test.take(np.arange(0, 1000, 10))
    raw = {"x_train": STORED["ct"][0](train.images), "x_test": STORED["ct"][0](test.images)}
    np.savez(tmp_path / "ct.npz", **raw, y_train=train.labels, y_test=test.labels)
    overrides = ["source=npz", f"source.path='{tmp_path / 'ct.npz'}'", "model.units=16", "fit.epochs=1"]
    with caplog.at_level(logging.WARNING):
        result = experiment.run(compose_config([*overrides, f"paths.root={tmp_path}", f"paths.run={tmp_path / 'run'}"]))
    report = next(text for text in caplog.messages if text.startswith("How your data were read:"))
    assert "float32 from -1000 to 3080." in report
    assert "Value range: -1000 to 3080 (the lowest and the highest training value)" in report
    assert report.endswith(" Scaling: unit, (value + 1000) / 4080.")
    recorded = json.loads((result.folder / "dataset.json").read_text())
    assert recorded["notes"][-1] == report
    assert recorded["scaling"] == "unit, (value + 1000) / 4080"
    assert recorded["value_range"] == {"black": -1000, "white": 3080, "kind": "range"}
    assert (result.folder / "figures" / "wrong_images.png").exists()
    images = raw["x_test"].astype(np.float32)
    predictions = np.load(result.folder / "reports" / "predictions.npz")
    loaded = keras.models.load_model(next((result.folder / "model_files").glob("*.keras")))
    probabilities = loaded.predict(images, verbose=0)
    assert np.array_equal(probabilities.argmax(axis=1), predictions["predicted"])
    np.testing.assert_allclose(probabilities.max(axis=1), predictions["confidence"], atol=1e-5)
    with fluent_store(store):
        run = mlflow.get_run(result.run_id)
        served = mlflow.pyfunc.load_model(run.data.tags["model.address"])
    assert run.data.tags["scaling"] == recorded["scaling"]
    assert served.metadata.signature.inputs.to_dict()[0]["tensor-spec"] == {
        "dtype": "float32",
        "shape": (-1, 28, 28, 1),
    }
    np.testing.assert_allclose(served.predict(images), probabilities, atol=1e-5)
    assert raw["x_test"].dtype == np.int16
    np.testing.assert_allclose(served.predict(raw["x_test"]), probabilities, atol=1e-5)
