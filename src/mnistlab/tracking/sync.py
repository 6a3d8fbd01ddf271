"""Which run folders the tracking store does not have completely: each says so in its sync.json."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnistlab.config import hide_secrets, project_root
from mnistlab.config.objectives import current_name
from mnistlab.runtime import files, processes
from mnistlab.runtime.files import read_json
from mnistlab.tracking.stores import StoreAddress

STATE_FILE = "sync.json"
RUN_FOLDERS = ("*/*", "*/*-sweep/*")  # within runs/: runs and sweeps; the jobs of sweeps


@dataclass(frozen=True)
class UnsyncedRun:
    """A run folder that the store does not have completely.

    name: the run's; reason: why; is_live: its process still runs, and may be recording; store, experiment: where it
    belongs, without a password; is_sweep: the parent run of a sweep.
    """

    folder: Path
    name: str
    reason: str
    is_live: bool
    store: str
    experiment: str
    is_sweep: bool = False


def sync_command(root: str) -> str:
    """The command that delivers the runs of this root."""
    return "python -m mnistlab.sync" + ("" if str(root) == project_root() else f" paths.root={root}")


def in_run_folders(root: str | Path, pattern: str) -> list[Path]:
    """What the run folders of a root hold under this name or pattern, in the order of the folders."""
    runs = Path(root) / "runs"
    return sorted(found for folders in RUN_FOLDERS for found in runs.glob(f"{folders}/{pattern}"))


def unsynced(root: str | Path) -> list[UnsyncedRun]:
    """The run folders of this root that are not completely in their store: parent runs of sweeps first, then by age."""
    found = [run for file in in_run_folders(root, STATE_FILE) if (run := unsynced_run(file.parent))]
    return sorted(found, key=lambda run: not run.is_sweep)


def unsynced_run(folder: Path, always: bool = False) -> UnsyncedRun | None:
    """What is known of a run folder that is not completely in its store; None if it is.

    always: also if it is, or if it was not meant to be.
    """
    state = read_json(folder / STATE_FILE)
    if (state.get("synced") or not state) and not always:
        return None
    tags, status = read_json(folder / "tags.json"), read_json(folder / "status.json")
    is_live = processes.is_process_alive(str(status.get("process", "")))
    is_recording = status.get("status") == "RUNNING" or not state.get("reason")
    return UnsyncedRun(
        folder,
        name=str(tags.get("run.name", folder.name)),
        reason=str(state.get("reason", ""))
        or ("its process ended before it was complete" if state else "not recorded"),
        is_live=is_live and is_recording and bool(status.get("process")) and not state.get("synced"),
        store=str(state.get("store", "")),
        experiment=str(state.get("experiment", "")),
        is_sweep=tags.get("sweep.kind") == "parent",
    )


def write_state(folder: Path, store: StoreAddress | None, run_id: str | None, reason: str, synced: bool) -> None:
    """Write sync.json. reason: why the store does not have all of the run; '' while it is being recorded."""
    content = {
        "synced": synced,
        "reason": hide_secrets(reason),
        "store": hide_secrets(store.uri) if store else "",
        "experiment": store.experiment if store else "",
        "run_id": run_id,
        "updated": time.time(),
    }
    files.write_json(folder / STATE_FILE, content)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, final metrics under their present names; a torn last line, of a process that was
    killed while it wrote, is left out."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(metrics := row.get("metrics"), dict):
            is_epoch = "epoch_seconds" in metrics
            rows.append(
                row if is_epoch else {**row, "metrics": {current_name(name): metrics[name] for name in metrics}}
            )
    return rows
