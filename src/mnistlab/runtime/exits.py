"""How a command is stopped and how it ends: Ctrl-C, SIGTERM, SIGHUP, exit statuses, leaving the process quickly."""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

FAILED, USER_MISTAKE = 1, 2
HUNG_UP, INTERRUPTED, TERMINATED = 129, 130, 143
STOPPED = (HUNG_UP, INTERRUPTED, TERMINATED)
SAME_SIGNAL_SECONDS = 0.5  # shells and wrappers such as `timeout` send a signal twice
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it

_when_stopped: list[Callable[[], None]] = []
_stops: list[float] = []  # when the first signal came
_reasons: list[str] = []  # that `stop` was given
_kept: list[BaseException] = []


class TimeBudgetSpent(Exception):
    """A run has used its time (`fit.max_seconds`). It ends between two steps, and the same command continues it."""


class Stopped(KeyboardInterrupt):
    """A signal that ends the command, raised in the main thread, so that the run ends as KILLED and not as RUNNING."""

    status, reason = INTERRUPTED, "stopped by Ctrl-C (SIGINT)"


class Terminated(Stopped):
    """SIGTERM."""

    status, reason = TERMINATED, "stopped by SIGTERM"


class HungUp(Stopped):
    """SIGHUP: the terminal was closed."""

    status, reason = HUNG_UP, "stopped by SIGHUP: the terminal was closed"


SIGNALS: dict[int, type[Stopped]] = {signal.SIGINT: Stopped, signal.SIGTERM: Terminated, signal.SIGHUP: HungUp}


def catch_signals() -> None:
    """From here on, where there is something to close, the first of these signals raises `Stopped` and the second ends
    the process at once. A signal that is ignored, as SIGHUP under nohup, stays ignored."""
    # Not earlier: raised during an import, KeyboardInterrupt may get lost or become another error.
    _stops.clear()
    _reasons.clear()
    if threading.current_thread() is not threading.main_thread():  # of a program that uses the Python API
        return
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            _discard_if_gone(stream)
    if not _stops:
        _stops.append(time.monotonic())
        raise SIGNALS[number](*_reasons)
    if time.monotonic() - _stops[0] > SAME_SIGNAL_SECONDS:  # the background process closes the run
        if os.isatty(1):
            os.write(1, SHOW_CURSOR)
        os._exit(SIGNALS[number].status)


def _discard_if_gone(stream: int) -> None:
    """Discard what is written to a terminal that was closed: writing to it raises an error."""
    try:
        os.write(stream, b"")
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def stop(reason: str) -> None:
    """Stop this process from one of its threads, as SIGTERM does, for this reason."""
    _reasons.append(reason)
    os.kill(os.getpid(), signal.SIGTERM)


def is_stopping() -> bool:
    """Whether a signal has come that ends the command."""
    return bool(_stops)


def stop_reason(error: KeyboardInterrupt) -> tuple[int, str]:
    """The exit status of a command that was stopped by this, and the reason in words."""
    known = error if isinstance(error, Stopped) else Stopped()
    return known.status, str(known) or known.reason


def when_stopped(callback: Callable[[], None]) -> None:
    """Call this before the process leaves because it was stopped. Functions registered with `atexit` are not called."""
    _when_stopped.append(callback)


def keep(error: BaseException) -> None:
    """Keep the frames of a command that was stopped: what they hold need not be freed while its threads still run."""
    _kept.append(error)


def leave(status: int) -> NoReturn:
    """End the process with this status.

    With TensorFlow loaded, Python's own end takes two seconds. This runs the registered exit functions, writes all
    output and ends at once. A command that was stopped runs none of the libraries' exit functions: threads of theirs
    may still be at work.
    """
    stopped = status in STOPPED
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C at the end ends the process without a traceback
    if "tensorflow" not in sys.modules and not stopped:
        sys.exit(status)
    try:
        if not stopped:
            _end_threads()  # and with them the processes of a parallel launcher
        for callback in _when_stopped if stopped else ():
            callback()
        logging.shutdown()
        if not stopped:
            _run_exit_functions()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _end_threads() -> None:
    """What Python does first at its end: wait for threads, run `threading._register_atexit`'s functions (private)."""
    threading._shutdown()  # type: ignore[attr-defined]


def _run_exit_functions() -> None:
    """Run the functions registered with `atexit`; Python offers no public way (private)."""
    atexit._run_exitfuncs()
