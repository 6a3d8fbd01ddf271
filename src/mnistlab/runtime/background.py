"""A second process for what needs MLflow, scikit-learn or matplotlib: it loads and works while TensorFlow trains.

What is waited for (`call`) runs there at once; all else (`send`) in a thread of its own, one after the other in the
order in which it was asked for. Functions are named by reference, `worker.call(tracking.open_run, ...)`, take and give
plain data, and must stand in modules that load nothing heavy when they are imported.

The process is begun by the first who asks and ends with this one. When this one dies without a word (kill -9), it does
what it was asked for and then closes the runs that are still open as KILLED. When it dies itself, who waits is told so
(`WorkerDied`), and the next who asks begins another.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import itertools
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import IO, Any, NoReturn

LOADED_FIRST = ("mlflow", "mlflow.store.tracking.sqlalchemy_store")
LOADED_NEXT = ("sklearn.metrics", "seaborn", "mnistlab.evaluation.plots", "mlflow.pyfunc", "mnistlab.comparison.report")
BEGIN = "import sys; sys.path[:] = {path!r}; from mnistlab.runtime.background import main; main({modules!r})"

log = logging.getLogger("mnistlab")


class RemoteError(RuntimeError):
    """A function failed in the second process, or the process did. details: the traceback there, kept as a note."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        if details:
            self.add_note(f"In mnistlab's second process:\n{details}")


class WorkerDied(RemoteError):
    """The second process has ended before it did what it was asked for."""

    def __init__(self) -> None:
        super().__init__("mnistlab's second process has ended (killed, or out of memory?)")


class Pending:
    """A result that is not there yet."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._value: Any = None
        self._error: Exception | None = None

    def arrive(self, value: Any = None, error: Exception | None = None) -> None:
        self._value, self._error = value, error
        self._arrived.set()

    @property
    def done(self) -> bool:
        """Whether there is a result or a failure."""
        return self._arrived.is_set()

    @property
    def failed(self) -> bool:
        """Whether it is known already that there will be no result."""
        return self.done and self._error is not None

    def result(self) -> Any:
        """Wait for it; raises what the function raised."""
        self._arrived.wait()
        if self._error is not None:
            raise self._error
        return self._value


class Worker:
    """The second process, as this one sees it.

    Args:
        modules: what it loads unasked; the first are loaded before it does anything.
    """

    def __init__(self, modules: tuple[Sequence[str], Sequence[str]] = (LOADED_FIRST, LOADED_NEXT)) -> None:
        code = BEGIN.format(path=[str(entry) for entry in sys.path], modules=modules)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C at the terminal is this process's affair
        )
        self._numbers = itertools.count()
        self._pending: dict[int, Pending] = {}
        self._dead = threading.Event()
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for target in (self._listen, self._speak):
            threading.Thread(target=target, name=f"worker{target.__name__}", daemon=True).start()

    def send(self, function: Callable[..., Any], *arguments: Any, urgent: bool = False) -> Pending:
        """Ask for `function(*arguments)` and go on. urgent: beside what was asked for before, not after it."""
        pending, number = Pending(), next(self._numbers)
        wanted = pickle.dumps((function, arguments))
        self._pending[number] = pending
        self._outbox.put((urgent, number, wanted))
        if self._dead.is_set():
            self._tell_the_waiting()
        return pending

    @property
    def has_ended(self) -> bool:
        return self._dead.is_set()

    def settle(self) -> None:
        """Wait until everything that was asked for is done, whatever came of it."""
        for pending in list(self._pending.values()):
            pending._arrived.wait()

    def close(self) -> None:
        """Let it do what it was asked for, and end."""
        self.settle()
        self._outbox.put(None)
        self._dead.wait()

    def _speak(self) -> None:
        """Write in a thread of its own: a Ctrl-C, which strikes the main thread, must not cut a message in two."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended: the listener finds out and tells all who wait
            message: Any = True
            while message is not None:
                message = self._outbox.get()
                _write(self._process.stdin, message)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(Exception):  # mostly EOFError; whatever it is, nobody may wait for ever
            while True:
                number, value, error = pickle.load(self._process.stdout)
                if number is None:
                    log.log(*value)
                else:
                    self._pending.pop(number).arrive(value, error)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close() if pipe else None
        self._dead.set()
        self._outbox.put(None)
        self._tell_the_waiting()

    def _tell_the_waiting(self) -> None:
        while self._pending:
            with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # another thread does the same
                self._pending.pop(next(iter(self._pending))).arrive(error=WorkerDied())


_begun: list[Worker] = []


def _worker() -> Worker:
    if not _begun or _begun[-1].has_ended:
        if not _begun:
            atexit.register(_close)
        _begun.append(Worker())
    return _begun[-1]


def _close() -> None:
    if _begun:
        _begun[-1].close()


def forget() -> None:
    """Leave it alone at this process's end: it does what it was asked for, closes what is open, and ends by itself."""
    _begun.clear()


def begin() -> None:
    """Start the process, so that it loads its libraries while this one loads others."""
    _worker()


def send(function: Callable[..., Any], *arguments: Any) -> Pending:
    """Ask the second process for `function(*arguments)` and go on."""
    return _worker().send(function, *arguments)


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in the second process.

    Raises:
        ConfigError: as the function raised it; RemoteError: anything else that it raised.
    """
    return _worker().send(function, *arguments, urgent=True).result()


def call_anywhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in the second process or, if that dies of it or before, in this one."""
    try:
        return call(function, *arguments)
    except WorkerDied:
        return function(*arguments)


def send_anywhere(function: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    """Ask for `function(*arguments)` and go on. What is returned waits for it, and does it here if the second process
    died of it or before."""
    under_way = send(function, *arguments)

    def finish() -> None:
        try:
            under_way.result()
        except WorkerDied:
            function(*arguments)

    return finish


def settle() -> None:
    """Wait until everything that was asked for is done."""
    if _begun:
        _begun[-1].settle()


def _write(stream: IO[bytes], message: Any) -> None:
    pickle.dump(message, stream)
    stream.flush()


# ---- in the second process ------------------------------------------------------------------------------------------


def main(modules: tuple[Sequence[str], Sequence[str]]) -> NoReturn:
    """Do what is asked for until the first process closes its end."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # meant for the first process, which ends this one
        signal.signal(stop, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints must not come among the answers
    answer = _Answers(answers)
    logging.getLogger().addHandler(answer)
    _load(modules[0])
    threading.Thread(target=_load, args=(modules[1],), daemon=True).start()
    farewell = _serve(sys.stdin.buffer, answer)
    from mnistlab import tracking

    tracking.abandon(f"the process ended {'before' if farewell else 'without a word before'} the run did")
    logging.shutdown()
    os._exit(0)


class _Answers(logging.Handler):
    """Sends results and log lines to the first process."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(logging.WARNING)
        self.stream = stream
        self.one_at_a_time = threading.Lock()

    def __call__(self, number: int | None, value: Any = None, error: Exception | None = None) -> None:
        with self.one_at_a_time, contextlib.suppress(BrokenPipeError):  # nobody listens any more: the work goes on
            _write(self.stream, (number, value, error))

    def emit(self, record: logging.LogRecord) -> None:
        self(None, (record.levelno, "%s", record.getMessage()))


def _serve(stream: IO[bytes], answer: _Answers) -> bool:
    """Do all that is asked for; whether the first process ended in good order."""
    lanes: dict[bool, queue.SimpleQueue[tuple[int, bytes] | None]] = {
        True: queue.SimpleQueue(),
        False: queue.SimpleQueue(),
    }
    threads = [threading.Thread(target=_work, args=(lane, answer)) for lane in lanes.values()]
    for thread in threads:
        thread.start()
    farewell = False
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        # Read at once whatever comes, so that the first process never waits for a full pipe.
        while (message := pickle.load(stream)) is not None:
            urgent, number, wanted = message
            lanes[urgent].put((number, wanted))
        farewell = True
    for lane in lanes.values():
        lane.put(None)
    for thread in threads:
        thread.join()
    return farewell


def _work(lane: queue.SimpleQueue[tuple[int, bytes] | None], answer: _Answers) -> None:
    while (message := lane.get()) is not None:
        number, wanted = message
        try:
            function, arguments = pickle.loads(wanted)
            answer(number, function(*arguments))
        except BaseException as error:
            from mnistlab.config import ConfigError

            told = f"{type(error).__name__}: {error}"
            answer(number, None, error if isinstance(error, ConfigError) else RemoteError(told, traceback.format_exc()))


def _load(modules: Sequence[str]) -> None:
    gc.disable()
    for module in modules:
        with contextlib.suppress(Exception):  # whoever needs it will import it again and see the error
            importlib.import_module(module)
    gc.freeze()
    gc.enable()
