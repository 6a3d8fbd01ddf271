"""Programs that a thread compiles before their job, and steps that are compiled for one processor: the same numbers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from small_data import few_digits

from mnistlab import training
from mnistlab.training.engine import copies, processors, program, programs
from mnistlab.training.fitting import compile_ahead

layers = keras.layers
several_processors = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two processors"
)


def network(*extra: keras.Layer, momentum: float = 0.9, units: int = 16) -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    front = [keras.Input((28, 28, 1), dtype="uint8"), layers.Rescaling(1 / 255), layers.Flatten()]
    made = keras.Sequential([*front, layers.Dense(units, activation="relu"), *extra, layers.Dense(10, "softmax")])
    made.compile(keras.optimizers.SGD(0.05, momentum=momentum), "categorical_crossentropy", metrics=["accuracy"])
    made.optimizer.build(made.trainable_variables)
    return made


def losses(made: keras.Model, batch_size: int = 32) -> list[float]:
    dataset = few_digits()
    plan = training.plan_fit(made, dataset, epochs=2, batch_size=batch_size, seed=0, engine="fused")
    rows = training.fit(made, dataset, plan, keep="last").history
    return [value for row in rows for name, value in row.items() if "seconds" not in name]


def wait_until_compiled() -> None:
    with programs._ahead._changed:
        programs._ahead._changed.wait_for(lambda: not programs._ahead._waiting and programs._ahead._compiling is None)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the threads that traced a function of a program, in order."""
    names: list[str] = []

    def record(function: Callable) -> Callable:
        def recording(self, *arguments):
            names.append(threading.current_thread().name)
            return function(self, *arguments)

        return recording

    for name in ("_run_block", "_run_forward"):
        monkeypatch.setattr(program.Program, name, record(getattr(program.Program, name)))
    programs._programs.clear()
    yield names
    programs._programs.clear()


def test_a_program_compiled_ahead_is_the_job_s_and_gives_the_same_numbers(traced) -> None:
    expected = losses(network())
    here = threading.current_thread().name
    assert set(traced) == {here}
    programs._programs.clear()
    traced.clear()

    compile_ahead(network(), few_digits(), 32)
    wait_until_compiled()
    assert set(traced) == {"compile-ahead"}
    traced.clear()
    assert losses(network()) == expected
    assert traced == []  # neither the steps, nor the smaller last batch, nor the validation


def test_a_job_does_not_wait_for_a_compilation_that_has_not_begun(traced) -> None:
    expected = losses(network())
    programs._programs.clear()
    goes_on, another = threading.Event(), program.Program(copies.copy(network(momentum=0.1)))
    programs._ahead.add(another, lambda: goes_on.wait(60))
    traced.clear()
    try:
        compile_ahead(network(), few_digits(), 32)
        assert losses(network()) == expected
        assert set(traced) == {threading.current_thread().name}
    finally:
        goes_on.set()
    wait_until_compiled()
    assert set(traced) == {threading.current_thread().name}


def test_a_job_waits_for_a_compilation_that_has_begun(traced, monkeypatch) -> None:
    begun, compile_it = threading.Event(), program.Program.compile

    def compile_slowly(self, *arguments):
        begun.set()
        threading.Event().wait(0.5)
        compile_it(self, *arguments)

    monkeypatch.setattr(program.Program, "compile", compile_slowly)
    compile_ahead(network(), few_digits(), 32)
    assert begun.wait(60)
    losses(network())
    assert set(traced) == {"compile-ahead"}


def test_a_failure_ahead_is_left_to_the_job(traced, monkeypatch) -> None:
    def fail(self, *arguments):
        raise MemoryError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(program.Program, "compile", fail)
        compile_ahead(network(), few_digits(), 32)
        wait_until_compiled()
    assert len(losses(network())) == 10
    assert programs._ahead._thread is not None and programs._ahead._thread.is_alive()


class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


@pytest.mark.parametrize(
    ("made", "possible"),
    [
        (lambda: network(), True),
        (lambda: network(layers.BatchNormalization()), True),
        (lambda: network(layers.Dropout(0.5)), False),
        (lambda: network(Doubled()), False),
        (lambda: network(layers.Lambda(lambda x: x)), False),
        (lambda: network(units=4000), False),
    ],
    ids=["dense", "normalized", "random", "a layer of the user's", "a function of the user's", "large"],
)
def test_what_is_compiled_ahead(made, possible: bool) -> None:
    assert programs.can_be_compiled_ahead(made()) == possible


def test_no_more_programs_are_compiled_ahead_than_are_kept(traced, monkeypatch) -> None:
    monkeypatch.setattr(programs, "PROGRAMS_KEPT", 2)
    monkeypatch.setattr(program.Program, "compile", lambda self, *arguments: None)
    for number in range(4):
        compile_ahead(network(momentum=number / 10), few_digits(), 32)
    assert len(programs._programs) == 2


@several_processors
def test_small_steps_are_compiled_for_one_processor_and_give_the_same_numbers(traced, monkeypatch) -> None:
    seen: list[int] = []
    compile_block = program.Program._run_block

    def record(self, *arguments):
        seen.append(len(os.sched_getaffinity(0)))
        return compile_block(self, *arguments)

    monkeypatch.setattr(program.Program, "_run_block", record)
    allowed = os.sched_getaffinity(0)
    for_one = losses(network(), batch_size=1)
    assert seen == [1]
    assert os.sched_getaffinity(0) == allowed
    programs._programs.clear()
    seen.clear()
    monkeypatch.setattr(processors, "SMALL_BATCH", 0)
    assert losses(network(), batch_size=1) == for_one
    assert seen == [len(allowed)]


@several_processors
@pytest.mark.parametrize(
    ("batch_size", "num_values", "compiler", "is_small"),
    [
        (1, 100, "xla", True),
        (4, 2**19, "xla", True),
        (5, 100, "xla", False),
        (1, 2**19 + 1, "xla", False),
        (1, 100, "graph", False),
    ],
)
def test_which_steps_are_small(batch_size: int, num_values: int, compiler: str, is_small: bool) -> None:
    allowed = os.sched_getaffinity(0)
    with processors.chosen_for([np.zeros(num_values, np.float32)], batch_size, compiler):
        of_all_threads = [os.sched_getaffinity(int(one.name)) for one in Path("/proc/self/task").iterdir()]
        assert (len(os.sched_getaffinity(0)) == 1) == is_small
    assert sum(of_one != allowed for of_one in of_all_threads) == is_small  # of this thread alone
    assert os.sched_getaffinity(0) == allowed
