"""Training and prediction: Keras's `fit`, with plain Keras or the fused engine, over a seeded order of images."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from mnistlab.data import Dataset, Split, epoch_order
from mnistlab.data.folders import batches as file_batches
from mnistlab.data.folders.images import raise_original
from mnistlab.training import devices, mirrored
from mnistlab.training.array_metrics import PerClassMetrics, scalar_metrics
from mnistlab.training.callback_checks import make_folders
from mnistlab.training.callbacks import FinalWeights, History, KeepEpoch, OnEpoch, Progress, ends_with_other_weights
from mnistlab.training.checkpointing import Checkpointing, CheckpointPlan, build_metrics, prepare_files, skipping_steps
from mnistlab.training.engine import copies, fused
from mnistlab.training.plan import FitPlan, resolve_batch_size
from mnistlab.training.result import TrainingResult

EVALUATION_BATCH_SIZE = 1000
ENLARGED_VALUES = 2**21  # of a batch that is evaluated where the network enlarges its images


def start_job(seed: int, deterministic: bool) -> None:
    """Prepare the devices; forget Keras's state of earlier jobs; seed Python, NumPy and TensorFlow.

    Args:
        deterministic: switch on TensorFlow's op determinism, for the rest of the process.
    """
    devices.prepare()
    keras.utils.clear_session(free_memory=False)  # a garbage collection here would cost half a second per job
    keras.utils.set_random_seed(seed)
    if deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def saved_epoch(which: str, dataset: Dataset) -> Literal["best", "last"]:
    """The epoch whose weights are saved, from the setting `save.which`.

    Args:
        which: 'best', 'last' or 'auto': 'best', but 'last' where the validation images are the test images, so that the
            test set chooses no epoch.
    """
    if which == "auto":
        return "last" if validates_on_test(dataset) else "best"
    return "best" if which == "best" else "last"


def validates_on_test(dataset: Dataset) -> bool:
    """Whether the validation images are the test images (data.validation=test; data.split=keras without a test set)."""
    return dataset.validation is dataset.test


def fit(
    model: keras.Model,
    dataset: Dataset,
    plan: FitPlan,
    *,
    monitor: str = "val_loss",
    keep: str = "best",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_epoch: OnEpoch = lambda row, epoch: None,
    checkpoints: CheckpointPlan | None = None,
) -> TrainingResult:
    """Train through Keras's `fit`. A loss that is not finite ends the training.

    The order of the images is a function of seed and epoch only, the same for all engines and loaders.

    Args:
        monitor: the metric that names the best epoch.
        keep: the epoch whose weights the model has afterwards, also if a callback has restored others, and whose
            metrics are the result's: 'best' or 'last'. The weights are those that were validated.
        callbacks: the user's; they see Keras's ordinary model and logs. From the validation to the end of an epoch the
            model has the weights that the optimizer would end with: `SwapEMAWeights` has nothing left to do.
        on_epoch: called after each epoch with its metrics and its number, from 1; see `History`.
        checkpoints: whether and when they are written, and the one to continue from; None: neither.

    Raises:
        OSError: an image file was removed or damaged since it was checked; the message names it.
        TimeBudgetSpent: `checkpoints.max_seconds` have passed.
    """
    make_folders(callbacks)
    history, kept = History(on_epoch), KeepEpoch(monitor, keep)
    observers = [PerClassMetrics(dataset.class_names), history, kept, *callbacks, Progress(plan.epochs)]
    if ends_with_other_weights(model.optimizer):
        final = FinalWeights()
        others = [callback for callback in observers if not isinstance(callback, keras.callbacks.SwapEMAWeights)]
        observers = [final, *others, final.continues]
    checkpointing = Checkpointing(checkpoints or CheckpointPlan(), observers, plan.epochs)
    if checkpointing.plan.start:
        prepare_files(callbacks, checkpointing.plan.start.epoch)
    fit_engine = _fit_fused if plan.engine == "fused" else _fit_keras
    try:
        diverged = fit_engine(model, dataset, plan, observers, checkpointing)
    finally:
        checkpointing.close()
    seconds = checkpointing.seconds
    kept.restore()
    return TrainingResult(history.rows, kept.epoch, seconds, plan.steps_per_epoch, diverged, keep)


def _fit_keras(
    model: keras.Model,
    dataset: Dataset,
    plan: FitPlan,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpointing: Checkpointing,
) -> fused.NonFiniteLoss | None:
    watch = StopAtNonFinite()

    def build_first() -> None:
        if not mirrored.is_distributed(model):
            build_metrics(model, dataset.train.images[np.arange(1)], dataset.targets(dataset.train.labels[:1]))

    checkpointing.observe(watch, build_first)
    if dataset.resident:
        training = ShuffledBatches(dataset, plan.batch_size, plan.seed, checkpointing.initial_epoch)
        order = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: training.set_epoch(epoch))
        validation = (dataset.validation.images, dataset.targets(dataset.validation.labels))
    else:
        weights = sample_weights(dataset.train, dataset.class_weight)
        training, order = file_batches.training_batches(dataset, plan.batch_size, plan.seed, weights)
        order.on_epoch_begin(checkpointing.initial_epoch)
        validation = file_batches.evaluation_batches(dataset, dataset.validation)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    with raise_original(), skipping_steps(model, checkpointing.first_step):
        model.fit(
            training,
            epochs=plan.epochs,
            initial_epoch=checkpointing.initial_epoch,
            validation_data=validation,
            validation_batch_size=evaluation_batch_size(model) if dataset.resident else None,
            callbacks=[order, watch, *callbacks, checkpointing],
            shuffle=False,
            verbose=0,
        )
    return watch.diverged


def _fit_fused(
    model: keras.Model,
    dataset: Dataset,
    plan: FitPlan,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpointing: Checkpointing,
) -> fused.NonFiniteLoss | None:
    resident, rows = _weighted_resident(dataset)
    try:
        fused.fit(
            model,
            resident,
            lambda epoch: epoch_order(len(dataset.train), plan.seed, epoch),
            batch_size=plan.batch_size,
            epochs=plan.epochs,
            initial_epoch=checkpointing.initial_epoch,
            first_step=checkpointing.first_step,
            observe=lambda driver: checkpointing.observe(driver, driver.build_metrics),
            validation_rows=rows["validation"],
            callbacks=[*callbacks, checkpointing],
        )
    except fused.NonFiniteLoss as found:
        return found
    return None


def _weighted_resident(dataset: Dataset) -> tuple[fused.Resident, dict[str, np.ndarray]]:
    """As `resident_of`, with a weight for each training image where classes have weights."""
    resident, rows = resident_of(dataset)
    weights = sample_weights(dataset.train, dataset.class_weight)
    if weights is not None:
        others = np.ones(len(resident.labels) - len(weights), np.float32)
        resident = resident.weighted(np.concatenate([weights, others]))
    return resident, rows


def compile_ahead(model: keras.Model, dataset: Dataset, batch_size: int | str) -> None:
    """Let a thread compile what a later job of this process needs to train such a model with the fused engine."""
    resident, rows = _weighted_resident(dataset)
    num_images = len(dataset.train)
    images_per_step = resolve_batch_size(batch_size, num_images)
    fused.compile_ahead(model, resident, images_per_step, num_images, [rows["validation"], rows["test"]])


def evaluation_batch_size(model: keras.Model) -> int:
    """Images that plain Keras evaluates at once; fewer where the network enlarges them, which takes memory."""
    largest = copies.largest_image(model)
    if largest <= math.prod(model.input_shape[1:]):
        return EVALUATION_BATCH_SIZE
    return min(max(ENLARGED_VALUES // largest, 32), EVALUATION_BATCH_SIZE)


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
    return fused.place_on_device(images, dataset.targets(labels)), rows


class StopAtNonFinite(keras.callbacks.Callback):
    """Ends the training at the first loss that is not finite, which `diverged` describes."""

    def __init__(self) -> None:
        super().__init__()
        self.diverged: fused.NonFiniteLoss | None = None
        self.epoch = 0
        self.last_finite = math.nan

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            self.last_finite = loss
        elif self.diverged is None:
            self.diverged = fused.NonFiniteLoss(self.epoch + 1, batch + 1, loss, self.last_finite)
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
        metrics, outputs = fused.evaluate(model, resident, rows[name])
    elif split.resident:
        batch = {"batch_size": evaluation_batch_size(model), "verbose": 0}
        metrics = model.evaluate(split.images, dataset.targets(split.labels), return_dict=True, **batch)
        outputs = model.predict(split.images, **batch)
    else:
        with raise_original():
            batches = functools.partial(file_batches.evaluation_batches, dataset, split)
            metrics = model.evaluate(batches(), verbose=0, return_dict=True)
            outputs = model.predict(batches(), verbose=0)
    return scalar_metrics(metrics, dataset.class_names, model), dataset.probabilities(outputs)


class ShuffledBatches(keras.utils.PyDataset):
    """The training batches of one epoch in a seeded order (`data.epoch_order`).

    Yields (images, targets) or (images, targets, weights); the last batch of an epoch may be smaller. A callback must
    call `set_epoch`: Keras calls `on_epoch_end` once before the first epoch, after it has read some batches.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, epoch: int = 0) -> None:
        super().__init__()
        weights = sample_weights(dataset.train, dataset.class_weight)
        arrays = (dataset.train.images, dataset.targets(dataset.train.labels))
        self.arrays = arrays if weights is None else (*arrays, weights)
        self.batch_size = batch_size
        self.seed = seed
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Yield the batches of this epoch, counted from 0, from now on."""
        self.order = epoch_order(len(self.arrays[0]), self.seed, epoch)

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return tuple(array[chosen] for array in self.arrays)


def sample_weights(split: Split, class_weight: Mapping[int, float] | None) -> np.ndarray | None:
    """Each image's weight in the loss, float32 of shape (n,), as Keras derives it from `class_weight`."""
    if class_weight is None:
        return None
    by_class = np.ones(max(int(split.labels.max()), *class_weight) + 1, dtype=np.float32)
    for label, weight in class_weight.items():
        by_class[label] = weight
    return by_class[split.labels]
