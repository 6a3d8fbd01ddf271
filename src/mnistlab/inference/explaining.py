"""Explains a trained model on images of a source and records it as an explanation under the model's run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnistlab import evaluation
from mnistlab.config import TrackingConfig
from mnistlab.evaluation import Evaluation, drawing, explanation
from mnistlab.evaluation.explanation import Explanation
from mnistlab.inference import records
from mnistlab.inference.other_data import OtherData
from mnistlab.inference.trained_model import TrainedModel
from mnistlab.tracking import background
from mnistlab.tracking.recorder import recording
from mnistlab.training import attribution

CHUNK = 1000  # images that are read at once


@dataclass(frozen=True)
class Outcome:
    """metrics: by name, with the split in front ('test_expected_calibration_error'); folder: of the record;
    how_to_view: its page in the store, '' without one; store_error: why it is not complete there."""

    metrics: dict[str, float]
    explained: Explanation
    folder: Path
    how_to_view: str = ""
    store_error: str = ""


def explain(trained: TrainedModel, other: OtherData, tracking: TrackingConfig, root: str) -> Outcome:
    """Draw what the model has learned and where it errs; record figures and numbers. The model's run is not changed."""
    dataset = other.dataset

    def images_at(rows: np.ndarray) -> np.ndarray:
        return np.asarray(dataset.test.images[rows]).reshape(len(rows), *trained.input.shape)

    everything = np.arange(len(dataset.test))
    chunks = [everything[start : start + CHUNK] for start in range(0, len(everything), CHUNK)]
    probabilities = np.concatenate([trained.probabilities(images_at(rows)) for rows in chunks])
    evaluated: Evaluation = background.call_or_run_here(
        evaluation.evaluate, probabilities, dataset.test.labels, dataset.class_names
    )
    images = explanation.SeenImages(f"{dataset.name}, {other.split} images", images_at, dataset.value_range.as_pixels)
    with recording(records.open_record(records.EXPLANATION, trained, other, tracking, root)) as record:
        record.log_parameters(records.parameters(trained, other))
        record.set_tags({f"hash.{other.split}": value for value in dataset.digests.values()})
        found = explanation.explain(evaluated, images, attribution.View(trained.model, trained.input.shape))
        named = found.metrics(other.split)
        record.log_metrics(named, 0)
        record.write_json(explanation.REPORT, found.report())
        folder = record.folder.resolve() / "figures"
        record.add_pending(background.submit_or_run_here(drawing.draw, folder, found.shown))
    view = "" if record.store_run is None or record.store_error else record.store_run.how_to_view
    return Outcome(named, found, record.folder, view, record.store_error)


def summary(trained: TrainedModel, other: OtherData, outcome: Outcome) -> str:
    """The end of an explanation: its numbers, what was left out, where the figures are."""
    drawn = ", ".join(outcome.explained.shown)
    places = {"figures": str(outcome.folder / "figures")}
    places |= {"open": outcome.how_to_view} if outcome.how_to_view else {}
    return "\n".join(
        [
            f"{trained.chosen.name}: {len(other.dataset.test):,} images of {other.dataset.name}",
            *(f"  {line}" for line in outcome.explained.lines()),
            f"  drawn: {drawn}",
            *(f"  {label:7} {place}" for label, place in places.items()),
        ]
    )
