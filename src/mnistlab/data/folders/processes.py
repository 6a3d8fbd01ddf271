"""Processes that decode images for this one: Python decodes small images in one thread at a time, whatever the cores.

They are plain children that read requests from a pipe, so they start in a quarter of a second, need nothing of the
program that started them, and end with it however it ends. `python -m mnistlab.data.folders.processes` is such a child.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import itertools
import os
import pickle
import queue
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.data.folders import decoding
from mnistlab.data.folders.decoding import Decoding, Facts

CHUNK, SMALLEST = 256, 4  # images that a child is asked for at once
GARBAGE_EVERY = 50  # requests
WORTH_PROCESSES = 256  # images; fewer are read sooner than processes start


class Decoder:
    """One child; answers one request at a time."""

    def __init__(self) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.child = subprocess.Popen(
            [sys.executable, "-m", "mnistlab.data.folders.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )

    def ask(self, function: str, *arguments: Any) -> Any:
        """The answer of one of this module's functions, or its error raised.

        Raises:
            ChildProcessError: the child ended, of a damaged image or for lack of memory.
        """
        try:
            pickle.dump((function, arguments), self._pipe("stdin"), protocol=5)
            self._pipe("stdin").flush()
            answer = pickle.load(self._pipe("stdout"))
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise ChildProcessError(f"a decoding process ended (exit status {self.child.wait()})") from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _pipe(self, name: str) -> Any:
        return getattr(self.child, name)

    def close(self) -> None:
        """End it, whatever it is at: nobody waits for its answer."""
        self.child.kill()
        for pipe in (self._pipe("stdin"), self._pipe("stdout")):
            with contextlib.suppress(OSError):
                pipe.close()
        self.child.wait()


class Decoders:
    """Several children; a thread that asks gets one that is free, or waits for it."""

    def __init__(self, count: int) -> None:
        self.all = [Decoder() for _ in range(count)]
        self.free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self.all:
            self.free.put(decoder)
        atexit.register(self.close)

    def ask(self, function: str, *arguments: Any) -> Any:
        decoder = self.free.get()
        try:
            return decoder.ask(function, *arguments)
        except ChildProcessError:
            decoder.close()
            decoder = Decoder()
            self.all.append(decoder)
            raise
        finally:
            self.free.put(decoder)

    def close(self) -> None:
        for decoder in self.all:
            decoder.close()
        self.all.clear()


@functools.cache
def decoders(count: int) -> Decoders:
    """This process's children, started when they are first needed and kept."""
    return Decoders(count)


def read(files: Sequence[str], decoding: Decoding) -> np.ndarray:
    """Each file's pixels, uint8, shape (len(files), *decoding.shape)."""
    out = np.empty((len(files), *decoding.shape), dtype=np.uint8)
    for row, file in enumerate(files):
        out[row] = decoding.read(file, decoding)
    return out


def examine(
    files: Sequence[str],
    max_pixels: int,
    decoding: Decoding | None,
    into: str | np.ndarray | None,
    rows: Sequence[int],
) -> list[Facts]:
    """`decode.examine` each file; its pixels into these rows of `into`, an array or the name of an .npy file."""
    found = []
    with contextlib.ExitStack() as opened:
        put = None if into is None else _putter(into, opened)
        for row, file in zip(rows, files, strict=True):
            facts, pixels = decoding.examine(file, decoding if put else None, max_pixels)
            if put and pixels is not None:
                put(row, pixels)
            found.append(facts)
    return found


def _putter(into: str | np.ndarray, opened: contextlib.ExitStack) -> Callable[[int, np.ndarray], None]:
    """What puts an image's pixels into a row; written to a file they cost half of what they do in a mapped one."""
    if isinstance(into, np.ndarray):
        return into.__setitem__
    file = opened.enter_context(Path(into).open("r+b", buffering=0))  # noqa: SIM115
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    start = file.tell()

    def put(row: int, pixels: np.ndarray) -> None:
        file.seek(start + row * pixels.nbytes)
        file.write(np.ascontiguousarray(pixels).data)

    return put


def examine_all(
    files: Sequence[str],
    indices: Sequence[int],
    *,
    decoding: Decoding | None = None,
    out: np.ndarray | None = None,
    max_pixels: int = decoding.MAX_PIXELS,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[int, Facts]:
    """`decode.examine` the files at these indices, their pixels into the rows of `out` if given; several at a time.

    Args:
        out: uint8, shape (len(files), *decoding.shape), mapped from an .npy file if processes are to share the work.
    """
    file = str(out.filename) if isinstance(out, np.memmap) else None
    shared = len(indices) >= WORTH_PROCESSES and (out is None or file is not None)
    ask, into = (decoders(workers).ask, file) if shared else (_here, out)

    def work(chunk: Sequence[int]) -> list[Facts]:
        return ask("examine", [files[index] for index in chunk], max_pixels, decoding, into, chunk)

    chunks = _shrinking(indices, workers)
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


def _shrinking(indices: Sequence[int], workers: int) -> list[Sequence[int]]:
    """Cut them into pieces, first few and large, so that little is asked, then small, so that all end together."""
    pieces, start = [], 0
    while start < len(indices):
        size = int(np.clip((len(indices) - start) // (3 * workers), SMALLEST, CHUNK))
        pieces.append(indices[start : start + size])
        start += size
    return pieces


def _here(function: str, *arguments: Any) -> Any:
    return FUNCTIONS[function](*arguments)


FUNCTIONS: dict[str, Callable[..., Any]] = {"read": read, "examine": examine}


def serve() -> None:
    """The child: answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    warnings.simplefilter("ignore")  # what Pillow warns of is found out by decode.examine and said in words
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not get between the answers
    gc.disable()  # it would look through every image that is read; a request leaves little behind
    for number in itertools.count():
        if number % GARBAGE_EVERY == 0:
            gc.collect()
        try:
            function, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: Any = FUNCTIONS[function](*arguments)
        except Exception as error:
            answer = error
        try:
            pickle.dump(answer, answers, protocol=5)
            answers.flush()
        except BrokenPipeError:  # the parent has gone
            os._exit(0)


if __name__ == "__main__":
    serve()
