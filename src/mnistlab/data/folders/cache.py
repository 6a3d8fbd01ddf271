"""A cache on disk of what was read from a folder of images: the facts of each file, and the decoded pixels.

Both have a checksum and are renamed when they are complete. A damaged file is ignored and written again; a cache that
cannot be written is not used.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL

from mnistlab.data.folders.decoding import OUTDATED_PROBLEMS, Decoding, Facts
from mnistlab.data.folders.listing import ImageFile
from mnistlab.runtime import resources
from mnistlab.runtime.files import write_bytes, write_json

log = logging.getLogger("mnistlab")

VERSION = 2
FACTS = "facts-2.json"  # the number is that of what they say
MAX_VERSIONS = 3  # decoded versions (sizes, colour modes) of one folder that are kept
BLOCK_BYTES = 1 << 22


class FolderCache:
    """The cache of one folder of images, `root`, in the folder of all caches, `parent`; None: no cache."""

    def __init__(self, parent: str | None, root: Path) -> None:
        key = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        name = re.sub(r"[^\w-]", "_", root.name)[:40]
        self.folder = Path(parent).expanduser() / "images" / f"{name}-{key}" if parent else None

    def load_facts(self, files: Sequence[ImageFile]) -> dict[int, Facts]:
        """File index -> facts of the files that have not changed since they were read."""
        if self.folder is None or not (self.folder / FACTS).exists():
            return {}
        try:
            checksum, body = (self.folder / FACTS).read_text(encoding="utf-8").split("\n", 1)
            if checksum != hashlib.sha256(body.encode()).hexdigest():
                raise ValueError("its checksum is wrong")
            rows = json.loads(body)
        except (OSError, ValueError) as error:
            log.warning("The cache %s is damaged (%s): the images are read again.", self.folder / FACTS, error)
            return {}
        known = {}
        for index, file in enumerate(files):
            stamp, row = rows.get(file.path, (None, None))
            if stamp == list(file.stamp) and not row[5].startswith(OUTDATED_PROBLEMS):
                known[index] = Facts(*row)._replace(traits=tuple(row[4]))
        changed = len({file.path for file in files} | rows.keys()) - len(known)
        if changed:
            log.info("%s files are new, changed or removed since the folder was last read.", f"{changed:,}")
        return known

    def store_facts(self, files: Sequence[ImageFile], facts: Mapping[int, Facts]) -> None:
        """Store the facts, except of files that could not be read at all: they are tried again next time."""
        if self.folder is None:
            return
        body = json.dumps({files[i].path: (files[i].stamp, known) for i, known in facts.items() if known.sha256})
        checksum = hashlib.sha256(body.encode()).hexdigest()
        with self._writing():
            write_bytes(self.folder / FACTS, f"{checksum}\n{body}".encode())

    def load_pixels(self, name: str, shape: Sequence[int]) -> np.ndarray | None:
        """The decoded images stored under a name, mapped from disk and checked, or None."""
        if self.folder is None or not (self.folder / f"{name}.npy").exists():
            return None
        file = self.folder / f"{name}.npy"
        try:
            recorded = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            if array.shape != tuple(shape) or array.dtype != np.uint8 or recorded["crc32"] != crc32(array):
                raise ValueError("its checksum or shape is wrong")
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            log.warning("The cache %s is damaged (%s): the images are decoded again.", file, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # the least recently used are removed first
        return array

    def allocate_pixels(self, shape: Sequence[int]) -> np.ndarray:
        """A uint8 array to decode into, mapped from a new file so that other processes can write to it.

        The file is in the cache or a temporary one; if the disk is full, the array is an ordinary one.
        """
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

    def store_pixels(self, array: np.ndarray, name: str) -> None:
        """Store an array of `allocate_pixels` under a name; the least recently used versions are removed."""
        if self.folder is None or not isinstance(array, np.memmap):
            self.discard(array)  # its pixels can be used as long as it is mapped
            return
        with self._writing():
            unfinished = Path(str(array.filename))
            write_json(self.folder / f"{name}.json", {"crc32": crc32(array)})
            unfinished.replace(self.folder / f"{name}.npy")
            versions = sorted(self.folder.glob("[!.]*.npy"), key=lambda file: file.stat().st_mtime, reverse=True)
            for file in versions[MAX_VERSIONS:]:
                file.unlink(missing_ok=True)
                file.with_suffix(".json").unlink(missing_ok=True)

    def discard(self, array: np.ndarray | None) -> None:
        """Remove the unfinished file of an array."""
        if isinstance(array, np.memmap):
            Path(str(array.filename)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """If the cache cannot be written, log a warning and stop using it."""
        try:
            yield
        except OSError as error:
            log.warning("The cache %s cannot be written (%s): this run continues without it.", self.folder, error)
            self.folder = None


def pixels_name(facts: Iterable[Facts], decoding: Decoding) -> str:
    """A name for decoded images: a hash of the files' hashes in order, the decoding and Pillow's version."""
    sha = hashlib.sha256(repr((VERSION, PIL.__version__, decoding.key)).encode())
    for known in facts:
        sha.update(known.sha256.encode() + b"\n")
    return sha.hexdigest()[:32]


def crc32(array: np.ndarray) -> int:
    """A checksum of an array: the CRC of its blocks' CRCs, which are computed in several threads."""
    rows = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))

    def block(start: int) -> bytes:
        return zlib.crc32(np.ascontiguousarray(array[start : start + rows]).data).to_bytes(4, "little")

    with ThreadPoolExecutor(len(resources.processors())) as pool:
        return zlib.crc32(b"".join(pool.map(block, range(0, len(array), rows))))


def _allocated(file: Path, shape: Sequence[int]) -> np.ndarray:
    """Map a new .npy file and reserve its space, so that a full disk raises OSError here instead of crashing later."""
    file.unlink(missing_ok=True)
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=tuple(shape))
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            try:
                os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
            except OSError:
                file.unlink(missing_ok=True)
                raise
    return array


def _remove_leftovers(folder: Path) -> None:
    """Remove unfinished files of processes that have ended."""
    for file in folder.glob(".*.half.npy"):
        pid = file.name.split(".")[1]
        try:
            if pid.isdecimal():
                os.kill(int(pid), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:  # another user's process is alive
            continue
