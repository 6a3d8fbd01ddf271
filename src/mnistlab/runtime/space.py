"""Disk space: what is free where a run will write, compared with what it needs; the message of a disk that is full."""

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from mnistlab.config import ConfigError

FULL = (errno.ENOSPC, errno.EDQUOT)
DATABASE_IS_FULL = "database or disk is full"  # SQLite's words
WAY_OUT = "Free some space, or choose a folder on another disk with paths.root=FOLDER"


def check_space(needed: Mapping[Path, int], what: str) -> None:
    """Check that each disk has room for the bytes that will be written to folders on it.

    A disk that does not tell how much is free, as some network disks do, is not checked.

    Args:
        needed: folder -> bytes; a folder need not exist yet.
        what: needs them, for the message: 'this run'.

    Raises:
        ConfigError: a disk has less room.
    """
    folders: dict[int, list[Path]] = {}
    for folder in needed:
        folders.setdefault(nearest_existing(folder).stat().st_dev, []).append(folder)
    problems = []
    for on_one_disk in folders.values():
        total, free = sum(needed[folder] for folder in on_one_disk), free_bytes(on_one_disk[0])
        if free is not None and total > free:
            places = " and ".join(dict.fromkeys(map(str, on_one_disk)))
            problems.append(
                f"{what} needs about {readable(total)} in {places}; {readable(free)} are free. {WAY_OUT}, or save less "
                "with save.formats=[]."
            )
    if problems:
        raise ConfigError(problems)


def total(needs: Iterable[Mapping[Path, int]]) -> dict[Path, int]:
    """The sum for several runs."""
    summed: dict[Path, int] = {}
    for needed in needs:
        for folder, size in needed.items():
            summed[folder] = summed.get(folder, 0) + size
    return summed


def free_bytes(folder: Path) -> int | None:
    """What this user can still write in a folder that need not exist yet; None if the disk does not tell."""
    usage = os.statvfs(nearest_existing(folder))
    return usage.f_bavail * usage.f_frsize if usage.f_blocks else None


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def disk_is_full(error: BaseException, run_folder: Path | None = None) -> str:
    """What to tell the user if this error, or the one that it comes from, is that of a full disk; else ''.

    run_folder: where the run writes, for errors that do not say where they happened.
    """
    full = next(filter(_is_full, _causes(error)), None)
    if full is None:
        return ""
    named = getattr(full, "filename", None)
    place = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else run_folder
    if place is None:
        return f"The disk is full. {WAY_OUT}."
    left = shutil.disk_usage(nearest_existing(place)).free
    return f"The disk of {place} is full: {readable(left)} are free. {WAY_OUT}."


def _causes(error: BaseException) -> list[BaseException]:
    """The error, the one that it comes from and so on; an error may come from itself."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__
    return found


def _is_full(error: BaseException) -> bool:
    """Also for errors of libraries in C, such as HDF5, which say it in words only."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    text = str(error)
    return os.strerror(errno.ENOSPC) in text or DATABASE_IS_FULL in text


def readable(size: int) -> str:
    """1.2 GB; powers of 1000, as disks are sold."""
    value, unit = float(size), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
