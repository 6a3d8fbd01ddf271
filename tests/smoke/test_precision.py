"""`fit.precision`: each job has its own, in the model, the fingerprint and the saved file; the next one starts anew."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from small_data import few_digits

from mnistlab import experiment
from mnistlab.config import Config, ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.runtime.keras_internals import all_layers
from mnistlab.training import TrainingResult, building, fit, models, plan_fit, precision, saving, start_job

MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def composed(name: str | None, *overrides: str) -> Config:
    chosen = [f"fit.precision={name}"] if name else []
    return compose_config(["model.units=32", "optimizer.learning_rate=0.005", *chosen, *overrides])


def trained(config: Config, engine: str, scale: float | None = None) -> tuple[keras.Model, TrainingResult]:
    start_job(0, deterministic=False)
    dataset = few_digits()
    model = building.build_model(config, dataset)
    if scale is not None:
        model.optimizer.build(model.trainable_variables)
        model.optimizer.dynamic_scale.assign(scale)
    plan = plan_fit(model, dataset, epochs=2, batch_size=32, seed=0, engine=engine)
    assert plan.engine == engine
    return model, fit(model, dataset, plan, keep="last")


def losses(result: TrainingResult) -> list[float]:
    return [row["loss"] for row in result.history]


def check_types(model: keras.Model, name: str, folder: Path) -> None:
    """The types of the layers, also of the saved model, which computes the same."""
    inner, outer = MIXED.get(name, name), "float64" if name == "float64" else "float32"
    (file,) = saving.save_model(model, folder, ["keras"])
    loaded = keras.models.load_model(file)
    for one in (model, loaded):
        assert [layer.compute_dtype for layer in one.layers] == [outer, inner, inner, outer]
        assert {weight.dtype for weight in one.weights} == {outer}
        assert isinstance(one.optimizer, keras.optimizers.LossScaleOptimizer) == (name == "mixed_float16")
    images = few_digits().test.images[:50]
    np.testing.assert_array_equal(loaded(images), model(images))


@functools.cache
def losses_in_float32() -> list[float]:
    return losses(trained(composed(None), "fused")[1])


@pytest.mark.long_after(1)
@pytest.mark.parametrize("name", ["mixed_bfloat16", "float64"])
def test_a_job_trains_in_its_precision_and_the_next_one_in_float32(name: str, tmp_path: Path) -> None:
    expected = losses_in_float32()
    model, result = trained(composed(name), "fused")
    check_types(model, name, tmp_path)
    assert result.history[-1]["learning_rate"] == 0.005
    assert losses(result) != expected
    same_start = name in MIXED  # for float64 other initial weights are drawn
    assert losses(result) == pytest.approx(expected, rel=0.03 if same_start else 0.2)
    assert keras.config.dtype_policy().name == "float32"
    assert losses(trained(composed(None), "fused")[1]) == expected  # to the last bit


@pytest.mark.long
def test_float16_scales_the_loss_in_both_engines(tmp_path: Path) -> None:
    """The scale is so large that the gradients of the first steps overflow: these steps are skipped."""
    found, curves = [], []
    for engine in ("fused", "keras"):
        model, result = trained(composed("mixed_float16"), engine, scale=2.0**20)
        scale = float(model.optimizer.dynamic_scale.numpy()), int(model.optimizer.step_counter.numpy())
        found.append((*scale, int(model.optimizer.iterations)))
        curves.append(losses(result))
        assert result.history[-1]["learning_rate"] == 0.005
    assert found[0] == found[1]
    assert curves[0] == pytest.approx(curves[1], rel=0.02)
    assert curves[0][1] < 0.8 * curves[0][0]
    scale, in_a_row, num_steps = found[0]
    assert scale < 2.0**20
    assert 2 <= in_a_row <= num_steps < 20
    check_types(model, "mixed_float16", tmp_path)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = keras.layers.Dense(3, activation="softmax"), keras.layers.Flatten()

    def call(self, images):
        return self.last(self.first(images))


def functional() -> keras.Model:
    image = keras.Input((28, 28, 1))
    hidden = keras.layers.Dense(4)(keras.layers.Flatten()(image))
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="last")(hidden))


@pytest.mark.parametrize(
    "make", [functional, Subclassed, lambda: keras.Sequential([keras.Input((28, 28, 1)), functional()])]
)
def test_networks_of_all_kinds_have_outputs_in_float32(make) -> None:
    for name in (None, *MIXED):
        with precision.policy(name):
            network = precision.with_exact_output(make(), name)
        model = models.with_preprocessing(network, (28, 28, 1), "unit")
        outputs = model(few_digits().test.images[:4])
        assert model.outputs[0].dtype == outputs.dtype == "float32"
        exact = make is functional or name is None
        assert outputs.numpy().sum(axis=1) == pytest.approx(np.ones(4), abs=1e-6 if exact else 0.01)
        computed = {layer.compute_dtype for layer in all_layers(model) if isinstance(layer, keras.layers.Dense)}
        assert computed == {"float32"} if name is None else MIXED[name] in computed


def test_the_fingerprint_has_the_jobs_precision_before_and_after_other_jobs() -> None:
    dataset = few_digits()
    names = (None, "float32", "mixed_bfloat16", "float64")

    def identities() -> list[dict[str, str]]:
        return [experiment.identity(composed(name), dataset) for name in names]

    before = identities()
    resolved = [json.loads(one["fingerprint.resolved"])["precision"] for one in before]
    assert resolved == ["float32", "float32", "mixed_bfloat16", "float64"]
    assert before[0]["fingerprint"] == before[1]["fingerprint"]
    assert len({one["fingerprint"] for one in before}) == 3
    building.build_model(composed("mixed_bfloat16"), dataset)
    assert identities() == before


@pytest.mark.parametrize(
    ("given", "meant"), {"float16": "mixed_float16", "bf16": "mixed_bfloat16", "bfloat16": "mixed_bfloat16"}.items()
)
def test_another_precision_is_refused(given: str, meant: str) -> None:
    choices = "float32, float64, mixed_bfloat16, mixed_float16"
    with pytest.raises(ConfigError) as refused:
        composed(given)
    assert str(refused.value) == (f"fit.precision={given} is not an option. Did you mean {meant}? Choices: {choices}.")
