"""A compiled model, its callbacks, and Keras's `fit` over a seeded order of images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mnistlab import loaders
from mnistlab.config import ConfigError, suggest
from mnistlab.data import Dataset, epoch_order
from mnistlab.sources import Split

log = logging.getLogger("mnistlab")

LOSSES = {
    "one_hot": "categorical_crossentropy",
    "integer": "sparse_categorical_crossentropy",
    "binary": "binary_crossentropy",
}
EVALUATION_BATCH_SIZE = 1000


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and TensorFlow; with `deterministic`, TensorFlow's op determinism for this process's rest."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def compile_model(
    model: keras.Model, optimizer: keras.Optimizer, *, loss: str, metrics: Sequence[str], labels: str
) -> None:
    """Compile in place.

    Args:
        loss: a Keras loss by name, or 'auto' for the cross-entropy that fits `labels`.
        labels: 'one_hot', 'integer' or 'binary', as in `Dataset.labels`.

    Raises:
        ConfigError: Keras knows no such loss or metric.
    """
    for name in metrics:
        if name not in ("accuracy", "acc", "crossentropy"):
            _known_to_keras(keras.metrics, "fit.metrics", name)
    if loss != "auto":
        _known_to_keras(keras.losses, "fit.loss", loss)
    model.compile(optimizer=optimizer, loss=LOSSES[labels] if loss == "auto" else loss, metrics=list(metrics))


def _known_to_keras(module: Any, setting: str, name: str) -> None:
    try:
        module.get(name)
    except ValueError as error:
        names = [entry for entry in dir(module) if entry.islower() and not entry.startswith("_")]
        raise ConfigError(f"{setting}={name} is not known to Keras.{suggest(name, names)}") from error


def resolve_batch_size(batch_size: int | str, num_images: int) -> int:
    """Images per step; 'all', or more than there are, is the whole training set."""
    if batch_size == "all":
        return num_images
    if int(batch_size) > num_images:
        log.warning(
            "fit.batch_size=%s is more than the %s training images: each step uses all of them.",
            batch_size,
            num_images,
        )
    return min(int(batch_size), num_images)


def check_callbacks(
    callbacks: Mapping[str, keras.callbacks.Callback], model: keras.Model, metrics: Sequence[str]
) -> None:
    """Refuse before the first epoch what Keras notices in mid-training or never.

    Raises:
        ConfigError: a callback that monitors a metric that will not exist, or that would change the rate of an
            optimizer with a schedule.
    """
    schedule = isinstance(
        getattr(model.optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule
    )
    changes_rate = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
    for name, callback in callbacks.items():
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(f"callbacks.{name} must be a keras.callbacks.Callback. Received: {callback!r}.")
        if schedule and isinstance(callback, changes_rate):
            raise ConfigError(
                f"callbacks.{name} changes the learning rate, but optimizer.learning_rate is a schedule that sets it "
                "at every step. Use one of the two."
            )
        check_monitor(f"callbacks.{name}.monitor", getattr(callback, "monitor", None), metrics)


def check_monitor(setting: str, monitor: str | None, metrics: Sequence[str]) -> None:
    """Refuse a monitored metric that no epoch will have."""
    known = [f"{prefix}{name}" for prefix in ("val_", "") for name in ("loss", *metrics)]
    if monitor is not None and monitor not in known:
        raise ConfigError(f"{setting} must be a metric of the training. Received: {monitor}.{suggest(monitor, known)}")


class ShuffledBatches(keras.utils.PyDataset):
    """The training batches of an epoch in its own order (`data.epoch_order`); `begin` says which epoch.

    Yields (images, targets) or (images, targets, weights); the last batch of an epoch may be smaller.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int) -> None:
        super().__init__()
        self.images = dataset.train.images
        self.targets = dataset.targets(dataset.train.labels)
        self.weights = sample_weights(dataset.train, dataset.class_weight)
        self.batch_size = batch_size
        self.seed = seed
        self.begin(0)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        arrays = (self.images, self.targets, self.weights) if self.weights is not None else (self.images, self.targets)
        return tuple(array[chosen] for array in arrays)

    def begin(self, epoch: int) -> None:
        """Keras iterates once before the first epoch, to look: counting the iterations would miss epoch 0."""
        self.order = epoch_order(len(self.images), self.seed, epoch)


def sample_weights(split: Split, class_weight: Mapping[int, float] | None) -> np.ndarray | None:
    """Each image's weight in the loss, float32 of shape (n,), from its class's; what Keras makes of `class_weight`."""
    if class_weight is None:
        return None
    by_class = np.ones(max(int(split.labels.max()), *class_weight) + 1, dtype=np.float32)
    for label, weight in class_weight.items():
        by_class[label] = weight
    return by_class[split.labels]


def fit(
    model: keras.Model,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train through Keras's `fit`; what happens is seen by the callbacks.

    The order of the images is a function of seed and epoch alone.
    """
    if not dataset.resident:
        weights = sample_weights(dataset.train, dataset.class_weight)
        loaders.fit(
            model, dataset, epochs=epochs, batch_size=batch_size, seed=seed, weights=weights, callbacks=callbacks
        )
        return
    batches = ShuffledBatches(dataset, batch_size, seed)
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.begin(epoch))
    model.fit(
        batches,
        epochs=epochs,
        validation_data=(dataset.validation.images, dataset.targets(dataset.validation.labels)),
        validation_batch_size=EVALUATION_BATCH_SIZE,
        callbacks=[begin, *callbacks],
        shuffle=False,
        verbose=0,
    )


def predict(model: keras.Model, dataset: Dataset, split: Split) -> tuple[dict[str, float], np.ndarray]:
    """The compiled metrics on a split, and each image's class probabilities, float32 of shape (n, classes)."""
    if not split.resident:
        metrics, outputs = loaders.predict(model, dataset, split)
        return metrics, dataset.probabilities(outputs)
    metrics = model.evaluate(
        split.images,
        dataset.targets(split.labels),
        batch_size=EVALUATION_BATCH_SIZE,
        verbose=0,
        return_dict=True,
    )
    outputs = model.predict(split.images, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
    return {name: float(value) for name, value in metrics.items()}, dataset.probabilities(outputs)
