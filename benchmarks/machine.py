"""What the figures depend on: cores, processor, memory, versions. No names of hosts, users or folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

OWN = ("mnistlab", "tensorflow", "keras", "numpy", "mlflow", "hydra-core", "scikit-learn")
LIBRARIES = (*OWN, "jax", "optax", "torch")


def facts() -> dict[str, Any]:
    """Facts of this machine and interpreter; load: processes that wanted a core just before the measurement."""
    versions = {name: version(name) for name in LIBRARIES}
    return {
        "date": date.today().isoformat(),
        "cores": cores(),
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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model."""
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def memory_gigabytes() -> int | None:
    """The machine's memory, if the system says."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, OSError, ValueError):
        return None
