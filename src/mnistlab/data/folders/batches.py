"""Batches of images that stay in files, decoded while Keras trains.

`stream` is a tf.data pipeline that decodes in threads with a bounded number of batches ahead; `generator` is Keras's
ImageDataGenerator (`generator.py`). Both give the pixels, the labels and the order that the resident loader gives.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnistlab.config import ConfigError
from mnistlab.data.dataset import Dataset, epoch_order
from mnistlab.data.folders.failures import remember_failure
from mnistlab.data.folders.generator import GeneratorBatches
from mnistlab.data.sources import ImagesInFiles, Split

log = logging.getLogger("mnistlab")

GROUP_IMAGES = 128  # that a worker decodes per request,
GROUP_BYTES = 4 << 20  # unless they are large
EVALUATION_BYTES = 64 << 20


def check_batch_size(batch_size: int | str, dataset: Dataset) -> None:
    """Check that a batch fits the memory budget of the loaders that keep to one.

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


def training_batches(
    dataset: Dataset, batch_size: int, seed: int, weights: np.ndarray | None = None
) -> tuple[Any, EpochOrder]:
    """What Keras's `fit` iterates over once an epoch, and the callback that sets each epoch's order.

    Args:
        weights: each training image's weight in the loss, float32 of shape (n,), or None.

    Returns:
        batches (images, targets) or (images, targets, weights), and the callback.
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
    images = _files(split)
    budget = min(EVALUATION_BYTES, _memory_budget(images) // 8)
    batch_size = max(1, min(1000, budget // _image_bytes(images)))
    return _batches(dataset, split, batch_size, EpochOrder(len(split), None))


class EpochOrder(keras.callbacks.Callback):
    """The order of the images in the current epoch: `data.epoch_order`, or without a seed unchanged."""

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
    """What Keras iterates over once an epoch: (images, targets) or (images, targets, weights)."""
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

    A worker decodes a group of batches at a time: a request costs as much as decoding a few small images. Two groups
    per worker are decoded ahead, fewer if they would take more than half the memory budget.
    """
    in_group = _batches_in_group(images, batch_size)
    group_size = in_group * batch_size
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
    room = _memory_budget(images) // (2 * group_size * _image_bytes(images))
    ahead = int(np.clip(room - workers - 1, 1, 2 * workers))  # one more is in use while all workers decode
    made = tf.data.Dataset.range(groups).map(loaded, num_parallel_calls=workers + 1).prefetch(ahead).flat_map(batches)
    return made.apply(tf.data.experimental.assert_cardinality(-(-len(images) // batch_size)))


def _batches_in_group(images: ImagesInFiles, batch_size: int) -> int:
    batch_bytes = batch_size * _image_bytes(images)
    room = min(GROUP_BYTES, _memory_budget(images) // (2 * (images.folder.workers + 2)))
    return max(1, min(-(-GROUP_IMAGES // batch_size), room // batch_bytes))
