"""The fused engine trains the network that it is given, also where a copy of it would be another network."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_data import few_digits

from mnistlab import training
from mnistlab.config import ConfigError
from mnistlab.training import models
from mnistlab.training.engine import copies, programs
from mnistlab.training.plan import choose_engine

layers = keras.layers


def adapted_normalization() -> list[keras.Layer]:
    layer = layers.Normalization(axis=None)
    layer.adapt(few_digits().train.images / np.float32(64))
    return [layer]


def normalization_by_arguments() -> list[keras.Layer]:
    return [layers.Normalization(mean=0.3, variance=0.1)]


class PythonState(layers.Layer):
    """Its factor is set after the construction: neither a variable nor in the configuration."""

    factor = 1.0

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


def with_python_state() -> list[keras.Layer]:
    layer = PythonState()
    layer.factor = 3.0
    return [layer]


class OnlyInInference(PythonState):
    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs if training else inputs * self.factor


def with_state_for_inference() -> list[keras.Layer]:
    layer = OnlyInInference()
    layer.factor = 3.0
    return [layer]


class TensorFlowVariable(layers.Layer):
    """Keras does not list a variable of TensorFlow; a callback or the layer itself may change it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.factor = tf.Variable(1.0, trainable=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.factor.assign_add(0.01)
        return inputs * self.factor


class KerasVariable(layers.Layer):
    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(), initializer="ones", trainable=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            self.factor.assign(self.factor + 0.01)
        return inputs * self.factor


class OwnMetric(layers.Layer):
    """Records the mean of its inputs in a metric of its own."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.mean = keras.metrics.Mean(name="input_mean")

    def call(self, inputs: Any) -> Any:
        self.mean.update_state(inputs)
        return inputs


class OwnGenerator(layers.Layer):
    """Random numbers of TensorFlow, from a generator that is an attribute."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.generator = tf.random.Generator.from_seed(1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs + self.generator.normal(tf.shape(inputs)) * 0.1 if training else inputs


class SeededByKeras(layers.Layer):
    """Random numbers as Keras wants them."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.seed_generator) if training else inputs


FUSED: dict[str, Callable[[], list[keras.Layer]]] = {
    "nothing": list,
    "adapted Normalization": adapted_normalization,
    "Normalization by arguments": normalization_by_arguments,
    "Python attribute": with_python_state,
    "Python attribute, for inference": with_state_for_inference,
    "TensorFlow variable": lambda: [TensorFlowVariable()],
    "Keras variable": lambda: [KerasVariable()],
    "metric of a layer": lambda: [OwnMetric()],
    "TensorFlow generator": lambda: [OwnGenerator()],
    "Keras seed generator": lambda: [SeededByKeras()],
    "nested": lambda: [keras.Sequential([*with_python_state(), layers.Dropout(0.2)])],
    "spectral normalization": lambda: [layers.Flatten(), layers.SpectralNormalization(layers.Dense(12))],
}


class TensorFlowNoise(layers.Layer):
    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs + tf.random.normal(tf.shape(inputs)) * 0.1 if training else inputs


class NoiseInInference(layers.Layer):
    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs if training else inputs + tf.random.normal(tf.shape(inputs)) * 0.1


class Counter(layers.Layer):
    """Counts its calls in Python and acts by the count."""

    calls = 0

    def call(self, inputs: Any) -> Any:
        self.calls += 1
        return inputs * (1.0 + 0.5 * (self.calls % 2))


class PythonNoise(layers.Layer):
    """Draws from Python's and NumPy's random numbers: once each time that the network is compiled."""

    def __init__(self, draw: Callable[[], float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.draw = draw

    def call(self, inputs: Any) -> Any:
        return inputs * (1.0 + self.draw())


class StateInContainers(layers.Layer):
    """A factor in a list, a dictionary, an array and an object, all changed after the construction."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.listed, self.mapped, self.array, self.function = [1.0], {"factor": 1.0}, np.ones(1), lambda images: images

    def call(self, inputs: Any) -> Any:
        return self.function(inputs * self.listed[0] * self.mapped["factor"] * self.array[0])


def changed_containers() -> list[keras.Layer]:
    layer = StateInContainers()
    layer.listed[0], layer.mapped["factor"], layer.array[0] = 2.0, 3.0, 0.5
    layer.function = lambda images: images + 0.25
    return [layer]


def set_weights() -> list[keras.Layer]:
    layer = layers.BatchNormalization()
    layer.build((None, 28, 28, 1))
    layer.set_weights([np.full(1, value, np.float32) for value in (2.0, 0.5, 0.3, 4.0)])
    return [layer]


FUSED |= {"Python state in containers": changed_containers, "weights set before": set_weights}
OF_PYTHON = "draws random numbers of Python or NumPy: others each time that it is compiled"
KERAS_ONLY: dict[str, Callable[[], list[keras.Layer]]] = {
    "layer noisy (TensorFlowNoise)": lambda: [TensorFlowNoise(name="noisy")],
    "layer unsure (NoiseInInference)": lambda: [NoiseInInference(name="unsure")],
    "layer dropping (Lambda)": lambda: [layers.Lambda(lambda images: tf.nn.dropout(images, 0.5), name="dropping")],
    "layer python (PythonNoise)": lambda: [PythonNoise(random.random, name="python")],
    "layer numpy (PythonNoise)": lambda: [PythonNoise(np.random.rand, name="numpy")],
    "layer inner (TensorFlowNoise)": lambda: [keras.Sequential([TensorFlowNoise(name="inner")], name="block")],
}


def new_model(extra: Callable[[], list[keras.Layer]], loss: Any = "auto") -> keras.Model:
    training.start_job(0, deterministic=False)
    body = [*extra(), layers.Flatten(), layers.Dense(8, activation="relu"), layers.Dense(10, activation="softmax")]
    network = keras.Sequential([keras.Input((28, 28, 1)), *body])
    model = models.with_preprocessing(network, (28, 28, 1), "unit")
    training.compile_model(model, keras.optimizers.Adam(0.01), loss="auto", metrics=["accuracy"], labels="one_hot")
    if loss != "auto":
        model.compile(keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"])
    return model


def train(extra: Callable[[], list[keras.Layer]], engine: str, loss: Any = "auto") -> tuple[str, list[dict]]:
    model = new_model(extra, loss)
    plan = training.plan_fit(model, few_digits(), epochs=2, batch_size=32, seed=0, engine=engine)
    return plan.engine, training.fit(model, few_digits(), plan).history


def agree(ours: list[dict], theirs: list[dict]) -> None:
    for our_row, their_row in zip(ours, theirs, strict=True):
        assert set(our_row) == set(their_row)
        for name in set(our_row) - {"epoch_seconds"}:
            assert our_row[name] == pytest.approx(their_row[name], rel=1e-3, abs=1e-5), name


@pytest.mark.long_after(3)
@pytest.mark.parametrize("name", FUSED)
def test_the_fused_engine_trains_the_same_network_as_keras(name, caplog) -> None:
    programs._programs.clear()
    engine, ours = train(FUSED[name], "auto")
    assert engine == "fused"
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING and record.name == "mnistlab"]
    assert [record.message for record in warnings] == []
    agree(ours, train(FUSED[name], "keras")[1])


@pytest.mark.long_after(1)
@pytest.mark.parametrize("message", KERAS_ONLY)
def test_a_layer_with_hidden_random_numbers_is_trained_by_keras_and_named(message, caplog) -> None:
    programs._programs.clear()
    hidden = "has other results at each call, from random numbers or state in no variable of Keras"
    reason = f"{message} {OF_PYTHON if 'PythonNoise' in message else hidden}"
    with pytest.raises(ConfigError) as error:
        choose_engine("fused", new_model(KERAS_ONLY[message]), few_digits(), 4.0)
    assert str(error.value) == f"fit.engine=fused cannot train this model: {reason}. Use fit.engine=auto."
    engine, ours = train(KERAS_ONLY[message], "auto")
    assert engine == "keras"
    assert f"Training with plain Keras: {reason}." in caplog.messages
    agree(ours, train(KERAS_ONLY[message], "keras")[1])  # the check has drawn none of the training's numbers


def test_a_layer_that_counts_its_calls_is_left_as_it_was(caplog) -> None:
    model = new_model(lambda: [Counter(name="counter")])
    counter = next(layer for layer in model.layers if layer.name == "counter")
    before = counter.calls
    training.plan_fit(model, few_digits(), epochs=1, batch_size=32, seed=0)
    assert counter.calls == before


class Focal(keras.losses.Loss):
    """Its exponent is missing from get_config, as in many losses that users write."""

    def __init__(self, exponent: float) -> None:
        super().__init__(name="focal")
        self.exponent = exponent

    def call(self, y_true: Any, y_pred: Any) -> Any:
        right = keras.ops.sum(y_true * y_pred, axis=-1)
        return -((1 - right) ** self.exponent) * keras.ops.log(right + 1e-7)


@pytest.mark.long
def test_a_later_job_with_other_hidden_arguments_does_not_use_the_first_job_s_program() -> None:
    programs._programs.clear()
    for exponent in (0.5, 2.0):
        engine, ours = train(list, "auto", Focal(exponent))
        assert engine == "fused"
        agree(ours, train(list, "keras", Focal(exponent))[1])


@pytest.mark.long
def test_networks_of_one_shape_with_other_statistics_train_each_with_its_own() -> None:
    programs._programs.clear()
    for scale in (1.0, 5.0):

        def adapted(scale: float = scale) -> list[keras.Layer]:
            layer = layers.Normalization(axis=None)
            layer.adapt(few_digits().train.images * np.float32(scale))
            return [layer]

        agree(train(adapted, "auto")[1], train(adapted, "keras")[1])


def test_the_check_changes_neither_the_network_nor_random_numbers() -> None:
    model = new_model(lambda: [layers.GaussianNoise(0.1), layers.BatchNormalization(), layers.Dropout(0.3)])
    programs.program_for(model)
    before = [variable.numpy() for variable in copies.state(model)]
    states = random.getstate(), np.random.get_state()[1].tolist()
    data = few_digits()
    programs.check(model, data.train.images[:4], data.targets(data.train.labels[:4]))
    after = [variable.numpy() for variable in copies.state(model)]
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states


@keras.saving.register_keras_serializable("tests")
class Gained(keras.optimizers.SGD):
    """An optimizer whose argument is not in its configuration, as of many people's own."""

    def __init__(self, learning_rate: float = 0.01, gain: float = 1.0, **more: Any) -> None:
        super().__init__(learning_rate, **more)
        self.gain = gain

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        super().update_step(gradient * self.gain, variable, learning_rate)


def without_decay() -> keras.Optimizer:
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=20.0)
    optimizer.exclude_from_weight_decay(var_names=["kernel", "bias"])
    return optimizer


@pytest.mark.parametrize("optimizer", [lambda: Gained(0.01, 5.0), without_decay], ids=["argument", "exclusion"])
def test_what_an_optimizer_does_not_put_into_its_configuration_counts(optimizer: Callable[[], Any]) -> None:
    histories = {}
    for engine in ("auto", "keras"):
        model = new_model(list)
        model.compile(optimizer(), "categorical_crossentropy", metrics=["accuracy"])
        plan = training.plan_fit(model, few_digits(), epochs=2, batch_size=32, seed=0, engine=engine)
        assert plan.engine == ("fused" if engine == "auto" else "keras")
        histories[engine] = training.fit(model, few_digits(), plan).history
    agree(histories["auto"], histories["keras"])
