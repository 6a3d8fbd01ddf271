"""Versions of the libraries and commit of the code."""

from __future__ import annotations

import platform

from mnistlab.tracking import provenance


def test_versions_are_those_of_the_installed_libraries() -> None:
    versions = provenance.library_versions()
    assert versions["version.python"] == platform.python_version()
    assert {f"version.{library}" for library in provenance.LIBRARIES} < set(versions)
    assert "not installed" not in versions.values()
