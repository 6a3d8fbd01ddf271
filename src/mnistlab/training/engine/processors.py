"""How many processors XLA compiles a step for.

XLA divides the update of the weights among as many threads as there are processors. Where a step is small, as with
batches of one image, handing out the parts takes longer than the work: with the guide's network on two processors an
epoch then takes 1.7 times as long. The parts are computed alike, so that the numbers are the same to the bit.
"""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

# Measured with momentum and Adam on networks of 64 to 512 units on two processors: above these one is no faster.
SMALL_BATCH = 4  # images in a step
SMALL_STATE = 2**19  # values of weights and optimizer


@contextlib.contextmanager
def chosen_for(state: Sequence[tf.Variable], batch_size: int, compiler: str) -> Iterator[None]:
    """Let XLA, where it compiles in this thread meanwhile, compile small steps for one processor.

    state: the variables of the network and its optimizer.
    """
    num_values = sum(int(np.prod(variable.shape)) for variable in state)
    if compiler != "xla" or batch_size > SMALL_BATCH or num_values > SMALL_STATE or not _can_be_set():
        yield
        return
    _start_threads()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})  # of this thread alone; XLA counts them when it compiles
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _can_be_set() -> bool:
    """Whether the system tells a thread's processors and lets them be set: Linux."""
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


@functools.cache
def _start_threads() -> None:
    """Let XLA start its threads, which keep the processors of the thread that starts them."""
    tf.function(tf.linalg.matmul, jit_compile=True, autograph=False)(tf.ones((256, 256)), tf.ones((256, 256)))
