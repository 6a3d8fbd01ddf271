"""One examination of a root folder and its store: all findings, in the order in which they are mended."""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mnistlab.config import ConfigError, hide_secrets
from mnistlab.tracking import mlflow_internals, relocation, stores
from mnistlab.tracking.database_file import check_database
from mnistlab.tracking.doctor import folders, models, runs, space
from mnistlab.tracking.doctor.findings import Finding
from mnistlab.tracking.doctor.store_view import StoreView, own_runs, view
from mnistlab.tracking.relocation import Relocation
from mnistlab.tracking.stores import StoreAddress, sqlite_file

MAX_PROBLEMS = 5  # of a damaged database


@dataclass(frozen=True)
class Examination:
    """summary: what was examined; findings: what was found."""

    summary: str
    findings: list[Finding]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.is_wrong for finding in self.findings)


def examine(store: StoreAddress, root: Path) -> Examination:
    """Examine the store, and the folders of this root. Nothing is changed."""
    found = list(_database(store))
    seen = None
    if not found and _exists(store):
        try:
            seen = view(store)
        except (ConfigError, sqlite3.Error) as error:
            found.append(_unreadable(store, str(error)))
    if seen is not None:
        planned = relocation.plan(store, str(root)) if store.uri.startswith("sqlite:") else None
        if planned and (planned.changes or planned.only_there):
            found.append(_moved(planned))
            seen = replace(seen, moved=planned.moved)
        found += [*runs.findings(seen), *models.findings(seen)]
    found += [*folders.findings(root, seen), *space.findings(root)]
    return Examination(_summary(store, root, seen), found)


def live_runs(store: StoreAddress) -> list[str]:
    """The names of the runs whose process may be writing to this database now, in all experiments."""
    return [run.name for run in own_runs(store) if runs.is_live(run)]


def _exists(store: StoreAddress) -> bool:
    return not store.uri.startswith("sqlite:") or sqlite_file(store.uri).exists()


def _summary(store: StoreAddress, root: Path, seen: StoreView | None) -> str:
    if seen is not None:
        in_store = f"{len(seen.runs):,} runs of {store.experiment!r} in {hide_secrets(store.uri)}"
    elif _exists(store):
        in_store = f"the store {hide_secrets(store.uri)} could not be read"
    else:
        in_store = f"no tracking store yet ({sqlite_file(store.uri)})"
    return f"Examined: {in_store}; {len(folders.run_folders(root)):,} run folders in {root / 'runs'}"


def _database(store: StoreAddress) -> Iterator[Finding]:
    """A problem of the database itself, or of the server."""
    try:
        if not store.uri.startswith("sqlite:"):
            stores.check(store)
            stores.check_reachable(store)
            return
        file = sqlite_file(store.uri)
        if not file.exists():
            return
        check_database(file)
        with mlflow_internals.reading(file) as connection:
            rows = [str(row[0]) for row in connection.execute("PRAGMA quick_check").fetchmany(MAX_PROBLEMS)]
        if rows != ["ok"]:
            yield _unreadable(store, f"it is damaged: {'; '.join(rows)}")
    except (ConfigError, sqlite3.Error) as error:
        yield _unreadable(store, str(error))


def _moved(planned: Relocation) -> Finding:
    cases = [f"{old} -> {new}" for old, new in planned.moved.items()]
    counts = ", ".join(f"{count:,} of {table}" for table, count in planned.counts().items())
    return Finding(
        f"folders were moved or copied, but addresses in the store name the old place ({counts or 'none to change'})",
        [*cases, *(f"{address}: its files are only there" for address in planned.only_there)],
        "python -m mnistlab.doctor relocate",
    )


def _unreadable(store: StoreAddress, reason: str) -> Finding:
    remedy = "start the server, or correct tracking.uri or MLFLOW_TRACKING_URI"
    place = hide_secrets(store.uri)
    if store.uri.startswith("sqlite:"):
        place = str(sqlite_file(store.uri))
        remedy = "move it away; the next training makes a new one. The run folders have everything that it had"
        if "MLflow" in reason:  # it says itself what to do
            remedy = ""
        if "locked" in reason:
            remedy = "end the process that keeps it locked, or try again"
        with suppress(OSError):
            copies = sorted(Path(place).parent.glob(f"{Path(place).stem}.*.bak"))
            remedy += f". A copy of before: {copies[-1]}" if copies and remedy else ""
    return Finding("store cannot be read", [f"{place}: {reason}"], remedy)
