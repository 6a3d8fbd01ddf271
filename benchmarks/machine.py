"""What the measurements depend on: cores, processor, memory, versions. No names of hosts, users or folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

REQUIRED = ("mnistlab", "tensorflow", "keras", "numpy", "mlflow", "hydra-core", "scikit-learn")
LIBRARIES = (*REQUIRED, "jax", "optax", "torch")


def facts() -> dict[str, Any]:
    """Facts of this machine and interpreter; load_before: the load average of the minute before the measurement."""
    versions = {name: version(name) for name in LIBRARIES}
    return {
        "date": date.today().isoformat(),
        "cores": num_cores(),
        "processor": processor(),
        "memory_gigabytes": memory_gigabytes(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "libraries": {name: found or "not installed" for name, found in versions.items()},
    }


def version(library: str) -> str | None:
    """Its version, or None if it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def num_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def memory_gigabytes() -> int | None:
    """The machine's memory, or None if the system does not report it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, OSError, ValueError):
        return None
