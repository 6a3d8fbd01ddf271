"""What `--version` prints: the versions of mnistlab and of the libraries that it computes with."""

import contextlib
import importlib.metadata
import platform

LIBRARIES = ("tensorflow", "keras", "numpy", "pillow", "hydra-core", "mlflow")


def versions() -> str:
    """A line for mnistlab, then one for its libraries and Python."""
    found = []
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{library} {importlib.metadata.version(library)}")
    name = "mnistlab (not installed)"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        name = f"mnistlab {importlib.metadata.version('mnistlab')}"
    return f"{name}\n{', '.join([*found, f'Python {platform.python_version()}'])}"
