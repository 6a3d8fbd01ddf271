"""Files that nobody needs any more: leftovers of killed processes, checkpoints of finished runs, old downloads and
caches."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from mnistlab.runtime import files, processes
from mnistlab.tracking.doctor.findings import Finding, mending
from mnistlab.tracking.sync import in_run_folders

HOUR, DAY = 3600, 86_400
LEFTOVER_SECONDS = HOUR  # an unfinished file that has not changed for so long is nobody's
DOWNLOAD_SECONDS = DAY  # downloaded models are fetched again by every command that starts from one
CACHE_SECONDS = 30 * DAY
UNFINISHED = re.compile(r"\..+\.half(\.\w+|-\w+)?|\.writable-\d+")
WITH_PROCESS = re.compile(r"\.(\d+)\.half|\.writable-(\d+)$")


def findings(root: Path) -> Iterator[Finding]:
    """All findings about space below `runs/`, `mlruns/` and `cache/`."""
    now = time.time()
    unfinished = [file for file in _unfinished(root) if _is_left(file, now)]
    yield from _removable("unfinished files were left by processes that were killed", unfinished)
    yield from _removable("checkpoints of finished runs are left", list(_checkpoints(root)))
    downloads = [folder for folder in _entries(root / "runs" / "downloads") if _age(folder, now) > DOWNLOAD_SECONDS]
    yield from _removable("downloaded models are kept, which are fetched again when they are needed", downloads, False)
    caches = _entries(root / "cache" / "images")
    stale = [folder for folder in caches if _age(folder, now) > CACHE_SECONDS]
    yield from _removable(f"caches of decoded images were not used for {CACHE_SECONDS // DAY} days", stale, False)
    used = [folder for folder in caches if folder not in stale]
    if used:
        title = f"caches of decoded images are in use ({_shown(sum(map(size, used)))})"
        yield Finding(title, [_line(folder) for folder in used], "nothing needs to be done", is_wrong=False)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.lstat().st_size
    return total


def _removable(what: str, paths: list[Path], is_wrong: bool = True) -> Iterator[Finding]:
    if paths:
        title = f"{what} ({_shown(sum(map(size, paths)))})"
        yield Finding(
            title, [_line(path) for path in paths], "they are removed", mending(paths, _remove, str), is_wrong=is_wrong
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _line(path: Path) -> str:
    return f"{_shown(size(path)):>8}  {path}"


def _shown(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def _unfinished(root: Path) -> Iterator[Path]:
    """Files and folders that were being written; not among MLflow's artifacts, which it writes itself."""
    for top in ("runs", "mlruns", "cache"):
        for folder, folders, names in os.walk(root / top):
            if top == "mlruns" and folder == str(root / top):
                folders[:] = []
            yield from (Path(folder, name) for name in (*folders, *names) if UNFINISHED.fullmatch(name))


def _is_left(file: Path, now: float) -> bool:
    """Whether nobody writes this file any more: the process that its name has is gone, or it has not changed."""
    named = WITH_PROCESS.search(file.name)
    pid = int(next(filter(None, named.groups()))) if named else 0
    if 0 < pid < 1 << 22 and processes.is_running(pid):
        return False
    return _age(file, now) > LEFTOVER_SECONDS


def _checkpoints(root: Path) -> Iterator[Path]:
    for folder in in_run_folders(root, "checkpoint"):
        if files.read_json(folder.with_name("status.json")).get("status") == "FINISHED":
            yield folder


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _age(path: Path, now: float) -> float:
    """Seconds since a file, or anything in a folder, changed last."""
    files: Iterable[Path] = [path, *path.rglob("*")] if path.is_dir() else [path]
    times = []
    for file in files:
        with contextlib.suppress(OSError):
            times.append(file.lstat().st_mtime)
    return now - max(times, default=now)
