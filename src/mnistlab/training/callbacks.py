"""The callbacks of every training: an epoch's metrics, the best epoch's weights, progress on the terminal."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from mnistlab.config.metric_names import metric_direction
from mnistlab.runtime import terminal
from mnistlab.runtime.keras_internals import inner_optimizer, last_scheduled_rate

log = logging.getLogger("mnistlab")

Logs = dict[str, Any] | None
OnEpoch = Callable[[dict[str, float], int], dict[str, float] | None]


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether a metric's value is better than another; losses and errors fall, everything else rises."""
    if not math.isfinite(value):
        return False
    return not math.isfinite(than) or (value < than if lower_is_better(metric) else value > than)


def lower_is_better(metric: str) -> bool:
    """Whether a lower value of this metric is better, by Keras's names; an unknown metric counts as rising."""
    return metric_direction(metric) == "lower"


class History(keras.callbacks.Callback):
    """Collects Keras's metrics of each epoch, the learning rate of its last step, and its seconds.

    Args:
        on_epoch: called after each epoch with its row and its number, from 1. A row that it returns replaces this one:
            that of an epoch that was recorded before the training was interrupted.
    """

    def __init__(self, on_epoch: OnEpoch) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.rows: list[dict[str, float]] = []
        self.learning_rate = math.nan
        self.started = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.started = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        if batch == 0:  # the user's callbacks, which may set the rate, have seen the start of the epoch
            self.learning_rate = learning_rate(self.model.optimizer)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        if (scheduled := last_scheduled_rate(self.model.optimizer)) is not None:
            self.learning_rate = _as_written(scheduled)
        row |= {"learning_rate": self.learning_rate, "epoch_seconds": time.perf_counter() - self.started}
        self.rows.append(self.on_epoch(row, epoch + 1) or row)

    def get_state(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self.started
        return {"rows": self.rows, "learning_rate": self.learning_rate, "epoch_seconds": seconds}

    def set_state(self, state: dict[str, Any]) -> None:
        self.rows, self.learning_rate = state["rows"], state["learning_rate"]
        self.started = time.perf_counter() - state["epoch_seconds"]


def learning_rate(optimizer: keras.Optimizer) -> float:
    """The current learning rate as it was written: 0.01, not float32's 0.0099999998."""
    return _as_written(optimizer.learning_rate)


def _as_written(value: Any) -> float:
    return float(str(np.float32(keras.ops.convert_to_numpy(value))))


class KeepEpoch(keras.callbacks.Callback):
    """Keeps the weights of one epoch in memory: those that were validated, whatever callbacks do before and after.

    It must stand before all callbacks that change weights. `epoch` counts from 1; it is None while no epoch has had a
    finite value, and after a last epoch that has none.

    Args:
        monitor: the metric that names the best epoch.
        which: 'best', the epoch with the best value of `monitor`, or 'last'.
    """

    def __init__(self, monitor: str, which: str = "best") -> None:
        super().__init__()
        self.monitor = monitor
        self.which = which
        self.epoch: int | None = None
        self.value = math.nan
        self.weights: list[np.ndarray] = []
        self.validated: list[np.ndarray] = []

    def on_test_end(self, logs: Logs = None) -> None:
        self.validated = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        values = logs or {}
        value = float(values.get(self.monitor, math.nan))
        if self.which == "last":
            finite = math.isfinite(value) and math.isfinite(float(values.get("loss", 0.0)))
            self.epoch = epoch + 1 if finite else None
        elif is_better(self.monitor, value, self.value):
            self.epoch = epoch + 1
        else:
            return
        self.value, self.weights = value, self.validated or self.model.get_weights()

    def get_state(self) -> dict[str, Any]:
        kept = "validated" if self.weights is self.validated else self.weights
        return {"epoch": self.epoch, "value": self.value, "validated": self.validated, "weights": kept}

    def set_state(self, state: dict[str, Any]) -> None:
        self.epoch, self.value, self.validated = state["epoch"], state["value"], state["validated"]
        self.weights = self.validated if state["weights"] == "validated" else state["weights"]

    def restore(self) -> None:
        """Give the model the weights of the kept epoch; warn if it ended with weights that no validation has seen."""
        if not self.weights:
            return
        final = self.model.get_weights()
        if not any(_are_same(final, known) for known in (self.weights, self.validated)):
            log.warning(
                "A callback changed the weights after the last validation. The model gets the weights of epoch %s, as "
                "they were validated (save.which, save.monitor).",
                self.epoch,
            )
        self.model.set_weights(self.weights)


def _are_same(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return len(some) == len(others) and all(
        one.tobytes() == other.tobytes() for one, other in zip(some, others, strict=True)
    )


class FinalWeights(keras.callbacks.Callback):
    """Gives the model, from each validation to the end of the epoch, the weights that the optimizer would end with.

    An optimizer with `use_ema` trains one set of weights and ends with another, their average; others overwrite Keras's
    `finalize_variable_values` with a rule of their own. Keras applies it once, after the last epoch: the validations
    would be those of other weights. This callback stands first, so that all others see the final weights;
    `continues` stands last and goes back to the weights that the training continues from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before: list[tuple[Any, np.ndarray]] = []
        self.continues = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._put_back())

    def on_test_begin(self, logs: Logs = None) -> None:
        variables = [*self.model.variables, *self.model.optimizer.variables]
        self.before = [(variable, variable.numpy()) for variable in variables]
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def _put_back(self) -> None:
        for variable, value in self.before:
            variable.assign(value)
        self.before = []


def ends_with_other_weights(optimizer: keras.Optimizer) -> bool:
    """Whether the optimizer gives the model other weights after the last step than it trains: their average."""
    optimizer = inner_optimizer(optimizer)
    own_rule = type(optimizer).finalize_variable_values is not keras.Optimizer.finalize_variable_values
    return bool(optimizer.use_ema) or own_rule


class Progress(keras.callbacks.Callback):
    """One line per epoch; on a terminal also a live progress bar with the time left of the running epoch."""

    REFRESH_SECONDS = 0.1

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.bar: terminal.Bar | None = None
        self.refreshed = 0.0

    def get_state(self) -> None:
        """What is on the terminal is no part of a checkpoint."""

    def set_state(self, state: None) -> None:
        """Nothing was kept."""

    def on_train_begin(self, logs: Logs = None) -> None:
        self.bar = terminal.start_bar()

    def on_train_end(self, logs: Logs = None) -> None:
        if self.bar:
            self.bar.stop()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.started = time.perf_counter()
        self.number = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        now = time.perf_counter()
        if self.bar is None or now - self.refreshed < self.REFRESH_SECONDS:
            return
        self.refreshed = now
        done = min(1.0, (batch + 1) / (self.params.get("steps") or 1))
        self.bar.update(f"epoch {self.number}/{self.epochs}", done, now - self.started, _shown(logs))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.bar:
            self.bar.stop()
        seconds = time.perf_counter() - self.started
        left = seconds * (self.epochs - epoch - 1)
        rest = f"  ({left:.0f} s left)" if left >= 1 else ""
        log.info("epoch %d/%d  %.1f s  %s%s", epoch + 1, self.epochs, seconds, _shown(logs), rest)


def _shown(logs: Logs) -> str:
    """The metrics on a line without those of single classes: the losses first, each next to its validation value."""
    names = [name for name in logs or {} if name != "learning_rate" and "." not in name]
    names.sort(key=lambda name: ("loss" not in name, name.removeprefix("val_"), name.startswith("val_")))
    return "  ".join(f"{name} {float((logs or {})[name]):.4f}" for name in names)
