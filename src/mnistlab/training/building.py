"""What a configuration trains: its model, callbacks and plan, and what settings and data decide about the training."""

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import keras

from mnistlab.config import Config, parameters, pretrained_bases
from mnistlab.config import build as config_build
from mnistlab.config.build import build, build_optimizer
from mnistlab.config.targets import check_targets
from mnistlab.data import Dataset
from mnistlab.data.reading_report import REPORT_START
from mnistlab.runtime.checkpoints import Checkpoint
from mnistlab.training import augmentation, callback_checks, devices, mirrored, models, plan, precision, saving
from mnistlab.training.checkpointing import CheckpointPlan
from mnistlab.training.compiling import check_loss_and_metrics, compile_model
from mnistlab.training.engine import fused
from mnistlab.training.fitting import compile_ahead, saved_epoch

log = logging.getLogger("mnistlab")


def check_without_data(config: Config) -> None:
    """Check all that needs no data. It imports the user's modules and draws random numbers: seed afterwards.

    Raises:
        ConfigError: a callable cannot be imported or does not take its arguments; one of Keras rejects a value; a
            callback needs a package, a metric or a folder that it will not have.
    """
    devices.prepare(config.fit.cpu_devices)
    check_targets(config)
    config_build.check_without_data(config)
    check_loss_and_metrics(config.fit.loss, config.fit.metrics)
    callback_checks.check_callback_settings(config)


def build_model(config: Config, dataset: Dataset, initial_weights: Path | None = None) -> keras.Model:
    """The network with its scaling in front, compiled.

    Args:
        initial_weights: file of a saved model whose weights it starts with.

    Raises:
        ConfigError: network, optimizer, loss or metrics cannot be built, the weights do not fit, or several devices
            cannot train it.
    """
    strategy = devices.strategy_of(config)
    if strategy is None:
        return _build_model(config, dataset, initial_weights)
    with strategy.scope():
        model = _build_model(config, dataset, initial_weights)
    mirrored.synchronize(model)
    mirrored.distribute(model, strategy, dataset)
    return model


def _build_model(config: Config, dataset: Dataset, initial_weights: Path | None) -> keras.Model:
    """The compiled model, on the devices of the present scope."""
    with precision.policy(config.fit.precision):
        network = build(
            pretrained_bases.without_weights(config.model) if initial_weights else config.model,
            "model",
            input_shape=dataset.image_shape,
            num_outputs=dataset.num_outputs,
            output_activation=dataset.output_activation,
        )
    network = precision.with_exact_output(network, config.fit.precision)
    with precision.policy(precision.outer_policy(config.fit.precision)):
        model = _with_preprocessing(network, config, dataset)
    optimizer = build_optimizer(config, plan.steps_per_epoch(config.fit.batch_size, len(dataset.train)))
    optimizer = precision.scaled(optimizer, config.fit.precision)
    compile_model(model, optimizer, loss=config.fit.loss, metrics=config.fit.metrics, labels=dataset.labels)
    if initial_weights is not None:
        saving.load_weights(model, initial_weights)
    return model


def _with_preprocessing(network: keras.Model, config: Config, dataset: Dataset) -> keras.Model:
    """The network with its scaling and augmentation in front."""
    scaling, values = _scaling(config), dataset.value_range
    augmenting = (
        []
        if dataset.loader == "generator"
        else augmentation.layers(dataset.augmentation, dataset.image_shape, *models.scale_and_offset(scaling, values))
    )
    return models.with_preprocessing(network, dataset.image_shape, scaling, augmenting, values, dataset.dtype)


def _scaling(config: Config) -> str | float:
    return config.data.rescale or config.data.scaling


def describe_scaling(config: Config, dataset: Dataset) -> str:
    """What the model does with raw values: 'unit, (value - 0) / 255'."""
    return models.scaling_formula(_scaling(config), dataset.value_range)


def notes(config: Config, dataset: Dataset) -> tuple[str, ...]:
    """The data set's notes; the report on how the data were read ends with the scaling."""
    return tuple(
        f"{note} Scaling: {describe_scaling(config, dataset)}." if note.startswith(REPORT_START) else note
        for note in dataset.notes
    )


def note_on_test_images(saved_epoch: str) -> str:
    """What it means that the validation images are the test images."""
    epoch = (
        "so the last epoch is reported and saved: the best one would be chosen by the test set (save.which=best)."
        if saved_epoch == "last"
        else "and save.which=best chooses the epoch by them: its numbers are too optimistic."
    )
    return (
        f"NOTE: the validation images are the test images, as in the guide, {epoch} A setting that is chosen by these "
        "numbers has seen the test set."
    )


def build_callbacks(config: Config, model: keras.Model) -> dict[str, keras.callbacks.Callback]:
    """The chosen callbacks by name, checked against the metrics that the training will have."""
    callbacks = {name: callback_checks.build_callback(node, name) for name, node in config.callbacks.items()}
    callback_checks.check_callbacks(callbacks, model, config.fit.metrics)
    callback_checks.check_monitor("save.monitor", config.save.monitor, config.fit.metrics)
    return callbacks


def plan_fit(
    config: Config,
    model: keras.Model,
    dataset: Dataset,
    callbacks: Mapping[str, keras.callbacks.Callback] | None = None,
) -> plan.FitPlan:
    """Engine, batch size and steps of this configuration's training."""
    if config.fit.cpu_devices and config.fit.strategy is None:
        log.warning("fit.cpu_devices=%s: one device trains without fit.strategy=mirrored.", config.fit.cpu_devices)
    return plan.plan_fit(
        model,
        dataset,
        epochs=config.fit.epochs,
        batch_size=config.fit.batch_size,
        seed=config.seed,
        engine=config.fit.engine,
        resident_gigabytes=config.fit.resident_gigabytes,
        single_batches=callback_checks.needs_single_batches(callbacks or {}),
        strategy=devices.strategy_of(config),
    )


def compilation_ahead(config: Config, model: keras.Model, dataset: Dataset) -> Callable[[], None] | None:
    """What lets a thread compile this model's training while other jobs train; None where that is of no use.

    Operations that were traced before `deterministic` is switched on could differ.
    """
    shared = config.fit.strategy is not None
    engine = plan.engine_for_data(config.fit.engine, dataset, config.fit.resident_gigabytes, shared)
    if engine != "fused" or config.deterministic or not fused.can_be_compiled_ahead(model):
        return None
    return functools.partial(compile_ahead, model, dataset, config.fit.batch_size)


def plan_checkpoints(
    config: Config, run_folder: Path, identified: Mapping[str, str], start: Checkpoint | None
) -> CheckpointPlan:
    """Where and when checkpoints are written, and where the training starts. identified: the run's fingerprint."""
    fit = config.fit
    folder = None if fit.resume == "never" else run_folder / "checkpoint"
    facts = {"settings": parameters(config), **identified}
    return CheckpointPlan(folder, facts, fit.checkpoint_percent, fit.checkpoint_seconds, fit.max_seconds, start)


def resolved_settings(config: Config, dataset: Dataset) -> dict[str, str]:
    """What settings, data and machine decide about the computation of a training, for its fingerprint."""
    return {
        **plan.resolved_settings(
            dataset,
            batch_size=config.fit.batch_size,
            engine=config.fit.engine,
            resident_gigabytes=config.fit.resident_gigabytes,
            deterministic=config.deterministic,
            precision=config.fit.precision,
            strategy=devices.strategy_of(config),
        ),
        "scaling": describe_scaling(config, dataset),
        "saved_epoch": saved_epoch(config.save.which, dataset),
    }
