"""Evaluates a trained model on images of a source and records it as an evaluation under the model's run."""

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from mnistlab import evaluation, training
from mnistlab.config import TrackingConfig
from mnistlab.evaluation import Evaluation, drawing
from mnistlab.inference.other_data import OtherData
from mnistlab.inference.trained_model import TrainedModel
from mnistlab.runtime import terminal
from mnistlab.runtime.processes import process_name
from mnistlab.tracking import background, stores
from mnistlab.tracking.description import write_reports
from mnistlab.tracking.recorder import Recorder, recording
from mnistlab.tracking.run_proxy import open_run

log = logging.getLogger("mnistlab")

KIND = "evaluation"  # the tag run.kind; `history.is_training` leaves such runs out
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
    with recording(_open(trained, other, tracking, root)) as record:
        record.log_parameters(_parameters(trained, other))
        record.set_tags({f"hash.{other.split}": value for value in dataset.digests.values()})
        record.log_metrics(named, 0)
        write_reports(record, evaluated.reports(), evaluated.table())
        _draw(record, other, evaluated)
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


def _open(trained: TrainedModel, other: OtherData, tracking: TrackingConfig, root: str) -> Recorder:
    chosen = trained.chosen
    name = f"{chosen.name} on {other.dataset.name}"
    folder = Path(root) / "runs" / "evaluations" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{uuid.uuid4().hex[:4]}"
    tags = {
        "run.kind": KIND,
        "run.name": name,
        "run.folder": str(folder),
        "run.process": process_name(),
        "run.uid": uuid.uuid4().hex,
        "evaluation.of": chosen.run_id or str(chosen.file),
        "mlflow.source.name": "mnistlab.evaluate",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": f"{chosen.reason} Evaluated on {other.split} images of {other.dataset.name}.",
        **({"mlflow.parentRunId": chosen.run_id} if chosen.run_id else {}),
    }
    is_untracked = bool(chosen.config) and chosen.run_id is None
    if tracking.backend == "none" or is_untracked:
        return Recorder(folder, name, tags)
    store = stores.checked_address(tracking, root)
    run, problem = open_run(store, name, tags)
    return Recorder(folder, name, tags, run, store, problem)


def _parameters(trained: TrainedModel, other: OtherData) -> dict[str, str]:
    return {
        "model": trained.chosen.name,
        "run": trained.chosen.run_id or "",
        "model_file": str(trained.chosen.file),
        "source": other.dataset.name,
        "source.origin": other.dataset.origin,
        "split": other.split,
        "num_images": str(len(other.dataset.test)),
    }


def _draw(record: Recorder, other: OtherData, evaluated: Evaluation) -> None:
    dataset, names = other.dataset, other.dataset.class_names
    errors = evaluation.most_confident_errors(evaluated)
    pixels = np.asarray(dataset.test.images[errors])
    pixels = pixels if pixels.ndim == 4 else pixels.reshape(len(pixels), *dataset.image_shape)
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
