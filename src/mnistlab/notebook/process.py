"""The process that a command expects: its own arguments, log and handling of signals. Afterwards it is as before."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator

from mnistlab.runtime import exits

VARIABLES = {"HYDRA_FULL_ERROR": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@contextlib.contextmanager
def of_a_command() -> Iterator[None]:
    """Run a command in this context."""
    with _arguments(), _variables(), _log(), _signals():
        yield


@contextlib.contextmanager
def _arguments() -> Iterator[None]:
    before, sys.argv = sys.argv, ["mnistlab.train"]
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _variables() -> Iterator[None]:
    missing = [name for name in VARIABLES if name not in os.environ]
    os.environ.update({name: VARIABLES[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _log() -> Iterator[None]:
    """Hydra replaces the handlers of the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Jupyter interrupts a cell with SIGINT; the run then ends as KILLED, and the cell with a KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in exits.SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
