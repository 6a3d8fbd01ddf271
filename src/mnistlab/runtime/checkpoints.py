"""The checkpoint files of a run: two generations, each one whole or recognizably damaged, without pickle.

A file is one line with a SHA-256 of all that follows, one line of JSON (facts, state, the arrays' types and shapes) and
the arrays' bytes. The older of two files is replaced, so that the newer one stays whole whatever happens.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.runtime import files

GENERATIONS = ("a.checkpoint", "b.checkpoint")
MAGIC = b"mnistlab checkpoint 1 "

log = logging.getLogger("mnistlab")


class DamagedCheckpoint(ValueError):
    """The file is not a whole checkpoint; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `epoch` epochs and `step` steps of the next one.

    facts: plain values about the run; state: nested lists, tuples and dictionaries of plain values and arrays.
    """

    epoch: int
    step: int
    facts: dict[str, Any]
    state: dict[str, Any]

    @property
    def place(self) -> str:
        """'epoch 3', or 'epoch 3, step 120 of the next' in words."""
        return f"epoch {self.epoch}" + (f" and {self.step:,} steps of the next" if self.step else "")


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the older generation, so that it is on the disk when this returns.

    Raises:
        OSError: with the path; both old generations are as they were.
    """
    blocks = _encoded(checkpoint)
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    with files.replacing(_older(folder), durable=True) as half, half.open("wb") as file:
        file.write(MAGIC + digest.hexdigest().encode() + b"\n")
        for block in blocks:
            file.write(block)


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, None if there is none; and why files that are newer, or all, cannot be used."""
    problems: list[str] = []
    for file in _generations(folder):
        try:
            return read(file), problems
        except (OSError, DamagedCheckpoint) as error:
            problems.append(f"{file} {error}")
    return None, problems


def read(file: Path) -> Checkpoint:
    """A checkpoint from its file.

    Raises:
        OSError; DamagedCheckpoint: the file is torn, or was changed.
    """
    head, _, content = file.read_bytes().partition(b"\n")
    if not head.startswith(MAGIC):
        raise DamagedCheckpoint("is not a checkpoint of this version of mnistlab")
    if hashlib.sha256(content).hexdigest().encode() != head.removeprefix(MAGIC):
        raise DamagedCheckpoint("is torn or was changed: its content does not match its SHA-256")
    text, _, data = content.partition(b"\n")
    described = json.loads(text)
    arrays, start = [], 0
    for name, shape in described["arrays"]:
        kind = np.dtype(name)
        count = int(np.prod(shape, dtype=np.int64))
        arrays.append(np.frombuffer(data, kind, count, start).reshape(shape).copy())
        start += count * kind.itemsize
    state = _decoded(described["state"], arrays)
    return Checkpoint(described["epoch"], described["step"], described["facts"], state)


def exist(folder: Path) -> bool:
    """Whether there are checkpoint files, whole or damaged."""
    return any(True for _ in _generations(folder))


def num_bytes(checkpoint: Checkpoint) -> int:
    """The size of this checkpoint's file, without its first line."""
    return sum(len(block) for block in _encoded(checkpoint))


def _generations(folder: Path) -> list[Path]:
    """The files that exist, the newest first."""
    found = []
    for name in GENERATIONS:
        try:
            found.append(((folder / name).stat().st_mtime_ns, folder / name))
        except OSError:
            continue
    return [file for _, file in sorted(found, reverse=True)]


def _older(folder: Path) -> Path:
    """The file to replace: one that is missing or damaged, else the older one."""
    known = _generations(folder)
    missing = [folder / name for name in GENERATIONS if folder / name not in known]
    return missing[0] if missing else known[-1]


def _encoded(checkpoint: Checkpoint) -> list[Any]:
    """The content of the file in blocks of bytes; an array that stands in several places is written once."""
    arrays: dict[int, tuple[int, np.ndarray]] = {}
    state = _as_json(checkpoint.state, arrays)
    ordered = [array for _, array in arrays.values()]
    described = {
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "facts": checkpoint.facts,
        "state": state,
        "arrays": [[array.dtype.name, list(array.shape)] for array in ordered],
    }
    return [json.dumps(described).encode() + b"\n", *(_bytes_of(array) for array in ordered)]


def _bytes_of(array: np.ndarray) -> Any:
    """The array's bytes, without a copy if they are in one piece."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""


def _as_json(value: Any, arrays: dict[int, tuple[int, np.ndarray]]) -> Any:
    """A plain value as JSON can write it. Lists stay lists; all else that is not plain JSON is a one-key object."""
    if isinstance(value, np.ndarray):
        number, _ = arrays.setdefault(id(value), (len(arrays), value))
        return {"array": number}
    if isinstance(value, np.generic):
        return {"number": [value.dtype.name, value.item()]}
    if isinstance(value, list):
        return [_as_json(entry, arrays) for entry in value]
    if isinstance(value, tuple):
        return {"tuple": [_as_json(entry, arrays) for entry in value]}
    if isinstance(value, Mapping):
        return {"items": [[_as_json(key, arrays), _as_json(entry, arrays)] for key, entry in value.items()]}
    return value


def _decoded(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decoded(entry, arrays) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "number":
        return np.dtype(content[0]).type(content[1])
    if kind == "tuple":
        return tuple(_decoded(entry, arrays) for entry in content)
    return {_decoded(key, arrays): _decoded(entry, arrays) for key, entry in content}


class Writer:
    """Writes checkpoints in a thread, one at a time; of several that wait, the newest.

    A checkpoint that cannot be written costs a warning, the first time: the training goes on.
    seconds: what the last one took.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0
        self._wanted = threading.Condition()
        self._next: Checkpoint | None = None
        self._writing = self._closed = self._warned = False
        self._thread: threading.Thread | None = None

    def submit(self, checkpoint: Checkpoint) -> None:
        """Write this one soon; it must not be changed any more."""
        with self._wanted:
            self._next = checkpoint
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
                self._thread.start()
            self._wanted.notify_all()

    @property
    def is_busy(self) -> bool:
        """Whether one is being written or waits."""
        return self._writing or self._next is not None

    def wait(self) -> None:
        """Wait until all that was submitted is on the disk, or has failed."""
        with self._wanted:
            while self._next is not None or self._writing:
                self._wanted.wait()

    def close(self) -> None:
        """Wait, and end the thread."""
        self.wait()
        with self._wanted:
            self._closed = True
            self._wanted.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        for checkpoint in self._submitted():
            began = time.perf_counter()
            try:
                write(self.folder, checkpoint)
            except Exception as error:
                self._warn(checkpoint, error)
            self.seconds = time.perf_counter() - began

    def _submitted(self) -> Iterator[Checkpoint]:
        while True:
            with self._wanted:
                self._writing = False
                self._wanted.notify_all()
                while self._next is None:
                    if self._closed:
                        return
                    self._wanted.wait()
                checkpoint, self._next, self._writing = self._next, None, True
            yield checkpoint

    def _warn(self, checkpoint: Checkpoint, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "WARNING: the checkpoint after %s cannot be written (%s: %s; %s bytes). The training continues; an "
                "earlier checkpoint stays as it is. Later ones are tried again without another warning.",
                checkpoint.place,
                type(error).__name__,
                error,
                f"{num_bytes(checkpoint):,}",
            )
