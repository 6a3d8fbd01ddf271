"""The compiled programs of a process: later jobs of the same shape find them; a thread compiles those of other jobs."""

import atexit
import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from mnistlab.training.engine import copies
from mnistlab.training.engine.program import NotFusable, Program, Resident, runs_in_xla

# Compiled programs cached for later jobs of the same shape, as a sweep's next seed; while they are small, more of them.
PROGRAMS_KEPT, FEW_PROGRAMS, KEPT_BYTES = 24, 8, 2**28

_programs: OrderedDict[str | int, Program] = OrderedDict()


def program_for(network: keras.Model) -> Program:
    """Return the process's program for networks of this shape, or a new one; raise NotFusable if there can be none."""
    if len(getattr(network, "outputs", None) or ()) != 1 or len(network.inputs) != 1:
        raise NotFusable("the network must be built, with one input and one output")
    if type(network).train_step is not keras.Model.train_step:
        raise NotFusable(f"{type(network).__name__} has a train_step of its own")
    if not network.optimizer.built:
        network.optimizer.build(network.trainable_variables)
    signature = id(network) if id(network) in _programs else copies.signature(network)
    program = _programs.pop(signature, None)
    if program is not None:
        _ahead.release(program)
    if program is None and isinstance(signature, str) and (copied := copies.copy(network)):
        program = Program(copied)
    return _keep(signature, program) if program else _keep(id(network), Program(network))


def _keep(signature: str | int, program: Program) -> Program:
    _programs[signature] = program
    num_bytes = sum(_num_bytes(variable) for kept in _programs.values() for variable in kept.state)
    limit = PROGRAMS_KEPT if num_bytes <= KEPT_BYTES and isinstance(signature, str) else FEW_PROGRAMS
    while len(_programs) > limit:
        _programs.popitem(last=False)
    return program


def _num_bytes(variable: tf.Variable) -> int:
    return int(np.prod(variable.shape)) * variable.dtype.size


def can_be_compiled_ahead(network: keras.Model) -> bool:
    """Whether `compile_ahead` takes it: XLA, which is slow to compile, runs it, and many such programs can be kept. Its
    layers are Keras's and draw no random numbers, so that nothing depends on when they are traced."""
    if not runs_in_xla(network) or copies.users_layers(network) or not isinstance(copies.signature(network), str):
        return False
    return sum(map(_num_bytes, copies.state(network))) <= KEPT_BYTES / PROGRAMS_KEPT


def compile_ahead(
    network: keras.Model, data: Resident, batch_size: int, num_images: int, evaluated: Sequence[np.ndarray]
) -> None:
    """Let a thread compile the program that a later job with such a network will need. Nothing is trained.

    Args:
        network: for which `can_be_compiled_ahead` holds.
        num_images: the training images; evaluated: the rows of each evaluation.
    """
    signature = copies.signature(network)
    if signature in _programs or len(_programs) >= PROGRAMS_KEPT or not (copied := copies.copy(network)):
        return
    program = _keep(signature, Program(copied))
    _ahead.add(program, lambda: program.compile(data, batch_size, num_images, evaluated))


class _Ahead:
    """A thread that compiles programs one after the other. It ends with the process, after the one it is at."""

    def __init__(self) -> None:
        self._waiting: dict[Program, Callable[[], None]] = {}  # in order
        self._changed = threading.Condition()
        self._compiling: Program | None = None
        self._thread: threading.Thread | None = None
        self._ends = False

    def add(self, program: Program, compilation: Callable[[], None]) -> None:
        with self._changed:
            self._waiting[program] = compilation
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="compile-ahead", daemon=True)
            self._thread.start()
            atexit.register(self._end)  # before TensorFlow's own end: a compilation must not outlive it

    def release(self, program: Program) -> None:
        """Wait until the thread is done with this program. If it has not begun, it leaves it to the caller."""
        with self._changed:
            self._waiting.pop(program, None)
            self._changed.wait_for(lambda: self._compiling is not program)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._compiling = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._ends)
                if self._ends:
                    return
                self._compiling = next(iter(self._waiting))
                compilation = self._waiting.pop(self._compiling)
            with contextlib.suppress(Exception):  # the job meets it again, and says so
                compilation()
            del compilation  # it holds the images

    def _end(self) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()


_ahead = _Ahead()


def check(network: keras.Model, images: np.ndarray, targets: np.ndarray) -> None:
    """Make sure that the network's program computes the network's own loss and gradients on these images.

    Where a copy of the network does not, the program uses the network itself.

    Raises:
        NotFusable: the network cannot be compiled, or compiled gives other results; the message names the layer.
    """
    if layer := copies.layer_for_keras_only(network):
        raise NotFusable(f"{layer} treats the images of a batch in another way there than in a compiled program")
    program = program_for(network)
    try:
        own = copies.results(network, images, targets)
        if program.model is not network:
            program.load(network)
            if not own.draws and copies.are_equal(copies.results(program.model, images, targets).values, own.values):
                return
            _keep(id(network), Program(network))
        if not own.draws and copies.are_equal(copies.results(network, images, targets).values, own.values):
            return
        reason = copies.why_results_differ(network, images, own.draws)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise NotFusable(copies.compile_error(network, error)) from error
    raise NotFusable(reason)
