"""What is wrong in the run folders: runs without an end, damaged JSON files, runs that the store does not have."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from mnistlab.runtime import files
from mnistlab.tracking import delivery, orphans, servers, stores, sync
from mnistlab.tracking.doctor.findings import Finding, mending
from mnistlab.tracking.doctor.runs import DAMAGED
from mnistlab.tracking.doctor.store_view import StoreView
from mnistlab.tracking.relocation import local_path
from mnistlab.tracking.sync import UnsyncedRun, in_run_folders

OF_JOBS = ("started", "watched", "done", "failures", "killed")  # folders of a sweep with a small JSON file per job


def findings(root: Path, view: StoreView | None) -> Iterator[Finding]:
    """All findings about the folders below `runs/`. view: of the store; None if there is none or it cannot be read."""
    yield from _orphans(root)
    yield from _damaged(root, view)
    yield from _unsynced(root)
    if view is not None:
        yield from _unknown(root, view)


def run_folders(root: Path) -> list[Path]:
    """The folders of runs and of sweeps' jobs."""
    return [file.parent for file in in_run_folders(root, "tags.json")]


def _orphans(root: Path) -> Iterator[Finding]:
    found = orphans.orphaned_folders(root)

    def close() -> list[str]:
        closed = orphans.close_orphaned_folders(root, found)
        return [orphan.place for orphan in found if orphan.place not in closed]

    if found:
        yield Finding(
            "run folders say RUNNING, but their processes have ended",
            [f"{orphan.name}  {orphan.place}  {orphan.reason}" for orphan in found],
            "their status.json says KILLED, with the reason",
            close,
        )


def _damaged(root: Path, view: StoreView | None) -> Iterator[Finding]:
    artifacts = {run.tags.get("run.folder"): local_path(run.artifacts) for run in view.runs} if view else {}
    copies = {file: _copy(file, artifacts.get(str(file.parent))) for file in _json_files(root) if not _is_whole(file)}
    if copies:
        yield Finding(
            "JSON files are damaged, as after a full disk or a power failure",
            [f"{file}{'  its artifact is whole' if copy else ''}" for file, copy in copies.items()],
            "each is replaced by its whole copy among the run's artifacts, or else renamed to NAME.damaged",
            mending(list(copies), lambda file: _replace(file, copies[file]), str),
        )


def _json_files(root: Path) -> Iterator[Path]:
    yield from in_run_folders(root, "*.json")
    for name in OF_JOBS:
        yield from (file for file in root.glob(f"runs/sweeps/*/{name}/*") if file.name[0] != "." and file.suffix == "")


def _is_whole(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    except OSError:  # it cannot be read, or has been removed meanwhile: that is no damage
        return True
    return True


def _copy(file: Path, artifacts: Path | None) -> Path | None:
    """The whole copy of a damaged file among the run's artifacts."""
    copy = artifacts / file.name if artifacts else None
    return copy if copy and copy.is_file() and _is_whole(copy) else None


def _replace(file: Path, copy: Path | None) -> None:
    if copy is None:
        file.replace(file.with_name(f"{file.name}{DAMAGED}"))
        return
    with files.replacing(file) as half:
        shutil.copyfile(copy, half)


def _unsynced(root: Path) -> Iterator[Finding]:
    found = [run for run in sync.unsynced(root) if not run.is_live]
    if found:
        yield Finding(
            "run folders are not completely in the tracking store",
            [f"{run.name}  {run.folder}  {run.reason}" for run in found],
            f"they are delivered, as {sync.sync_command(str(root))} does",
            mending(found, lambda run: _deliver(run, root), lambda run: str(run.folder)),
        )


def _deliver(run: UnsyncedRun, root: Path) -> None:
    store = stores.store_of(run.store, run.experiment, {}, str(root))
    if reason := servers.outage(store.uri):
        raise servers.ServerSilent(f"the tracking server does not answer ({reason})")
    delivery.deliver(run.folder, store)


def _unknown(root: Path, view: StoreView) -> Iterator[Finding]:
    if view.known is None:
        return
    found = []
    undelivered = {run.folder for run in sync.unsynced(root)}
    for folder in run_folders(root):
        tags = files.read_json(folder / "tags.json")
        run_id = tags.get("run.id")
        if run_id and run_id not in view.known and folder not in undelivered:
            found.append(f"{tags.get('run.name', folder.name)}  {run_id}  {folder}")
    if found:
        yield Finding(
            "run folders name a run that this store does not have",
            found,
            "nothing needs to be done if they are in another store (tracking.uri), or were deleted in MLflow",
            is_wrong=False,
        )
