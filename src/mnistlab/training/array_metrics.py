"""Metrics whose result is an array, such as F1Score without `average`: their mean, and one value per class."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np


class PerClassMetrics(keras.callbacks.Callback):
    """Replaces array results in the logs of all callbacks after it, so that they can monitor and record the mean."""

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        self.class_names = class_names

    def _replace(self, logs: dict[str, Any] | None) -> None:
        if logs:  # one dictionary for all callbacks
            logs.update(scalar_metrics(logs, self.class_names, self.model))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._replace(logs)

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._replace(logs)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._replace(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._replace(logs)


def scalar_metrics(values: Mapping[str, Any], class_names: Sequence[str], model: keras.Model) -> dict[str, float]:
    """The values as numbers: of an array its mean, under the metric's name, and each entry as `f1_score.CLASS`.

    Entries are named by their index where they do not belong to the classes: a recall at several thresholds.
    """
    scalars: dict[str, float] = {}
    for name, value in values.items():
        entries = np.asarray(value, np.float64)
        scalars[name] = float(entries.mean()) if entries.size else float("nan")
        if entries.ndim:
            names = _entry_names(name.removeprefix("val_"), entries.shape, class_names, model)
            scalars |= {f"{name}.{entry}": float(number) for entry, number in zip(names, entries.flat, strict=True)}
    return scalars


def _entry_names(metric: str, shape: tuple[int, ...], class_names: Sequence[str], model: keras.Model) -> Sequence[str]:
    thresholds = {entry.name: np.size(getattr(entry, "thresholds", 0)) for entry in metrics_of(model)}
    if shape == (len(class_names),) and thresholds.get(metric, 1) <= 1:
        return class_names
    return [".".join(map(str, index)) for index in np.ndindex(shape)]


def metrics_of(model: keras.Model) -> Iterator[keras.metrics.Metric]:
    """The metrics of a compiled model that has seen its first batch, the loss included."""
    for metric in model.metrics:
        yield from getattr(metric, "metrics", [metric])
