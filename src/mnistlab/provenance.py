"""Where a result comes from: the code's commit and the libraries' versions."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
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
