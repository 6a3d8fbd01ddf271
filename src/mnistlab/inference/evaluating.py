"""Evaluates a trained model on images of a source and records it as an evaluation under the model's run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from mnistlab import evaluation, training
from mnistlab.config import TrackingConfig
from mnistlab.evaluation import Evaluation, drawing
from mnistlab.inference import records
from mnistlab.inference.other_data import OtherData
from mnistlab.inference.trained_model import TrainedModel
from mnistlab.runtime import terminal
from mnistlab.tracking import background
from mnistlab.tracking.description import write_reports
from mnistlab.tracking.recorder import Recorder, recording

log = logging.getLogger("mnistlab")

NUM_WORST = 3


@dataclass(frozen=True)
class Outcome:
    """metrics: by name, with the split in front ('test_accuracy'); folder: of the record; how_to_view: its page in the
    store, '' without one; store_error: why it is not complete there."""

    metrics: dict[str, float]
    evaluated: Evaluation
    folder: Path
    how_to_view: str = ""
    store_error: str = ""


def evaluate(trained: TrainedModel, other: OtherData, tracking: TrackingConfig, root: str) -> Outcome:
    """Evaluate, and record metrics, reports and figures. The model's run is not changed.

    Raises:
        ConfigError: the run's loss or metrics need a package that is not trusted.
    """
    _compile(trained, other)
    dataset = other.dataset
    metrics, probabilities = training.predict(trained.model, dataset, "test")
    evaluated: Evaluation = background.call_or_run_here(
        evaluation.evaluate, probabilities, dataset.test.labels, dataset.class_names, metrics
    )
    named = {f"{other.split}_{name.removeprefix('test_')}": value for name, value in evaluated.metrics().items()}
    with recording(records.open_record(records.EVALUATION, trained, other, tracking, root)) as record:
        record.log_parameters(records.parameters(trained, other))
        record.set_tags({f"hash.{other.split}": value for value in dataset.digests.values()})
        record.log_metrics(named, 0)
        write_reports(record, evaluated.reports(), evaluated.table())
        _draw(record, other, evaluated, trained.input.shape)
    view = "" if record.store_run is None or record.store_error else record.store_run.how_to_view
    return Outcome(named, evaluated, record.folder, view, record.store_error)


def _compile(trained: TrainedModel, other: OtherData) -> None:
    """Compile with the loss and the metrics of the model's run; cross-entropy and accuracy if they are not known."""
    fit: Mapping = trained.chosen.config.get("fit", {})
    training.compile_model(
        trained.model,
        keras.optimizers.SGD(),
        loss=fit.get("loss", "auto"),
        metrics=fit.get("metrics", ["accuracy"]),
        labels=other.dataset.labels,
    )


def _draw(record: Recorder, other: OtherData, evaluated: Evaluation, shape: tuple[int, int, int]) -> None:
    """shape: of an image, which the model may take flat or without channels."""
    dataset, names = other.dataset, other.dataset.class_names
    errors = evaluation.most_confident_errors(evaluated)
    pixels = np.asarray(dataset.test.images[errors]).reshape(len(errors), *shape)
    shown = {
        "confusion_matrix": (evaluated.confusion, names, f"{dataset.name}, {other.split} images"),
        "wrong_images": (
            dataset.value_range.as_pixels(pixels),
            [names[label] for label in evaluated.labels[errors]],
            [names[label] for label in evaluated.predicted[errors]],
            evaluated.confidence[errors],
        ),
    }
    record.add_pending(background.submit_or_run_here(drawing.draw, record.folder.resolve() / "figures", shown))


def summary(trained: TrainedModel, other: OtherData, outcome: Outcome) -> str:
    """The end of an evaluation: its metrics beside those on the run's own test set, and the worst classes."""
    chosen, names = trained.chosen, sorted(outcome.evaluated.keras_metrics, key=lambda name: (name != "loss", name))
    rows = []
    for name in names:
        own = chosen.metrics.get(f"test_{name}")
        rows.append([name, f"{outcome.evaluated.keras_metrics[name]:.4f}", "" if own is None else f"{own:.4f}"])
    table = terminal.table(["", f"{other.dataset.name} ({other.split})", "in the run (test)"], rows)
    recalls = sorted(
        (float(row["recall"]), name)
        for name, row in outcome.evaluated.report.items()
        if name in trained.class_names and row["support"]
    )
    worst = ", ".join(f"{name} {recall:.1%}" for recall, name in recalls[:NUM_WORST])
    places = {"folder": str(outcome.folder), **({"open": outcome.how_to_view} if outcome.how_to_view else {})}
    return "\n".join(
        [
            f"{chosen.name}: {len(other.dataset.test):,} images of {other.dataset.name}",
            table,
            f"  lowest recall: {worst}",
            *(f"  {label:7} {place}" for label, place in places.items()),
        ]
    )
