"""What a run leaves besides its model: its description, outcome, reports and figures, and the lines at its end."""

from __future__ import annotations

import functools
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml

from mnistlab import training
from mnistlab.config import Config, parameters
from mnistlab.config.run_names import default_learning_rate
from mnistlab.data import Dataset, epoch_order, manifest_csv
from mnistlab.data.folders import batches
from mnistlab.evaluation import metrics
from mnistlab.evaluation.figures import AugmentedImage, RunFigures, WrongImages
from mnistlab.runtime.background import Pending
from mnistlab.tracking import fingerprint, provenance
from mnistlab.tracking.recorder import Recorder
from mnistlab.training.callbacks import LogEpochs

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
    reading: metrics.Reading
    objective: float


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


def note_outcome(record: Recorder, ended: training.Ended, reading: metrics.Reading, epochs: LogEpochs) -> None:
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


def write_reports(record: Recorder, judged: metrics.Evaluation, dataset: Dataset) -> None:
    """The classification report as text, JSON and a table in MLflow; the confusion matrix and the predictions."""
    record.write_text("reports/classification_report.txt", judged.text)
    record.write_json("reports/classification_report.json", judged.report)
    counts = {"class_names": list(dataset.class_names), "counts": judged.confusion.tolist()}
    record.write_json("reports/confusion_matrix.json", counts)
    predictions = record.folder / "reports" / "predictions.npz"
    np.savez_compressed(predictions, predicted=judged.predicted, confidence=judged.confidence)
    record.mirrored(lambda mirror: mirror.log_table(judged.table(), "reports/classification_report_table.json"))


def figures_of(
    dataset: Dataset,
    epochs: Sequence[dict[str, float]],
    best_epoch: int | None,
    judged: metrics.Evaluation,
) -> RunFigures:
    """What the run's figures show: confusion matrix, learning curves, the most confidently wrong images, and one
    training image augmented."""
    wrong = metrics.most_wrong(judged)
    names = dataset.class_names
    augmented = None
    if dataset.augmentation:
        image = dataset.train.images[np.arange(1)]
        versions = batches.augmented_versions(dataset, image[0], AUGMENTED_SHOWN, seed=0)
        augmented = AugmentedImage(image, versions, names[dataset.train.labels[0]], dataset.augmentation)
    return RunFigures(
        class_names=names,
        confusion=judged.confusion,
        epochs=list(epochs),
        best_epoch=best_epoch,
        wrong=WrongImages(
            np.asarray(dataset.test.images[wrong]),
            [names[label] for label in judged.labels[wrong]],
            [names[label] for label in judged.predicted[wrong]],
            judged.confidence[wrong],
        ),
        augmented=augmented,
    )


def summary(result: Result, record: Recorder, seconds: float, saved: Pending | None) -> str:
    """The end of a run in a few lines: a small table, the reading, where things are.

    saved: the model's address in the store, which is waited for; None if there is no store.
    """
    address = record.mirrored(lambda mirror: saved.result()) if saved else None
    if address is None and result.best_epoch is not None:
        address = str(result.folder / "model_files")
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


def one_line(result: Result, seconds: float) -> str:
    """The end of a job of a sweep; the sweep's own end says the rest."""
    names = ("best_val_accuracy", "best_val_loss", "test_accuracy")
    numbers = "  ".join(f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics)
    return f"{result.name}: {numbers}  {result.reading.verdict}  {seconds:.1f} s  run {result.run_id or result.folder}"
