"""The background process is started on demand; if it dies, the next request starts another."""

from __future__ import annotations

import os
import signal

import pytest

from mnistlab.config import ConfigError, secrets
from mnistlab.runtime.child_process import ChildProcess, ChildProcessDied
from mnistlab.sweep import command_line
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


def test_it_is_told_of_secrets_that_become_known_after_its_start(child, monkeypatch) -> None:
    monkeypatch.setattr(secrets, "_known", {"first-secret"})
    monkeypatch.setattr(background, "_told", set())
    background.start()
    secrets.remember(["second-secret"])
    assert background.submit(secrets.hide_secrets, "first-secret, second-secret").result(PATIENCE_SECONDS) == (
        f"{secrets.HIDDEN}, {secrets.HIDDEN}"
    )


def test_abandoned_it_ends_at_once_and_the_next_request_starts_another(child) -> None:
    waiting = background.submit(signal.pause)
    background.abandon()
    assert child.has_ended
    with pytest.raises(ChildProcessDied):
        waiting.result(PATIENCE_SECONDS)
    assert background.pid() is None
    assert background.call(os.getpid) not in (child.pid, os.getpid())


def test_a_sweep_with_a_mistake_leaves_no_process(child, monkeypatch) -> None:
    monkeypatch.setattr(background, "_started", [])
    started: list[ChildProcess] = []
    start = background.start
    monkeypatch.setattr(background, "start", lambda: started.append(start()) or started[-1])
    with pytest.raises(ConfigError, match="Did you mean sgd?"):
        command_line.run(["--multirun", "optimizer=sgdd,adam"])
    (process,) = started
    assert process.has_ended
    assert background.pid() is None
