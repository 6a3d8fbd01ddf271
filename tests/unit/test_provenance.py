"""Whether the process that opened a run still exists; versions and commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

from mnistlab.tracking import provenance


def test_a_process_that_has_ended_is_not_alive() -> None:
    assert provenance.is_process_alive(provenance.process_name())
    ended = subprocess.run(
        [sys.executable, "-c", "from mnistlab.tracking import provenance; print(provenance.process_name())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert not provenance.is_process_alive(ended)
    host, pid, _ = provenance.process_name().rsplit(":", 2)
    assert not provenance.is_process_alive(f"{host}:{pid}:1")  # another process has this number now
    assert provenance.is_process_alive(f"elsewhere:{os.getpid()}:1")
    assert provenance.is_process_alive("?:0:")


def test_versions_are_those_of_the_installed_libraries() -> None:
    versions = provenance.library_versions()
    assert versions["version.python"] == platform.python_version()
    assert {f"version.{library}" for library in provenance.LIBRARIES} < set(versions)
    assert "not installed" not in versions.values()
