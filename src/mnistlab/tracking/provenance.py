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


def git_state(folder: Path) -> dict[str, str]:
    """The commits of the user's project, which has this folder, and of the package's checkout, as far as they exist.

    'git.commit', 'git.branch', 'git.dirty' and 'git.diff' are the project's; 'git.mnistlab.commit' and so on the
    package's, if it is another repository. The diff compares tracked files with HEAD. 'git.dirty' takes untracked files
    into account too.
    """
    project = _git(folder, "rev-parse", "--show-toplevel")
    package = str(CHECKOUT) if (CHECKOUT / "pyproject.toml").is_file() else ""
    found = {f"git.{name}": value for name, value in (_state(project) if project else {}).items()}
    if package and package != project:
        found |= {f"git.mnistlab.{name}": value for name, value in _state(package).items()}
    return found


@functools.cache
def _state(checkout: str) -> dict[str, str]:
    """commit, branch, dirty and diff of a repository; empty without a commit."""
    root = Path(checkout)
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git(root, "status", "--porcelain")
    return {
        "commit": commit,
        "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": str(bool(changed)).lower(),
        "diff": hide_assignments_in_diff(_git(root, "diff", "HEAD")) if changed else "",
    }


def _git(folder: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
