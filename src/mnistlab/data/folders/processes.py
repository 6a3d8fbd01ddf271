"""Reading and decoding many files: several processes, because Python decodes small images one at a time per process."""

import atexit
import contextlib
import functools
import queue
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.data.folders import decoding as decoder
from mnistlab.data.folders.decoding import MAX_PIXELS, Decoding, Facts
from mnistlab.runtime.child_process import ChildProcess, ChildProcessDied

MAX_CHUNK, MIN_CHUNK = 256, 4  # images per request
MIN_IMAGES_FOR_PROCESSES = 256  # fewer are read before processes have started


class DecodingProcesses:
    """Child processes that decode images. A thread that calls one gets a free one, or waits for it."""

    def __init__(self, count: int) -> None:
        self._all = [_start_process() for _ in range(count)]
        self._free: queue.SimpleQueue[ChildProcess] = queue.SimpleQueue()
        for process in self._all:
            self._free.put(process)
        atexit.register(self.kill)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `function(*arguments)` in one of the processes; its error is raised.

        Raises:
            ChildProcessDied: the process ended, because of a damaged image or for lack of memory.
        """
        process = self._free.get()
        try:
            return process.submit(function, *arguments).result()
        except ChildProcessDied:
            process = _start_process()
            self._all.append(process)
            raise
        finally:
            self._free.put(process)

    def kill(self) -> None:
        """End the processes at once; nobody waits for their results."""
        for process in self._all:
            process.kill()
        self._all.clear()


def _start_process() -> ChildProcess:
    # `decoding.examine` detects what Pillow warns about, and the source reports it.
    return ChildProcess("decoding", load_first=("mnistlab.data.folders.decoding",), options=("-W", "ignore"))


@functools.cache
def decoding_processes(count: int) -> DecodingProcesses:
    """This process's decoding processes, started on first use and kept."""
    return DecodingProcesses(count)


def read_files(files: Sequence[str], decoding: Decoding) -> np.ndarray:
    """Each file's pixels, uint8, shape (len(files), *decoding.shape)."""
    out = np.empty((len(files), *decoding.shape), dtype=np.uint8)
    for row, file in enumerate(files):
        out[row] = decoder.read(file, decoding)
    return out


def examine_files(
    files: Sequence[str],
    limits: tuple[int, str],
    decoding: Decoding | None,
    out: str | np.ndarray | None,
    rows: Sequence[int],
) -> list[Facts]:
    """`decoding.examine` each file; write its pixels into these rows of `out`, an array or the name of an .npy file.

    limits: max_pixels and sixteen_bit.
    """
    found = []
    with contextlib.ExitStack() as stack:
        write = None if out is None else _row_writer(out, stack)
        for row, file in zip(rows, files, strict=True):
            facts, pixels = decoder.examine(file, decoding if write else None, *limits)
            if write and pixels is not None:
                write(row, pixels)
            found.append(facts)
    return found


def _row_writer(out: str | np.ndarray, stack: contextlib.ExitStack) -> Callable[[int, np.ndarray], None]:
    """A function that writes an image into a row. Writing to the file costs half of writing to a memory map."""
    if isinstance(out, np.ndarray):
        return out.__setitem__
    file = stack.enter_context(Path(out).open("r+b", buffering=0))  # noqa: SIM115
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    start = file.tell()

    def write(row: int, pixels: np.ndarray) -> None:
        file.seek(start + row * pixels.nbytes)
        file.write(np.ascontiguousarray(pixels).data)

    return write


def examine_all(
    files: Sequence[str],
    indices: Sequence[int],
    *,
    decoding: Decoding | None = None,
    out: np.ndarray | None = None,
    max_pixels: int = MAX_PIXELS,
    sixteen_bit: str = "error",
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[int, Facts]:
    """`decoding.examine` the files at these indices, several at a time; write their pixels into the rows of `out`.

    Args:
        out: uint8, shape (len(files), *decoding.shape); mapped from an .npy file if processes are to share the work.
        progress: called with the number of files that are done.
    """
    file = str(out.filename) if isinstance(out, np.memmap) else None
    limits = (max_pixels, sixteen_bit)
    shared = len(indices) >= MIN_IMAGES_FOR_PROCESSES and (out is None or file is not None)

    def work(chunk: Sequence[int]) -> list[Facts]:
        paths = [files[index] for index in chunk]
        if shared:
            return decoding_processes(workers).call(examine_files, paths, limits, decoding, file, chunk)
        return examine_files(paths, limits, decoding, out, chunk)

    chunks = _shrinking_chunks(indices, workers)
    found: dict[int, Facts] = {}
    with ThreadPoolExecutor(workers) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        futures = [pool.submit(work, chunk) for chunk in chunks]
        try:
            for chunk, future in zip(chunks, futures, strict=True):
                found.update(zip(chunk, future.result(), strict=True))
                progress(len(found))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return found


def _shrinking_chunks(indices: Sequence[int], workers: int) -> list[Sequence[int]]:
    """Chunks that are large at first, to make few requests, and small at last, so that all workers end together."""
    chunks, start = [], 0
    while start < len(indices):
        size = int(np.clip((len(indices) - start) // (3 * workers), MIN_CHUNK, MAX_CHUNK))
        chunks.append(indices[start : start + size])
        start += size
    return chunks
