"""The private names of Keras that mnistlab uses, each with its reason. A test fails when Keras renames one."""

from typing import Any


def all_layers(model: Any) -> list[Any]:
    """Every layer of a model, also those inside nested models and wrappers; `model.layers` has the outer ones only."""
    return list(model._flatten_layers(include_self=False))


def learning_rate_or_schedule(optimizer: Any) -> Any:
    """What the optimizer was given: `optimizer.learning_rate` hides a schedule behind its present value."""
    return getattr(optimizer, "_learning_rate", None)


def load_samples(iterator: Any, indices: Any) -> Any:
    """(images, labels) of these rows of ImageDataGenerator's iterator, in this order; indexing gives whole batches."""
    return iterator._get_batches_of_transformed_samples(indices)
