"""Images in files, used like the array of their pixels: what the splits of `source=directory` hold.

TensorFlow replaces errors of reading files inside a pipeline by its own, which do not name the file: wrap the reading
in `remember_failure` and the training in `raise_original`.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.data.folders import processes
from mnistlab.data.folders.decoding import Decoding, Facts
from mnistlab.data.folders.listing import ImageFile

MIN_IMAGES_FOR_PROCESS = 8  # fewer are decoded in this process


@dataclass(frozen=True)
class Folder:
    """A folder's files after they were checked; all splits of one source share it.

    facts: one for each file; loader: 'generator', 'stream' or 'resident'; workers: number of decoding processes;
    memory_budget: bytes; pixels: uint8, shape (len(files), *decoding.shape), for the resident loader.
    """

    root: Path
    files: tuple[ImageFile, ...]
    facts: tuple[Facts, ...]
    decoding: Decoding
    loader: str
    workers: int
    memory_budget: int
    pixels: np.ndarray | None = field(default=None, repr=False, compare=False)

    def path(self, index: int) -> str:
        return f"{self.root}/{self.files[index].path}"


class FolderImages:
    """Some of a folder's images, used like the array of their pixels: `len`, `shape`, `take`; indexing decodes.

    indices: of the folder's files, int, shape (n,).
    """

    def __init__(self, folder: Folder, indices: np.ndarray) -> None:
        self.folder = folder
        self.indices = np.asarray(indices, dtype=np.int64)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.indices), *self.folder.decoding.shape)

    @property
    def loader(self) -> str:
        return self.folder.loader

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        """uint8 pixels, shape (chosen, height, width, channels), decoded now.

        Raises:
            OSError: a file was removed or damaged since it was checked; the message names it.
        """
        rows = np.atleast_1d(self.indices[chosen])
        if self.folder.pixels is not None:
            return self.folder.pixels[rows]
        files = [self.folder.path(index) for index in rows]
        if len(files) < MIN_IMAGES_FOR_PROCESS:
            return processes.read_files(files, self.folder.decoding)
        return processes.decoding_processes(self.folder.workers).call(processes.read_files, files, self.folder.decoding)

    def take(self, indices: np.ndarray, axis: int = 0) -> "FolderImages":
        return FolderImages(self.folder, self.indices[indices])

    def in_memory(self) -> "np.ndarray | FolderImages":
        """The pixels if the loader is resident, else these files."""
        return self[:] if self.loader == "resident" else self

    def paths(self) -> list[str]:
        return [self.folder.path(index) for index in self.indices]

    def digest(self) -> bytes:
        """A hash of the files' contents, in order, and of how they are decoded; it is the same for every loader."""
        sha = hashlib.sha256(repr((len(self), self.folder.decoding.key)).encode())
        for index in self.indices:
            sha.update(self.folder.facts[index].sha256.encode())
        return sha.digest()

    def rows(self) -> list[dict[str, Any]]:
        """One row of the manifest for each image."""
        rows = []
        for index in self.indices:
            file, facts = self.folder.files[index], self.folder.facts[index]
            size = {"bytes": file.stamp[0], "width": facts.width, "height": facts.height, "mode": facts.mode}
            rows.append({"path": file.path, "class": file.class_name, **size, "sha256": facts.sha256})
        return rows


_failures: list[BaseException] = []


@contextlib.contextmanager
def remember_failure() -> Iterator[None]:
    """Keep an error that is raised here for `raise_original`."""
    try:
        yield
    except Exception as error:
        _failures.append(error)
        raise


@contextlib.contextmanager
def raise_original() -> Iterator[None]:
    """Raise the remembered error, which names the file, instead of TensorFlow's."""
    _failures.clear()
    try:
        yield
    except Exception as error:
        if _failures and error is not _failures[0]:
            raise _failures[0] from error
        raise
