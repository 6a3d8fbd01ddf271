"""A command's exit statuses, the messages that go with them, and how it leaves the process."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata

import pytest

from mnistlab.config import ConfigError
from mnistlab.runtime import errors, exits


def fail_with(error: BaseException):
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (lambda: 0, 0, ""),
        (lambda: exits.FAILED, 1, ""),
        (fail_with(ConfigError("seed must be a number.")), 2, "Error: seed must be a number.\n"),
        (fail_with(ConfigError(["one.", "two."])), 2, "Errors:\n  - one.\n  - two.\n"),
        (fail_with(ConfigError(["bad."] * 45)), 2, "Errors:" + "\n  - bad." * 30 + "\n  ... and 15 more\n"),
        (fail_with(KeyboardInterrupt()), 130, "\nStopped.\n"),
        (fail_with(exits.Terminated()), 143, "\nStopped.\n"),
        (fail_with(exits.HungUp()), 129, "\nStopped.\n"),
    ],
    ids=["success", "failure", "one mistake", "two mistakes", "many mistakes", "Ctrl-C", "SIGTERM", "SIGHUP"],
)
def test_a_command_s_exit_status_and_message(command, status: int, text: str, capsys) -> None:
    assert errors.run_command(command) == status
    printed = capsys.readouterr()
    assert printed.err == text
    assert printed.out == ""


def test_version_prints_the_versions_of_mnistlab_and_its_libraries(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["mnistlab-train", "--version"])
    assert errors.run_command(fail_with(ConfigError("not called"))) == 0
    own, libraries = capsys.readouterr().out.splitlines()
    assert own == f"mnistlab {metadata.version('mnistlab')}"
    expected = [f"{name} {metadata.version(name)}" for name in ("tensorflow", "keras", "numpy", "hydra-core", "mlflow")]
    assert [text for text in expected if text not in libraries.split(", ")] == []
    assert libraries.endswith(f", Python {platform.python_version()}")


def test_a_reader_that_has_ended_is_no_traceback() -> None:
    code = "from mnistlab.runtime import errors, exits; exits.leave(errors.run_command(lambda: print('x' * 10**7)))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stdout.read(1) == b"x"
        command.stdout.close()
        assert command.stderr is not None
        assert command.stderr.read() == b""
    assert command.returncode == exits.FAILED


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        errors.run_command(fail_with(ZeroDivisionError()))


def test_the_failures_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    mistake, failure = ConfigError(["one.", "two."]), OSError("disk\n  full " + "x" * 400)
    assert errors.report_failures([]) == 0
    assert errors.report_failures([("seed=1", mistake), ("seed=2", mistake)]) == exits.USER_MISTAKE
    assert capsys.readouterr().err == "Errors:\n  - one.\n  - two.\n" * 2
    assert errors.report_failures([("seed=1", mistake), ("seed=2", failure), ("", failure)]) == exits.FAILED
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["Errors:", "  - one.", "  - two."]
    assert lines[3].startswith("Failed: seed=2: OSError: disk full xxx")
    assert lines[4].startswith("Failed: the run: OSError: disk full xxx")
    assert len(lines[4]) < 340


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (OSError("disk\n full"), "OSError: disk full"),
        (ValueError(), "ValueError: no message"),
        (SystemExit(7), "SystemExit: code of this run called sys.exit(7)"),
        (MemoryError(), "out of memory: use a smaller fit.batch_size or a smaller model (MemoryError: no message)"),
        (ResourceExhaustedError("OOM"), "out of memory: use a smaller fit.batch_size or a smaller model (Resource"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "out of memory: use a smaller fit.batch_size"),
    ],
)
def test_an_error_in_one_line(error: BaseException, described: str) -> None:
    assert errors.describe(error).startswith(described)


@pytest.mark.parametrize("status", [0, 1, 2, *exits.STOPPED])
@pytest.mark.parametrize("loaded", [False, True], ids=["plain", "with TensorFlow"])
def test_leaving_writes_all_output_and_runs_exit_functions_unless_stopped(status: int, loaded: bool) -> None:
    code = f"""
import atexit, sys
from mnistlab.runtime import exits
if {loaded}:
    sys.modules["tensorflow"] = sys
exits.catch_signals()
atexit.register(print, "exit function")
exits.when_stopped(lambda: print("stopped"))
print("output", end=" ")
exits.leave({status})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (status, "")
    # after a signal none of the libraries' exit functions: their threads may still be at work
    assert done.stdout == f"output {'stopped' if status in exits.STOPPED else 'exit function'}\n"
