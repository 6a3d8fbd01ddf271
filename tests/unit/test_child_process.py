"""A child process: results, errors and order come through; its death and that of its parent are handled."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from mnistlab.config import ConfigError
from mnistlab.runtime.child_process import ChildProcess, ChildProcessDied, RemoteError

PATIENCE_SECONDS = 120  # an error, not a measurement: only a test that fails waits so long


@pytest.fixture
def child():
    """A child process that imports nothing unasked."""
    process = ChildProcess("test")
    yield process
    process.kill()


def result(future: Future):
    return future.result(timeout=PATIENCE_SECONDS)


def wait_for_file(file: Path) -> bool:
    """Whether the file appears: how a request is made to last until the test lets it end."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def signal_and_wait(started: Path, end: Path) -> bool:
    started.touch()
    return wait_for_file(end)


def test_results_come_through(child) -> None:
    assert result(child.submit(divmod, 7, 3)) == (2, 1)
    assert result(child.submit(os.getpid)) not in (os.getpid(), None)


def test_exceptions_of_the_standard_library_arrive_as_themselves(child) -> None:
    with pytest.raises(ZeroDivisionError) as error:
        result(child.submit(divmod, 1, 0))
    assert error.value.__notes__[0].startswith("In the child process:\nTraceback")
    with pytest.raises(FileNotFoundError) as error:
        result(child.submit(os.stat, "/no/such/file"))
    assert error.value.filename == "/no/such/file"


def test_a_configuration_error_arrives_with_its_problems(child) -> None:
    with pytest.raises(ConfigError) as error:
        result(child.submit(raise_config_error))
    assert error.value.problems == ["one", "two"]


def raise_config_error() -> None:
    raise ConfigError(["one", "two"])


class LibraryError(Exception):
    """An exception of another library, which the parent need not have."""


def raise_library_error() -> None:
    raise LibraryError("out of order")


def test_exceptions_of_other_libraries_arrive_as_text_with_their_traceback(child) -> None:
    with pytest.raises(RemoteError, match="^LibraryError: out of order") as error:
        result(child.submit(raise_library_error))
    (note,) = error.value.__notes__
    assert "In the child process:\nTraceback" in note
    assert "in raise_library_error" in note


def test_requests_run_in_order_and_urgent_ones_beside_them(child, tmp_path) -> None:
    first = child.submit(signal_and_wait, tmp_path / "started", tmp_path / "end")
    second = child.submit(Path.touch, tmp_path / "second")
    assert wait_for_file(tmp_path / "started")
    assert result(child.submit(os.path.exists, str(tmp_path / "second"), urgent=True)) is False
    assert not first.done()
    (tmp_path / "end").touch()
    result(second)
    assert first.result() is True
    assert (tmp_path / "second").exists()


def test_printed_text_and_warnings_do_not_disturb_the_results(child, caplog) -> None:
    result(child.submit(print, "between the results?"))
    with caplog.at_level(logging.WARNING, logger="mnistlab"):
        result(child.submit(warn, "a warning in the child"))
        assert result(child.submit(len, "abc")) == 3
    assert "a warning in the child" in caplog.text


def warn(text: str) -> None:
    logging.getLogger("mnistlab").warning(text)


def test_large_arguments_do_not_block_the_parent(child, tmp_path) -> None:
    first = child.submit(signal_and_wait, tmp_path / "started", tmp_path / "end")
    length = child.submit(len, b"x" * 20_000_000)  # more than a pipe holds; returns although the child is busy
    assert not first.done()
    (tmp_path / "end").touch()
    assert result(length) == 20_000_000
    assert first.result() is True


def test_when_it_dies_waiting_and_later_requests_fail(child, tmp_path) -> None:
    waiting = child.submit(wait_for_file, tmp_path / "never")
    os.kill(result(child.submit(os.getpid, urgent=True)), signal.SIGKILL)
    with pytest.raises(ChildProcessDied, match=r"mnistlab's test process ended \(exit status -9\)"):
        result(waiting)
    with pytest.raises(ChildProcessDied):
        result(child.submit(len, "abc"))
    assert child.has_ended
    child.wait()
    child.shutdown()


def test_kill_does_not_wait_for_requests(child, tmp_path) -> None:
    waiting = child.submit(wait_for_file, tmp_path / "never")
    child.kill()
    with pytest.raises(ChildProcessDied):
        result(waiting)


def test_shutdown_completes_the_requests_first(child, tmp_path) -> None:
    child.submit(time.sleep, 0.05)
    last = child.submit(Path.touch, tmp_path / "last")
    child.shutdown()
    assert child.has_ended
    assert last.done()
    assert (tmp_path / "last").exists()


def test_unpicklable_requests_and_system_exit_leave_nobody_waiting(child) -> None:
    with pytest.raises(Exception, match="pickle"):
        child.submit(lambda: None)
    with pytest.raises(RemoteError, match="SystemExit: 3"):
        result(child.submit(sys.exit, 3))
    assert result(child.submit(len, "abc")) == 3
    child.wait()


def test_results_and_errors_that_cannot_be_sent_are_errors_of_their_own_request(child) -> None:
    with pytest.raises(Exception, match="pickle"):
        result(child.submit(large_and_unpicklable))
    with pytest.raises(RemoteError, match="Local: no such class in the parent"):
        result(child.submit(raise_error_of_a_local_class))
    assert result(child.submit(len, "abc")) == 3


def large_and_unpicklable() -> tuple:
    return b"x" * 1_000_000, lambda: None


def raise_error_of_a_local_class() -> None:
    raise type("Local", (Exception,), {"__module__": "mnistlab"})("no such class in the parent")


def test_it_ignores_the_signals_that_are_meant_for_its_parent(child) -> None:
    process = result(child.submit(os.getpid))
    for stop in (signal.SIGINT, signal.SIGTERM):
        os.kill(process, stop)
    assert result(child.submit(os.getpid)) == process


PARENT = """
import os, signal, sys
from pathlib import Path
sys.path.append({tests!r})
from test_child_process import signal_and_wait, note_end, register_end
from mnistlab.runtime.child_process import ChildProcess
child, folder = ChildProcess("test"), Path({folder!r})
child.submit(register_end, folder / "at_end")
print(child.submit(os.getpid).result(), flush=True)
child.submit(signal_and_wait, folder / "started", folder / "end")
child.submit(Path.touch, folder / "last")
sys.stdin.readline()
{end}
"""


def register_end(file: Path) -> None:
    from mnistlab.runtime.child_process import at_end

    at_end(lambda orderly: note_end(file, orderly))


def note_end(file: Path, orderly: bool) -> None:
    file.with_suffix(".half").write_text(str(orderly))
    file.with_suffix(".half").replace(file)


@pytest.mark.parametrize(
    ("end", "orderly"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "False"), ("(folder / 'end').touch(); child.shutdown()", "True")],
    ids=["kill -9", "shutdown"],
)
def test_when_its_parent_ends_it_completes_its_requests_and_exits(tmp_path, end: str, orderly: str) -> None:
    code = PARENT.format(tests=str(Path(__file__).parent), folder=str(tmp_path), end=end)
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = Path(f"/proc/{int(parent.stdout.readline())}")
    assert wait_for_file(tmp_path / "started")
    parent.communicate("\n", timeout=PATIENCE_SECONDS)
    assert parent.returncode == (0 if orderly == "True" else -signal.SIGKILL)
    assert (tmp_path / "last").exists() is (orderly == "True")  # the first request still waits, or all are done
    (tmp_path / "end").touch()
    assert wait_for_file(tmp_path / "last")
    assert wait_for_file(tmp_path / "at_end")
    assert (tmp_path / "at_end").read_text() == orderly
    limit = time.monotonic() + PATIENCE_SECONDS
    while process.exists() and time.monotonic() < limit:
        time.sleep(0.01)
    assert not process.exists()
