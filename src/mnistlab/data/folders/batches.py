"""Batches of images that stay in files, decoded while Keras trains.

`stream` is a tf.data pipeline that decodes in threads with a bounded number of batches ahead; `generator` is Keras's
ImageDataGenerator (`generator.py`). Both give the pixels, the labels and the order that the resident loader gives.
"""

import logging
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnistlab.config import ConfigError
from mnistlab.data.dataset import Dataset, epoch_order
from mnistlab.data.folders.generator import GeneratorBatches
from mnistlab.data.folders.images import Folder, FolderImages, remember_failure
from mnistlab.data.images import Split

log = logging.getLogger("mnistlab")

GROUP_IMAGES = 128  # that a worker decodes per request,
GROUP_BYTES = 4 << 20  # unless they are large
EVALUATION_BYTES = 64 << 20


def check_batch_size(batch_size: int | str, dataset: Dataset) -> None:
    """Raise ConfigError if batches of images in files exceed the memory budget; it names the largest size that fits."""
    images = dataset.train.images
    if isinstance(images, np.ndarray):
        return
    size = len(images) if batch_size == "all" else min(int(batch_size), len(images))
    budget = images.folder.memory_budget
    largest = budget // (3 * images.folder.decoding.image_bytes)
    if size > largest:
        raise ConfigError(
            f"fit.batch_size={batch_size} with source.loader={images.loader}: three batches of {size:,} decoded images "
            f"at a time exceed source.memory_budget_mb={budget >> 20}. At most {largest:,} fit."
        )


def training_batches(
    dataset: Dataset, batch_size: int, seed: int, weights: np.ndarray | None = None
) -> "tuple[Any, EpochOrder]":
    """The batches of an epoch for Keras's `fit`, and the callback that sets each epoch's order.

    weights: each training image's weight in the loss, float32, shape (n,); the batches are then
    (images, targets, weights) instead of (images, targets).
    """
    _warn_of_exchanged_shifts(dataset)
    order = EpochOrder(len(dataset.train), seed)
    return _batches(dataset, dataset.train, batch_size, order, weights), order


def _warn_of_exchanged_shifts(dataset: Dataset) -> None:
    shifts = [dataset.augmentation.get(f"{side}_shift_range") or 0 for side in ("width", "height")]
    if dataset.loader == "generator" and shifts[0] != shifts[1]:
        log.warning(
            "Keras's ImageDataGenerator exchanges the directions: data.augmentation.width_shift_range moves images up "
            "and down, height_shift_range sideways. The other loaders follow the names."
        )


def evaluation_batches(dataset: Dataset, split: Split) -> Any:
    """(images, targets) in order, unaugmented, in batches that keep to the memory budget."""
    folder = _files(split).folder
    budget = min(EVALUATION_BYTES, folder.memory_budget // 8)
    batch_size = max(1, min(1000, budget // folder.decoding.image_bytes))
    return _batches(dataset, split, batch_size, EpochOrder(len(split), None))


class EpochOrder(keras.callbacks.Callback):
    """The order of the images in the current epoch: `data.epoch_order`, or without a seed unchanged."""

    def __init__(self, num_images: int, seed: int | None) -> None:
        super().__init__()
        self.num_images = num_images
        self.seed = seed
        self.on_epoch_begin(0)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch
        count, seed = self.num_images, self.seed
        self.order = np.arange(count) if seed is None else epoch_order(count, seed, epoch)


def _batches(
    dataset: Dataset, split: Split, batch_size: int, order: "EpochOrder", weights: np.ndarray | None = None
) -> Any:
    images = _files(split)
    arrays = (dataset.targets(split.labels), *(() if weights is None else (weights,)))
    if images.loader == "generator":
        return GeneratorBatches(images, arrays, batch_size, order, {} if order.seed is None else dataset.augmentation)
    return stream_batches(images, arrays, batch_size, order)


def _files(split: Split) -> "FolderImages":
    if isinstance(split.images, np.ndarray):
        raise TypeError("images in memory need no loader")
    return split.images


def stream_batches(
    images: "FolderImages", arrays: Sequence[np.ndarray], batch_size: int, order: "EpochOrder"
) -> tf.data.Dataset:
    """A tf.data pipeline of one epoch's (images, *arrays) batches.

    A worker decodes a group of batches at a time: a request costs as much as decoding a few small images. Two groups
    per worker are decoded ahead, fewer if they would take more than half the memory budget.
    """
    group_size = batch_size * _batches_in_group(images.folder, batch_size)
    groups = -(-len(images) // group_size)

    def load(group: int) -> tuple[np.ndarray, ...]:
        with remember_failure():
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
    room = images.folder.memory_budget // (2 * group_size * images.folder.decoding.image_bytes)
    ahead = int(np.clip(room - workers - 1, 1, 2 * workers))  # one more is in use while all workers decode
    made = tf.data.Dataset.range(groups).map(loaded, num_parallel_calls=workers + 1).prefetch(ahead).flat_map(batches)
    return made.apply(tf.data.experimental.assert_cardinality(-(-len(images) // batch_size)))


def _batches_in_group(folder: Folder, batch_size: int) -> int:
    batch_bytes = batch_size * folder.decoding.image_bytes
    room = min(GROUP_BYTES, folder.memory_budget // (2 * (folder.workers + 2)))
    return max(1, min(-(-GROUP_IMAGES // batch_size), room // batch_bytes))
