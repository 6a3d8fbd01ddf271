"""Runs that were: read out of the tracking store as plain records, found by fingerprint, mended after a crash."""

from __future__ import annotations

import ast
import json
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from mnistlab.comparison import RunRecord
from mnistlab.config import ConfigError

PER_EPOCH = ("loss", "learning_rate", "epoch_seconds")
MOST_RUNS = 50_000


def search(client: Any, experiment_id: str, condition: str = "") -> list[Any]:
    """All runs of an experiment that meet an MLflow filter, the newest first."""
    found: list[Any] = []
    token = None
    while len(found) < MOST_RUNS:
        page = client.search_runs([experiment_id], condition, max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return found


def record_of(client: Any, run: Any) -> RunRecord:
    """An MLflow run as a plain record: settings, history, final numbers and, if it finished, its predictions."""
    names = [name for name in run.data.metrics if f"val_{name}" in run.data.metrics or name.startswith("val_")]
    names += [name for name in PER_EPOCH if name in run.data.metrics and name not in names]
    history = {
        name: [entry.value for entry in sorted(client.get_metric_history(run.info.run_id, name), key=_step)]
        for name in names
    }
    params = {key: _value(text) for key, text in run.data.params.items()}
    files = _files(client, run) if run.info.status == "FINISHED" else None
    confusion, predictions, class_names = _judgement(files) if files else (None, None, ())
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id,
        status=run.info.status,
        params={**params, "seed": int(params.get("seed", 0))},
        history=history,
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
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


def _files(client: Any, run: Any) -> Path:
    """The run's artifacts as a folder; fetched from the server if they are not on this machine."""
    location = urlsplit(run.info.artifact_uri)
    if location.scheme in ("", "file"):
        return Path(unquote(location.path))
    return Path(client.download_artifacts(run.info.run_id, "reports")).parent


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def process_name() -> str:
    """host:pid:start of this process, to tell later whether a run that says RUNNING still has one."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty where /proc does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_gone(process: str) -> bool:
    """Whether a process of this machine, as `process_name` wrote it, has ended. Of others nothing is known."""
    host, _, rest = process.rpartition(":")[0].rpartition(":")[0], None, process.split(":")
    if host != socket.gethostname():
        return False
    pid, started = int(rest[-2]), rest[-1]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return bool(started) and _started(pid) != started


def close_orphans(client: Any, experiment_id: str) -> list[Any]:
    """Mark as KILLED the runs that say RUNNING but whose process has ended (kill -9, power failure); returns them."""
    orphans = [
        run
        for run in search(client, experiment_id, "attributes.status = 'RUNNING'")
        if is_gone(run.data.tags.get("run.process", "?:0:"))
    ]
    for run in orphans:
        client.set_tag(run.info.run_id, "error", "the process ended without a word (killed, or the machine stopped)")
        client.set_terminated(run.info.run_id, "KILLED")
    return orphans


def finished_by_config(client: Any, experiment_id: str, config_hashes: Iterable[str]) -> dict[str, list[Any]]:
    """Configuration hash -> its finished runs, the newest first."""
    wanted = set(config_hashes)
    found: dict[str, list[Any]] = {}
    for run in search(client, experiment_id, "attributes.status = 'FINISHED'"):
        key = run.data.tags.get("fingerprint.config")
        if key in wanted:
            found.setdefault(key, []).append(run)
    return found


def one_experiment(client: Any, name: str) -> str:
    """The id of an experiment that exists.

    Raises:
        ConfigError: there is none of this name.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        raise ConfigError(f"There is no experiment {name!r} in the tracking store yet: train something first.")
    return str(found.experiment_id)
