"""Versions of the libraries and commit of the code."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

from mnistlab.tracking import provenance


def test_versions_are_those_of_the_installed_libraries() -> None:
    versions = provenance.library_versions()
    assert versions["version.python"] == platform.python_version()
    assert {f"version.{library}" for library in provenance.LIBRARIES} < set(versions)
    assert "not installed" not in versions.values()


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    done = subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_that_of_the_users_project(tmp_path: Path) -> None:
    git(tmp_path, "init", "-b", "trials")
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    (tmp_path / "conf").mkdir()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "start")
    (tmp_path / "mine.yaml").write_text("a: 2\n")
    state = provenance.git_state(tmp_path / "conf")
    assert state["git.commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert (state["git.branch"], state["git.dirty"]) == ("trials", "true")
    assert "-a: 1\n+a: 2" in state["git.diff"]
    if (provenance.CHECKOUT / ".git").exists():
        assert state["git.mnistlab.commit"] == git(provenance.CHECKOUT, "rev-parse", "HEAD")


def test_a_folder_outside_of_a_repository_has_the_package_s_commit_only(tmp_path: Path) -> None:
    state = provenance.git_state(tmp_path)
    assert [name for name in state if not name.startswith("git.mnistlab.")] == []


def test_within_the_package_there_is_one_repository() -> None:
    state = provenance.git_state(provenance.CHECKOUT / "src")
    assert [name for name in state if name.startswith("git.mnistlab.")] == []
