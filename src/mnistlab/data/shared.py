"""A data set in files that several processes map into memory: the jobs of a sweep on one machine have one copy of it.

Python's pickle, protocol 5, keeps the arrays apart from the rest; each is a file, and is not copied when it is read.
"""

import mmap
import pickle
import shutil
from pathlib import Path

from mnistlab.data.dataset import Dataset

ARRAYS_APART = 5  # the first protocol of pickle with buffers outside
UNREADABLE = (OSError, EOFError, ValueError, pickle.UnpicklingError)


def write(dataset: Dataset, folder: Path) -> bool:
    """Write a data set into a folder that only this user can read. Returns whether it was; a full disk is no error."""
    arrays: list[pickle.PickleBuffer] = []
    content = pickle.dumps(dataset, ARRAYS_APART, buffer_callback=arrays.append)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, array in enumerate(arrays):
            _file(folder, number).write_bytes(array.raw())
        unfinished = folder / "unfinished"
        unfinished.write_bytes(content)
        unfinished.rename(folder / "dataset.pickle")
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


def read(folder: Path) -> Dataset | None:
    """The data set that a process of this sweep has written; its arrays cannot be changed. None: there is none."""
    try:
        content = (folder / "dataset.pickle").read_bytes()
        arrays = [_mapped(_file(folder, number)) for number in range(len(list(folder.glob("*.bin"))))]
        dataset: Dataset = pickle.loads(content, buffers=arrays)
    except UNREADABLE:
        return None
    return dataset


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.bin"


def _mapped(file: Path) -> mmap.mmap | bytes:
    if not file.stat().st_size:
        return b""  # nothing to map
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
