"""Artifact addresses after `mlruns/` was moved or copied: MLflow stores absolute ones, which name the old place.

What was moved is found by the files themselves: an address whose last parts exist in this root's `mlruns/` names what
is there now. Only MLflow's database can be changed for it (`mlflow_internals`), so this is for SQLite stores.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from mnistlab.config import ConfigError
from mnistlab.runtime import files
from mnistlab.tracking import mlflow_internals
from mnistlab.tracking.mlflow_internals import AddressRow
from mnistlab.tracking.stores import StoreAddress, sqlite_file
from mnistlab.tracking.sync import in_run_folders

IN_RUN_FOLDERS = {"tags.json": "run.folder", "sync.json": "store"}  # file -> the key of an absolute address
ENOUGH_PARTS = 2  # of an address, to tell by them that it names what stands here


@dataclass(frozen=True)
class Relocation:
    """What to change. moved: old folder -> new folder; only_there: addresses whose files are in the old folder only."""

    database: Path
    moved: dict[Path, Path]
    changes: list[tuple[AddressRow, str]]
    only_there: list[str]

    def counts(self) -> dict[str, int]:
        """Table -> how many of its addresses change."""
        return dict(Counter(row.table for row, _ in self.changes))


def plan(store: StoreAddress, root: str) -> Relocation:
    """Find the addresses that name an old place of this root's files. Nothing is changed.

    Raises:
        ConfigError: the store is a server. sqlite3.Error: the database cannot be read.
    """
    database = _database(store)
    bases = list(dict.fromkeys([Path(root).expanduser().resolve() / "mlruns", database.parent]))
    with mlflow_internals.reading(database) as connection:
        rows = mlflow_internals.read_addresses(connection)
    elsewhere = [
        (row, path) for row in rows if (path := local_path(row.value)) and not any(map(path.is_relative_to, bases))
    ]
    moved = _moved_folders(elsewhere, bases)
    changes, only_there = [], []
    for row, path in elsewhere:
        new = _new_path(row, path, moved)
        if new is None:
            continue
        if row.table in ("runs", "logged_models") and path.exists() and not new.exists():
            only_there.append(row.value)
        else:
            changes.append((row, _like(row.value, new)))
    return Relocation(database, moved, changes, only_there)


def apply(relocation: Relocation, root: str) -> Path:
    """Change the addresses in one transaction, and those in the run folders; returns the database's copy from before.

    Raises:
        sqlite3.Error, OSError: nothing is changed.
    """
    database = relocation.database
    with FileLock(database.with_name(f".{database.name}.lock"), timeout=10):
        copy = back_up(database)
        with mlflow_internals.writing(database) as connection:
            mlflow_internals.write_addresses(connection, relocation.changes)
    _mend_run_folders(Path(root).expanduser().resolve(), relocation.moved)
    return copy


def back_up(database: Path) -> Path:
    """Copy the database beside itself; returns the copy."""
    copy = database.with_name(f"{database.stem}.{datetime.now():%Y-%m-%d_%H-%M-%S-%f}.bak")
    with files.replacing(copy, durable=True) as half:
        mlflow_internals.copy_database(database, half)
    return copy


def local_path(address: str) -> Path | None:
    """The folder of a file:// address or a plain path; None for servers and clouds."""
    if address.startswith("/"):
        return Path(address)
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.path.startswith("/") else None


def _database(store: StoreAddress) -> Path:
    if not store.uri.startswith("sqlite:"):
        raise ConfigError(
            "relocate mends the addresses in a SQLite database; a server keeps those of its artifacts itself "
            "(mlflow server --artifacts-destination). Received: a server's address as tracking.uri."
        )
    return sqlite_file(store.uri)


def _moved_folders(elsewhere: Sequence[tuple[AddressRow, Path]], bases: Sequence[Path]) -> dict[Path, Path]:
    """Old folder -> the base that has its files now."""
    moved: dict[Path, Path] = {}
    for tables in (("runs", "logged_models"), ("experiments",)):
        for row, path in elsewhere:
            surely = tables != ("experiments",) or not path.exists()
            if row.table in tables and surely and not any(map(path.is_relative_to, moved)):
                moved |= _moved_folder(path, bases)
        if moved:
            break
    return moved


def _moved_folder(path: Path, bases: Iterable[Path]) -> dict[Path, Path]:
    """The folder above a path that stands in one of the bases now, with that base; the most of the path counts."""
    for length in range(len(path.parts) - 1, ENOUGH_PARTS - 1, -1):
        for base in bases:
            if base.joinpath(*path.parts[-length:]).exists():
                return {Path(*path.parts[:-length]): base}
    return {}


def _new_path(row: AddressRow, path: Path, moved: dict[Path, Path]) -> Path | None:
    """Where the files of an address are now; None if it does not change."""
    if row.table == "tags":
        new = _in_new_root(path, moved)
        return new if new and new.exists() else None
    return next((new / path.relative_to(old) for old, new in moved.items() if path.is_relative_to(old)), None)


def _in_new_root(path: Path, moved: dict[Path, Path]) -> Path | None:
    """A path in the folder that `mlruns/` stood in, as a path in the one that it stands in now."""
    roots = {old.parent: new.parent for old, new in moved.items() if old.name == new.name == "mlruns"}
    return next((new / path.relative_to(old) for old, new in roots.items() if path.is_relative_to(old)), None)


def _like(address: str, path: Path) -> str:
    """A path in the form of an address."""
    return path.as_uri() if address.startswith("file:") else str(path)


def _mend_run_folders(root: Path, moved: dict[Path, Path]) -> None:
    for name, key in IN_RUN_FOLDERS.items():
        for file in in_run_folders(root, name):
            content = files.read_json(file)
            _, is_database, place = str(content.get(key, "")).rpartition("sqlite:///")
            path = Path(place) if place.startswith("/") else None
            new = _in_new_root(path, moved) if path else None
            if new is not None and new.exists():
                changed = {**content, key: f"{is_database}{new}"}
                files.write_json(file, changed)
