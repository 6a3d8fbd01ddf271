"""The compiled functions of the fused engine: a network's training steps and its evaluation on resident data.

`fused.py` calls them; this module knows nothing of epochs and callbacks. Weights, optimizer slots and random seeds are
inputs of a program, so that `programs.py` can keep it for later jobs of the same shape.
"""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnistlab.runtime.keras_internals import all_layers, inner_optimizer
from mnistlab.training.engine import copies, processors

Compiler = Literal["auto", "xla", "graph"]

BLOCK_SECONDS = 0.4  # the longest that Ctrl-C, the progress bar and the NaN check wait
BLOCK_IMAGES = 65_536  # the most predictions that are held for the metrics
EVALUATION_PIXELS = 2**21  # of a chunk of images that is evaluated at once; where that changes variables, chunks are
KERAS_EVALUATION_IMAGES = 1000  # as in plain Keras, so that as many random numbers are drawn

# On a CPU, XLA runs these layers 2 to 10 times faster than TensorFlow's kernels. All other layers run on the kernels:
# in XLA convolutions take 40 times as long, random numbers 20 times (and differ from Keras's), some do not compile.
# A fixed list instead of a timed trial: the same configuration must always give the same numbers.
FAST_IN_XLA: tuple[str, ...] = ("InputLayer", "Rescaling", "Flatten", "Reshape", "Dense", "BatchNormalization")
FAST_IN_XLA += ("MaxPooling2D", "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax")
# Adafactor multiplies numbers near 1e-30: in XLA's order they underflow, and the loss is NaN at step 2.
INEXACT_IN_XLA = ("Adafactor",)

log = logging.getLogger("mnistlab")


class NotFusable(ValueError):
    """The fused engine cannot train this network; the message says why. Plain Keras can."""


class Resident(NamedTuple):
    """Images and labels on the device; row i of one belongs to row i of the other. `place_on_device` makes it."""

    images: tf.Tensor  # uint8 images as (n, words) uint32, four pixels a word: a quarter of the elements to gather
    labels: tf.Tensor  # one-hot (n, classes) float32, or (n,) int32
    sample_weights: tf.Tensor | None = None  # (n,) float32: the weight of each row in the training loss

    def weighted(self, sample_weights: np.ndarray) -> "Resident":
        """Return the same resident images and labels with a weight for each row."""
        return self._replace(sample_weights=tf.constant(sample_weights, tf.float32))


def place_on_device(images: np.ndarray, labels: np.ndarray) -> Resident:
    """Copy images, shape (n, height, width, channels), and labels to the device, once for all jobs of a process."""
    flat = images.reshape(len(images), -1)
    if flat.dtype == np.uint8:
        rest = -flat.shape[1] % 4
        flat = (np.pad(flat, ((0, 0), (0, rest))) if rest else flat).view(np.uint32)
    return Resident(tf.constant(flat), tf.constant(labels, tf.float32 if labels.dtype.kind == "f" else tf.int32))


class Outcome(NamedTuple):
    """What a block of steps leaves for the metrics."""

    losses: tf.Tensor  # one a step
    sizes: list[int]  # images in each step
    predictions: tf.Tensor  # one row an image
    rows: np.ndarray  # the images' row numbers


class Plan(NamedTuple):
    """How one batch size is run."""

    compiler: str
    capacity: int  # steps the compiled program has room for
    seconds_per_step: float

    @property
    def block_length(self) -> int:
        """Steps that fill BLOCK_SECONDS."""
        return int(np.clip(BLOCK_SECONDS / self.seconds_per_step, 1, self.capacity))


class Program:
    """One network and optimizer as compiled functions of resident data; weights of equal networks pass through it.

    model: the network itself, or a copy that outlives it so that later jobs of the same shape find all compiled.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.state = copies.state(model)
        self.plans: dict[tuple, Plan] = {}
        self.changes_when_evaluated: bool | None = None
        self._functions = {
            "xla": tf.function(self._run_block, jit_compile=True, autograph=False),
            "graph": tf.function(self._run_block, autograph=False),
        }
        self._forward = tf.function(self._run_forward, autograph=False, reduce_retracing=True)

    def prepare(
        self, network: keras.Model, data: Resident, batch_size: int, num_images: int, compiler: Compiler = "auto"
    ) -> int:
        """Compile for batches of this size and return how many steps a block should have; nothing is trained."""
        self.load(network)
        full_steps, short = divmod(num_images, batch_size)
        order = _order_of_zeros(batch_size, full_steps)
        key = (batch_size, len(order), compiler, data.sample_weights is None)
        if key not in self.plans:
            self.plans[key] = self._plan(data, order, self._candidates(compiler, full_steps))
            log.debug("batches of %d: %s", batch_size, self.plans[key])
        self.plan = self.plans[key]
        steps, length = full_steps + bool(short), self.plan.block_length
        if length >= full_steps:
            return steps
        return -(-steps // -(-steps // length))  # blocks of about equal length

    def compile(self, data: Resident, batch_size: int, num_images: int, evaluated: Sequence[np.ndarray]) -> None:
        """Compile what `prepare`, `train` and `evaluate` will need, in another thread than theirs; train nothing.

        evaluated: the rows of each evaluation.
        """
        full_steps, short = divmod(num_images, batch_size)
        self._compile(self._candidates("auto", full_steps)[0], data, _order_of_zeros(batch_size, full_steps))
        if short:
            self._compile("graph", data, _order_of_zeros(short, 1))
        for rows in evaluated:
            chunk = self._images_at_once()
            self.evaluate(self.model, data, rows[-chunk - len(rows) % chunk :])  # a whole chunk and what is left

    def train(self, network: keras.Model, data: Resident, rows: np.ndarray, batch_size: int) -> Outcome:
        """Train on the rows in batches; a smaller last batch is a step of its own."""
        self.load(network)
        num_steps, short = divmod(len(rows), batch_size)
        losses, predictions = [], []
        if num_steps:
            order = np.zeros((self.plan.capacity, batch_size), np.int32)
            order[:num_steps] = rows[: num_steps * batch_size].reshape(num_steps, batch_size)
            block_losses, block_predictions = self._functions[self.plan.compiler](*data, order, tf.constant(num_steps))
            losses.append(block_losses[:num_steps])
            predictions.append(tf.reshape(block_predictions[:num_steps], (-1, *block_predictions.shape[2:])))
        if short:
            last_loss, last_predictions = self._functions["graph"](*data, rows[np.newaxis, -short:], tf.constant(1))
            losses.append(last_loss)
            predictions.append(last_predictions[0])
        self.unload(network)
        sizes = [batch_size] * num_steps + [short] * bool(short)
        return Outcome(tf.concat(losses, 0), sizes, tf.concat(predictions, 0), rows)

    def evaluate(self, network: keras.Model, data: Resident, rows: np.ndarray) -> Outcome:
        """Run the network on the rows without training."""
        self.load(network)
        chunk = self._images_at_once()
        if self.changes_when_evaluated is None:
            self.changes_when_evaluated = self._assigns(data, rows[:chunk])
        if self.changes_when_evaluated:
            chunk = KERAS_EVALUATION_IMAGES
        chunks = [rows[start : start + chunk] for start in range(0, len(rows), chunk)]
        results = [self._forward(data.images, data.labels, tf.constant(rows, tf.int32)) for rows in chunks]
        if self.changes_when_evaluated:
            self.unload(network)
        losses, predictions = zip(*results, strict=True)
        return Outcome(tf.stack(losses), [len(rows) for rows in chunks], tf.concat(predictions, 0), rows)

    def _images_at_once(self) -> int:
        """Images that are evaluated at once."""
        return int(np.clip(EVALUATION_PIXELS // copies.largest_image(self.model), 32, 2048))

    def _assigns(self, data: Resident, rows: np.ndarray) -> bool:
        """Whether evaluation changes variables, as random layers of Keras do that draw numbers they do not use."""
        graph = self._forward.get_concrete_function(data.images, data.labels, tf.constant(rows, tf.int32)).graph
        return b"Assign" in graph.as_graph_def().SerializeToString()

    def load(self, network: keras.Model) -> None:
        """Copy the network's variables (weights, slots, step counter, random seeds) into the program."""
        if network is not self.model:
            for ours, theirs in zip(self.state, copies.state(network), strict=True):
                ours.assign(theirs)

    def unload(self, network: keras.Model) -> None:
        """Copy the program's variables back, so that callbacks see the trained network."""
        if network is not self.model:
            for ours, theirs in zip(self.state, copies.state(network), strict=True):
                theirs.assign(ours)

    def _run_block(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        sample_weights: tf.Tensor | None,
        order: tf.Tensor,
        num_steps: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Take the first num_steps steps of order, shape (capacity, batch size); return losses and predictions."""
        capacity, batch_size = order.shape
        output = self.model.outputs[0]
        losses = tf.TensorArray(tf.float32, capacity, element_shape=())
        predictions = tf.TensorArray(output.dtype, capacity, element_shape=(batch_size, *output.shape[1:]))

        def step(
            index: tf.Tensor, losses: tf.TensorArray, predictions: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
            rows = order[index]
            weights = None if sample_weights is None else tf.gather(sample_weights, rows)
            loss, outputs = self._train_step(self._images(images, rows), tf.gather(labels, rows), weights)
            return index + 1, losses.write(index, tf.cast(loss, tf.float32)), predictions.write(index, outputs)

        _, losses, predictions = tf.while_loop(
            lambda index, *_: index < num_steps, step, (0, losses, predictions), parallel_iterations=1
        )
        return losses.stack(), predictions.stack()

    def _train_step(
        self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What Keras's `train_step` does, without its metrics."""
        model, optimizer = self.model, self.model.optimizer
        with tf.GradientTape() as tape:
            outputs = model(images, training=True)
            loss = model.compute_loss(x=images, y=labels, y_pred=outputs, sample_weight=weights)
            scaled = optimizer.scale_loss(loss)
        optimizer.apply(tape.gradient(scaled, model.trainable_weights), model.trainable_weights)
        return loss, outputs

    def _run_forward(self, images: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = self._images(images, rows)
        outputs = self.model(images, training=False)
        return self.model.compute_loss(x=images, y=tf.gather(labels, rows), y_pred=outputs), outputs

    def _images(self, images: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Gather images, shape (len(rows), *the network's input shape)."""
        shape = self.model.input_shape[1:]
        gathered = tf.gather(images, rows)
        if gathered.dtype == tf.uint32:
            pixels = tf.reshape(tf.bitcast(gathered, tf.uint8), (-1, 4 * gathered.shape[1]))
            gathered = pixels[:, : int(np.prod(shape))]
        return tf.reshape(gathered, (rows.shape[0] or -1, *shape))

    def _candidates(self, compiler: Compiler, full_steps: int) -> list[str]:
        """Return the compilers to try in turn; one step an epoch would not repay XLA's compilation."""
        if compiler != "auto":
            return [compiler]
        return ["xla", "graph"] if runs_in_xla(self.model) and full_steps > 1 else ["graph"]

    def _plan(self, data: Resident, order: np.ndarray, compilers: list[str]) -> Plan:
        """Compile with the first compiler that can, time a few steps and undo them."""
        before = [variable.numpy() for variable in self.state]
        for compiler in compilers:
            try:
                self._compile(compiler, data, order)
                return Plan(compiler, len(order), self._seconds_per_step(self._functions[compiler], data, order))
            except (tf.errors.OpError, ValueError, TypeError) as error:
                reason, cause = copies.compile_error(self.model, error), error
                if compiler != compilers[-1]:
                    warnings.warn(f"{reason}; training with TensorFlow's own kernels instead", stacklevel=4)
            finally:
                for variable, value in zip(self.state, before, strict=True):
                    variable.assign(value)
        raise NotFusable(reason) from cause

    def _compile(self, compiler: str, data: Resident, order: np.ndarray) -> None:
        """Compile by a call that takes no step."""
        with processors.chosen_for(self.state, order.shape[1], compiler):
            self._functions[compiler](*data, order, tf.constant(0))[0].numpy()

    def _seconds_per_step(self, function: Callable, data: Resident, order: np.ndarray) -> float:
        def seconds(num_steps: int, repeats: int = 2) -> float:
            elapsed = []
            for _ in range(repeats):  # the quicker one: something else may have had the processor
                start = time.perf_counter()
                function(*data, order, tf.constant(num_steps))[0].numpy()
                elapsed.append(time.perf_counter() - start)
            return min(elapsed)

        if len(order) == 1:
            return BLOCK_SECONDS
        overhead, per_step = seconds(0), []
        for num_steps in (1, 8, 64, 512):  # slow steps end the measurement early
            num_steps = min(num_steps, len(order))
            per_step.append(max(seconds(num_steps) - overhead, 1e-6) / num_steps)
            if num_steps * per_step[-1] > 0.004:
                break
        return min(per_step)


def runs_in_xla(network: keras.Model) -> bool:
    """Whether XLA compiles the steps of this network."""
    kinds = {type(layer).__name__ for layer in all_layers(network)}
    return kinds <= set(FAST_IN_XLA) and type(inner_optimizer(network.optimizer)).__name__ not in INEXACT_IN_XLA


def _order_of_zeros(batch_size: int, full_steps: int) -> np.ndarray:
    """Row numbers for as many steps as one call takes, all 0: int32, shape (steps, batch size)."""
    return np.zeros((min(max(1, BLOCK_IMAGES // batch_size), full_steps), batch_size), np.int32)
