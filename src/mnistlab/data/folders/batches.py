"""Training, validating and testing on images that stay in files: batches decoded beside the training.

`stream` is a tf.data pipeline that decodes in threads with a bounded number of batches ahead; `generator` is Keras's
ImageDataGenerator. Both give the pixels, the labels and the order that the resident loader gives.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnistlab.config import ConfigError
from mnistlab.data import Dataset, epoch_order
from mnistlab.data.sources import ImagesInFiles, Split
from mnistlab.training import augmentation

log = logging.getLogger("mnistlab")

GROUP_IMAGES = 128  # that a worker is asked for at once,
GROUP_BYTES = 4 << 20  # unless they are large
EVALUATION_BYTES = 64 << 20
SAID_OTHERWISE = (
    "Palette images with Transparency",  # Pillow's; the source says it once
    "Please import `affine_transform`",  # Keras calls SciPy by a name that SciPy 2 will not have
)


def check_batch_size(batch_size: int | str, dataset: Dataset) -> None:
    """Refuse a batch that does not fit the memory budget of a loader whose purpose is to keep to it.

    Raises:
        ConfigError: naming the largest batch size that fits.
    """
    images = dataset.train.images
    if isinstance(images, np.ndarray):
        return
    size = len(images) if batch_size == "all" else min(int(batch_size), len(images))
    largest = _memory_budget(images) // (3 * _image_bytes(images))
    if size > largest:
        raise ConfigError(
            f"fit.batch_size={batch_size} with source.loader={images.loader}: three batches of {size:,} decoded images "
            f"at a time exceed source.memory_budget_mb={_memory_budget(images) >> 20}. At most {largest:,} fit."
        )


def fit(
    model: keras.Model,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    weights: np.ndarray | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train through Keras's `fit`; what happens is seen by the callbacks.

    Args:
        weights: each training image's weight in the loss, float32 of shape (n,), or None.

    Raises:
        OSError: a file has gone or was damaged since it was checked; the message names it.
    """
    _say_exchanged_shifts(dataset)
    order = EpochOrder(len(dataset.train), seed)
    with _files_named():
        model.fit(
            _batches(dataset, dataset.train, batch_size, order, weights),
            epochs=epochs,
            validation_data=evaluation_batches(dataset, dataset.validation),
            callbacks=[order, *callbacks],
            shuffle=False,
            verbose=0,
        )


def _say_exchanged_shifts(dataset: Dataset) -> None:
    shifts = [dataset.augmentation.get(f"{side}_shift_range") or 0 for side in ("width", "height")]
    if dataset.loader == "generator" and shifts[0] != shifts[1]:
        log.warning(
            "Keras's ImageDataGenerator exchanges the directions: data.augmentation.width_shift_range moves images up "
            "and down, height_shift_range sideways. The other loaders do what the names say."
        )


def predict(model: keras.Model, dataset: Dataset, split: Split) -> tuple[dict[str, float], np.ndarray]:
    """The compiled metrics on a split, and the network's outputs, float32 of shape (n, outputs)."""
    with _files_named():
        metrics = model.evaluate(evaluation_batches(dataset, split), verbose=0, return_dict=True)
        outputs = model.predict(evaluation_batches(dataset, split), verbose=0)
    return {name: float(value) for name, value in metrics.items()}, outputs


def evaluation_batches(dataset: Dataset, split: Split) -> Any:
    """(images, targets) in order, unaugmented, in batches that keep to the memory budget."""
    images = _files(split)
    budget = min(EVALUATION_BYTES, _memory_budget(images) // 8)
    batch_size = max(1, min(1000, budget // _image_bytes(images)))
    return _batches(dataset, split, batch_size, EpochOrder(len(split), None))


class EpochOrder(keras.callbacks.Callback):
    """The order of the images in the epoch that is running: `data.epoch_order`'s, or without a seed their own."""

    def __init__(self, num_images: int, seed: int | None) -> None:
        super().__init__()
        self.num_images = num_images
        self.seed = seed
        self.begin(0)

    def begin(self, epoch: int) -> None:
        self.epoch = epoch
        ordered = self.seed is None
        self.order = np.arange(self.num_images) if ordered else epoch_order(self.num_images, self.seed or 0, epoch)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.begin(epoch)


def _batches(
    dataset: Dataset, split: Split, batch_size: int, order: EpochOrder, weights: np.ndarray | None = None
) -> Any:
    """What Keras iterates over, once an epoch: (images, targets) or (images, targets, weights)."""
    images = _files(split)
    arrays = (dataset.targets(split.labels), *(() if weights is None else (weights,)))
    if images.loader == "generator":
        return GeneratorBatches(images, arrays, batch_size, order, {} if order.seed is None else dataset.augmentation)
    return stream_batches(images, arrays, batch_size, order)


def _files(split: Split) -> ImagesInFiles:
    if isinstance(split.images, np.ndarray):
        raise TypeError("images in memory need no loader")
    return split.images


def _image_bytes(images: ImagesInFiles) -> int:
    return int(np.prod(images.shape[1:]))


def _memory_budget(images: ImagesInFiles) -> int:
    return int(images.folder.memory_budget)


def stream_batches(
    images: ImagesInFiles, arrays: Sequence[np.ndarray], batch_size: int, order: EpochOrder
) -> tf.data.Dataset:
    """A tf.data pipeline of one epoch's (images, *arrays) batches.

    A worker is asked for a group of batches at a time, since asking costs as much as decoding a few small images. Two
    groups for each worker are decoded ahead, fewer if they would take more than half the memory budget.
    """
    in_group = _batches_in_group(images, batch_size)
    group_size = in_group * batch_size
    groups = -(-len(images) // group_size)

    def load(group: int) -> tuple[np.ndarray, ...]:
        with _remembering_failures():
            chosen = order.order[group * group_size : (group + 1) * group_size]
            return (images[chosen], *(array[chosen] for array in arrays))

    types = [tf.uint8, *(tf.as_dtype(array.dtype) for array in arrays)]
    shapes = [(None, *images.shape[1:]), *((None, *array.shape[1:]) for array in arrays)]

    def loaded(group: tf.Tensor) -> tuple[tf.Tensor, ...]:
        tensors = tf.numpy_function(load, [group], types)
        return tuple(tf.ensure_shape(tensor, shape) for tensor, shape in zip(tensors, shapes, strict=True))

    def batches(*tensors: tf.Tensor) -> tf.data.Dataset:
        starts = tf.data.Dataset.range(0, tf.shape(tensors[0], tf.int64)[0], batch_size)
        return starts.map(lambda start: tuple(tensor[start : start + batch_size] for tensor in tensors))

    workers = images.folder.workers
    room = _memory_budget(images) // (2 * group_size * _image_bytes(images))
    ahead = int(np.clip(room - workers - 1, 1, 2 * workers))  # one more is handed over while all decode
    made = tf.data.Dataset.range(groups).map(loaded, num_parallel_calls=workers + 1).prefetch(ahead).flat_map(batches)
    return made.apply(tf.data.experimental.assert_cardinality(-(-len(images) // batch_size)))


def _batches_in_group(images: ImagesInFiles, batch_size: int) -> int:
    batch_bytes = batch_size * _image_bytes(images)
    room = min(GROUP_BYTES, _memory_budget(images) // (2 * (images.folder.workers + 2)))
    return max(1, min(-(-GROUP_IMAGES // batch_size), room // batch_bytes))


class GeneratorBatches(keras.utils.PyDataset):
    """One epoch's batches of an ImageDataGenerator over given files.

    The random numbers of the augmentation depend on seed, epoch and batch alone, whichever worker draws them.

    Args:
        arrays: targets and, perhaps, weights: a row per image.
        arguments: of ImageDataGenerator.
    """

    def __init__(
        self,
        images: ImagesInFiles,
        arrays: Sequence[np.ndarray],
        batch_size: int,
        order: EpochOrder,
        arguments: Mapping[str, Any],
    ) -> None:
        super().__init__(workers=images.folder.workers)
        self.images = images
        self.arrays = arrays
        self.batch_size = batch_size
        self.order = order
        self.generator = _generator(arguments)
        self.files = _files_iterator(self.generator, images, batch_size)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = self.order.order[index * self.batch_size : (index + 1) * self.batch_size]
        self.generator.begin([self.order.seed or 0, self.order.epoch, index])
        with _remembering_failures():
            try:
                values, _ = self.files._get_batches_of_transformed_samples(chosen)
            except Exception:
                self.images[chosen]  # Keras's error does not name the file, ours does
                raise
        return (augmentation.as_pixels(values), *(array[chosen] for array in self.arrays))


def _generator(arguments: Mapping[str, Any]) -> Any:
    """An ImageDataGenerator that leaves NumPy's global random numbers as they were.

    Raises:
        ConfigError: it refuses the arguments.
    """

    for said in SAID_OTHERWISE:
        warnings.filterwarnings("ignore", message=said)

    class OwnRandomNumbers(tf.keras.preprocessing.image.ImageDataGenerator):
        lock = threading.Lock()
        local = threading.local()

        def begin(self, seed: Sequence[int]) -> None:
            """Start this thread's random numbers from a seed."""
            self.local.state = np.random.RandomState(np.random.SeedSequence(seed).generate_state(4)).get_state()

        def get_random_transform(self, img_shape: tuple[int, ...], seed: int | None = None) -> dict[str, Any]:
            if not arguments:
                return {}
            with self.lock:
                before = np.random.get_state()
                np.random.set_state(self.local.state)
                try:
                    return super().get_random_transform(img_shape)
                finally:
                    self.local.state = np.random.get_state()
                    np.random.set_state(before)

    try:
        return OwnRandomNumbers(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"data.augmentation: ImageDataGenerator refuses its arguments: {error}") from error


def _files_iterator(generator: Any, images: ImagesInFiles, batch_size: int) -> Any:
    """ImageDataGenerator's iterator over just these files: what `flow_from_directory` gives for a folder."""
    import pandas

    decoding = images.folder.decoding
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how many it found
        files = generator.flow_from_dataframe(
            pandas.DataFrame({"filename": images.paths(), "label": np.arange(len(images))}),
            x_col="filename",
            y_col="label",
            class_mode="raw",
            target_size=decoding.size,
            color_mode=decoding.color_mode,
            interpolation=decoding.interpolation,
            batch_size=batch_size,
            shuffle=False,
            validate_filenames=False,
        )
    files.keep_aspect_ratio = decoding.keep_aspect_ratio
    return files


def augmented_versions(dataset: Dataset, image: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Random versions of a training image as the training may see them, uint8, (count, height, width, channels)."""
    if dataset.loader != "generator":
        return augmentation.versions(np.repeat(image[np.newaxis], count, axis=0), dataset.augmentation, seed)
    generator = _generator(dataset.augmentation)
    generator.begin([seed])
    made = [generator.random_transform(image.astype(np.float32)) for _ in range(count)]
    return augmentation.as_pixels(np.stack(made))


_last_failure: list[BaseException] = []


@contextlib.contextmanager
def _remembering_failures() -> Iterator[None]:
    """TensorFlow turns an error of a pipeline's Python into a long one of its own: keep the original."""
    try:
        yield
    except Exception as error:
        _last_failure.append(error)
        raise


@contextlib.contextmanager
def _files_named() -> Iterator[None]:
    """Raise the error that names the file instead of TensorFlow's."""
    _last_failure.clear()
    try:
        yield
    except Exception as error:
        if _last_failure and error is not _last_failure[0]:
            raise _last_failure[0] from error
        raise
