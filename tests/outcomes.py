"""What finished runs have recorded, without times: equal for a run that was interrupted and one that was not."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
from conftest import Store

from mnistlab.tracking.sync import read_rows


def weights(model: Path) -> dict[str, bytes]:
    """All arrays of a saved model, the optimizer's too: path in the file -> bytes."""
    arrays: dict[str, bytes] = {}
    with zipfile.ZipFile(model) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))

    def add(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            arrays[name] = node[()].tobytes()

    with h5py.File(content) as file:
        file.visititems(add)
    assert arrays
    return arrays


@dataclass
class Outcome:
    """What a finished run has recorded, without times. epochs: those in its folder, in order."""

    metrics: dict[str, list[tuple[int, float]]]
    epochs: list[int]
    weights: dict[str, bytes]
    artifacts: list[str]


def outcome(store: Store, run) -> Outcome:
    folder = Path(run.data.tags["run.folder"])
    names = [name for name in run.data.metrics if "second" not in name and not name.startswith("system/")]
    metrics = {
        name: [(entry.step, entry.value) for entry in store.client.get_metric_history(run.info.run_id, name)]
        for name in names
    }
    return Outcome(
        {name: sorted(history) for name, history in metrics.items()},
        [row["step"] for row in read_rows(folder / "metrics.jsonl") if "val_loss" in row["metrics"]],
        weights(folder / "model_files" / "model.keras"),
        sorted(artifact.path for artifact in store.client.list_artifacts(run.info.run_id)),
    )


def outcomes(folder: Path, kind: str | None = None) -> dict[str, Outcome]:
    """Of the finished runs, by their fingerprints; of each there is one."""
    store = Store(folder)
    runs = [run for run in store.runs(kind) if run.info.status == "FINISHED"]
    assert len({run.data.tags["record.fingerprint"] for run in runs}) == len(runs)
    return {run.data.tags["record.fingerprint"]: outcome(store, run) for run in runs}
