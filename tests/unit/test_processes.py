"""Whether the process that opened a run still exists: judged by its name, on this machine and others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnistlab.runtime import processes
from mnistlab.runtime.processes import SILENT_SECONDS, boot_time, process_name, why_ended

HOST, BOOT, NAMESPACE, PID, START = process_name().split(":")
LONG_AGO = time.time() - SILENT_SECONDS - 60


@pytest.fixture
def other():
    """A process that waits for the end of its input."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_name_tells_a_process_from_all_others(other) -> None:
    assert (HOST, int(PID)) == (socket.gethostname(), os.getpid())
    assert all((BOOT, NAMESPACE, START))
    name = process_name(other.pid)
    assert name.split(":")[:4] == [HOST, BOOT, NAMESPACE, str(other.pid)]
    assert why_ended(name) == ""
    other.kill()
    time.sleep(0)
    while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    killed = f"its process {other.pid} was killed or crashed"
    assert why_ended(name) == killed  # nobody has waited for it yet
    other.wait()
    assert why_ended(name) == killed


@pytest.mark.parametrize(
    ("name", "last_sign", "reason"),
    [
        (process_name(), None, ""),
        (process_name(), LONG_AGO, ""),  # it can be looked up: no sign of life is needed
        (f"{HOST}:{PID}:{START}", None, ""),
        (f"{HOST}:{PID}:1", None, f"its process {PID} was killed or crashed"),  # the number is used again
        (f"{HOST}:{BOOT}:{NAMESPACE}:{PID}:1", None, f"its process {PID} was killed or crashed"),
        (f"{HOST}:::{PID}:{START}", None, ""),  # a system without these files
        (f"{HOST}:before:{NAMESPACE}:{PID}:{START}", None, f"the machine {HOST} was restarted or lost its power"),
        (f"{HOST}:before:{NAMESPACE}:{PID}:{START}", boot_time() - 1, f"the machine {HOST} was restarted or lost"),
        (f"{HOST}:other:{NAMESPACE}:{PID}:{START}", 0.0, ""),  # another machine of this name, and it lives
        (f"{HOST}:{BOOT}:1:{PID}:1", None, ""),
        (f"{HOST}:{BOOT}:1:{PID}:1", 0.0, ""),
        (f"{HOST}:{BOOT}:1:{PID}:1", LONG_AGO, "its process, on another container, has given no sign of life since"),
        (f"elsewhere:{BOOT}:{NAMESPACE}:{PID}:1", None, ""),
        (f"elsewhere:{BOOT}:{NAMESPACE}:{PID}:1", 60.0, ""),
        ("elsewhere:b:n:1:1", LONG_AGO, "its process, on the machine elsewhere, has given no sign of life since 20"),
        ("elsewhere:1:1", LONG_AGO, "its process, on the machine elsewhere, has given no sign of life since 20"),
        *((malformed, LONG_AGO, "") for malformed in ("", "?:0:", ":1:2", "a", "a:b:c", "a:b:c:d:e", "a:1:2:3:4:5:6")),
        (f"{HOST}:{'9' * 40}:1", None, f"its process {'9' * 40} was killed or crashed"),
    ],
    ids=lambda value: "",  # the names differ between the processes of the tests
)
def test_why_a_process_has_ended(name: str, last_sign: float | None, reason: str) -> None:
    """Small numbers are seconds before this test, however long after the collection of the tests it runs."""
    if last_sign is not None and last_sign < 1000:
        last_sign = time.time() - last_sign
    found = why_ended(name, last_sign)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)
    assert processes.is_process_alive(name) == (not why_ended(name))


def test_the_descendants_of_a_process() -> None:
    inner = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(list(processes.descendants(process.pid))) == 1
        assert process.pid in processes.descendants(os.getpid())
        process.communicate(b"\n")
