"""Interrupted runs in processes of their own: continued once, also if two commands try it at the same moment."""

from __future__ import annotations

import os

import pytest
from conftest import Started, Store, run_command, wait_until
from outcomes import outcomes

HOLDS = """
import os, time
import keras


class Hold(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        while epoch >= 2 and os.path.exists(os.path.join(os.environ["MNISTLAB_ROOT"], "hold")):
            time.sleep(0.05)
"""
SMALL = ("source=mnist_5k", "data.limit=400", "fit.epochs=4", "model=cnn", "model.filters=[4,8]", "model.units=32")
WORDS = (*SMALL, "fit.checkpoint_percent=100", "+callbacks.hold._target_=hold_of_mine.Hold")


@pytest.mark.faults
def test_of_two_commands_that_continue_a_run_the_second_is_told_so(start, tmp_path, monkeypatch) -> None:
    code, root = tmp_path / "code", tmp_path
    code.mkdir()
    (code / "hold_of_mine.py").write_text(HOLDS)
    monkeypatch.setenv("PYTHONPATH", f"{code}:{os.environ.get('PYTHONPATH', '')}")
    (root / "hold").touch()
    first: Started = start(*WORDS)
    wait_until(lambda: len(list(root.glob("runs/*/*/checkpoint/[ab].checkpoint"))) == 2)
    first.kill_with_background()

    both = [start(*WORDS), start(*WORDS)]
    wait_until(lambda: any(command.process.poll() is not None for command in both))
    (root / "hold").unlink()
    codes = [command.finish() for command in both]
    outputs = [command.output for command in both]
    assert sorted(codes) == [0, 2], outputs
    finished, told = outputs[codes.index(0)], outputs[codes.index(2)]
    winner = both[codes.index(0)].pid
    assert "Continuing adam-cnn-" in finished
    assert f"is being trained by process {winner} on " in told
    assert "or train another with fit.resume=never" in told
    assert "Traceback" not in told
    (run,) = Store(root).runs()
    assert run.data.tags["resumed.count"] == "1"
    assert len(list(root.glob("runs/*/*"))) == 1  # the second has left no folder

    calm = tmp_path / "calm"
    calm.mkdir()
    assert run_command(calm, *WORDS).code == 0
    assert outcomes(root) == outcomes(calm)
