"""The background process: it has MLflow, scikit-learn and matplotlib, loads them and works while TensorFlow trains.

The functions that it runs take and return plain data and stand in modules that import nothing heavy. It is started by
the first request and ends with this process: at a normal end it completes everything first; after Ctrl-C or kill -9 it
completes everything by itself and closes the runs that are still open. If it dies, the next request starts another.
"""

import atexit
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from mnistlab.config import secrets
from mnistlab.runtime import exits
from mnistlab.runtime.child_process import ChildProcess, ChildProcessDied

LOADED_FIRST = ("mlflow", "mlflow.store.tracking.sqlalchemy_store")
LOADED_NEXT = ("sklearn.metrics", "mnistlab.evaluation.figures", "mlflow.pyfunc", "mnistlab.comparison.report")

_started: list[ChildProcess] = []
_told: set[str] = set()  # the secrets that the last of them knows


def start() -> ChildProcess:
    """Start the process if it is not running, so that it loads its libraries while this one loads others."""
    if not _started:
        atexit.register(_shutdown)
        exits.when_stopped(detach)
    if not _started or _started[-1].has_ended:
        _started.append(ChildProcess("background", LOADED_FIRST, LOADED_NEXT))
        _told.clear()
    if new := set(secrets.known()) - _told:
        _told.update(new)
        _started[-1].submit(secrets.remember, sorted(new))  # it reports errors of its own
    return _started[-1]


def pid() -> int | None:
    """The process's number, if it was started."""
    return _started[-1].pid if _started else None


def submit(function: Callable[..., Any], *arguments: Any) -> Future:
    """Ask for `function(*arguments)` in the background process; requests run in their order."""
    return start().submit(function, *arguments)


def submit_urgent(function: Callable[..., Any], *arguments: Any) -> Future:
    """As `submit`, but ahead of submitted requests."""
    return start().submit(function, *arguments, urgent=True)


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `function(*arguments)` in the background process, ahead of submitted requests.

    Raises:
        ConfigError: raised by the function; RemoteError: an error of another library; ChildProcessDied.
    """
    return submit_urgent(function, *arguments).result()


def call_or_run_here(function: Callable[..., Any], *arguments: Any) -> Any:
    """As `call`; in this process if the background process dies."""
    try:
        return call(function, *arguments)
    except ChildProcessDied:
        return function(*arguments)


def submit_or_run_here(function: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    """As `submit`. Returns a function that waits for the end, and does the work here if the background process died."""
    future = submit(function, *arguments)

    def complete() -> None:
        try:
            future.result()
        except ChildProcessDied:
            function(*arguments)

    return complete


def abandon() -> None:
    """End the process at once: nothing will be asked of it."""
    while _started:
        _started.pop().kill()


def detach() -> None:
    """Do not wait for the process at this process's end: it completes its requests, closes open runs and exits."""
    _started.clear()


def _shutdown() -> None:
    if _started:
        _started[-1].shutdown()
