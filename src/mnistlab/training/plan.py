"""What a training will do, decided before it starts: the engine, the batch size, the number of steps."""

import logging
import math
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from mnistlab.config import ConfigError
from mnistlab.data import Dataset
from mnistlab.training import devices
from mnistlab.training.engine import fused
from mnistlab.training.precision import policy_name

log = logging.getLogger("mnistlab")

IMAGES_CHECKED = 4  # on which the fused engine must give the network's own loss and gradients


@dataclass(frozen=True)
class FitPlan:
    """engine: 'fused' or 'keras'; batch_size: images per step; steps_per_epoch: the smaller last batch included;
    devices: number and kind of those that train."""

    engine: str
    batch_size: int
    steps_per_epoch: int
    epochs: int
    seed: int
    devices: str = "1 CPU"

    def tags(self) -> dict[str, str]:
        return {
            "engine": self.engine,
            "devices": self.devices,
            "batch_size": str(self.batch_size),
            "steps": str(self.steps_per_epoch * self.epochs),
        }


def plan_fit(
    model: keras.Model,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int | str,
    seed: int,
    engine: str = "auto",
    resident_gigabytes: float = 4.0,
    single_batches: str = "",
    strategy: tf.distribute.Strategy | None = None,
) -> FitPlan:
    """Decide how to train a compiled model.

    Args:
        batch_size: 'all', or more than there are, is the whole training set.
        engine: 'fused', 'keras' or 'auto': as `choose_engine` explains.
        single_batches: what needs a call after every batch, for the message; '' if nothing does.
        strategy: that shares batches among devices; None: one device trains.

    Raises:
        ConfigError: the fused engine was asked for and cannot train this model.
    """
    images_per_step = resolve_batch_size(batch_size, len(dataset.train))
    if batch_size != "all" and int(batch_size) > images_per_step:
        log.warning(
            "fit.batch_size=%s is more than the %s training images: each step uses all of them.",
            batch_size,
            images_per_step,
        )
    if strategy and images_per_step < strategy.num_replicas_in_sync:
        log.warning(
            "fit.batch_size=%s is less than the %s devices: each trains with the whole batch, nothing is gained.",
            *(images_per_step, strategy.num_replicas_in_sync),
        )
    return FitPlan(
        engine=choose_engine(engine, model, dataset, resident_gigabytes, single_batches, shared=strategy is not None),
        batch_size=images_per_step,
        steps_per_epoch=steps_per_epoch(batch_size, len(dataset.train)),
        epochs=epochs,
        seed=seed,
        devices=devices.describe(strategy),
    )


def resolve_batch_size(batch_size: int | str, num_images: int) -> int:
    """Images per step; 'all', or more than there are, is the whole training set."""
    return num_images if batch_size == "all" else min(int(batch_size), num_images)


def steps_per_epoch(batch_size: int | str, num_images: int) -> int:
    """Steps of one epoch, the smaller last batch included."""
    return math.ceil(num_images / resolve_batch_size(batch_size, num_images))


def engine_for_data(engine: str, dataset: Dataset, resident_gigabytes: float, shared: bool = False) -> str:
    """'keras' if the settings or the data demand it, or batches are `shared` among devices; otherwise 'fused', which
    the model must allow (`choose_engine`)."""
    too_large = engine == "auto" and _gigabytes(dataset) > resident_gigabytes
    return "keras" if engine == "keras" or shared or not dataset.resident or too_large else "fused"


def _gigabytes(dataset: Dataset) -> float:
    splits = (dataset.train, dataset.validation, dataset.test)
    return sum(int(np.prod(split.images.shape)) * np.dtype(dataset.dtype).itemsize for split in splits) / 1e9


def resolved_settings(
    dataset: Dataset,
    *,
    batch_size: int | str,
    engine: str,
    resident_gigabytes: float,
    deterministic: bool,
    precision: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, str]:
    """What settings, data and machine decide about the computation of a training, for its fingerprint.

    Returns:
        'engine': as `engine_for_data`; 'batch_size': images per step; 'precision': Keras's dtype policy; 'device':
        'cpu' or 'gpu'; 'deterministic': 'true' or 'false'; 'strategy': 'mirrored, 2 CPU', only if there is one.
    """
    return {
        "engine": engine_for_data(engine, dataset, resident_gigabytes, strategy is not None),
        "batch_size": str(resolve_batch_size(batch_size, len(dataset.train))),
        "precision": policy_name(precision),
        "device": "gpu" if tf.config.list_physical_devices("GPU") else "cpu",
        "deterministic": str(deterministic).lower(),
        **({"strategy": f"mirrored, {devices.describe(strategy)}"} if strategy else {}),
    }


def choose_engine(
    engine: str,
    model: keras.Model,
    dataset: Dataset,
    resident_gigabytes: float,
    single_batches: str = "",
    *,
    shared: bool = False,
) -> str:
    """'fused' or 'keras'.

    Args:
        engine: 'auto' takes the fused engine unless the images exceed `resident_gigabytes`, a callback acts after
            single batches (`single_batches`), batches are `shared` among devices or the network cannot be compiled, and
            logs the reason.

    Raises:
        ConfigError: 'fused' was asked for and cannot train this model.
    """
    if engine == "fused" and not dataset.resident:
        raise ConfigError(
            f"fit.engine=fused needs the images in memory. Received: source.loader={dataset.loader}. "
            "Use source.loader=resident, or fit.engine=auto."
        )
    if engine_for_data(engine, dataset, resident_gigabytes, shared) == "keras":
        if shared and engine == "auto":
            log.warning("Training with plain Keras: fit.strategy=mirrored, and the fused engine uses one device.")
        elif engine == "auto" and dataset.resident:
            log.info(
                "Training with plain Keras: the images need %.1f GB, fit.resident_gigabytes is %g.",
                _gigabytes(dataset),
                resident_gigabytes,
            )
        return "keras"
    if single_batches:
        blocks = f"{single_batches}, but the fused engine calls callbacks after blocks of batches"
        if engine == "auto":
            log.warning("Training with plain Keras: %s (accept that with fit.engine=fused).", blocks)
            return "keras"
        log.warning("%s, whose length depends on the machine (fit.engine=keras: every batch).", blocks)
    try:
        fused.check(
            model, dataset.train.images[:IMAGES_CHECKED], dataset.targets(dataset.train.labels[:IMAGES_CHECKED])
        )
    except fused.NotFusable as error:
        if engine == "fused":
            raise ConfigError(f"fit.engine=fused cannot train this model: {error}. Use fit.engine=auto.") from error
        log.warning("Training with plain Keras: %s.", error)
        return "keras"
    return "fused"
