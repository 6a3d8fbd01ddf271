"""How a command is stopped and how it ends: Ctrl-C, SIGTERM, exit statuses, leaving the process quickly."""

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

FAILED, USER_MISTAKE = 1, 2
INTERRUPTED, TERMINATED = 130, 143

_when_stopped: list[Callable[[], None]] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised in the main thread, so that the run ends as KILLED and does not stay RUNNING."""


def catch_signals() -> None:
    """From here on, where there is something to close, Ctrl-C raises KeyboardInterrupt and SIGTERM `Terminated`."""
    # Not earlier: raised during an import, KeyboardInterrupt may get lost or become another error.
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def when_stopped(callback: Callable[[], None]) -> None:
    """Call this before the process leaves because of Ctrl-C or SIGTERM."""
    _when_stopped.append(callback)


def leave(status: int) -> NoReturn:
    """End the process with this status.

    With TensorFlow loaded, Python's own end takes two seconds. This runs the registered exit functions, writes all
    output and ends at once.
    """
    stopped = status in (INTERRUPTED, TERMINATED)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the process without a traceback
    if "tensorflow" not in sys.modules and not stopped:
        sys.exit(status)
    try:
        if not stopped or "joblib.externals.loky" in sys.modules:
            _end_threads()  # and with them the processes of a parallel launcher
        for callback in _when_stopped if stopped else ():
            callback()
        logging.shutdown()
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
