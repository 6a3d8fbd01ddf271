"""Training on several devices, each with a copy of the model (`fit.strategy=mirrored`), equal to training on one.

Keras trains a model that was built in the scope of a `tf.distribute.MirroredStrategy`: each device computes the
gradients of its part of the batch, and all apply their sum. Keras weights all parts alike, so that a batch that cannot
be divided evenly, such as the last one of an epoch, has other gradients than on one device, or fails. `distribute`
replaces Keras's steps by ones in which each part has the weight of its images. Otherwise they are Keras's. `check`
refuses what is computed from the gradients or values of one device alone, where the whole batch would be meant.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from mnistlab.config import ConfigError
from mnistlab.data import Dataset
from mnistlab.runtime import keras_internals

SEEDS_APART = 0x9E3779B9  # between the seeds of a random layer on two devices: 2**32 divided by the golden ratio
GRADIENTS_OF_THE_BATCH = ("clipnorm", "global_clipnorm", "clipvalue", "gradient_accumulation_steps")


class Part(NamedTuple):
    """A device's part of a batch.

    weights: of the images in the loss; share: the part's size relative to an even one; size: of the whole batch;
    is_counted: whether the metrics count these images.
    """

    images: Any
    targets: Any
    weights: Any
    share: Any
    size: Any
    is_counted: Any


def synchronize(model: keras.Model) -> None:
    """Let BatchNormalization use the mean and variance of the whole batch, not those of one device's part."""
    for layer in keras_internals.all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def check(model: keras.Model) -> None:
    """Raise ConfigError for what several devices compute in another way than one. model: compiled."""
    if problems := list(_problems(model)):
        raise ConfigError(f"fit.strategy=mirrored cannot train this: {problem}" for problem in problems)


def _problems(model: keras.Model) -> Iterator[str]:
    if isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        yield (
            "Keras scales the loss by what the first device alone finds in its gradients. Received: a "
            "LossScaleOptimizer (fit.precision=mixed_float16). Use fit.precision=mixed_bfloat16, or fit.strategy=null."
        )
    for name in GRADIENTS_OF_THE_BATCH:
        if (value := getattr(keras_internals.inner_optimizer(model.optimizer), name, None)) is not None:
            yield (
                f"with optimizer.{name} Keras changes the gradients of each device before it adds them, which is not "
                f"the same as for the whole batch. Received: {value}. Leave it out, or use fit.strategy=null."
            )
    reduction = getattr(model.loss, "reduction", "sum_over_batch_size")
    if reduction not in ("sum_over_batch_size", "mean"):
        yield (
            f"the loss of a batch must be the mean over its images. Received: reduction={reduction}. "
            "Leave fit.loss.reduction out, or use fit.strategy=null."
        )


def check_losses(model: keras.Model) -> None:
    """Raise ConfigError if layers add losses of the images that they see. model: called once."""
    regularized = [weight for weight in model.trainable_weights if getattr(weight, "regularizer", None) is not None]
    if len(model.losses) > len(regularized):
        raise ConfigError(
            "fit.strategy=mirrored cannot train this: a layer adds a loss that depends on the images of the batch "
            "(activity_regularizer, add_loss), and each device would take it from its own images. Leave it out, or use "
            "fit.strategy=null."
        )


def distribute(model: keras.Model, strategy: tf.distribute.Strategy, dataset: Dataset) -> None:
    """Let `fit` and `evaluate` of a compiled model use all devices. `predict` uses the first one.

    model: built and compiled in the scope of the strategy; dataset: its training images.

    Raises:
        ConfigError: as `check` and `check_losses`.
    """
    one = dataset.train.images[[0]], dataset.targets(dataset.train.labels[:1])
    check(model)
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
        strategy.run(lambda: _build_metrics(model, *one))
    check_losses(model)
    model.reset_metrics()
    keras_internals.take_whole_batches(model)
    replicas = Replicas(model, strategy)

    def make_train_function(force: bool = False) -> None:
        if force or model.train_function is None:
            model.train_function = replicas.function(replicas.train_step)

    def make_test_function(force: bool = False) -> None:
        if force or model.test_function is None:
            model.test_function = replicas.function(replicas.test_step)

    model.make_train_function, model.make_test_function = make_train_function, make_test_function


def is_distributed(model: keras.Model) -> bool:
    """Whether each device of a strategy has a copy of the model's variables. Its metrics are built, too."""
    return isinstance(model.optimizer.iterations.value, tf.distribute.DistributedValues)


def _build_metrics(model: keras.Model, images: Any, targets: Any) -> None:
    outputs = model(images, training=False)
    model.compute_loss(x=images, y=targets, y_pred=outputs)
    model.compute_metrics(images, targets, outputs)


def _of_any_size(values: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *values.shape[1:]], values.dtype)


class Replicas:
    """The steps of a model on the devices of a strategy: each one takes a part of the batch, in order."""

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        self.model, self.strategy = model, strategy
        self.count = strategy.num_replicas_in_sync
        self.loss_tracker = next(metric for metric in model.metrics if metric.name == "loss")
        seeds = [weight for weight in model.variables if weight.path.endswith("seed_generator_state")]
        self.seeds = [(weight, int(weight.numpy()[0])) for weight in seeds]

    def function(self, step: Callable[[Part], None]) -> Callable[[Iterator[Any]], dict[str, Any]]:
        """What Keras calls for each batch: it takes the next one of an iterator and returns the metrics so far."""

        def on_batch(batch: Any) -> dict[str, Any]:
            images, targets, weights = keras.utils.unpack_x_y_sample_weight(batch)
            self.strategy.run(step, args=(self._parts(images, targets, weights),))
            return self.model.get_metrics_result()

        compiled: list[Any] = []  # once, for batches of any size

        def on_next_batch(iterator: Iterator[Any]) -> dict[str, Any]:
            batch = next(iterator)
            if not compiled:
                compiled.append(tf.function(on_batch, [keras.tree.map_structure(_of_any_size, batch)], autograph=False))
            logs: dict[str, Any] = compiled[0](batch)
            return logs

        return on_next_batch

    def _parts(self, images: Any, targets: Any, weights: Any) -> Any:
        """Each device's part of a batch. A batch with fewer images than devices is the part of each of them: layers may
        fail without images."""
        size = tf.shape(images)[0]
        is_small = size < self.count
        weights = tf.ones([size]) if weights is None else weights
        starts = [size * number // self.count for number in range(self.count + 1)]

        def part(context: Any) -> Part:
            number = context.replica_id_in_sync_group
            start, end = tf.where(is_small, 0, starts[number]), tf.where(is_small, size, starts[number + 1])
            share = tf.where(is_small, 1.0, tf.cast((end - start) * self.count, tf.float32) / tf.cast(size, tf.float32))
            is_counted = tf.logical_or(not number, tf.logical_not(is_small))
            return Part(images[start:end], targets[start:end], weights[start:end], share, size, is_counted)

        return self.strategy.experimental_distribute_values_from_function(part)

    def train_step(self, part: Part) -> None:
        """As Keras's `train_step`, of a part of a batch."""
        model = self.model
        self._seed()
        with tf.GradientTape() as tape:
            outputs = model(part.images, training=True)
            loss = self._loss(part, outputs, training=True)
        gradients = tape.gradient(loss, model.trainable_weights)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        self._update_metrics(part, outputs)

    def test_step(self, part: Part) -> None:
        """As Keras's `test_step`, of a part of a batch."""
        outputs = self.model(part.images, training=False)
        self._loss(part, outputs, training=False)
        self._update_metrics(part, outputs)

    def _loss(self, part: Part, outputs: Any, *, training: bool) -> Any:
        """The part's summand of the batch's loss: Keras divides its mean by the number of devices."""
        weights = part.weights * tf.cast(part.share, part.weights.dtype)
        loss = self.model.compute_loss(part.images, part.targets, outputs, weights, training=training)
        self.loss_tracker.update_state(loss * self.count, sample_weight=tf.cast(part.size, tf.float32) / self.count)
        return loss

    def _update_metrics(self, part: Part, outputs: Any) -> None:
        def update() -> None:
            self.model.compute_metrics(part.images, part.targets, outputs, sample_weight=part.weights)

        tf.cond(part.is_counted, update, lambda: None)

    def _seed(self) -> None:
        """Give each device random numbers of its own: dropout with one seed would drop the same units on each."""
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        for seed, first in self.seeds:
            apart = tf.cast(number, tf.uint32) * tf.constant(SEEDS_APART, tf.uint32)
            state = tf.cast(seed.value, tf.uint32)
            own = tf.stack([tf.constant(first & 0xFFFFFFFF, tf.uint32) + apart, state[1]])
            seed.assign(tf.cast(own, seed.dtype))
