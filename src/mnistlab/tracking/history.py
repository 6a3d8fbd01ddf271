"""Earlier runs: found in the tracking store, read as plain records.

These functions need MLflow. A training calls them in the background process: `background.call(history.find, ...)`.
"""

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from mnistlab.config import objectives
from mnistlab.runtime.files import read_json
from mnistlab.tracking import stored_names, sync
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]

if TYPE_CHECKING:
    from mnistlab.comparison import RunRecord

PER_EPOCH = ("loss", "learning_rate", "epoch_seconds")
MAX_RUNS = 50_000
WITHOUT_TRAINING = ("evaluation", "explanation")  # values of the tag run.kind


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it, under mnistlab's names (`stored_names`). metrics: the latest values; params: all
    settings, as strings; started: seconds since 1970."""

    run_id: str
    name: str
    status: Status
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    artifacts: str
    started: float | None = None


def find(store: StoreAddress, condition: str = "", max_runs: int = MAX_RUNS) -> list[StoredRun]:
    """The experiment's runs that meet an MLflow filter, the newest first."""
    client, experiment_id = open_store(store)
    found: list[StoredRun] = []
    token = None
    while len(found) < max_runs:
        size = min(1000, max_runs - len(found))
        page = client.search_runs([experiment_id], condition, max_results=size, page_token=token)
        found += [_stored(run) for run in page]
        token = page.token
        if not token:
            break
    return found


@dataclass(frozen=True)
class EarlierRuns:
    """Earlier runs that concern a sweep, the newest first.

    same: fingerprint -> finished runs; asked: `fingerprint.request` -> finished runs, also of other code or data;
    unfinished: fingerprint -> status of runs that did not finish; finished: all finished training runs.
    """

    same: dict[str, list[StoredRun]]
    asked: dict[str, list[StoredRun]]
    unfinished: dict[str, str]
    finished: list[StoredRun]


def earlier_runs(store: StoreAddress, requests: Collection[str], fingerprints: Collection[str]) -> EarlierRuns:
    """The earlier runs with these requests or fingerprints."""
    earlier = EarlierRuns({}, {}, {}, [])
    for run in find(store):
        if is_training(run) and run.status == "FINISHED":
            earlier.finished.append(run)
            if run.tags.get("fingerprint") in fingerprints:
                earlier.same.setdefault(run.tags["fingerprint"], []).append(run)
            if run.tags.get("fingerprint.request") in requests:
                earlier.asked.setdefault(run.tags["fingerprint.request"], []).append(run)
        elif is_training(run):
            earlier.unfinished.setdefault(run.tags.get("fingerprint", ""), run.status)
    return earlier


def is_training(run: StoredRun) -> bool:
    """Whether a run trained a model; the parent run of a sweep, the entries for its reused runs, evaluations and
    explanations of earlier runs did not."""
    return run.tags.get("sweep.kind") not in ("parent", "reused") and run.tags.get("run.kind") not in WITHOUT_TRAINING


def with_ids(store: StoreAddress, run_ids: Sequence[str]) -> list[StoredRun]:
    """The runs with these ids, in their order."""
    client, _ = open_store(store)
    return [_stored(client.get_run(run_id)) for run_id in run_ids]


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    name = info.run_name or info.run_id
    started = info.start_time / 1000 if info.start_time else None
    params = stored_names.parameters_of(data.params, data.tags)
    metrics = {stored_names.metric_name(name): value for name, value in data.metrics.items()}
    tags = stored_names.tags_of(data.tags)
    return StoredRun(info.run_id, name, info.status, tags, params, metrics, info.artifact_uri, started)


def record_of(store: StoreAddress, run: StoredRun, curves: bool = True) -> "RunRecord":
    """A stored run as a plain record: settings, final metrics, tags; with curves history and predictions, too."""
    params = {key: _value(text) for key, text in run.params.items()}
    if not curves:
        return _record(run.run_id, run.name, run.status, params, {}, run.metrics, run.tags, None)
    client, _ = open_store(store)
    names = [name for name in run.metrics if f"val_{name}" in run.metrics or name.startswith("val_")]
    names += [name for name in PER_EPOCH if name in run.metrics and name not in names]
    history = {}
    for name in names:
        stored = stored_names.stored_metric(name)
        entries = client.get_metric_history(run.run_id, stored) or client.get_metric_history(run.run_id, name)
        history[name] = [entry.value for entry in sorted(entries, key=lambda entry: (entry.step, entry.timestamp))]
    files = _files(client, run) if run.status == "FINISHED" else None
    return _record(run.run_id, run.name, run.status, params, history, run.metrics, run.tags, files)


def _record(
    run_id: str,
    name: str,
    status: Status,
    params: dict[str, Any],
    history: dict[str, list[float]],
    metrics: dict[str, float],
    tags: dict[str, str],
    files: Path | None,
) -> "RunRecord":
    """A plain record with the predictions in the run's files. Runs of earlier versions get `max_val_accuracy` and so on
    from their epochs."""
    from mnistlab.comparison import RunRecord

    params["seed"] = int(params.get("seed", 0))
    results = _test_results(files) if files else ()
    if "best_epoch" in metrics:
        metrics = {**objectives.extremes(history), **metrics}
    return RunRecord(run_id, name, status, params, history, metrics, tags, *results)


def _value(text: str) -> Any:
    """A setting as it was before MLflow stored it as a string: number, boolean, None or list; else the string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def record_of_folder(folder: Path) -> "RunRecord":
    """A run's folder as a plain record, for runs without a tracking store."""
    tags, params = read_json(folder / "tags.json"), read_json(folder / "parameters.json")
    rows = sync.read_rows(folder / "metrics.jsonl")
    epochs = [row["metrics"] for row in rows if "epoch_seconds" in row["metrics"]]
    history = {name: [float(row[name]) for row in epochs] for name in (epochs[0] if epochs else ())}
    final = {name: float(value) for row in rows for name, value in row["metrics"].items()}
    status = read_json(folder / "status.json").get("status", "RUNNING")
    run_id, name = tags.get("run.id", str(folder)), tags.get("run.name", folder.name)
    return _record(run_id, name, status, params, history, final, tags, folder)


def _test_results(folder: Path) -> tuple[list[list[int]] | None, Sequence[str], dict[str, np.ndarray] | None]:
    """The confusion matrix, the class names and the predictions in a run's files, as far as they exist."""
    confusion = read_json(folder / "reports" / "confusion_matrix.json")
    predictions: dict[str, np.ndarray] = {}
    for name in ("predictions.npz", "validation_images.npz"):
        file = folder / "reports" / name
        if file.is_file():
            with np.load(file, allow_pickle=False) as arrays:
                predictions |= dict(arrays)
    return confusion.get("counts"), confusion.get("class_names", ()), predictions or None


def _files(client: Any, run: StoredRun) -> Path:
    """The run's artifacts as a folder; fetched from the server if they are not on this machine."""
    return _artifact(client, run, "reports").parent


def artifact(store: StoreAddress, run: StoredRun, name: str) -> Path:
    """A file of the run's artifacts, fetched from the server if it is not on this machine; it may not exist."""
    return _artifact(open_store(store)[0], run, name)


def _artifact(client: Any, run: StoredRun, name: str) -> Path:
    location = urlsplit(run.artifacts)
    if location.scheme in ("", "file"):
        return Path(unquote(location.path)) / name
    return Path(client.download_artifacts(run.run_id, name))
