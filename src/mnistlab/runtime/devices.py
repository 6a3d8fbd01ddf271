"""What TensorFlow reads about devices when it starts: the memory of GPUs, how many CPU devices there are, and threads.

All stand in environment variables, so that the processes of a sweep's jobs have them, too.
"""

import os
from collections.abc import Iterable

MEMORY_GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"  # TensorFlow's own
CPU_DEVICES = "MNISTLAB_CPU_DEVICES"
THREADS = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's own: the threads that share one operation


def let_memory_grow() -> None:
    """Let TensorFlow take a GPU's memory as it needs it, not all of it at its start, unless the user has chosen."""
    os.environ.setdefault(MEMORY_GROWTH, "true")


def reserve_cpu_devices(counts: Iterable[int | None]) -> None:
    """Have TensorFlow start with as many logical CPU devices as the job with the most of them needs."""
    most = max((count or 1 for count in counts), default=1)
    if most > reserved_cpu_devices():
        os.environ[CPU_DEVICES] = str(most)


def reserved_cpu_devices() -> int:
    """The number of logical CPU devices that TensorFlow is to start with."""
    text = os.environ.get(CPU_DEVICES, "")
    return int(text) if text.isdecimal() else 1


def threads() -> int:
    """The number of threads that TensorFlow was told to start with; 0 if it chooses: one for each processor."""
    text = os.environ.get(THREADS, "")
    return int(text) if text.isdecimal() else 0
