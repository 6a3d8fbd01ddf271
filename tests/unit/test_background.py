"""The background process is started on demand; if it dies, the next request starts another."""

from __future__ import annotations

import os
import signal

import pytest

from mnistlab.runtime.child_process import ChildProcess, ChildProcessDied
from mnistlab.tracking import background

PATIENCE_SECONDS = 120


@pytest.fixture
def child(monkeypatch):
    """A process that imports nothing unasked, in the place of the background process; so are those after it."""
    monkeypatch.setattr(background, "LOADED_FIRST", ())
    monkeypatch.setattr(background, "LOADED_NEXT", ())
    first = ChildProcess("background")
    monkeypatch.setattr(background, "_started", started := [first])
    yield first
    for process in {first, *started}:
        process.kill()


def test_requests_share_one_process(child) -> None:
    assert background.start() is child
    process = background.call(os.getpid)
    assert process != os.getpid()
    assert background.submit(os.getpid).result(PATIENCE_SECONDS) == process
    assert background.call_or_run_here(os.getpid) == process
    background.start().wait()


def test_after_its_death_the_next_request_starts_another(child) -> None:
    first = background.call(os.getpid)
    waiting = background.submit(signal.pause)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ChildProcessDied):
        waiting.result(PATIENCE_SECONDS)
    assert background.call(os.getpid) not in (first, os.getpid())


def test_work_that_kills_the_process_is_done_here(child, tmp_path) -> None:
    assert background.call_or_run_here(survive_in, os.getpid()) == "here"
    complete = background.submit_or_run_here(survive_in, os.getpid(), tmp_path / "done")
    assert not (tmp_path / "done").exists()
    complete()
    assert (tmp_path / "done").exists()


def survive_in(process: int, file=None) -> str:
    if os.getpid() != process:
        os.kill(os.getpid(), signal.SIGKILL)
    if file is not None:
        file.touch()
    return "here"


def test_work_that_fails_is_not_repeated_here(child, tmp_path) -> None:
    with pytest.raises(ZeroDivisionError):
        background.call_or_run_here(divmod, 1, 0)
    with pytest.raises(FileExistsError):
        background.submit_or_run_here(os.mkdir, tmp_path)()


def test_detached_it_is_left_alone(child, tmp_path) -> None:
    background.detach()
    assert not child.has_ended
    assert not background._started
    assert background.call(os.getpid) != child.submit(os.getpid).result(PATIENCE_SECONDS)
