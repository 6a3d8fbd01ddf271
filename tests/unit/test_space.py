"""What a run needs of the disk, what is free, and the message of a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mnistlab.config import ConfigError
from mnistlab.runtime import space


def test_a_disk_without_room_is_refused_with_path_and_bytes(tmp_path) -> None:
    runs, artifacts = tmp_path / "runs", tmp_path / "mlruns" / "artifacts"
    free = space.free_bytes(runs)
    assert free is not None and free > 0
    space.check_space({runs: 1000, artifacts: 1000}, "This run")
    with pytest.raises(ConfigError) as error:
        space.check_space({runs: 10**15, artifacts: 2 * 10**15}, "This run")
    (problem,) = error.value.problems  # both are on one disk
    assert problem.startswith(f"This run needs about 3000 TB in {runs} and {artifacts}; ")
    assert problem.endswith(
        "or choose a folder on another disk with paths.root=FOLDER, or save less with save.formats=[]."
    )
    assert not runs.exists()


def test_the_needs_of_several_runs_are_added() -> None:
    one, other = Path("one"), Path("other")
    assert space.total([{one: 1, other: 2}, {}, {one: 3}]) == {one: 4, other: 2}


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.2 kB"), (123_456_789, "123 MB"), (5 * 10**15, "5000 TB")],
)
def test_sizes_are_readable(size, text) -> None:
    assert space.readable(size) == text


def test_the_message_of_a_full_disk_names_the_file(tmp_path) -> None:
    file = tmp_path / "runs" / "model.keras"
    full = OSError(errno.ENOSPC, "No space left on device", str(file))
    assert space.disk_is_full(full).startswith(f"The disk of {file} is full: ")
    wrapped = ValueError("not saved")
    wrapped.__cause__ = full
    assert str(file) in space.disk_is_full(wrapped)
    circle, original = ValueError("one"), ValueError("other")
    circle.__cause__, original.__cause__ = original, circle
    assert space.disk_is_full(circle) == ""
    assert space.disk_is_full(OSError("Can't write: No space left on device"), tmp_path).startswith(
        f"The disk of {tmp_path} "
    )
    assert space.disk_is_full(OSError(errno.EDQUOT, "Disk quota exceeded")).startswith(
        "The disk is full. Free some space"
    )
    for other in (OSError(errno.EACCES, "Permission denied", str(file)), ValueError("no space")):
        assert space.disk_is_full(other) == ""
