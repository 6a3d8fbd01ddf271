"""Runs that were: found in the tracking store, read as plain records, mended after a crash.

These functions need MLflow: a training calls them in the second process (`worker.call(history.find, store, ...)`).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from mnistlab import tracking
from mnistlab.tracking import provenance
from mnistlab.tracking.stores import StoreAddress

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]

if TYPE_CHECKING:
    from mnistlab.comparison import RunRecord

PER_EPOCH = ("loss", "learning_rate", "epoch_seconds")
MOST_RUNS = 50_000


@dataclass(frozen=True)
class StoredRun:
    """What the store says of a run; metrics: the newest values; params: texts, as MLflow keeps them."""

    run_id: str
    name: str
    status: Status
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifacts: str


def find(store: StoreAddress, condition: str = "", at_most: int = MOST_RUNS) -> list[StoredRun]:
    """The experiment's runs that meet an MLflow filter, the newest first."""
    client, experiment_id = tracking.open_store(store)
    found: list[StoredRun] = []
    token = None
    while len(found) < at_most:
        size = min(1000, at_most - len(found))
        page = client.search_runs([experiment_id], condition, max_results=size, page_token=token)
        found += [_stored(run) for run in page]
        token = page.token
        if not token:
            break
    return found


def earlier_runs(
    store: StoreAddress, config_hashes: Collection[str]
) -> tuple[dict[str, list[StoredRun]], dict[str, str]]:
    """What was done before with these configurations.

    Returns:
        configuration hash -> its finished runs, the newest first; fingerprint -> status, of runs that did not finish.
    """
    finished: dict[str, list[StoredRun]] = {}
    others: dict[str, str] = {}
    for run in find(store):
        key = run.tags.get("fingerprint.config", "")
        if key in config_hashes and run.status == "FINISHED":
            finished.setdefault(key, []).append(run)
        elif key in config_hashes:
            others.setdefault(run.tags.get("fingerprint", ""), run.status)
    return finished, others


def with_ids(store: StoreAddress, run_ids: Sequence[str]) -> list[StoredRun]:
    """The runs with these ids, in their order."""
    client, _ = tracking.open_store(store)
    return [_stored(client.get_run(run_id)) for run_id in run_ids]


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    name = info.run_name or info.run_id
    return StoredRun(
        info.run_id, name, info.status, dict(data.tags), dict(data.params), dict(data.metrics), info.artifact_uri
    )


def record_of(store: StoreAddress, run: StoredRun) -> RunRecord:
    """A stored run as a plain record: settings, history, final numbers and, if it finished, its predictions."""
    from mnistlab.comparison import RunRecord

    client, _ = tracking.open_store(store)
    names = [name for name in run.metrics if f"val_{name}" in run.metrics or name.startswith("val_")]
    names += [name for name in PER_EPOCH if name in run.metrics and name not in names]
    history = {
        name: [entry.value for entry in sorted(client.get_metric_history(run.run_id, name), key=_step)]
        for name in names
    }
    params = {key: _value(text) for key, text in run.params.items()}
    files = _files(client, run) if run.status == "FINISHED" else None
    confusion, predictions, class_names = _judgement(files) if files else (None, None, ())
    return RunRecord(
        run_id=run.run_id,
        name=run.name,
        status=run.status,
        params={**params, "seed": int(params.get("seed", 0))},
        history=history,
        metrics=run.metrics,
        tags=run.tags,
        confusion=confusion,
        class_names=class_names,
        predictions=predictions,
    )


def _value(text: str) -> Any:
    """A setting as it was before MLflow made it text: a number, a truth value, None, a list; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _step(entry: Any) -> tuple[int, int]:
    return entry.step, entry.timestamp


def record_of_folder(folder: Path) -> RunRecord:
    """A run's own folder as a plain record, for runs without a tracking store."""
    from mnistlab.comparison import RunRecord

    tags = _json(folder / "tags.json") or {}
    params = _json(folder / "parameters.json") or {}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [row["metrics"] for row in rows if "epoch_seconds" in row["metrics"]]
    final = {name: float(value) for row in rows for name, value in row["metrics"].items()}
    confusion, predictions, class_names = _judgement(folder)
    return RunRecord(
        run_id=tags.get("run.id", str(folder)),
        name=tags.get("run.name", folder.name),
        status=(_json(folder / "status.json") or {"status": "RUNNING"})["status"],
        params={**params, "seed": int(params.get("seed", 0))},
        history={name: [float(row[name]) for row in epochs] for name in (epochs[0] if epochs else ())},
        metrics=final,
        tags=tags,
        confusion=confusion,
        class_names=class_names,
        predictions=predictions,
    )


def _judgement(folder: Path) -> tuple[list[list[int]] | None, dict[str, np.ndarray] | None, Sequence[str]]:
    confusion = _json(folder / "reports" / "confusion_matrix.json") or {}
    predictions = None
    file = folder / "reports" / "predictions.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as arrays:
            predictions = {name: arrays[name] for name in arrays.files}
    return confusion.get("counts"), predictions, confusion.get("class_names", ())


def _files(client: Any, run: StoredRun) -> Path:
    """The run's artifacts as a folder; fetched from the server if they are not on this machine."""
    location = urlsplit(run.artifacts)
    if location.scheme in ("", "file"):
        return Path(unquote(location.path))
    return Path(client.download_artifacts(run.run_id, "reports")).parent


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def close_orphans(store: StoreAddress) -> list[str]:
    """Mark as KILLED the runs that say RUNNING but whose process has ended (kill -9, power failure); returns ids."""
    client, _ = tracking.open_store(store)
    running = find(store, "attributes.status = 'RUNNING'")
    orphans = [run.run_id for run in running if provenance.is_gone(run.tags.get("run.process", "?:0:"))]
    for run_id in orphans:
        client.set_tag(run_id, "error", "the process ended without a word (killed, or the machine stopped)")
        client.set_terminated(run_id, "KILLED")
    return orphans
