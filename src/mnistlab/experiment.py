"""One experiment, top to bottom. Read `run` and know where everything is."""

from __future__ import annotations

import functools
import io
import json
import logging
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml

from mnistlab import (
    augmentation,
    evaluate,
    fingerprint,
    history,
    loaders,
    models,
    provenance,
    saving,
    tracking,
    training,
)
from mnistlab.build import build
from mnistlab.callbacks import KeepBest, LogEpochs, Progress
from mnistlab.config import Config, parameters
from mnistlab.data import Dataset, epoch_order, manifest_csv, prepare
from mnistlab.naming import default_learning_rate, run_name
from mnistlab.record import Recorder, recording
from mnistlab.sources import Images

log = logging.getLogger("mnistlab")

AUGMENTED_SHOWN = 14


@dataclass(frozen=True)
class Result:
    """What a run came to.

    epochs: one row of metrics per epoch; best_epoch: from 1, None if no epoch had a finite value;
    metrics: the final numbers (best_*, test_*, seconds); objective: the saved epoch's validation metric.
    """

    name: str
    folder: Path
    run_id: str | None
    epochs: list[dict[str, float]]
    best_epoch: int | None
    metrics: dict[str, float]
    reading: evaluate.Reading
    objective: float


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

    with recording(open_record(config, dataset)) as record:
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
        reading = evaluate.read_curves(epochs.epochs, dataset.num_classes, steps_per_epoch(dataset, batch_size))
        note_outcome(record, ended, reading, epochs)
        metrics = {
            **best_metrics(epochs.epochs, best.best_epoch),
            "train_seconds": ended.seconds,
            "steps_per_epoch": steps_per_epoch(dataset, batch_size),
        }
        address = None
        if best.best_epoch is not None:
            if config.save.which == "best":
                best.restore()
            test_metrics, probabilities = training.predict(model, dataset, "test", engine)
            judged = evaluate.evaluate(probabilities, dataset.test.labels, dataset.class_names)
            metrics |= {f"test_{name}": value for name, value in test_metrics.items()} | judged.class_metrics()
            write_reports(record, judged, dataset)
            draw_figures(record.folder / "figures", dataset, epochs.epochs, best.best_epoch, judged)
            address = save(record, config, model, dataset)
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
        told = one_line if config.part.name else summary
        log.info("%s", told(result, address, record, time.perf_counter() - started))
    return result


def load_dataset(config: Config) -> Dataset:
    """The data set of this configuration, with what the user must be told about it, once per process."""
    dataset = dataset_of(config)
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
    loaders.check_batch_size(config.fit.batch_size, dataset)
    return dataset


@functools.cache
def _tell_once(warning: str) -> None:
    log.warning("%s", warning)


def dataset_of(config: Config) -> Dataset:
    """The data set of this configuration; loaded and prepared once per process, however many jobs run in it."""
    preparation = {key: value for key, value in asdict(config.data).items() if key not in ("scaling", "image_size")}
    return _prepared(json.dumps(config.source, sort_keys=True), json.dumps(preparation, sort_keys=True))


def examine(config: Config) -> None:
    """Everything that can be refused before training: data, model, optimizer, callbacks, store.

    Raises:
        ConfigError: the first of them that cannot be.
    """
    build_callbacks(config, build_model(config, dataset_of(config)))


@functools.lru_cache(maxsize=2)
def _prepared(source: str, preparation: str) -> Dataset:
    return prepare(_loaded(source), **json.loads(preparation))


@functools.lru_cache(maxsize=2)
def _loaded(source: str) -> Images:
    images: Images = build(json.loads(source), "source")
    return images


def build_model(config: Config, dataset: Dataset) -> keras.Model:
    """The network with its scaling in front, compiled; from a saved model's weights if `init.from` names one."""
    network = build(
        config.model,
        "model",
        input_shape=dataset.image_shape,
        num_outputs=dataset.num_outputs,
        output_activation=dataset.output_activation,
    )
    augmenting = (
        []
        if dataset.loader == "generator"
        else augmentation.layers(dataset.augmentation, dataset.image_shape, *models.SCALINGS[config.data.scaling])
    )
    model = models.with_preprocessing(network, dataset.image_shape, config.data.scaling, augmenting)
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
    return tracking.model_file(start_from, config.tracking, config.paths.root, into)


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
    tags = {"run.folder": str(folder), "run.name": name, "run.process": history.process_name(), **config.part.tags}
    if config.tracking.backend == "none":
        return Recorder(folder, name, tags)
    store = tracking.address(config.tracking, config.paths.root)
    tracking.check_reachable(store)
    if store.said:
        log.info("Recording where the environment says: %s", store.said)
    client, experiment_id = tracking.open_store(store)
    source = {"mlflow.source.name": "mnistlab.train", "mlflow.source.type": "LOCAL"}
    return Recorder(folder, name, tags, tracking.MlflowRun(client, experiment_id, store, name, {**source, **tags}))


def describe(
    record: Recorder, config: Config, dataset: Dataset, model: keras.Model, batch_size: int, engine: str
) -> None:
    """Everything that is known before training: settings, data, code, libraries, the model's summary."""
    settings = parameters(config)
    record.write_text("config.yaml", yaml.safe_dump(_nested(settings, config), sort_keys=False))
    record.log_parameters(settings)
    git = provenance.git_state()
    if git.get("git.diff"):
        record.write_text("git.diff", git["git.diff"])
    record.set_tags(
        {
            "source.used": dataset.name,
            "engine": engine,
            "batch_size": str(batch_size),
            **_usual_rate(config),
            "num_parameters": str(model.count_params()),
            "hash.data": fingerprint.hash_of(dataset.digests),
            "hash.initial_weights": fingerprint.hash_of_arrays(model.get_weights()),
            "hash.batch_order": fingerprint.hash_of_arrays([epoch_order(len(dataset.train), config.seed, 0)]),
            "steps": str(steps_per_epoch(dataset, batch_size) * config.fit.epochs),
            **fingerprint.fingerprint(config, dataset.digests),
            "mlflow.note.content": " ".join(config.overrides) or "the defaults",
            **({"mlflow.source.git.commit": git["git.commit"]} if git else {}),
            **{key: value for key, value in git.items() if key != "git.diff"},
            **provenance.library_versions(),
        }
    )
    facts = {
        name: {
            "num_images": len(split),
            "image_shape": list(dataset.image_shape),
            "class_counts": dict(zip(dataset.class_names, dataset.counts[name], strict=True)),
            "digest": dataset.digests[name],
        }
        for name, split in dataset.splits.items()
    }
    about = {"name": dataset.name, "origin": dataset.origin, "loader": dataset.loader, "notes": list(dataset.notes)}
    record.write_json("dataset.json", {**about, "class_names": list(dataset.class_names), "splits": facts})
    if dataset.manifest:
        record.write_text("manifest.csv", manifest_csv(dataset.manifest))
    record.mirrored(lambda mirror: mirror.log_dataset(dataset.name, dataset.origin, dataset.digests, facts))
    lines = io.StringIO()
    model.summary(print_fn=lambda line: lines.write(f"{line}\n"), line_length=100)
    record.write_text("model_summary.txt", lines.getvalue())
    log.info(
        "%s: %s training, %s validation, %s test images of %s; %s parameters; batches of %s",
        record.name,
        *(f"{len(split):,}" for split in dataset.splits.values()),
        dataset.name,
        f"{model.count_params():,}",
        f"{batch_size:,}",
    )


def _usual_rate(config: Config) -> dict[str, str]:
    rate = default_learning_rate(config)
    return {"default.learning_rate": str(rate)} if isinstance(rate, int | float) else {}


def _nested(settings: dict[str, Any], config: Config) -> dict[str, Any]:
    """The resolved configuration, nested as in conf/, with what came from the environment left as an expression."""
    nested = {key: value for key, value in asdict(config).items() if key in {name.split(".")[0] for name in settings}}
    for dotted, expression in config.from_environment.items():
        *parents, last = dotted.split(".")
        node = functools.reduce(lambda inner, key: inner[key], parents, nested)
        node[last] = expression
    return {**nested, "choices": config.choices, "overrides": config.overrides}


def best_metrics(epochs: Sequence[dict[str, float]], best_epoch: int | None) -> dict[str, float]:
    """best_epoch and the metrics of that epoch, as best_loss, best_val_accuracy and so on."""
    if best_epoch is None:
        return {}
    row = epochs[best_epoch - 1]
    skipped = ("learning_rate", "epoch_seconds")
    return {"best_epoch": best_epoch} | {f"best_{name}": value for name, value in row.items() if name not in skipped}


def steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Weight updates an epoch, the smaller last batch included."""
    return math.ceil(len(dataset.train) / batch_size)


def note_outcome(record: Recorder, ended: training.Ended, reading: evaluate.Reading, epochs: LogEpochs) -> None:
    """Whether the training came to something: outcome=trained, or diverged with where and at which learning rate."""
    tags = {"fit_reading": reading.verdict, "fit_reading.sentence": reading.sentence}
    if ended.diverged is None and reading.verdict != "diverged":
        record.set_tags({**tags, "outcome": "trained"})
        return
    found = ended.diverged
    finite = [row["loss"] for row in epochs.epochs if math.isfinite(row["loss"])]
    record.set_tags(
        {
            **tags,
            "outcome": "diverged",
            "outcome.epoch": found.epoch if found else len(epochs.epochs),
            "outcome.step": found.step if found else "",
            "outcome.learning_rate": epochs.learning_rate,
            "outcome.last_finite_loss": found.last_finite_loss if found else finite[-1] if finite else "",
        }
    )
    if found:
        log.warning("Diverged: %s", found)


def write_reports(record: Recorder, judged: evaluate.Evaluation, dataset: Dataset) -> None:
    """The classification report as text, JSON and a table in MLflow; the confusion matrix and the predictions."""
    record.write_text("reports/classification_report.txt", judged.text)
    record.write_json("reports/classification_report.json", judged.report)
    counts = {"class_names": list(dataset.class_names), "counts": judged.confusion.tolist()}
    record.write_json("reports/confusion_matrix.json", counts)
    predictions = record.folder / "reports" / "predictions.npz"
    np.savez_compressed(predictions, predicted=judged.predicted, confidence=judged.confidence)
    record.mirrored(lambda mirror: mirror.log_table(judged.table(), "reports/classification_report_table.json"))


def draw_figures(
    folder: Path,
    dataset: Dataset,
    epochs: Sequence[dict[str, float]],
    best_epoch: int | None,
    judged: evaluate.Evaluation,
) -> None:
    """Confusion matrix, learning curves, the most confidently wrong images."""
    from mnistlab import plots

    wrong = evaluate.most_wrong(judged)
    names = dataset.class_names
    figures = {
        "confusion_matrix": plots.confusion_matrix(judged.confusion, names, "Test images"),
        "learning_curves": plots.learning_curves(epochs, best_epoch),
        "wrong_images": plots.wrong_images(
            dataset.test.images[wrong],
            [names[label] for label in judged.labels[wrong]],
            [names[label] for label in judged.predicted[wrong]],
            judged.confidence[wrong],
        ),
    }
    if dataset.augmentation:
        image = dataset.train.images[np.arange(1)]
        versions = loaders.augmented_versions(dataset, image[0], AUGMENTED_SHOWN, seed=0)
        label = names[dataset.train.labels[0]]
        figures["augmented_images"] = plots.augmented_images(image, versions, label, dataset.augmentation)
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a class name in a script that the font lacks
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=110, pil_kwargs={"compress_level": 1})


def save(record: Recorder, config: Config, model: keras.Model, dataset: Dataset) -> str:
    """The model's files into the run's folder and, through MLflow, under one models:/ address, which is returned."""
    saving.save_model(model, record.folder / "model_files", config.save.formats)
    address: str | None = record.mirrored(
        lambda mirror: mirror.log_model(model, dataset.image_shape, dataset.num_outputs)
    )
    if address:
        record.set_tags({"model.address": address})
    return address or str(record.folder / "model_files")


def summary(result: Result, address: str | None, record: Recorder, seconds: float) -> str:
    """The end of a run in a few lines: a small table, the reading, where things are."""
    names = sorted({name.removeprefix("test_") for name in result.metrics if name.startswith("test_")})
    names.sort(key=lambda name: name != "loss")
    names = [name for name in names if "." not in name]
    lines = [f"{'':14}{'training':>11}{'validation':>12}{'test':>11}"] if names else []
    for name in names:
        cells = [result.metrics.get(key, math.nan) for key in (f"best_{name}", f"best_val_{name}", f"test_{name}")]
        lines.append(f"  {name:12}{cells[0]:11.4f}{cells[1]:12.4f}{cells[2]:11.4f}")
    best = f"best epoch {result.best_epoch} of {len(result.epochs)}" if result.best_epoch else "no finite epoch"
    lines += [
        f"  {best}; {result.metrics['train_seconds']:.1f} s training, {seconds:.1f} s with all around it",
        f"  {result.reading.sentence}",
        *([f"  model   {address}"] if address else []),
        f"  folder  {result.folder}",
    ]
    if record.mirror is not None and not record.mirror_error:
        lines.append(f"  open    {record.mirror.viewing()}")
    return "\n".join(["", f"{result.name}", *lines])


def one_line(result: Result, address: str | None, record: Recorder, seconds: float) -> str:
    """The end of a job of a sweep; the sweep's own end says the rest."""
    names = ("best_val_accuracy", "best_val_loss", "test_accuracy")
    numbers = "  ".join(f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics)
    return f"{result.name}: {numbers}  {result.reading.verdict}  {seconds:.1f} s  run {result.run_id or record.folder}"
