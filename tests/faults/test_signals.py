"""Ctrl-C, SIGTERM and kill -9 at any moment of a run or a sweep: exit status, true status of the runs, no traceback."""

from __future__ import annotations

import csv
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Started, Store, environment, wait_until

SMALL = ("source=mnist_5k", "data.limit=400", "fit.epochs=2")
ENDLESS = ("source=mnist_5k", "fit.epochs=100000")


def handles_interrupt(command: Started) -> bool:
    """Whether Python's handler for Ctrl-C is installed in the process."""
    status = Path(f"/proc/{command.pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


def has_loaded(command: Started, library: str) -> bool:
    return library in Path(f"/proc/{command.pid}/maps").read_text()


@pytest.mark.long
@pytest.mark.parametrize(
    ("stop", "code", "reason"),
    [
        (signal.SIGINT, 130, "stopped by Ctrl-C (SIGINT)"),
        pytest.param(signal.SIGTERM, 143, "stopped by SIGTERM", marks=pytest.mark.faults),
        pytest.param(signal.SIGHUP, 129, "stopped by SIGHUP: the terminal was closed", marks=pytest.mark.faults),
    ],
)
def test_a_stopped_run_is_killed(start, tmp_path, stop, code, reason) -> None:
    command = start(*ENDLESS)
    command.wait_for_line("epoch 2/")
    command.process.send_signal(stop)
    assert command.finish() == code, command.output
    assert "Traceback" not in command.output
    (run,) = Store(tmp_path).runs()
    assert (run.info.status, run.data.tags["error"]) == ("KILLED", reason)


SIGNAL_TWICE = """
import os, signal, sys, time
from mnistlab.runtime import errors, exits

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored

def command():
    exits.catch_signals()
    try:
        os.kill(os.getpid(), signal.{first})
        time.sleep(100)
    finally:  # the run is being closed
        os.kill(os.getpid(), signal.{second})
        print("the same signal", flush=True)
        time.sleep(exits.SAME_SIGNAL_SECONDS + 0.1)
        os.kill(os.getpid(), signal.{second})
        time.sleep(100)

exits.leave(errors.run_command(command))
"""


@pytest.mark.parametrize(("first", "second", "code"), [("SIGINT", "SIGINT", 130), ("SIGINT", "SIGTERM", 143)])
def test_a_second_signal_ends_the_process_at_once(first, second, code) -> None:
    """One that follows within half a second is the same: wrappers send it twice."""
    text = SIGNAL_TWICE.format(first=first, second=second)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (code, "the same signal\n", "")


def test_an_ignored_hang_up_stays_ignored() -> None:
    """As nohup asks for."""
    text = "import os, signal; from mnistlab.runtime import exits; exits.catch_signals(); os.kill(os.getpid(), 1)"
    command = f"import signal; signal.signal(1, signal.SIG_IGN); {text}; print('goes on')"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", "")


@pytest.mark.faults
def test_a_closed_terminal_ends_the_run_as_killed(tmp_path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        words = [sys.executable, "-m", "mnistlab.train", *ENDLESS]
        os.execve(sys.executable, words, environment(tmp_path))
    shown = b""
    while b"epoch 2/" not in shown:
        shown += os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    wait_until(lambda: Store(tmp_path).statuses() == ["KILLED"])
    (log,) = (tmp_path / "runs").glob("*/*/train.log")
    assert "Traceback" not in log.read_text()
    assert "recorded as KILLED: stopped by SIGHUP: the terminal was closed" in log.read_text()


@pytest.mark.long_after(1)
@pytest.mark.parametrize(
    "moment", ["started", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tensorflow", "store", "handled"))]
)
def test_ctrl_c_before_the_training(start, tmp_path, moment) -> None:
    command = start(*ENDLESS)
    wait_until(lambda: has_loaded(command, "_yaml"))  # Hydra is being loaded: mnistlab's first line has run
    reached = {
        "started": lambda: True,
        "tensorflow": lambda: has_loaded(command, "libtensorflow_cc"),
        "store": lambda: (tmp_path / "mlruns" / "mlflow.db").exists(),
        "handled": lambda: handles_interrupt(command),
    }
    wait_until(reached[moment])
    command.process.send_signal(signal.SIGINT)
    allowed = (130,) if moment == "handled" else (130, -signal.SIGINT)
    assert command.finish() in allowed, command.output
    assert "Traceback" not in command.output
    if moment == "started":
        assert not (tmp_path / "runs").exists()
    if (tmp_path / "mlruns" / "mlflow.db").exists():
        assert set(Store(tmp_path).statuses()) <= {"KILLED"}


def test_a_run_that_was_killed_has_the_status_killed_at_once(start, tmp_path) -> None:
    command = start(*ENDLESS)
    command.wait_for_line("epoch 2/")
    command.process.kill()
    command.finish()  # its background process holds the output open until it has closed the run
    (run,) = Store(tmp_path).runs()
    assert run.info.status == "KILLED"
    assert run.data.tags["error"] == "the process was killed during the run"
    assert run.data.metrics["epoch/loss"] > 0


@pytest.mark.long
@pytest.mark.slow
def test_a_signal_to_both_processes_ends_the_run_as_killed(start, tmp_path) -> None:
    command = start(*ENDLESS)
    command.wait_for_line("epoch 2/")
    os.kill(command.background_process(), signal.SIGTERM)
    command.process.terminate()
    assert command.finish() == 143
    assert Store(tmp_path).statuses() == ["KILLED"]


@pytest.mark.faults
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_sweep_goes_on(start, train, tmp_path, stop) -> None:
    words = ["--multirun", *SMALL, "fit.epochs=3", "optimizer=sgd,momentum,adam", "sweep.seeds=2"]
    command = start(*words)
    command.wait_for_line("[4/6]")
    command.process.send_signal(stop)
    code = command.finish()
    store = Store(tmp_path)
    finished = [run for run in store.runs("job") if run.info.status == "FINISHED"]
    assert 3 <= len(finished) < 6, command.output
    if stop == signal.SIGINT:
        assert code == 130
        assert store.statuses("parent") == ["KILLED"]
        assert "RUNNING" not in store.statuses("job")
    done = train(*words)
    assert done.code == 0, done.err
    assert f"{len(finished)} of them done" in done.out
    complete = [run for run in store.runs("job") if run.info.status == "FINISHED"]
    assert len(complete) == 6
    assert len({run.data.tags["record.fingerprint"] for run in complete}) == 6
    assert set(store.statuses("job")) <= {"FINISHED", "KILLED"}
    assert store.statuses("parent") == ["FINISHED"]
    with next((tmp_path / "runs" / "sweeps").glob("*/table.csv")).open() as file:
        seeds = {row["option"]: row["num_seeds"] for row in csv.DictReader(file)}
    assert seeds == {"sgd": "2", "momentum": "2", "adam": "2"}
