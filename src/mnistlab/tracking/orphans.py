"""Runs that are recorded as RUNNING although their process has ended: after kill -9, lack of memory, a power failure.

Each run is judged alone, by the process that it names in the tag `run.process` (`runtime.processes`). Runs without that
tag are other programs', and stay as they are. Where the process cannot be looked up, on another machine or in another
container, its last sign of life decides: the tag `run.heartbeat`, which the background process renews every minute.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mnistlab.runtime import files, processes
from mnistlab.runtime.files import read_json
from mnistlab.tracking import heartbeat, history
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress
from mnistlab.tracking.sync import in_run_folders


@dataclass(frozen=True)
class Orphan:
    """A run whose process has ended. reason: why, in words; place: the id of a stored run, or the run's folder."""

    name: str
    reason: str
    place: str


def orphaned_runs(store: StoreAddress) -> list[Orphan]:
    """The orphaned runs in the store, the newest first. Nothing is changed."""
    running = history.find(store, "attributes.status = 'RUNNING'")
    return [Orphan(run.name, reason, run.run_id) for run in running if (reason := why_orphaned(run))]


def why_orphaned(run: StoredRun) -> str:
    """Why the process of a RUNNING run has ended, in words; '' if it lives, or if that cannot be told."""
    signs = [run.started, _seconds(run.tags.get(heartbeat.TAG, ""))]
    return processes.why_ended(run.tags.get("run.process", ""), max(filter(None, signs), default=None))


def _seconds(heartbeat: str) -> float | None:
    try:
        return datetime.fromisoformat(heartbeat).timestamp()
    except ValueError:
        return None


def close_orphaned_runs(store: StoreAddress, orphans: Sequence[Orphan] | None = None) -> list[str]:
    """Record orphaned runs as KILLED, with the reason as tag `error`; returns their ids.

    orphans: as `orphaned_runs` returned them; None: all. One that cannot be closed does not keep others from it.
    """
    client, _ = open_store(store)
    closed = []
    for orphan in orphaned_runs(store) if orphans is None else orphans:
        with contextlib.suppress(Exception):
            if client.get_run(orphan.place).info.status != "RUNNING":  # its background process was faster
                continue
            client.set_tag(orphan.place, "error", f"the run was not finished: {orphan.reason}")
            client.set_terminated(orphan.place, "KILLED")
            closed.append(orphan.place)
    return closed


def orphaned_folders(root: str | Path) -> list[Orphan]:
    """The folders of runs that are RUNNING by their status.json although the process has ended. Nothing is changed."""
    found = []
    for file in in_run_folders(root, "status.json"):
        status = read_json(file)
        process = str(status.get("process", ""))
        if status.get("status") == "RUNNING" and (reason := processes.why_ended(process)):
            name = str(read_json(file.with_name("tags.json")).get("run.name", file.parent.name))
            found.append(Orphan(name, reason, str(file.parent)))
    return found


def close_orphaned_folders(root: str | Path, orphans: Sequence[Orphan] | None = None) -> list[str]:
    """Record orphaned folders as KILLED, with the reason; returns their paths.

    orphans: as `orphaned_folders` returned them; None: all. One that cannot be written does not keep others from it.
    """
    closed = []
    for orphan in orphaned_folders(root) if orphans is None else orphans:
        folder, error = Path(orphan.place), f"the run was not finished: {orphan.reason}"
        if read_json(folder / "status.json").get("status") != "RUNNING":
            continue
        with contextlib.suppress(OSError):
            end_folder(folder, "KILLED", error)
            closed.append(orphan.place)
    return closed


def end_run(store: StoreAddress, run: StoredRun, status: str, error: str) -> None:
    """Correct the status of a stored run that has not ended by itself."""
    client, _ = open_store(store)
    client.set_tag(run.run_id, "error", error)
    client.set_terminated(run.run_id, status)


def end_folder(folder: Path, status: str, error: str) -> None:
    """Correct the status in a run's folder, if that says that the run is under way or was killed."""
    before, tags = read_json(folder / "status.json"), read_json(folder / "tags.json")
    if before.get("status") in ("RUNNING", "KILLED"):
        if tags:
            files.write_json(folder / "tags.json", {**tags, "error": error})
        files.write_json(folder / "status.json", {**before, "status": status, "error": error, "closed": time.time()})


def close_orphans(store: StoreAddress | None, root: str) -> None:
    """Close the runs that killed commands left open, in this root's folders and in the store."""
    with contextlib.suppress(OSError):
        close_orphaned_folders(root)
    if store is not None:
        close_orphaned_runs(store)
