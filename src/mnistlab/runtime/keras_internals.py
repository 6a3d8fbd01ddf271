"""The private names of Keras and TensorFlow that mnistlab uses, each with its reason. A test fails when one changes."""

import copy
import importlib
from typing import Any


def all_layers(model: Any) -> list[Any]:
    """Every layer of a model, also those inside nested models and wrappers; `model.layers` has the outer ones only."""
    return list(model._flatten_layers(include_self=False))


def inner_optimizer(optimizer: Any) -> Any:
    """The optimizer itself, or the one within Keras's LossScaleOptimizer."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def learning_rate_or_schedule(optimizer: Any) -> Any:
    """What the optimizer was given: `optimizer.learning_rate` hides a schedule behind its present value."""
    return getattr(inner_optimizer(optimizer), "_learning_rate", None)


def is_only_its_configuration(optimizer: Any) -> bool:
    """Whether an optimizer built from this one's configuration makes the same steps: it is one of Keras's own classes,
    and nothing is left out by `exclude_from_weight_decay`, which Keras does not put into the configuration."""
    inner = inner_optimizer(optimizer)
    excluded = [getattr(inner, f"_exclude_from_weight_decay{kind}", None) for kind in ("", "_pattern")]
    return type(inner).__module__.startswith("keras.") and not any(excluded)


def profiles_batches(callback: Any) -> bool:
    """Whether a TensorBoard callback was told to profile batches; it keeps `profile_batch` in a form of its own."""
    return getattr(callback, "_start_batch", 0) > 0


def take_whole_batches(model: Any) -> None:
    """Let a model that was built in the scope of a strategy get whole batches in `fit` and `evaluate`. Keras would
    divide them among the devices, and fails where they cannot be divided evenly."""
    model._distribute_strategy = None


def last_scheduled_rate(optimizer: Any) -> Any:
    """The learning rate of the last step that a schedule gave, None without a schedule or a step. A schedule counts
    every batch; the public `iterations` counts updates, fewer where gradients are accumulated."""
    schedule, steps = learning_rate_or_schedule(optimizer), int(inner_optimizer(optimizer)._iterations.numpy())
    return schedule(steps - 1) if hasattr(schedule, "get_config") and callable(schedule) and steps else None


def load_samples(iterator: Any, indices: Any) -> Any:
    """(images, labels) of these rows of ImageDataGenerator's iterator, in this order; indexing gives whole batches."""
    return iterator._get_batches_of_transformed_samples(indices)


def direction_error(callback: Any, model: Any) -> str:
    """Keras's error if it does not know whether the metric that a callback monitors should rise; '' if it knows, or if
    the callback monitors nothing. Keras asks at the end of the first epoch."""
    if not hasattr(callback, "_set_monitor_op") or not any(getattr(entry, "metrics", ()) for entry in model.metrics):
        return ""
    probe = copy.copy(callback)
    probe._model = model
    try:
        probe._set_monitor_op()
    except ValueError as error:
        return str(error)
    return ""


def global_seed_state() -> Any:
    """The state of the seed generator that Keras uses where none is given, as an array; None while there is none."""
    global_state = importlib.import_module("keras.src.backend.common.global_state")
    generator = global_state.get_global_attribute("global_seed_generator")
    return None if generator is None else generator.state.numpy()


def set_global_seed_state(state: Any) -> None:
    """Put back what `global_seed_state` returned; this may draw a random number of Python."""
    if state is not None:
        importlib.import_module("keras.src.random.seed_generator").global_seed_generator().state.assign(state)


def eager_random_state() -> Any:
    """The state of the generator that TensorFlow seeds its operations from, outside of functions; None without one."""
    generator = _eager_generator()
    return None if generator is None else generator.getstate()


def set_eager_random_state(state: Any) -> None:
    """Put back what `eager_random_state` returned."""
    generator = _eager_generator()
    if state is not None and generator is not None:
        generator.setstate(state)


def _eager_generator() -> Any:
    context = importlib.import_module("tensorflow.python.eager.context").context()
    return getattr(context, "_rng", None)


def let_threads_sleep() -> None:
    """Have TensorFlow start with threads that sleep while they wait for work. By default they look for some all the
    time, and so take the processor from the thread that works where there are more threads than processors.

    Without effect if TensorFlow has started.
    """
    context = importlib.import_module("tensorflow.python.eager.context").context()
    if context._context_handle is None:
        config = importlib.import_module("tensorflow.core.protobuf.config_pb2").ConfigProto()
        if context._config is not None:
            config.CopyFrom(context._config)
        config.experimental.disable_thread_spinning = True
        context._config = config


def safe_loading() -> Any:
    """A context in which Keras loads no code from a model file. `load_model(safe_mode=True)` alone does not ensure it:
    a package that calls `keras.config.enable_unsafe_deserialization()` overrules it."""
    return importlib.import_module("keras.src.saving.serialization_lib").SafeModeScope(True)
