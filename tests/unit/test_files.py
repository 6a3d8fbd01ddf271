"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

from mnistlab.runtime import files


def test_a_file_is_replaced_at_the_end(tmp_path) -> None:
    file = tmp_path / "folder" / "tags.json"
    files.write_text(file, "old")
    with files.replacing(file, durable=True) as half:
        half.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert [path.name for path in file.parent.iterdir()] == ["tags.json"]


def test_a_file_has_the_usual_permissions(tmp_path) -> None:
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_after_an_error_the_old_content_stays(tmp_path) -> None:
    file = tmp_path / "file"
    files.write_text(file, "old")
    with pytest.raises(ZeroDivisionError), files.replacing(file) as half:
        half.write_text("ne")
        raise ZeroDivisionError
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_error_of_the_disk_names_the_file(tmp_path) -> None:
    file = tmp_path / "file"
    with pytest.raises(OSError) as error, files.replacing(file):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(file))
    (tmp_path / "plain").touch()
    with pytest.raises(FileExistsError, match="plain"):
        files.write_text(tmp_path / "plain" / "file", "text")


def test_a_killed_process_leaves_the_old_content(tmp_path) -> None:
    file = tmp_path / "file"
    files.write_text(file, "old")
    script = f"""
import os, pathlib, signal
from mnistlab.runtime import files
with files.replacing(pathlib.Path({str(file)!r})) as half:
    half.write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    (half,) = set(tmp_path.iterdir()) - {file}
    assert half.name.startswith(".file.") and half.name.endswith(".half")
