"""Earlier runs: found in the tracking store, read as plain records.

These functions need MLflow. A training calls them in the background process: `background.call(history.find, ...)`.
"""

import ast
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from mnistlab.config import objectives
from mnistlab.runtime.files import read_json
from mnistlab.tracking import metric_histories, stored_names, sync
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]

if TYPE_CHECKING:
    from mnistlab.comparison import RunRecord

PER_EPOCH = ("loss", "learning_rate", "epoch_seconds")
MAX_RUNS = 50_000
PAGE, SERVER_PAGE = 1000, 200  # runs in an answer; a server must give it within the seconds of a request
IDS_A_REQUEST = 100
FETCHED_TOGETHER = 4  # runs whose files come from a server; it answers few requests at a time
NOT_JOBS = ("parent", "reused")  # values of the tag sweep.kind
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
    return list(itertools.islice(pages(store, condition, min(page_size(store), max_runs)), max_runs))


def page_size(store: StoreAddress) -> int:
    """How many runs one answer has at most."""
    return SERVER_PAGE if store.uri.startswith("http") else PAGE


def pages(store: StoreAddress, condition: str, size: int) -> Iterator[StoredRun]:
    """As `find`, of any number; a page of so many runs is asked for when its first run is needed."""
    client, experiment_id = open_store(store)
    token: str | None = ""
    while token is not None:
        page = client.search_runs([experiment_id], condition, max_results=size, page_token=token or None)
        yield from map(_stored, page)
        token = page.token or None


def is_training(run: StoredRun) -> bool:
    """Whether a run trained a model; the parent run of a sweep, the entries for its reused runs, evaluations and
    explanations of earlier runs did not."""
    return run.tags.get("sweep.kind") not in NOT_JOBS and run.tags.get("run.kind") not in WITHOUT_TRAINING


def with_ids(store: StoreAddress, run_ids: Sequence[str]) -> list[StoredRun]:
    """The runs with these ids, in their order; a request for each hundred of them."""
    client, experiment_id = open_store(store)
    found: dict[str, Any] = {}
    for start in range(0, len(run_ids) if len(run_ids) > 1 else 0, IDS_A_REQUEST):
        names = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + IDS_A_REQUEST])
        page = client.search_runs([experiment_id], f"attributes.run_id IN ({names})", max_results=IDS_A_REQUEST)
        found |= {run.info.run_id: run for run in page}
    # those of other experiments and the deleted ones are not found by a search
    return [_stored(found.get(run_id) or client.get_run(run_id)) for run_id in run_ids]


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    name = info.run_name or info.run_id
    started = info.start_time / 1000 if info.start_time else None
    params = stored_names.parameters_of(data.params, data.tags)
    metrics = {stored_names.metric_name(name): value for name, value in data.metrics.items()}
    tags = stored_names.tags_of(data.tags)
    return StoredRun(info.run_id, name, info.status, tags, params, metrics, info.artifact_uri, started)


def record_of(store: StoreAddress, run: StoredRun, curves: bool = True) -> "RunRecord":
    """As `records_of`, for one run."""
    return records_of(store, [run], curves)[0]


def records_of(store: StoreAddress, runs: Sequence[StoredRun], curves: bool = True) -> "list[RunRecord]":
    """Stored runs as plain records: settings, final metrics, tags; with curves history and predictions, too."""
    curved = [run for run in runs if curves]
    histories = metric_histories.read(store, {run.run_id: _names_of_curves(run) for run in curved})
    files = _files_of(store, [run for run in curved if run.status == "FINISHED"])
    records = []
    for run in runs:
        params = {key: _value(text) for key, text in run.params.items()}
        history, folder = histories.get(run.run_id, {}), files.get(run.run_id)
        records.append(_record(run.run_id, run.name, run.status, params, history, run.metrics, run.tags, folder))
    return records


def _names_of_curves(run: StoredRun) -> list[str]:
    """The metrics that the run has of every epoch."""
    names = [name for name in run.metrics if f"val_{name}" in run.metrics or name.startswith("val_")]
    return names + [name for name in PER_EPOCH if name in run.metrics and name not in names]


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


def _files_of(store: StoreAddress, runs: Sequence[StoredRun]) -> dict[str, Path]:
    """Run id -> folder with the run's reports: its own folder or its artifacts, if they are on this machine; else they
    are fetched from the server, several runs at a time."""
    client, _ = open_store(store)
    found = {run.run_id: folder for run in runs if (folder := _own_folder(run) or _local_artifacts(run))}
    missing = [run for run in runs if run.run_id not in found]
    if missing:
        with ThreadPoolExecutor(FETCHED_TOGETHER) as threads:
            fetched = threads.map(lambda run: _artifact(client, run, "reports").parent, missing)
            found |= {run.run_id: folder for run, folder in zip(missing, fetched, strict=True)}
    return found


def _own_folder(run: StoredRun) -> Path | None:
    """The folder in which the run was trained, if it is on this machine and still that run's."""
    folder = Path(run.tags.get("run.folder", ""))
    known = folder.is_absolute() and (folder / "reports").is_dir()
    return folder if known and read_json(folder / "tags.json").get("run.id") == run.run_id else None


def _local_artifacts(run: StoredRun) -> Path | None:
    location = urlsplit(run.artifacts)
    return Path(unquote(location.path)) if location.scheme in ("", "file") else None


def artifact(store: StoreAddress, run: StoredRun, name: str) -> Path:
    """A file of the run's artifacts, fetched from the server if it is not on this machine; it may not exist."""
    return _artifact(open_store(store)[0], run, name)


def _artifact(client: Any, run: StoredRun, name: str) -> Path:
    folder = _local_artifacts(run)
    return folder / name if folder else Path(client.download_artifacts(run.run_id, name))
