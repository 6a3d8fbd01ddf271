"""The processors, the GPUs and the memory that this process may use."""

import contextlib
import os
from pathlib import Path

DEVICES = Path("/dev")
CGROUP = Path("/sys/fs/cgroup")  # version 2: its limit, as containers have one


def processors() -> list[int]:
    """The numbers of the processors that this thread may use; where the system does not tell, all of them."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def num_gpus() -> int:
    """The number of NVIDIA's GPUs that this process may use; TensorFlow is not asked."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(list(DEVICES.glob("nvidia[0-9]*")))
    return sum(name.strip()[:1] not in ("", "-") for name in visible.split(","))


def available_gigabytes() -> float | None:
    """The memory that programs can still take; None where the system does not tell: not Linux."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) / 2**20)
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        found.append((limit - used) / 2**30)
    return min(found) if found else None
