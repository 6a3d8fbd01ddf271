"""Where a result comes from: the code's commit, the libraries' versions, the process."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path

LIBRARIES = ("mnistlab", "tensorflow", "keras", "numpy", "mlflow", "hydra-core", "scikit-learn")

CHECKOUT = Path(__file__).resolve().parents[2]


@functools.cache
def library_versions() -> dict[str, str]:
    """'version.<library>' -> version, Python's included."""
    versions = {"version.python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[f"version.{library}"] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[f"version.{library}"] = "not installed"
    return versions


@functools.cache
def git_state() -> dict[str, str]:
    """'git.commit', 'git.branch', 'git.dirty' and 'git.diff' of the checkout that the package lies in; empty outside.

    The diff is that of tracked files against HEAD; 'git.dirty' counts untracked files too.
    """
    commit = _git("rev-parse", "HEAD") if (CHECKOUT / "pyproject.toml").is_file() else ""
    if not commit:
        return {}
    changed = _git("status", "--porcelain")
    return {
        "git.commit": commit,
        "git.branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
        "git.dirty": str(bool(changed)).lower(),
        "git.diff": _git("diff", "HEAD") if changed else "",
    }


def _git(*words: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *words],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def process_name() -> str:
    """host:pid:start of this process, to tell later whether a run that says RUNNING still has one."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty where /proc does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_gone(process: str) -> bool:
    """Whether a process of this machine, as `process_name` wrote it, has ended. Of others nothing is known."""
    host, _, rest = process.rpartition(":")[0].rpartition(":")[0], None, process.split(":")
    if host != socket.gethostname():
        return False
    pid, started = int(rest[-2]), rest[-1]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return bool(started) and _started(pid) != started
