"""A compiled model, its callbacks, and Keras's `fit` over a seeded order of images."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from mnistlab.config import ConfigError, suggest
from mnistlab.data import Dataset, epoch_order
from mnistlab.data.folders import batches
from mnistlab.data.sources import Split
from mnistlab.training.engine import fused

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
    """The training batches of one epoch, in the order that `begin` chose (`data.epoch_order`).

    Yields (images, targets) or (images, targets, weights); the last batch of an epoch may be smaller. The epoch is told
    by a callback: Keras calls `on_epoch_end` once before the first epoch, after it looked at some batches.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int) -> None:
        super().__init__()
        self.images = dataset.train.images
        self.targets = dataset.targets(dataset.train.labels)
        self.weights = sample_weights(dataset.train, dataset.class_weight)
        self.batch_size = batch_size
        self.seed = seed
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Give out the batches of this epoch, counted from 0, from now on."""
        self.order = epoch_order(len(self.images), self.seed, epoch)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        arrays = (self.images, self.targets, self.weights) if self.weights is not None else (self.images, self.targets)
        return tuple(array[chosen] for array in arrays)


def sample_weights(split: Split, class_weight: Mapping[int, float] | None) -> np.ndarray | None:
    """Each image's weight in the loss, float32 of shape (n,), from its class's; what Keras makes of `class_weight`."""
    if class_weight is None:
        return None
    by_class = np.ones(max(int(split.labels.max()), *class_weight) + 1, dtype=np.float32)
    for label, weight in class_weight.items():
        by_class[label] = weight
    return by_class[split.labels]


@dataclass(frozen=True)
class Ended:
    """How a training ended: after how many seconds, and where its loss stopped being a number, if it did."""

    seconds: float
    diverged: fused.NonFiniteLoss | None = None


def choose_engine(engine: str, model: keras.Model, dataset: Dataset, resident_gigabytes: float) -> str:
    """'fused' or 'keras'.

    Args:
        engine: what was asked for; 'auto' takes the fused engine unless the images are more than `resident_gigabytes`
            or the network is none that can be compiled, and says why not.

    Raises:
        ConfigError: 'fused' was asked for and the network cannot be compiled.
    """
    if engine == "keras":
        return "keras"
    if not dataset.resident:
        if engine == "fused":
            raise ConfigError(
                f"fit.engine=fused needs the images in memory. Received: source.loader={dataset.loader}. "
                "Use source.loader=resident, or fit.engine=auto."
            )
        return "keras"
    gigabytes = (
        sum(int(np.prod(split.images.shape)) for split in (dataset.train, dataset.validation, dataset.test)) / 1e9
    )
    if engine == "auto" and gigabytes > resident_gigabytes:
        log.info(
            "Training with plain Keras: the images need %.1f GB, fit.resident_gigabytes is %g.",
            gigabytes,
            resident_gigabytes,
        )
        return "keras"
    try:
        fused.program_for(model)
    except fused.NotFusable as error:
        if engine == "fused":
            raise ConfigError(f"fit.engine=fused cannot train this model: {error}. Use fit.engine=auto.") from error
        log.warning("Training with plain Keras: %s.", error)
        return "keras"
    return "fused"


def fit(
    model: keras.Model,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    engine: str = "keras",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Ended:
    """Train through Keras's `fit`; what happens is seen by the callbacks.

    The order of the images is a function of seed and epoch alone, the same for both engines. A loss that is no number
    ends the training.

    Args:
        engine: 'fused' or 'keras', as `choose_engine` gives it.
    """
    begun = time.perf_counter()
    if engine == "fused":
        diverged = _fit_fused(model, dataset, epochs, batch_size, seed, callbacks)
        return Ended(time.perf_counter() - begun, diverged)
    watch = StopAtNonFinite()
    if not dataset.resident:
        batches.fit(
            model,
            dataset,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            weights=sample_weights(dataset.train, dataset.class_weight),
            callbacks=[watch, *callbacks],
        )
        return Ended(time.perf_counter() - begun, watch.found)
    shuffled = ShuffledBatches(dataset, batch_size, seed)
    shuffle = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: shuffled.begin(epoch))
    model.fit(
        shuffled,
        epochs=epochs,
        validation_data=(dataset.validation.images, dataset.targets(dataset.validation.labels)),
        validation_batch_size=EVALUATION_BATCH_SIZE,
        callbacks=[shuffle, watch, *callbacks],
        shuffle=False,
        verbose=0,
    )
    return Ended(time.perf_counter() - begun, watch.found)


def _fit_fused(
    model: keras.Model,
    dataset: Dataset,
    epochs: int,
    batch_size: int,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> fused.NonFiniteLoss | None:
    resident, rows = resident_of(dataset)
    weights = sample_weights(dataset.train, dataset.class_weight)
    if weights is not None:
        others = np.ones(len(resident.labels) - len(weights), np.float32)
        resident = resident.weighted(np.concatenate([weights, others]))
    try:
        fused.fit(
            model,
            resident,
            lambda epoch: epoch_order(len(dataset.train), seed, epoch),
            batch_size=batch_size,
            epochs=epochs,
            validation_rows=rows["validation"],
            callbacks=callbacks,
        )
    except fused.NonFiniteLoss as found:
        return found
    return None


@functools.lru_cache(maxsize=1)
def resident_of(dataset: Dataset) -> tuple[fused.Resident, dict[str, np.ndarray]]:
    """All images of a data set on the device, once per process, and the row numbers of each split; training first."""
    splits = {"train": dataset.train, "validation": dataset.validation}
    if dataset.test is not dataset.validation:
        splits["test"] = dataset.test
    ends = np.cumsum([len(split) for split in splits.values()])
    starts = ends - [len(split) for split in splits.values()]
    rows = {name: np.arange(start, end, dtype=np.int32) for name, start, end in zip(splits, starts, ends, strict=True)}
    rows.setdefault("test", rows["validation"])
    images = np.concatenate([split.images for split in splits.values()])
    labels = np.concatenate([split.labels for split in splits.values()])
    return fused.place(images, dataset.targets(labels)), rows


class StopAtNonFinite(keras.callbacks.Callback):
    """Ends the training at the first loss that is not finite; `found` says where."""

    def __init__(self) -> None:
        super().__init__()
        self.found: fused.NonFiniteLoss | None = None
        self.epoch = 0
        self.last_finite = math.nan

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            self.last_finite = loss
        elif self.found is None:
            self.found = fused.NonFiniteLoss(self.epoch + 1, batch + 1, loss, self.last_finite)
            self.model.stop_training = True


def predict(
    model: keras.Model, dataset: Dataset, name: str, engine: str = "keras"
) -> tuple[dict[str, float], np.ndarray]:
    """The compiled metrics on a split ('validation', 'test'), and each image's class probabilities.

    Returns:
        metrics by name, and probabilities: float32, shape (n, classes).
    """
    split = dataset.splits[name]
    if engine == "fused":
        resident, rows = resident_of(dataset)
        metrics, outputs = fused.judge(model, resident, rows[name])
        return metrics, dataset.probabilities(outputs)
    if not split.resident:
        metrics, outputs = batches.predict(model, dataset, split)
        return metrics, dataset.probabilities(outputs)
    metrics = model.evaluate(
        split.images, dataset.targets(split.labels), batch_size=EVALUATION_BATCH_SIZE, verbose=0, return_dict=True
    )
    outputs = model.predict(split.images, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
    return {key: float(value) for key, value in metrics.items()}, dataset.probabilities(outputs)
