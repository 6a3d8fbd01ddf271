"""What is wrong with runs in the store: their status, experiment, artifacts; runs that repeat others."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnistlab.tracking import mlflow_internals, orphans
from mnistlab.tracking.doctor.findings import Finding, mending
from mnistlab.tracking.doctor.store_view import DEFAULT, StoreView
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.mlflow_runs import artifact_files
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.orphans import Orphan
from mnistlab.tracking.relocation import back_up
from mnistlab.tracking.stores import sqlite_file

DAMAGED = ".damaged"  # the end of the name of a file that was set aside


def findings(view: StoreView) -> Iterator[Finding]:
    """All findings about runs."""
    for check in (_orphans, _in_default, _artifacts, _duplicates, _without_folder):
        yield from check(view)


def is_live(run: StoredRun) -> bool:
    """Whether the run's process may still write: RUNNING, and not known to have ended."""
    return run.status == "RUNNING" and not orphans.why_orphaned(run)


def line(run: StoredRun, more: str = "") -> str:
    """A run for the terminal: its name, id and folder."""
    return "  ".join(filter(None, [run.name, run.run_id, run.tags.get("run.folder", ""), more]))


def _orphans(view: StoreView) -> Iterator[Finding]:
    running = [run for run in (*view.runs, *view.in_default) if run.status == "RUNNING"]
    found = [Orphan(run.name, why, run.run_id) for run in running if (why := orphans.why_orphaned(run))]

    def close() -> list[str]:
        closed = orphans.close_orphaned_runs(view.store, found)
        return [f"{orphan.name}  {orphan.place}" for orphan in found if orphan.place not in closed]

    if found:
        yield Finding(
            "runs are recorded as RUNNING, but their processes have ended",
            [f"{orphan.name}  {orphan.place}  {orphan.reason}" for orphan in found],
            "they are recorded as KILLED, with the reason as tag `error`",
            close,
        )


def _in_default(view: StoreView) -> Iterator[Finding]:
    found = [run for run in view.in_default if not is_live(run)]
    is_database = view.store.uri.startswith("sqlite:")
    moved = f"they are moved to {view.store.experiment!r}; a copy of the database is kept beside it"
    told = f"a server's runs cannot be moved; tracking.experiment={DEFAULT} has them"

    def move(runs: Sequence[StoredRun]) -> None:
        _, experiment_id = open_store(view.store)
        database = sqlite_file(view.store.uri)
        back_up(database)
        with mlflow_internals.writing(database) as connection:
            for run in runs:
                mlflow_internals.move_run(connection, run.run_id, experiment_id)

    if found:
        yield Finding(
            f"runs are in MLflow's experiment {DEFAULT!r} instead of {view.store.experiment!r}",
            [line(run) for run in found],
            moved if is_database else told,
            mending([found], move, lambda _: "the runs") if is_database else None,
            is_wrong=is_database,
        )


@dataclass(frozen=True)
class _Missing:
    """Files of a run's folder that its artifacts lack."""

    run: StoredRun
    folder: Path
    names: list[str]


def _artifacts(view: StoreView) -> Iterator[Finding]:
    missing, lost = [], []
    for run in view.runs:
        place = view.place(run.artifacts)
        if place is None or not _is_complete(run):
            continue
        folder = Path(run.tags["run.folder"])
        if names := _missing_files(folder, place):
            missing.append(_Missing(run, folder, names))
        elif not folder.is_dir() and _is_empty(place):
            lost.append(line(run, f"no files in {place}"))
    if missing:
        yield Finding(
            "runs lack artifacts that their folders have",
            [line(one.run, f"{len(one.names)} files: {', '.join(one.names[:3])}") for one in missing],
            "the files are logged again",
            mending(missing, lambda one: _log(view, one), lambda one: one.run.run_id),
        )
    if lost:
        yield Finding(
            "runs have no artifacts, and their folders are gone",
            lost,
            "restore the files, or delete the runs in MLflow",
        )


def _is_complete(run: StoredRun) -> bool:
    """Whether a run should have all artifacts. The parent of a sweep has no folder, and an entry for a reused run
    has nothing."""
    return run.status == "FINISHED" and run.tags.get("run.folder", "").startswith("/")


def _is_empty(place: Path) -> bool:
    return not place.is_dir() or not any(place.iterdir())


def _missing_files(folder: Path, place: Path) -> list[str]:
    names = [file.relative_to(folder).as_posix() for file in artifact_files(folder)] if folder.is_dir() else []
    return sorted(name for name in names if not name.endswith(DAMAGED) and not (place / name).exists())


def _log(view: StoreView, missing: _Missing) -> None:
    client, _ = open_store(view.store)
    for name in missing.names:
        inside = Path(name).parent.as_posix()
        client.log_artifact(missing.run.run_id, str(missing.folder / name), None if inside == "." else inside)


def _duplicates(view: StoreView) -> Iterator[Finding]:
    same = defaultdict(list)
    for run in view.runs:
        if run.status == "FINISHED" and run.tags.get("sweep.kind") != "reused" and "fingerprint" in run.tags:
            same[run.tags["fingerprint"]].append(run)
    found = {key: runs for key, runs in same.items() if len(runs) > 1}
    if found:
        yield Finding(
            "computations were done more than once, with equal settings, code, data and libraries",
            [f"{key}  {', '.join(f'{run.name} {run.run_id}' for run in runs)}" for key, runs in found.items()],
            "nothing needs to be done",
            is_wrong=False,
        )


def _without_folder(view: StoreView) -> Iterator[Finding]:
    found = [run for run in view.runs if (place := run.tags.get("run.folder")) and not Path(place).is_dir()]
    if found and not view.moved:
        yield Finding(
            "runs have no folder any more, or it was on another machine",
            [line(run) for run in found],
            "nothing needs to be done: their artifacts are in the store",
            is_wrong=False,
        )
