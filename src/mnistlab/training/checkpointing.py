"""Checkpoints during `fit`: a callback that writes them in the background, and that a training continues with."""

import contextlib
import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from mnistlab.runtime import checkpoints, files
from mnistlab.runtime.checkpoints import Checkpoint
from mnistlab.runtime.exits import TimeBudgetSpent
from mnistlab.training import resume_state

Logs = dict[str, Any] | None


@dataclass(frozen=True)
class CheckpointPlan:
    """Whether and when checkpoints are written, and where the training continues.

    Args:
        folder: of the checkpoints; None: none are written.
        facts: about the run, in each checkpoint.
        percent: of the training time that checkpoints may take; 100: one after every epoch.
        seconds: between checkpoints within an epoch; None: only after epochs.
        max_seconds: of this command's training; None: no limit.
        start: the checkpoint to continue from; None: the beginning.
    """

    folder: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    percent: float = 100.0
    seconds: float | None = None
    max_seconds: float | None = None
    start: Checkpoint | None = None


class Checkpointing(keras.callbacks.Callback):
    """Writes a checkpoint after each epoch, as far as they cost little of the training time, and continues from one.

    It must stand after all callbacks that change the model, so that it sees the state that the next epoch begins with.

    Args:
        observers: the callbacks whose state belongs to the training; `observe` adds the engine's.
    """

    def __init__(self, plan: CheckpointPlan, observers: Sequence[keras.callbacks.Callback], epochs: int) -> None:
        super().__init__()
        self.plan, self.epochs = plan, epochs
        self.observers = list(observers)
        self.build_metrics: Callable[[], None] = lambda: None
        self.writer = checkpoints.Writer(plan.folder) if plan.folder else None
        self.started = self.written = time.perf_counter()
        self.epoch = 0
        self.capture_seconds = 0.0

    @property
    def initial_epoch(self) -> int:
        """The first epoch that `fit` runs, from 0; `epochs` if the training had ended."""
        start = self.plan.start
        if start is None:
            return 0
        return self.epochs if start.state["stop_training"] else start.epoch

    @property
    def first_step(self) -> int:
        """The first step of the first epoch that was not trained yet."""
        return self.plan.start.step if self.plan.start else 0

    @property
    def seconds(self) -> float:
        """Of the training, with those before it was interrupted."""
        before = float(self.plan.start.state["seconds"]) if self.plan.start else 0.0
        return before + time.perf_counter() - self.started

    def observe(self, engine: keras.callbacks.Callback, build_metrics: Callable[[], None]) -> None:
        """Include the state of an engine's callback. build_metrics: builds the variables of the metrics."""
        self.observers.append(engine)
        self.build_metrics = build_metrics

    def on_train_begin(self, logs: Logs = None) -> None:
        if self.plan.start and not self.first_step:  # the other callbacks have set their counters to zero
            self._restore(self.plan.start)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch = epoch
        if self.plan.start and self.first_step and epoch == self.initial_epoch:
            self.build_metrics()
            self._restore(self.plan.start)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        step, steps = batch + 1, self.params.get("steps") or 0
        if self.epoch == self.initial_epoch and step <= self.first_step:
            if step == self.first_step and self.plan.start:  # what callbacks counted meanwhile, they had counted before
                self._restore(self.plan.start)
            return
        if step >= steps or self.model.stop_training:
            return
        if self._is_out_of_time():
            self._stop(self._submit(self.epoch, step))
        elif self.plan.seconds is not None and time.perf_counter() - self.written >= self.plan.seconds:
            self._submit(self.epoch, step)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if getattr(self.observers[-1], "diverged", None):
            return
        if self._is_out_of_time() and epoch + 1 < self.epochs and not self.model.stop_training:
            self._stop(self._submit(epoch + 1, 0))
        if self.plan.percent == 100 or self._is_cheap():
            self._submit(epoch + 1, 0)

    def close(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        if self.writer:
            self.writer.close()

    def _is_cheap(self) -> bool:
        """Whether a checkpoint that costs as much as the last one stays within its share of the training time."""
        if self.writer is None or self.writer.is_busy:
            return False
        cost = self.capture_seconds + self.writer.seconds
        return (time.perf_counter() - self.written) * self.plan.percent / 100 >= cost

    def _is_out_of_time(self) -> bool:
        limit = self.plan.max_seconds
        return limit is not None and time.perf_counter() - self.started >= limit

    def _stop(self, checkpoint: Checkpoint) -> None:
        self.close()
        limit = f"{self.plan.max_seconds:g}"
        raise TimeBudgetSpent(f"fit.max_seconds={limit} have passed, after {checkpoint.place}; epochs: {self.epochs}")

    def _submit(self, epoch: int, step: int) -> Checkpoint:
        if self.writer is None:
            return Checkpoint(epoch, step, {}, {})
        began = time.perf_counter()
        state = resume_state.capture(self.model, self.observers, within_epoch=step > 0)
        self.capture_seconds = time.perf_counter() - began
        facts = {**self.plan.facts, "written": time.time()}
        checkpoint = Checkpoint(epoch, step, facts, {**state, "seconds": self.seconds})
        self.writer.submit(checkpoint)
        self.written = time.perf_counter()
        return checkpoint

    def _restore(self, checkpoint: Checkpoint) -> None:
        resume_state.restore(self.model, self.observers, checkpoint.state)


@contextlib.contextmanager
def skipping_steps(model: keras.Model, steps: int) -> Iterator[None]:
    """Let plain Keras's `fit` pass over the first steps: it reads their batches and trains on none of them."""
    if not steps:
        yield
        return
    model.make_train_function()
    train, left = model.train_function, steps

    def skip_or_train(iterator: Iterator[Any]) -> Any:
        nonlocal left
        if not left:
            return train(iterator)
        left -= 1
        next(iterator)
        return model.get_metrics_result()

    model.train_function = skip_or_train
    try:
        yield
    finally:
        model.train_function = None


def build_metrics(model: keras.Model, images: Any, targets: Any) -> None:
    """Build the variables of a compiled model's metrics, as the first step does. images, targets: of one image."""
    outputs = model(images, training=False)
    model.compute_loss(x=images, y=targets, y_pred=outputs)
    model.compute_metrics(images, targets, outputs)


def prepare_files(callbacks: Sequence[keras.callbacks.Callback], epoch: int) -> None:
    """Let CSVLogger continue its file: without this it would write a new one. Rows from `epoch` (from 0) on go."""
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.CSVLogger):
            continue
        callback.append = True
        file = Path(callback.filename)
        if not file.is_file():
            continue
        with file.open(encoding="utf-8", newline="") as content:
            lines = content.read().splitlines(keepends=True)
        kept = [line for line in lines[1:] if _epoch_of(line, callback.sep) < epoch]
        files.write_text(file, "".join([*lines[:1], *kept]) if epoch else "")


def _epoch_of(line: str, separator: str) -> float:
    """The epoch of a row; infinity for one that was torn."""
    row = next(csv.reader([line], delimiter=separator), [])
    return int(row[0]) if line.endswith("\n") and row and row[0].isdecimal() else float("inf")
