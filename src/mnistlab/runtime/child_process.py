"""A Python process that runs functions for this one: used for the background process and the decoding processes.

`submit` names a function by reference and returns a `concurrent.futures.Future`. Functions and results travel as
pickles through the child's stdin and stdout. The child runs ordinary requests one after the other and urgent ones
beside them. When the parent ends, even by kill -9, the child completes what it was asked for, runs its `at_end`
callbacks and exits. When the child dies, every waiting future raises `ChildProcessDied`.

`concurrent.futures.ProcessPoolExecutor` cannot do this: requests beyond the two in its call queue stay in the parent
and are lost when it is killed, its workers then wait forever, one worker has no urgent lane, and starting by spawn
imports the parent's main module again.
"""

import concurrent.futures
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
from concurrent.futures import Future
from typing import IO, Any, NoReturn

START = (
    "import sys; sys.path[:] = {path!r}; from mnistlab.runtime.child_process import serve; serve({name!r}, {modules!r})"
)

log = logging.getLogger("mnistlab")


class RemoteError(RuntimeError):
    """A function failed in a child process with an error of another library."""


class ChildProcessDied(ChildProcessError):
    """The child process ended before it did what it was asked for."""


class ChildProcess:
    """A child process, as its parent sees it.

    Args:
        name: what it is for, shown in messages and in the process list.
        load_first, load_next: modules that it imports unasked, before its first request and beside its requests.
        options: of the Python interpreter, such as ('-W', 'ignore').
    """

    def __init__(
        self, name: str, load_first: Sequence[str] = (), load_next: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        self.name = name
        code = START.format(path=[str(entry) for entry in sys.path], name=name, modules=(load_first, load_next))
        self._process = subprocess.Popen(
            [sys.executable, *options, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal must reach the parent only
        )
        self._numbers = itertools.count()
        self._futures: dict[int, Future] = {}
        self._ended = threading.Event()
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for target in (self._receive, self._send):
            threading.Thread(target=target, name=f"{name}{target.__name__}", daemon=True).start()

    def submit(self, function: Callable[..., Any], *arguments: Any, urgent: bool = False) -> Future:
        """Ask for `function(*arguments)`. urgent: run it beside the requests before it, not after them.

        The future raises ConfigError and Python's built-in exceptions as the function raised them, `RemoteError` for
        any other, each with the traceback of the child as a note; or `ChildProcessDied`.
        """
        future: Future = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled
        number, request = next(self._numbers), pickle.dumps((function, arguments), protocol=5)
        self._futures[number] = future
        self._outbox.put((urgent, number, request))
        if self._ended.is_set():
            self._fail_waiting()
        return future

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def wait(self) -> None:
        """Wait until every request is done or has failed."""
        concurrent.futures.wait(list(self._futures.values()))

    def shutdown(self) -> None:
        """Wait until every request is done, then end the process."""
        self.wait()
        self._outbox.put(None)
        self._ended.wait()

    def kill(self) -> None:
        """End the process at once; its requests fail."""
        self._process.kill()
        self._ended.wait()

    def _send(self) -> None:
        """Write in a thread: Ctrl-C, which interrupts the main thread, must not cut a request in two."""
        assert self._process.stdin is not None
        request: Any = True
        try:
            while request is not None:
                request = self._outbox.get()
                pickle.dump(request, self._process.stdin, protocol=5)
                self._process.stdin.flush()
        except Exception:  # mostly: the process has ended. Then `_receive` fails the futures
            self._process.kill()

    def _receive(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(Exception):  # EOFError when it ended; on any error nobody may wait forever
            while True:
                number, result, error = pickle.load(self._process.stdout)
                if number is None:
                    with contextlib.suppress(Exception):
                        log.log(*result)
                elif error is None:
                    self._futures.pop(number).set_result(result)
                else:
                    self._futures.pop(number).set_exception(error)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close() if pipe else None
        self._ended.set()
        self._outbox.put(None)
        self._fail_waiting()

    def _fail_waiting(self) -> None:
        error = ChildProcessDied(
            f"mnistlab's {self.name} process ended (exit status {self._process.returncode}): killed, or out of memory?"
        )
        while self._futures:
            with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # another thread does the same
                self._futures.pop(next(iter(self._futures))).set_exception(error)


# ---- in the child ---------------------------------------------------------------------------------------------------

_at_end: list[Callable[[bool], None]] = []


def at_end(callback: Callable[[bool], None]) -> None:
    """In a child process: call this before it exits, with whether the parent ended in an orderly way."""
    if callback not in _at_end:
        _at_end.append(callback)


def serve(name: str, modules: tuple[Sequence[str], Sequence[str]]) -> NoReturn:
    """The child's main function: run requests until the parent closes its end of the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which ends this process
        signal.signal(number, signal.SIG_IGN)
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # printed text must not get between the results
    answer = _Answers(results)
    logging.getLogger().addHandler(answer)
    _load(modules[0])
    threading.Thread(target=_load, args=(modules[1],), daemon=True).start()
    orderly = _run_requests(sys.stdin.buffer, answer)
    for callback in _at_end:
        with contextlib.suppress(Exception):
            callback(orderly)
    logging.shutdown()
    os._exit(0)


class _Answers(logging.Handler):
    """Sends results and log messages to the parent."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(logging.WARNING)
        self.stream = stream
        self.writing = threading.Lock()

    def __call__(self, number: int | None, result: Any = None, error: Exception | None = None) -> None:
        answer = pickle.dumps((number, result, error), protocol=5)  # if this fails, nothing was written
        with self.writing, contextlib.suppress(BrokenPipeError):  # the parent has ended: the work goes on
            self.stream.write(answer)
            self.stream.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self(None, (record.levelno, "%s", record.getMessage()))


def _run_requests(stream: IO[bytes], answer: _Answers) -> bool:
    """Run all requests; returns whether the parent ended in an orderly way."""
    lanes: dict[bool, queue.SimpleQueue[tuple[int, bytes] | None]] = {
        urgent: queue.SimpleQueue() for urgent in (True, False)
    }
    threads = [threading.Thread(target=_run_lane, args=(lane, answer)) for lane in lanes.values()]
    for thread in threads:
        thread.start()
    orderly = False
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        # Read requests as they come, so that the parent never waits for a full pipe.
        while (message := pickle.load(stream)) is not None:
            urgent, number, request = message
            lanes[urgent].put((number, request))
        orderly = True
    for lane in lanes.values():
        lane.put(None)
    for thread in threads:
        thread.join()
    return orderly


def _run_lane(lane: queue.SimpleQueue[tuple[int, bytes] | None], answer: _Answers) -> None:
    while (message := lane.get()) is not None:
        number, request = message
        try:
            function, arguments = pickle.loads(request)
            answer(number, function(*arguments))
        except BaseException as error:
            answer(number, None, _portable(error))


def _portable(error: BaseException) -> Exception:
    """The exception, if the parent can unpickle it without another library, else a RemoteError; with its traceback."""
    package = type(error).__module__.partition(".")[0]
    plain = all(isinstance(argument, str | int | float | None) for argument in error.args)
    sent = error if isinstance(error, Exception) and plain and package in ("builtins", "mnistlab") else None
    try:
        pickle.loads(pickle.dumps(sent))
    except Exception:  # its constructor takes other arguments
        sent = None
    sent = sent or RemoteError(f"{type(error).__name__}: {error}")
    sent.add_note(f"In the child process:\n{traceback.format_exc()}")
    return sent


def _load(modules: Sequence[str]) -> None:
    gc.disable()
    for module in modules:
        with contextlib.suppress(Exception):  # the function that needs it imports it again and raises the error
            importlib.import_module(module)
    gc.freeze()
    gc.enable()
