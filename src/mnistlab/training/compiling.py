"""Compiles a model and checks loss, metrics and callbacks before the first epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mnistlab.config import ConfigError, suggest
from mnistlab.runtime.keras_internals import learning_rate_or_schedule

LOSSES = {
    "one_hot": "categorical_crossentropy",
    "integer": "sparse_categorical_crossentropy",
    "binary": "binary_crossentropy",
}


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
            _check_known_to_keras(keras.metrics, "fit.metrics", name)
    if loss != "auto":
        _check_known_to_keras(keras.losses, "fit.loss", loss)
    model.compile(optimizer=optimizer, loss=LOSSES[labels] if loss == "auto" else loss, metrics=list(metrics))


def _check_known_to_keras(module: Any, setting: str, name: str) -> None:
    try:
        module.get(name)
    except ValueError as error:
        names = [entry for entry in dir(module) if entry.islower() and not entry.startswith("_")]
        raise ConfigError(f"{setting}={name} is not known to Keras.{suggest(name, names)}") from error


def check_callbacks(
    callbacks: Mapping[str, keras.callbacks.Callback], model: keras.Model, metrics: Sequence[str]
) -> None:
    """Check what Keras would notice during the training or never.

    Raises:
        ConfigError: a callback monitors a metric that will not exist, or would change the learning rate of an
            optimizer that has a schedule.
    """
    schedule = isinstance(learning_rate_or_schedule(model.optimizer), keras.optimizers.schedules.LearningRateSchedule)
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
    """Check that every epoch will have the monitored metric.

    Raises:
        ConfigError: it will not.
    """
    known = [f"{prefix}{name}" for prefix in ("val_", "") for name in ("loss", *metrics)]
    if monitor is not None and monitor not in known:
        raise ConfigError(f"{setting} must be a metric of the training. Received: {monitor}.{suggest(monitor, known)}")
