"""Where a trained model's evaluation or explanation is recorded: in a folder, and as a child of the model's run."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from mnistlab.config import TrackingConfig
from mnistlab.inference.other_data import OtherData
from mnistlab.inference.trained_model import TrainedModel
from mnistlab.runtime.processes import process_name
from mnistlab.tracking import stores
from mnistlab.tracking.recorder import Recorder
from mnistlab.tracking.run_proxy import open_run


@dataclass(frozen=True)
class Kind:
    """name: the tag run.kind, one of `history.WITHOUT_TRAINING`; command: that did it; joined: the words between the
    names of model and data in the name of the record."""

    name: str
    command: str
    joined: str


EVALUATION = Kind("evaluation", "mnistlab.evaluate", "on")
EXPLANATION = Kind("explanation", "mnistlab.explain", "explained on")


def open_record(kind: Kind, trained: TrainedModel, other: OtherData, tracking: TrackingConfig, root: str) -> Recorder:
    """Open the record in runs/evaluations or runs/explanations. The model's run is not changed.

    It is in the folder only with tracking=none, or if the model's run is in no store.
    """
    chosen = trained.chosen
    name = f"{chosen.name} {kind.joined} {other.dataset.name}"
    folder = Path(root) / "runs" / f"{kind.name}s" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{uuid.uuid4().hex[:4]}"
    note = f"{chosen.reason} {kind.name.capitalize()} on {other.split} images of {other.dataset.name}."
    tags = {
        "run.kind": kind.name,
        "run.name": name,
        "run.folder": str(folder),
        "run.process": process_name(),
        "run.uid": uuid.uuid4().hex,
        f"{kind.name}.of": chosen.run_id or str(chosen.file),
        "mlflow.source.name": kind.command,
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": note,
        **({"mlflow.parentRunId": chosen.run_id} if chosen.run_id else {}),
    }
    is_untracked = bool(chosen.config) and chosen.run_id is None
    if tracking.backend == "none" or is_untracked:
        return Recorder(folder, name, tags)
    store = stores.checked_address(tracking, root)
    run, problem = open_run(store, name, tags)
    return Recorder(folder, name, tags, run, store, problem)


def parameters(trained: TrainedModel, other: OtherData) -> dict[str, str]:
    """What is recorded as parameters: the model and the images."""
    return {
        "model": trained.chosen.name,
        "run": trained.chosen.run_id or "",
        "model_file": str(trained.chosen.file),
        "source": other.dataset.name,
        "source.origin": other.dataset.origin,
        "split": other.split,
        "num_images": str(len(other.dataset.test)),
    }
