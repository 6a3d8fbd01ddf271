"""The fused engine: Keras's `fit`, with blocks of batches that run as one compiled program on resident data.

A job calls `fit` here instead of `network.fit`. Keras still runs the epochs, so callbacks, History, metrics and
`stop_training` are Keras's and see the ordinary network. Only the function that Keras calls for every
`steps_per_execution` batches is replaced. It gathers each step's images by row number from one copy on the device and
runs hundreds of steps before it returns to Python. The mathematics is Keras's: the network, its loss and its optimizer
are called step by step; losses and predictions are collected, and the metrics are updated once a block from them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnistlab.training.engine.epoch_metrics import EpochMetrics
from mnistlab.training.engine.program import Compiler, NotFusable, Outcome, Program, Resident, place_on_device
from mnistlab.training.engine.programs import can_be_compiled_ahead, check, compile_ahead, program_for

__all__ = ["NonFiniteLoss", "NotFusable", "Resident", "can_be_compiled_ahead", "check", "compile_ahead", "evaluate"]
__all__ += ["fit", "place_on_device", "program_for"]

Order = Callable[[int], np.ndarray]


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite. epoch and step count from 1; last_finite_loss is NaN if there was none."""

    def __init__(self, epoch: int, step: int, loss: float, last_finite_loss: float) -> None:
        super().__init__(f"the loss is {loss} at epoch {epoch}, step {step}; try a smaller learning rate")
        self.epoch, self.step, self.loss, self.last_finite_loss = epoch, step, loss, last_finite_loss


def fit(
    network: keras.Model,
    data: Resident,
    order: Order,
    *,
    batch_size: int,
    epochs: int,
    initial_epoch: int = 0,
    validation_rows: np.ndarray | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
    compiler: Compiler = "auto",
    first_step: int = 0,
    observe: Callable[["Driver"], None] = lambda driver: None,
) -> keras.callbacks.History:
    """Train a compiled network as `network.fit` does.

    Args:
        order: epoch (from 0) -> int32 row numbers of `data` in the order of training, equally many in every epoch.
        first_step: of `initial_epoch`, the first to be trained: the steps before it were trained already.
        observe: gets, before the training, the callback that holds the engine's own state (get_state, set_state).

    Raises:
        NotFusable: the network cannot be compiled; raised before the first step.
        NonFiniteLoss: the loss is not finite; the epoch ended with that block, and the callbacks saw it.
    """
    num_images = len(order(initial_epoch))
    batch_size = min(batch_size, num_images)
    program = program_for(network)
    driver = Driver(network, program, data, order, batch_size, validation_rows)
    driver.first = (initial_epoch, first_step)
    observe(driver)
    network.steps_per_execution = program.prepare(network, data, batch_size, num_images, compiler)
    network.train_function, network.test_function = driver.train, driver.test  # Keras keeps functions already set
    try:
        history = network.fit(
            tf.data.Dataset.range(-(-num_images // batch_size)),  # never read: Keras only counts its batches
            validation_data=None if validation_rows is None else tf.data.Dataset.range(1),
            epochs=epochs,
            initial_epoch=initial_epoch,
            callbacks=[driver, *callbacks],
            shuffle=False,
            verbose=verbose,
        )
    finally:
        network.train_function = network.test_function = None
        network.steps_per_execution = 1
    if driver.diverged is not None:
        raise driver.diverged
    return history


def evaluate(network: keras.Model, data: Resident, rows: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """What `network.evaluate` and `network.predict` return for these rows, in one pass.

    Returns:
        the metrics by name, numbers or arrays, and the network's outputs, shape (len(rows), classes).
    """
    network.reset_metrics()
    outcome = program_for(network).evaluate(network, data, rows)
    logs = _update_metrics(network, data.labels, outcome)
    values = {name: keras.ops.convert_to_numpy(value) for name, value in logs.items()}
    return {name: value if value.ndim else float(value) for name, value in values.items()}, outcome.predictions.numpy()


class Driver(keras.callbacks.Callback):
    """Provides the train and test functions that Keras's `fit` calls; as a callback it follows epoch and step."""

    def __init__(
        self,
        network: keras.Model,
        program: Program,
        data: Resident,
        order: Order,
        batch_size: int,
        validation_rows: np.ndarray | None,
    ) -> None:
        super().__init__()
        self.network, self.program, self.data = network, program, data
        self.order, self.batch_size = order, batch_size
        self.validation_rows = np.empty(0, np.int32) if validation_rows is None else validation_rows
        self.epoch, self.step, self.rows = 0, 0, np.empty(0, np.int32)
        self.losses: list[tf.Tensor] = []
        self.sizes: list[int] = []
        self.last_finite = float("nan")
        self.diverged: NonFiniteLoss | None = None
        self.validates = False
        self.metrics = EpochMetrics(network, data)
        self.first = (0, 0)  # the first epoch and its first step to be trained

    def get_state(self) -> dict[str, Any]:
        """The losses of the epoch so far, which its mean is taken from."""
        losses = [losses.numpy() for losses in self.losses]
        state = {"last_finite": self.last_finite, "losses": losses, "sizes": self.sizes}
        return {**state, "metrics": self.metrics.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.last_finite, self.sizes = state["last_finite"], state["sizes"]
        self.losses = [tf.constant(losses) for losses in state["losses"]]
        self.metrics.set_state(state["metrics"])

    def build_metrics(self) -> None:
        """Build the variables of the metrics, as the first step does."""
        rows = self.rows[:1]
        _update_metrics(self.network, self.data.labels, self.program.evaluate(self.network, self.data, rows))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.rows = epoch, self.order(epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.losses, self.sizes = [], []
        self.metrics.reset()

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.step = batch

    def train(self, _iterator: object) -> dict[str, tf.Tensor]:
        first = self.first[1] if self.epoch == self.first[0] else 0
        start, stop = max(self.step, first), self.step + self.network.steps_per_execution
        if stop <= first:
            return self.network.get_metrics_result()
        rows = self.rows[start * self.batch_size : stop * self.batch_size]
        outcome = self.program.train(self.network, self.data, rows, self.batch_size)
        self._check(start, outcome.losses.numpy())
        self.losses.append(outcome.losses)
        self.sizes += outcome.sizes
        # The mean of all steps so far, not of blocks: how many there are depends on the machine's speed.
        tracker = self.network.metrics[0]
        tracker.reset_state()
        tracker.update_state(tf.concat(self.losses, 0), sample_weight=np.array(self.sizes, np.float32))
        return self.metrics.update(outcome.rows, outcome.predictions)

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.validates = True

    def on_test_end(self, logs: dict | None = None) -> None:
        self.validates = False

    def test(self, iterator: object) -> dict[str, tf.Tensor]:
        if not self.validates:  # a callback evaluates data of its own
            return self._plain_test_function()(iterator)
        return _update_metrics(
            self.network, self.data.labels, self.program.evaluate(self.network, self.data, self.validation_rows)
        )

    def _plain_test_function(self) -> Callable:
        """Keras's own, for this network."""
        self.network.test_function = None
        self.network.make_test_function()
        plain: Callable = self.network.test_function
        self.network.test_function = self.test
        return plain

    def _check(self, start: int, losses: np.ndarray) -> None:
        finite = np.isfinite(losses)
        first = len(losses) if finite.all() else int(np.argmin(finite))
        if first > 0:
            self.last_finite = float(losses[first - 1])
        if first < len(losses) and self.diverged is None:
            self.diverged = NonFiniteLoss(self.epoch + 1, start + first + 1, float(losses[first]), self.last_finite)
            self.network.stop_training = True


def _update_metrics(network: keras.Model, labels: tf.Tensor, outcome: Outcome) -> dict[str, tf.Tensor]:
    """Update the network's loss and metrics with an evaluation's outcome; returns their values."""
    loss_tracker = network.metrics[0]
    loss_tracker.update_state(outcome.losses, sample_weight=np.array(outcome.sizes, np.float32))
    return network.compute_metrics(None, tf.gather(labels, outcome.rows), outcome.predictions, None)
