"""What a configuration trains: its model, callbacks and plan, and what settings and data decide about the training."""

from pathlib import Path

import keras

from mnistlab.config import Config
from mnistlab.config.build import build, build_optimizer
from mnistlab.data import Dataset
from mnistlab.training import augmentation, models, plan, saving
from mnistlab.training.compiling import check_callbacks, check_monitor, compile_model
from mnistlab.training.fitting import saved_epoch


def build_model(config: Config, dataset: Dataset, initial_weights: Path | None = None) -> keras.Model:
    """The network with its scaling in front, compiled.

    Args:
        initial_weights: file of a saved model whose weights it starts with.

    Raises:
        ConfigError: network, optimizer, loss or metrics cannot be built, or the weights do not fit.
    """
    network = build(
        config.model,
        "model",
        input_shape=dataset.image_shape,
        num_outputs=dataset.num_outputs,
        output_activation=dataset.output_activation,
    )
    scaling = config.data.rescale or config.data.scaling
    augmenting = (
        []
        if dataset.loader == "generator"
        else augmentation.layers(dataset.augmentation, dataset.image_shape, *models.scale_and_offset(scaling))
    )
    model = models.with_preprocessing(network, dataset.image_shape, scaling, augmenting)
    optimizer = build_optimizer(config, plan.steps_per_epoch(config.fit.batch_size, len(dataset.train)))
    compile_model(model, optimizer, loss=config.fit.loss, metrics=config.fit.metrics, labels=dataset.labels)
    if initial_weights is not None:
        saving.load_weights(model, initial_weights)
    return model


def build_callbacks(config: Config, model: keras.Model) -> list[keras.callbacks.Callback]:
    """The chosen callbacks, checked against the metrics that the training will have."""
    callbacks = {name: build(node, f"callbacks.{name}") for name, node in config.callbacks.items()}
    check_callbacks(callbacks, model, config.fit.metrics)
    check_monitor("save.monitor", config.save.monitor, config.fit.metrics)
    return list(callbacks.values())


def plan_fit(config: Config, model: keras.Model, dataset: Dataset) -> plan.FitPlan:
    """Engine, batch size and steps of this configuration's training."""
    return plan.plan_fit(
        model,
        dataset,
        epochs=config.fit.epochs,
        batch_size=config.fit.batch_size,
        seed=config.seed,
        engine=config.fit.engine,
        resident_gigabytes=config.fit.resident_gigabytes,
    )


def resolved_settings(config: Config, dataset: Dataset) -> dict[str, str]:
    """What settings, data and machine decide about the computation of a training, for its fingerprint."""
    return {
        **plan.resolved_settings(
            dataset,
            batch_size=config.fit.batch_size,
            engine=config.fit.engine,
            resident_gigabytes=config.fit.resident_gigabytes,
            deterministic=config.deterministic,
        ),
        "saved_epoch": saved_epoch(config.save.which, dataset),
    }
