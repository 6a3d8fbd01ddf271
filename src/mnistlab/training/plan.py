"""What a training will do, decided before it starts: the engine, the batch size, the number of steps."""

import logging
import math
from dataclasses import dataclass

import keras
import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data import Dataset
from mnistlab.training.engine import fused

log = logging.getLogger("mnistlab")


@dataclass(frozen=True)
class FitPlan:
    """engine: 'fused' or 'keras'; batch_size: images per step; steps_per_epoch: the smaller last batch included."""

    engine: str
    batch_size: int
    steps_per_epoch: int
    epochs: int
    seed: int

    def tags(self) -> dict[str, str]:
        return {
            "engine": self.engine,
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
) -> FitPlan:
    """Decide how to train a compiled model.

    Args:
        batch_size: 'all', or more than there are, is the whole training set.
        engine: 'fused', 'keras' or 'auto': as `choose_engine` explains.

    Raises:
        ConfigError: the fused engine was asked for and cannot train this model.
    """
    images_per_step = resolve_batch_size(batch_size, len(dataset.train))
    return FitPlan(
        engine=choose_engine(engine, model, dataset, resident_gigabytes),
        batch_size=images_per_step,
        steps_per_epoch=math.ceil(len(dataset.train) / images_per_step),
        epochs=epochs,
        seed=seed,
    )


def resolve_batch_size(batch_size: int | str, num_images: int) -> int:
    """Images per step; 'all', or more than there are, is the whole training set."""
    if batch_size == "all":
        return num_images
    if int(batch_size) > num_images:
        log.warning(
            "fit.batch_size=%s is more than the %s training images: each step uses all of them.", batch_size, num_images
        )
    return min(int(batch_size), num_images)


def choose_engine(engine: str, model: keras.Model, dataset: Dataset, resident_gigabytes: float) -> str:
    """'fused' or 'keras'.

    Args:
        engine: 'auto' takes the fused engine unless the images exceed `resident_gigabytes` or the network cannot be
            compiled, and logs the reason.

    Raises:
        ConfigError: 'fused' was asked for and cannot train this model.
    """
    if engine == "keras":
        return "keras"
    if not dataset.resident:
        if engine == "fused":
            raise ConfigError(
                f"fit.engine=fused needs the images in memory. Received: source.loader={dataset.loader}. "
                "Use source.loader=resident, or fit.engine=auto."
            )
        return "keras"
    splits = (dataset.train, dataset.validation, dataset.test)
    gigabytes = sum(int(np.prod(split.images.shape)) for split in splits) / 1e9
    if engine == "auto" and gigabytes > resident_gigabytes:
        log.info(
            "Training with plain Keras: the images need %.1f GB, fit.resident_gigabytes is %g.",
            gigabytes,
            resident_gigabytes,
        )
        return "keras"
    try:
        fused.program_for(model)
    except fused.NotFusable as error:
        if engine == "fused":
            raise ConfigError(f"fit.engine=fused cannot train this model: {error}. Use fit.engine=auto.") from error
        log.warning("Training with plain Keras: %s.", error)
        return "keras"
    return "fused"
