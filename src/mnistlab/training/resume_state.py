"""All that a training needs to continue exactly: variables, random generators, callbacks, as plain values and arrays.

`capture` copies it between two steps; `restore` puts it into a model and callbacks that were built anew from the same
configuration. What has an effect on the training and is neither a variable nor a plain attribute is lost: an open file,
an object of the user's.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnistlab.runtime import keras_internals
from mnistlab.training.engine import copies

# Of callbacks: what Keras sets for each training, and what belongs to files that were opened in this one.
NOT_CAPTURED = ("params", "model", "_model", "append", "append_header", "_is_tracing", "_profiler_started", "_writers")
CHANGED_ONCE = ("min_delta",)  # Keras gives it its sign when it sets `monitor_op`, at the end of the first epoch
MAX_DEPTH = 20  # of nested lists and dictionaries
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


def capture(model: keras.Model, callbacks: Sequence[keras.callbacks.Callback], *, within_epoch: bool) -> dict[str, Any]:
    """A copy of the present state. within_epoch: with the metrics of the steps so far."""
    return {
        "variables": [_copied(variable.numpy()) for variable in copies.state(model)],
        "layers": [_attributes(layer, of_layer=True) for layer in copies.users_layers(model)],
        "metrics": [_each_device(variable) for variable in model.metrics_variables] if within_epoch else None,
        "callbacks": [[type(callback).__qualname__, _callback_state(callback)] for callback in callbacks],
        "random": _random_states(),
        "stop_training": bool(model.stop_training),
    }


def restore(model: keras.Model, callbacks: Sequence[keras.callbacks.Callback], state: Mapping[str, Any]) -> None:
    """Put a captured state into a model and callbacks of the same configuration.

    Raises:
        ValueError: they are of another.
    """
    variables = copies.state(model)
    _check_same(
        [list(value.shape) for value in state["variables"]], [variable.shape.as_list() for variable in variables]
    )
    _check_same([name for name, _ in state["callbacks"]], [type(callback).__qualname__ for callback in callbacks])
    for variable, value in zip(variables, state["variables"], strict=True):
        variable.assign(value)
    if state["metrics"] is not None:
        for variable, value in zip(model.metrics_variables, state["metrics"], strict=True):
            _assign_each_device(variable, value)
    for layer, attributes in zip(copies.users_layers(model), state["layers"], strict=True):
        _set_attributes(layer, attributes)
    for callback, (_, saved) in zip(callbacks, state["callbacks"], strict=True):
        if _has_own_state(callback):
            callback.set_state(_plain_copy(saved))
        else:
            _set_attributes(callback, saved)
    model.stop_training = state["stop_training"]
    _set_random_states(state["random"])


def _check_same(saved: list[Any], built: list[Any]) -> None:
    if saved != built:
        raise ValueError(f"the checkpoint is of another model or other callbacks: {saved} instead of {built}")


def _copied(array: np.ndarray) -> np.ndarray:
    return np.array(array, copy=True)


def _each_device(variable: Any) -> Any:
    """A metric's value; where several devices train, the list of theirs: their sum alone would not continue exactly."""
    if isinstance(variable.value, tf.distribute.DistributedValues):
        return [_copied(part.numpy()) for part in variable.value.values]
    return _copied(variable.numpy())


def _assign_each_device(variable: Any, value: Any) -> None:
    parts = variable.value.values if isinstance(value, list) else [variable]
    for part, saved in zip(parts, value if isinstance(value, list) else [value], strict=True):
        part.assign(saved)


def _has_own_state(callback: Any) -> bool:
    """Whether a callback says itself what its state is: get_state() -> plain values, set_state(state)."""
    return callable(getattr(callback, "get_state", None)) and callable(getattr(callback, "set_state", None))


def _callback_state(callback: Any) -> Any:
    if not _has_own_state(callback):
        return _attributes(callback)
    saved = callback.get_state()
    if not is_plain(saved):
        raise TypeError(
            f"{type(callback).__name__}.get_state must return numbers, strings, NumPy arrays, or lists, tuples and "
            f"dictionaries of them. Received: {type(saved).__name__}."
        )
    return _plain_copy(saved)


def _attributes(owner: Any, of_layer: bool = False) -> dict[str, Any]:
    """The plain attributes of a callback, or of a layer, whose lists Keras replaces by its own; and the states of its
    random generators."""
    found: dict[str, Any] = {}
    left_out = (*NOT_CAPTURED, *(CHANGED_ONCE if hasattr(owner, "monitor_op") else ()))
    for name, value in vars(owner).items():
        if name in left_out or (of_layer and (name.startswith("_") or not isinstance(value, copies.PLAIN_STATE))):
            continue
        if isinstance(value, GENERATORS):
            found[name] = {"generator": _generator_state(value)}
        elif is_plain(value):
            found[name] = {"value": _plain_copy(value)}
    return found


def _set_attributes(owner: Any, saved: Mapping[str, Any]) -> None:
    for name, entry in saved.items():
        if "generator" in entry:
            _set_generator_state(getattr(owner, name), entry["generator"])
        else:
            setattr(owner, name, _plain_copy(entry["value"]))


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a checkpoint can hold this: numbers, strings, arrays of numbers; lists, tuples, dictionaries of these."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biufcV" and value.dtype.names is None
    if type(value) in (list, tuple) and depth < MAX_DEPTH:
        return all(is_plain(entry, depth + 1) for entry in value)
    if type(value) is dict and depth < MAX_DEPTH:
        return all(isinstance(key, str | int) and is_plain(entry, depth + 1) for key, entry in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _plain_copy(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _copied(value)
    if isinstance(value, list | tuple):
        return type(value)(_plain_copy(entry) for entry in value)
    return {key: _plain_copy(entry) for key, entry in value.items()} if isinstance(value, dict) else value


# ---- random numbers -------------------------------------------------------------------------------------------------


def _random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's, Keras's and TensorFlow's global random numbers."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "keras": keras_internals.global_seed_state(),
        "tensorflow": keras_internals.eager_random_state(),
    }


def _set_random_states(states: Mapping[str, Any]) -> None:
    keras_internals.set_global_seed_state(states["keras"])
    keras_internals.set_eager_random_state(states["tensorflow"])
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])


def _generator_state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _set_generator_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
