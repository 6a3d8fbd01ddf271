"""Where a result comes from: the commit of the code, the versions of the libraries."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

from mnistlab.config.secrets import hide_assignments_in_diff

LIBRARIES = ("mnistlab", "tensorflow", "keras", "numpy", "mlflow", "hydra-core", "scikit-learn")

CHECKOUT = Path(__file__).resolve().parents[3]


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
    """'git.commit', 'git.branch', 'git.dirty' and 'git.diff' of the package's checkout; empty without a checkout.

    The diff compares tracked files with HEAD. 'git.dirty' takes untracked files into account too.
    """
    commit = _git("rev-parse", "HEAD") if (CHECKOUT / "pyproject.toml").is_file() else ""
    if not commit:
        return {}
    changed = _git("status", "--porcelain")
    return {
        "git.commit": commit,
        "git.branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
        "git.dirty": str(bool(changed)).lower(),
        "git.diff": hide_assignments_in_diff(_git("diff", "HEAD")) if changed else "",
    }


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=10, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
