"""The copy of a network that the fused engine compiles, and the check that it computes what the network computes.

A copy lets later jobs of the same shape use the compiled program. It has the network's configuration and variables. A
layer may hold more: the statistics of an adapted `Normalization`, Python attributes, random numbers of TensorFlow.
"""

import contextlib
import copy as python_copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnistlab.runtime.keras_internals import all_layers, is_only_its_configuration

PLAIN_STATE = (bool, int, float, str, np.ndarray, np.random.Generator, np.random.RandomState, random.Random)
TOLERANCE = 1e-4  # relative; equal networks differ by the order of a sum at most
# Layers of Keras that compute something else where the number of images in a batch is not known while compiling: plain
# Keras's case. RandomElasticTransform then moves all images of a batch alike, against its documentation.
DEPENDS_ON_KNOWN_BATCH_SIZE = ("RandomElasticTransform",)


def state(network: keras.Model) -> list[tf.Variable]:
    """The variables of a network and its optimizer: weights, slots, step counter, random seeds."""
    listed = [variable.value for variable in (*network.variables, *network.optimizer.variables)]
    return [*listed, *_unlisted_variables(network)]


def must_not_be_copied(network: keras.Model) -> bool:
    """Whether layers update state that a copy would update in their place: their metrics, variables of TensorFlow."""
    return bool(_unlisted_variables(network)) or any(layer.metrics for layer in all_layers(network))


def _unlisted_variables(network: keras.Model) -> list[tf.Variable]:
    """The TensorFlow variables that are attributes of layers and that Keras does not list."""
    found: dict[int, tf.Variable] = {}
    for layer in users_layers(network):
        for value in keras.tree.flatten([entry for entry in vars(layer).values() if not isinstance(entry, str)]):
            if isinstance(value, tf.random.Generator):
                found[id(value.state)] = value.state
            elif isinstance(value, tf.Module):
                found |= {id(variable): variable for variable in value.variables}
            elif isinstance(value, tf.Variable):
                found[id(value)] = value
    listed = {id(variable.value) for variable in network.variables}
    return [variable for key, variable in found.items() if key not in listed]


def largest_image(network: keras.Model) -> int:
    """The values of one image, or of what a layer within the network enlarges it to: a measure of memory."""
    resized = [layer for layer in all_layers(network) if isinstance(layer, keras.layers.Resizing)]
    return max(int(np.prod(network.input_shape[1:])), *(layer.height * layer.width * 3 for layer in resized), 1)


def signature(network: keras.Model) -> str | int:
    """All that a program depends on but its inputs, or the network's id if it must not be shared."""
    written_functions = (type(lambda: None),)  # two functions of one name need not be equal
    has_lambda = any(isinstance(layer, keras.layers.Lambda) for layer in all_layers(network))
    if isinstance(network.loss, written_functions) or has_lambda or must_not_be_copied(network):
        return id(network)
    if not is_only_its_configuration(network.optimizer):
        return id(network)
    try:
        compiled = network.get_compile_config()
        optimizer = compiled["optimizer"]["config"]
        optimizer = optimizer.get("inner_optimizer", {"config": optimizer})["config"]
        if isinstance(optimizer.get("learning_rate"), float):
            optimizer["learning_rate"] = None  # a variable, an input of the program
        return json.dumps([network.get_config(), compiled, [v.trainable for v in network.variables]])
    except (TypeError, ValueError, NotImplementedError, KeyError):
        return id(network)


def copy(network: keras.Model) -> keras.Model | None:
    """Return a compiled copy with variables of its own, leaving Python's random numbers as they were.

    None if Keras cannot copy it: a class of the user's in a layer, a loss, a metric or the optimizer is not registered.
    """
    seeds = random.getstate()
    try:
        copied = keras.models.clone_model(network)
        optimizer = type(network.optimizer).from_config(network.optimizer.get_config())
    except (TypeError, ValueError, NotImplementedError):
        return None
    finally:
        random.setstate(seeds)
    copied.compile(optimizer, loss=network.loss, loss_weights=network.get_compile_config()["loss_weights"])
    optimizer.build(copied.trainable_variables)
    return copied


class Results(NamedTuple):
    """values: loss, gradients and outputs; draws: whether they took random numbers of Python or NumPy."""

    values: list[np.ndarray]
    draws: bool


def results(network: keras.Model, images: np.ndarray, targets: np.ndarray) -> Results:
    """The network's loss and gradients in training; with layers of the user's also its outputs outside training.

    The network stays as it was.
    """
    with _preserved(network):
        before = _random_states()
        with tf.GradientTape() as tape:
            outputs = network(images, training=True)
            loss = network.compute_loss(x=images, y=targets, y_pred=outputs)
        gradients = tape.gradient(loss, network.trainable_weights)
        values = [loss, *gradients, *([network(images, training=False)] if users_layers(network) else [])]
        arrays = [np.zeros(0) if value is None else tf.convert_to_tensor(value).numpy() for value in values]
        return Results(arrays, _random_states() != before)


def _random_states() -> tuple:
    """The states of Python's and NumPy's global random numbers."""
    _, keys, *rest = np.random.get_state()
    return random.getstate(), np.asarray(keys).tobytes(), *rest


def are_equal(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    """Whether two lists of arrays agree but for rounding."""
    if len(some) != len(others):
        return False
    for one, other in zip(some, others, strict=True):
        one, other = one.astype(np.float64), other.astype(np.float64)
        scale = np.max(np.abs(other[np.isfinite(other)]), initial=0.0)
        if one.shape != other.shape or not np.allclose(one, other, TOLERANCE, TOLERANCE * scale, equal_nan=True):
            return False
    return True


def why_results_differ(network: keras.Model, images: np.ndarray, draws: bool) -> str:
    """Name the first layer, also within others, whose outputs differ between two calls of the network, or which takes
    random numbers of Python or NumPy (`draws`); and say why."""
    first, second = (_outputs_of_layers(network, images) for _ in range(2))
    if draws:
        layers = [layer for layer, _, draws_itself in first if draws_itself]
        reason = "draws random numbers of Python or NumPy: others each time that it is compiled"
    else:
        pairs = zip(first, second, strict=False)
        layers = [layer for (layer, one, _), (_, other, _) in pairs if not are_equal(one, other)]
        reason = "has other results at each call, from random numbers or state in no variable of Keras"
    return f"{_shown(layers[0]) if layers else 'the loss'} {reason}"


def layer_for_keras_only(network: keras.Model) -> str:
    """Name a layer of DEPENDS_ON_KNOWN_BATCH_SIZE, '' if the network has none."""
    layers = (layer for layer in all_layers(network) if type(layer).__name__ in DEPENDS_ON_KNOWN_BATCH_SIZE)
    return next((_shown(layer) for layer in layers if type(layer).__module__.startswith("keras.")), "")


def _shown(layer: keras.Layer) -> str:
    """A layer's name and class for a message."""
    return f"layer {layer.name} ({type(layer).__name__})"


def compile_error(model: keras.Model, error: Exception) -> str:
    """Name the layers that an error of the compiler mentions."""
    message = str(error)
    layers = [layer.name for layer in model.layers if f"/{layer.name}" in message]
    reason = next((line for line in message.splitlines() if line.strip()), type(error).__name__)
    return f"{' and '.join(layers) or 'the network'} cannot be compiled: {reason.strip()[:300]}"


def _outputs_of_layers(network: keras.Model, images: np.ndarray) -> list[tuple[keras.Layer, list[np.ndarray], bool]]:
    """Each layer with its outputs, in the order in which they are complete, in training and outside; and whether it
    took random numbers of Python or NumPy."""
    outputs: list[tuple[keras.Layer, list[np.ndarray], bool]] = []

    def recording(layer: keras.Layer, call: Callable) -> Callable:
        def record(*arguments: Any, **more: Any) -> Any:
            before = _random_states()
            value = call(*arguments, **more)
            arrays = [np.asarray(entry) for entry in keras.tree.flatten(value)]
            outputs.append((layer, arrays, _random_states() != before))
            return value

        return record

    layers = [layer for layer in all_layers(network) if "call" not in vars(layer)]
    with _preserved(network):
        try:
            for layer in layers:
                vars(layer)["call"] = recording(layer, layer.call)
            for training in (True, False):
                network(images, training=training)
        finally:
            for layer in layers:
                vars(layer).pop("call", None)
    return outputs


def users_layers(network: keras.Model) -> list[keras.Layer]:
    """The layers that are not Keras's, and those that call a function of the user's."""
    return [
        layer
        for layer in all_layers(network)
        if isinstance(layer, keras.layers.Lambda) or not type(layer).__module__.startswith("keras.")
    ]


@contextlib.contextmanager
def _preserved(network: keras.Model) -> Iterator[None]:
    """Put back afterwards what a call may change: variables, Python attributes of layers, global random numbers."""
    variables = [*(variable.value for variable in network.variables), *_unlisted_variables(network)]
    values = [variable.numpy() for variable in variables]
    attributes: list[tuple[Any, str, Any]] = [
        (layer, name, python_copy.deepcopy(value))
        for layer in users_layers(network)
        for name, value in vars(layer).items()
        if isinstance(value, PLAIN_STATE) and not name.startswith("_")
    ]
    random_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        for layer, name, value in attributes:
            setattr(layer, name, value)
        random.setstate(random_state)
        np.random.set_state(numpy_state)
