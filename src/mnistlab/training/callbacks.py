"""Only what Keras lacks: an epoch's metrics into the record, progress on the terminal, the best epoch's weights."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import Any

import keras
import numpy as np

from mnistlab.tracking.recorder import Recorder

log = logging.getLogger("mnistlab")

Logs = dict[str, Any] | None


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether a metric's value is better than another; losses and errors fall, everything else rises."""
    if not math.isfinite(value):
        return False
    return not math.isfinite(than) or (value < than if falls(metric) else value > than)


def falls(metric: str) -> bool:
    """Whether a lower value of this metric is better."""
    name = metric.removeprefix("val_")
    return name == "loss" or name.endswith(("error", "crossentropy", "divergence"))


class LogEpochs(keras.callbacks.Callback):
    """Records every epoch while training runs: Keras's metrics, the learning rate it used, its seconds.

    One call an epoch with step = epoch, counted from 1. `epochs` keeps the same rows.
    """

    def __init__(self, record: Recorder) -> None:
        super().__init__()
        self.record = record
        self.epochs: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.started = time.perf_counter()
        self.learning_rate = learning_rate(self.model.optimizer)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        row |= {"learning_rate": self.learning_rate, "epoch_seconds": time.perf_counter() - self.started}
        self.epochs.append(row)
        self.record.log_metrics(row, step=epoch + 1)


def learning_rate(optimizer: keras.Optimizer) -> float:
    """The current rate as it was written, 0.01 and not float32's 0.0099999998."""
    return float(str(np.float32(keras.ops.convert_to_numpy(optimizer.learning_rate))))


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best value of `monitor`, in memory.

    `best_epoch` counts from 1 and is None as long as no epoch had a finite value.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__()
        self.monitor = monitor
        self.best_epoch: int | None = None
        self.best_value = math.nan
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        value = float((logs or {}).get(self.monitor, math.nan))
        if is_better(self.monitor, value, self.best_value):
            self.best_epoch, self.best_value = epoch + 1, value
            self.weights = self.model.get_weights()

    def restore(self) -> None:
        if self.weights:
            self.model.set_weights(self.weights)


class Progress(keras.callbacks.Callback):
    """A line per epoch; on a terminal the running epoch's line lives, with the share done and the time left."""

    REFRESH_SECONDS = 0.1

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.live = sys.stdout.isatty()
        self.shown = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.started = time.perf_counter()
        self.number = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        now = time.perf_counter()
        if not self.live or now - self.shown < self.REFRESH_SECONDS:
            return
        self.shown = now
        steps = self.params.get("steps") or 1
        done = min(1.0, (batch + 1) / steps)
        left = (now - self.started) / done * (1 - done)
        bar = "█" * round(20 * done) + "░" * (20 - round(20 * done))
        head = f"epoch {self.number}/{self.epochs}  {bar} {done:4.0%}  {left:.0f} s left  {_shown(logs)}"
        sys.stdout.write(f"\r{head[:110]}\x1b[K")
        sys.stdout.flush()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.live:
            sys.stdout.write("\r\x1b[K")
        seconds = time.perf_counter() - self.started
        left = seconds * (self.epochs - epoch - 1)
        rest = f"  ({left:.0f} s left)" if left >= 1 else ""
        log.info("epoch %d/%d  %.1f s  %s%s", epoch + 1, self.epochs, seconds, _shown(logs), rest)


def _shown(logs: Logs) -> str:
    """The metrics of a line: the losses first, each beside its validation value."""
    names = [name for name in logs or {} if name != "learning_rate"]
    names.sort(key=lambda name: ("loss" not in name, name.removeprefix("val_"), name.startswith("val_")))
    return "  ".join(f"{name} {float((logs or {})[name]):.4f}" for name in names)
