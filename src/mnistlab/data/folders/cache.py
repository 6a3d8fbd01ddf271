"""What was read from a folder of images, kept on disk: what is known of each file, and the decoded pixels.

Both are written to the side and renamed, so a reader sees a whole file or none; both carry a checksum, so a damaged
one is noticed. Whatever cannot be used is as if it were not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

import numpy as np
import PIL

from mnistlab.data.folders.decoding import Decoding, Facts, available_workers

log = logging.getLogger("mnistlab")

VERSION = 2
KEPT = 3  # decoded versions (sizes, colour modes) of one folder
BLOCK = 1 << 22


class FolderCache:
    """The cache of one folder of images.

    Args:
        parent: where all caches lie; None keeps nothing.
        root: the folder of images.
    """

    def __init__(self, parent: str | None, root: Path) -> None:
        key = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        self.folder = Path(parent).expanduser() / "images" / f"{_plain(root.name)}-{key}" if parent else None

    def facts(self, stamps: Mapping[str, Sequence[int]]) -> dict[str, Facts]:
        """Path -> facts of the files that have not changed since they were examined.

        Args:
            stamps: path -> the file's present stamp.
        """
        if self.folder is None or not (self.folder / "facts.json").exists():
            return {}
        try:
            checksum, body = (self.folder / "facts.json").read_text(encoding="utf-8").split("\n", 1)
            if checksum != _checksum(body.encode()):
                raise ValueError("its checksum does not fit")
            rows = json.loads(body)
        except (OSError, ValueError) as error:
            log.warning("The cache %s is damaged (%s): the images are read anew.", self.folder / "facts.json", error)
            return {}
        known = {
            path: Facts(row[0], row[1], row[2], row[3], tuple(row[4]), row[5])
            for path, (stamp, row) in rows.items()
            if path in stamps and stamp == list(stamps[path])
        }
        changed = len(stamps.keys() | rows.keys()) - len(known)
        if changed:
            log.info("%s files are new, changed or gone since the folder was read last.", f"{changed:,}")
        return known

    def keep_facts(self, stamps: Mapping[str, Sequence[int]], facts: Mapping[str, Facts]) -> None:
        """Remember what was found; files that could not be read at all are looked at again next time."""
        if self.folder is None:
            return
        rows = {path: (stamps[path], known) for path, known in facts.items() if known.sha256}
        body = json.dumps(rows)
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(self.folder / "facts.json", f"{_checksum(body.encode())}\n{body}".encode())

    def pixels(self, name: str, shape: Sequence[int]) -> np.ndarray | None:
        """The decoded images of that name, mapped from disk and checked, or None."""
        if self.folder is None or not (self.folder / f"{name}.npy").exists():
            return None
        file = self.folder / f"{name}.npy"
        try:
            said = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            if array.shape != tuple(shape) or array.dtype != np.uint8 or said["crc32"] != crc32(array):
                raise ValueError("its checksum or shape does not fit")
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            log.warning("The cache %s is damaged (%s): the images are decoded anew.", file, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # the least recently used are removed first
        return array

    def room_for_pixels(self, shape: Sequence[int]) -> np.ndarray:
        """An uint8 array of that shape to decode into, by other processes too: a new file of the cache, or without
        one a temporary file, or memory if there is no room for either."""
        if self.folder is not None:
            with self._writing():
                self.folder.mkdir(parents=True, exist_ok=True)
                _remove_leftovers(self.folder)
                return _allocated(self.folder / f".{os.getpid()}.half.npy", shape)
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(".npy", "mnistlab-")
            os.close(handle)
            return _allocated(Path(name), shape)
        return np.zeros(tuple(shape), dtype=np.uint8)

    def keep_pixels(self, array: np.ndarray, name: str) -> None:
        """Give the array that `room_for_pixels` made its name; older ones of this folder are removed."""
        if self.folder is None or not isinstance(array, np.memmap):
            self.discard(array)  # a temporary file lives as long as it is mapped
            return
        with self._writing():
            half = Path(str(array.filename))
            _write(self.folder / f"{name}.json", json.dumps({"crc32": crc32(array)}).encode())
            half.replace(self.folder / f"{name}.npy")
            kept = sorted(self.folder.glob("[!.]*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
            for file in kept[KEPT:]:
                file.unlink(missing_ok=True)
                file.with_suffix(".json").unlink(missing_ok=True)

    def discard(self, array: np.ndarray | None) -> None:
        """Remove the unfinished file of an array."""
        if isinstance(array, np.memmap):
            Path(str(array.filename)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A cache that cannot be written is said and done without."""
        try:
            yield
        except OSError as error:
            log.warning("The cache %s cannot be written (%s): this run goes on without it.", self.folder, error)
            self.folder = None


def pixels_name(hashes: Iterable[str], decoding: Decoding) -> str:
    """The manifest's digest: it changes with any file's content, their order, how they are decoded, and Pillow."""
    sha = hashlib.sha256(repr((VERSION, PIL.__version__, astuple(decoding))).encode())
    for file_hash in hashes:
        sha.update(file_hash.encode() + b"\n")
    return sha.hexdigest()[:32]


def crc32(array: np.ndarray) -> int:
    """A checksum of the pixels: of the checksums of its blocks, several of which are taken at a time."""
    rows = max(1, BLOCK // max(1, array[:1].nbytes))

    def block(start: int) -> bytes:
        return zlib.crc32(np.ascontiguousarray(array[start : start + rows]).data).to_bytes(4, "little")

    with ThreadPoolExecutor(available_workers()) as pool:
        return zlib.crc32(b"".join(pool.map(block, range(0, len(array), rows))))


def _allocated(file: Path, shape: Sequence[int]) -> np.ndarray:
    """A mapped .npy file whose room on disk is taken at once: a full disk is an error here and no crash later."""
    file.unlink(missing_ok=True)
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=tuple(shape))
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            try:
                os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
            except OSError:
                file.unlink(missing_ok=True)
                raise
    return array


def _remove_leftovers(folder: Path) -> None:
    """Half-made files of processes that are no more."""
    for file in folder.glob(".*.half.npy"):
        pid = file.name.split(".")[1]
        if pid.isdecimal() and not _alive(int(pid)):
            file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(file: Path, content: bytes) -> None:
    half = file.with_name(f".{file.name}.{os.getpid()}.half")
    with half.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    half.replace(file)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:40]
