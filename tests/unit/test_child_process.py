"""The second process: results, errors and order come through; its death and this one's are survived."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnistlab.config import ConfigError
from mnistlab.evaluation import figures
from mnistlab.runtime import background
from mnistlab.runtime.background import RemoteError, Worker, WorkerDied


@pytest.fixture
def second():
    """A second process that loads nothing unasked."""
    made = Worker(modules=((), ()))
    yield made
    made.close()


def test_results_and_errors_come_through(second) -> None:
    assert second.send(divmod, 7, 3).result() == (2, 1)
    assert second.send(os.getpid).result() not in (os.getpid(), None)
    with pytest.raises(RemoteError, match=r"ZeroDivisionError: .*by zero") as caught:
        second.send(divmod, 1, 0).result()
    assert any("Traceback" in note for note in caught.value.__notes__)
    with pytest.raises(ConfigError) as refused:
        second.send(refuse).result()
    assert refused.value.problems == ["one", "two"]


def refuse() -> None:
    raise ConfigError(["one", "two"])


def test_what_is_sent_keeps_its_order_and_what_is_called_does_not_wait_for_it(second, tmp_path) -> None:
    slow = second.send(time.sleep, 1.5)
    after = second.send(Path.touch, tmp_path / "after")
    begun = time.monotonic()
    assert second.send(os.path.exists, str(tmp_path / "after"), urgent=True).result() is False
    assert time.monotonic() - begun < 1
    assert not slow.done
    after.result()
    assert slow.done
    assert (tmp_path / "after").exists()


def test_prints_and_warnings_do_not_disturb_the_answers(second, caplog) -> None:
    second.send(print, "among the answers?").result()
    with caplog.at_level(logging.WARNING, logger="mnistlab"):
        second.send(warn, "a word from there").result()
        assert second.send(len, "abc").result() == 3
    assert "a word from there" in caplog.text


def warn(text: str) -> None:
    logging.getLogger("mnistlab").warning(text)


def test_large_arguments_do_not_block(second) -> None:
    waiting = second.send(time.sleep, 0.5)
    begun = time.monotonic()
    length = second.send(len, b"x" * 20_000_000)
    assert time.monotonic() - begun < 0.4
    assert (length.result(), waiting.done) == (20_000_000, True)


def test_its_death_is_told_to_all_who_wait_and_who_ask_later(second) -> None:
    waiting = second.send(time.sleep, 60)
    os.kill(second.send(os.getpid, urgent=True).result(), signal.SIGKILL)
    with pytest.raises(WorkerDied, match="has ended"):
        waiting.result()
    with pytest.raises(WorkerDied):
        second.send(len, "abc").result()
    second.settle()


def test_after_its_death_the_next_who_asks_begins_another(monkeypatch, second) -> None:
    monkeypatch.setattr(background, "_begun", [second])
    first = background.call(os.getpid)
    waiting = background.send(time.sleep, 60)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        waiting.result()
    assert background.call(os.getpid) not in (first, os.getpid())
    background._begun[-1].close()


def test_what_kills_it_is_done_here_if_it_may(monkeypatch, second) -> None:
    monkeypatch.setattr(background, "_begun", [second])
    assert background.call_anywhere(survived_only_by, os.getpid()) == "here"


def survived_only_by(process: int) -> str:
    if os.getpid() != process:
        os.kill(os.getpid(), signal.SIGKILL)
    return "here"


def test_what_cannot_be_sent_and_what_ends_a_program_leave_nobody_waiting(second) -> None:
    with pytest.raises(Exception, match="pickle"):
        second.send(lambda: None)
    with pytest.raises(RemoteError, match="SystemExit: 3"):
        second.send(sys.exit, 3).result()
    assert second.send(len, "abc").result() == 3
    second.settle()


def test_it_is_not_ended_by_signals_meant_for_the_first_process(second) -> None:
    process = second.send(os.getpid).result()
    for stop in (signal.SIGINT, signal.SIGTERM):
        os.kill(process, stop)
    assert second.send(os.getpid).result() == process


def test_it_finishes_its_work_when_the_first_process_is_killed(tmp_path) -> None:
    code = f"""
import os, signal, time, pathlib
from mnistlab.runtime.background import Worker
second = Worker(modules=((), ()))
print(second.send(os.getpid).result(), flush=True)
second.send(time.sleep, 0.5)
second.send(pathlib.Path.touch, pathlib.Path({str(tmp_path / "done")!r}))
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""
    first = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60)
    assert first.returncode == -signal.SIGKILL
    ended = time.monotonic() + 20
    while Path(f"/proc/{int(first.stdout)}").exists() and time.monotonic() < ended:
        time.sleep(0.05)
    assert (tmp_path / "done").exists()
    assert not Path(f"/proc/{int(first.stdout)}").exists()


def test_a_figure_that_cannot_be_drawn_is_told_and_fails_nothing(tmp_path, caplog) -> None:
    wrong = figures.WrongImages(images=None, truth=["a"], predicted=["b"], confidence=[0.5])
    shown = figures.RunFigures(["a", "b"], confusion=None, epochs=[], best_epoch=None, wrong=wrong)
    figures.draw(tmp_path / "figures", shown)
    assert "figures are missing" in caplog.text
    assert "Traceback" in (tmp_path / "figures" / "error.txt").read_text()
