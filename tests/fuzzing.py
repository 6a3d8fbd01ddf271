"""What the fuzz tests share: how long they try, what limits an example, and how the bytes of a file are damaged.

A failure prints its seed; MNISTLAB_FAULTS_SEED=N repeats it. MNISTLAB_FUZZ_TIMES=10 tries ten times as many examples.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mnistlab.config import ConfigError
from mnistlab.data import Images
from mnistlab.data.dataset import Dataset, prepare

SEED = int(os.environ.get("MNISTLAB_FAULTS_SEED", time.time_ns() % 1_000_000))
TIMES = int(os.environ.get("MNISTLAB_FUZZ_TIMES", 1))
HANG_SECONDS = 60  # a hundred times what an example takes
MEMORY_BYTES = 3 << 30  # more than any example needs, less than what a damaged header may claim

LENGTHS = pytest.mark.parametrize("length", ["quick", pytest.param("long", marks=pytest.mark.faults)])


class Hang(BaseException):
    """An example took far too long. Not an Exception: the code under test must not catch it."""


def fuzz(length: str, quick: int, long: int, **given: st.SearchStrategy) -> Callable[[Callable[..., None]], None]:
    """Run the decorated function now with this many random examples; `quick` ones are the same at each call."""
    settings = hypothesis.settings(
        max_examples=quick if length == "quick" else long * TIMES,
        derandomize=length == "quick",
        print_blob=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[phase for phase in hypothesis.Phase if length != "quick" or phase is not hypothesis.Phase.shrink],
    )

    def run(check: Callable[..., None]) -> None:
        test = settings(hypothesis.given(**given)(check))
        if length != "quick":
            print(f"MNISTLAB_FAULTS_SEED={SEED}")
            test = hypothesis.seed(SEED)(test)
        test()

    return run


@contextlib.contextmanager
def limited(example: Any, memory_bytes: int = MEMORY_BYTES) -> Iterator[None]:
    """Fail, and name the example, if the block does not end in time. Memory beyond any need is refused meanwhile."""

    def ring(number: int, frame: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_bytes() + memory_bytes, hard))
    signal.alarm(HANG_SECONDS)
    faulthandler.dump_traceback_later(3 * HANG_SECONDS, exit=True)  # if no Python code runs that the alarm could stop
    try:
        yield
    except Hang:
        pytest.fail(f"no end after {HANG_SECONDS} s: {example!r}")
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def _virtual_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123
        return int(stream.read().split()[0]) * resource.getpagesize()


Damage = tuple[str, float, float, bytes]
VALUES = (0, 1, 9, 10, 32, 34, 44, 45, 46, 59, 92, 127, 128, 255)
DAMAGE = st.tuples(
    st.sampled_from(["cut", "flip", "set", "set in header", "insert", "remove", "repeat", "exchange", "zeros"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=8) | st.sampled_from(VALUES).map(lambda value: bytes([value])),
)


def damages(max_size: int = 4) -> st.SearchStrategy[list[Damage]]:
    """How a file is damaged, in one or several places."""
    return st.lists(DAMAGE, min_size=1, max_size=max_size)


def damaged(content: bytes, steps: list[Damage]) -> bytes:
    """The bytes of a file after this damage."""
    data = bytearray(content)
    for kind, where, to, value in steps:
        at, other = int(where * len(data)), int(to * len(data))
        start, end = sorted((at, other))
        header = int(where * min(128, len(data)))
        if kind == "cut":
            del data[at:]
        elif kind == "flip" and at < len(data):
            data[at] ^= 1 << value[0] % 8
        elif kind == "set":
            data[at : at + len(value)] = value
        elif kind == "set in header":
            data[header : header + len(value)] = value
        elif kind == "insert":
            data[at:at] = value
        elif kind == "remove":
            del data[at : at + 1 + value[0]]
        elif kind == "repeat":
            data[at:at] = data[start : min(end, start + 200)] * (1 + value[0] % 4)
        elif kind == "exchange":
            data[at : at + 8], data[other : other + 8] = data[other : other + 8], data[at : at + 8]
        elif kind == "zeros":
            data[at : at + 1 + value[0]] = bytes(1 + value[0])
    return bytes(data)


def check_data_set(read: Callable[[], Images], example: Any) -> str:
    """Read and prepare a data set as a run does: it is whole, or a ConfigError says why not. Returns which."""
    with limited(example):
        try:
            dataset = prepare(read())
        except ConfigError as error:
            assert all(problem.strip() and "Traceback" not in problem for problem in error.problems)
            return "refused"
        check_consistent(dataset)
    return "read"


def check_consistent(dataset: Dataset) -> None:
    for split in dataset.splits.values():
        images = split.images[: len(split)]
        assert images.dtype in (np.uint8, np.float32)
        assert images.ndim == 4
        assert min(images.shape[1:]) >= 1
        assert images.shape[3] in (1, 3, 4)
        assert np.isfinite(images).all()
        assert len(images) == len(split.labels)
        assert split.labels.dtype == np.int64
        assert ((split.labels >= 0) & (split.labels < dataset.num_classes)).all()
    assert len(dataset.train) > 0
    assert len(set(dataset.class_names)) == dataset.num_classes


def saved(save: Callable[..., None], **arrays: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()
