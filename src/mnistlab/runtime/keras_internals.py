"""The private names of Keras that mnistlab uses, each with its reason. A test fails when Keras renames one."""

from typing import Any


def all_layers(model: Any) -> list[Any]:
    """Every layer of a model, also those inside nested models and wrappers; `model.layers` has the outer ones only."""
    return list(model._flatten_layers(include_self=False))


def learning_rate_or_schedule(optimizer: Any) -> Any:
    """What the optimizer was given: `optimizer.learning_rate` hides a schedule behind its present value."""
    return getattr(_inner(optimizer), "_learning_rate", None)


def last_scheduled_rate(optimizer: Any) -> Any:
    """The learning rate of the last step that a schedule gave, None without a schedule or a step. A schedule counts
    every batch; the public `iterations` counts updates, fewer where gradients are accumulated."""
    schedule, steps = learning_rate_or_schedule(optimizer), int(_inner(optimizer)._iterations)
    return schedule(steps - 1) if hasattr(schedule, "get_config") and callable(schedule) and steps else None


def _inner(optimizer: Any) -> Any:
    """The optimizer that Keras wraps to scale the loss of float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def load_samples(iterator: Any, indices: Any) -> Any:
    """(images, labels) of these rows of ImageDataGenerator's iterator, in this order; indexing gives whole batches."""
    return iterator._get_batches_of_transformed_samples(indices)
