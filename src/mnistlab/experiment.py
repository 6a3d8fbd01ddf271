"""One experiment, top to bottom. Read `run` and know where everything is."""

from __future__ import annotations

import functools
import logging
import math
import time
from pathlib import Path

import keras

from mnistlab import tracking, training
from mnistlab.config import Config
from mnistlab.config.build import build
from mnistlab.config.run_names import run_name
from mnistlab.data import Dataset, loading
from mnistlab.data.folders import batches
from mnistlab.evaluation import figures, metrics
from mnistlab.evaluation.reports import (
    Result,
    best_metrics,
    describe,
    figures_of,
    note_outcome,
    one_line,
    steps_per_epoch,
    summary,
    write_reports,
)
from mnistlab.runtime import background
from mnistlab.runtime.background import Pending
from mnistlab.tracking import provenance, stores
from mnistlab.tracking.recorder import Recorder, recording
from mnistlab.tracking.remote import RemoteRun
from mnistlab.training import augmentation, models, saving
from mnistlab.training.callbacks import KeepBest, LogEpochs, Progress

log = logging.getLogger("mnistlab")


def run(config: Config) -> Result:
    """Load, build, train, evaluate, save; everything recorded.

    Raises:
        ConfigError: something in the configuration cannot be; nothing was recorded then.
    """
    started = time.perf_counter()
    keras.utils.clear_session(free_memory=False)  # collecting all garbage here costs half a second a job
    training.seed_everything(config.seed, config.deterministic)

    dataset = load_dataset(config)
    batch_size = training.resolve_batch_size(config.fit.batch_size, len(dataset.train))
    model = build_model(config, dataset)
    own_callbacks = build_callbacks(config, model)
    engine = training.choose_engine(config.fit.engine, model, dataset, config.fit.resident_gigabytes)

    with recording(open_record(config, dataset), config.part.wait) as record:
        describe(record, config, dataset, model, batch_size, engine)
        epochs, best = LogEpochs(record), KeepBest(config.save.monitor)
        ended = training.fit(
            model,
            dataset,
            engine=engine,
            epochs=config.fit.epochs,
            batch_size=batch_size,
            seed=config.seed,
            callbacks=[epochs, best, *own_callbacks, Progress(config.fit.epochs)],
        )
        reading = metrics.read_curves(epochs.epochs, dataset.num_classes, steps_per_epoch(dataset, batch_size))
        note_outcome(record, ended, reading, epochs)
        metrics = {
            **best_metrics(epochs.epochs, best.best_epoch),
            "train_seconds": ended.seconds,
            "steps_per_epoch": steps_per_epoch(dataset, batch_size),
        }
        saved = None
        if best.best_epoch is not None:
            if config.save.which == "best":
                best.restore()
            test_metrics, probabilities = training.predict(model, dataset, "test", engine)
            judged = background.call_anywhere(metrics.evaluate, probabilities, dataset.test.labels, dataset.class_names)
            metrics |= {f"test_{name}": value for name, value in test_metrics.items()} | judged.class_metrics()
            write_reports(record, judged, dataset)
            saved = save(record, config, model, dataset)
            shown = figures_of(dataset, epochs.epochs, best.best_epoch, judged)
            record.later(background.send_anywhere(figures.draw, record.folder.resolve() / "figures", shown))
        record.log_metrics(metrics, step=max(1, len(epochs.epochs)))
        result = Result(
            name=record.name,
            folder=record.folder,
            run_id=record.run_id,
            epochs=epochs.epochs,
            best_epoch=best.best_epoch,
            metrics=metrics,
            reading=reading,
            objective=metrics.get(config.sweep.objective, math.nan),
        )
        seconds = time.perf_counter() - started
        if config.part.name:
            log.info("%s", one_line(result, seconds))
        else:
            log.info("%s", summary(result, record, seconds, saved))
    return result


def load_dataset(config: Config) -> Dataset:
    """The data set of this configuration, with what the user must be told about it, once per process."""
    dataset = loading.load(config)
    if dataset.warning:
        rule = "=" * 100
        _tell_once(f"{rule}\nWARNING: {dataset.warning}\n{rule}")
    for note in dataset.notes:
        _tell_once(note)
    if config.data.validation == "test":
        _tell_once(
            "NOTE: data.validation=test, as in the guide: the validation numbers ARE the test set's, so an epoch or a "
            "setting chosen by them has seen the test."
        )
    batches.check_batch_size(config.fit.batch_size, dataset)
    return dataset


@functools.cache
def _tell_once(warning: str) -> None:
    log.warning("%s", warning)


def examine(config: Config) -> None:
    """Everything that can be refused before training: data, model, optimizer, callbacks, store.

    Raises:
        ConfigError: the first of them that cannot be.
    """
    build_callbacks(config, build_model(config, loading.load(config)))


def build_model(config: Config, dataset: Dataset) -> keras.Model:
    """The network with its scaling in front, compiled; from a saved model's weights if `init.from` names one."""
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
    optimizer = build(config.optimizer, "optimizer")
    training.compile_model(model, optimizer, loss=config.fit.loss, metrics=config.fit.metrics, labels=dataset.labels)
    start_from = config.init.get("from")
    if start_from:
        saving.load_weights(model, _initial_file(str(start_from), config))
    return model


def _initial_file(start_from: str, config: Config) -> Path:
    is_run_id = len(start_from) == 32 and all(letter in "0123456789abcdef" for letter in start_from)
    if not is_run_id:
        return Path(start_from).expanduser()
    into = Path(config.paths.root) / "runs" / "downloads" / start_from
    into.mkdir(parents=True, exist_ok=True)
    store = stores.address(config.tracking, config.paths.root)
    stores.check_reachable(store)
    found: Path = background.call(tracking.model_file, start_from, store, into.resolve())
    return found


def build_callbacks(config: Config, model: keras.Model) -> list[keras.callbacks.Callback]:
    """The chosen callbacks, checked against the metrics that the training will have."""
    built = {name: build(node, f"callbacks.{name}") for name, node in config.callbacks.items()}
    training.check_callbacks(built, model, config.fit.metrics)
    training.check_monitor("save.monitor", config.save.monitor, config.fit.metrics)
    return list(built.values())


def open_record(config: Config, dataset: Dataset) -> Recorder:
    """The run's record: its own folder and, unless `tracking=none`, a run in the tracking store."""
    folder = Path(config.paths.run or Path(config.paths.root) / "runs" / time.strftime("%Y-%m-%d_%H-%M-%S"))
    name = config.part.name or run_name(config, dataset.name)
    tags = {"run.folder": str(folder), "run.name": name, "run.process": provenance.process_name(), **config.part.tags}
    if config.tracking.backend == "none":
        return Recorder(folder, name, tags)
    store = stores.address(config.tracking, config.paths.root)
    stores.check_reachable(store)
    if store.said:
        log.info("Recording where the environment says: %s", store.said)
    source = {"mlflow.source.name": "mnistlab.train", "mlflow.source.type": "LOCAL"}
    return Recorder(folder, name, tags, RemoteRun(store, name, {**source, **tags}))


def save(record: Recorder, config: Config, model: keras.Model, dataset: Dataset) -> Pending | None:
    """The model's files into the run's folder and, through MLflow, into the store: its models:/ address there."""
    folder = record.folder / "model_files"
    saving.save_model(model, folder, config.save.formats)
    file = folder / saving.FILE_NAMES["keras"]
    extra = record.mirror is not None and not file.is_file()
    if extra:
        file = record.folder / "mlflow_model.keras"  # not asked for as a file, but MLflow's model is made of it
        model.save(file)
    address: Pending | None = record.mirrored(
        lambda mirror: mirror.log_model(file, dataset.image_shape, dataset.num_outputs, extra)
    )
    return address
