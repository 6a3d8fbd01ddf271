"""An interrupted training continues from its checkpoint: to the bit as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from small_data import few_digits

from mnistlab import training
from mnistlab.data import Dataset
from mnistlab.runtime import checkpoints
from mnistlab.sweep import outcomes
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.training import models
from mnistlab.training.checkpointing import CheckpointPlan, TimeBudgetSpent
from mnistlab.training.engine import copies, epoch_metrics, program

EPOCHS, BATCH_SIZE = 4, 32


class Interrupted(RuntimeError):
    """As if the process had ended here."""


class Interrupt(keras.callbacks.Callback):
    """Ends the training at a time, once."""

    def __init__(self, at: str = "") -> None:
        super().__init__()
        self.at, self.epoch = at, 0
        self.seen: list[str] = []

    def get_state(self) -> list[str]:
        return self.seen

    def set_state(self, state: list[str]) -> None:
        self.seen = state

    def see(self, what: str) -> None:
        self.seen.append(what)
        if what == self.at:
            raise Interrupted(what)

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self.epoch = epoch + 1
        self.see(f"begin {epoch + 1}")

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.see(f"step {self.epoch}.{batch + 1}")

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.see(f"end {epoch + 1}")


def early_stopping() -> keras.callbacks.Callback:
    return keras.callbacks.EarlyStopping("val_loss", min_delta=0.5, patience=2, restore_best_weights=True)


def reduce_rate() -> keras.callbacks.Callback:
    return keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, min_delta=0.5, patience=1, cooldown=1)


@dataclass(frozen=True)
class Case:
    engine: str = "fused"
    optimizer: Callable[[], Any] = lambda: keras.optimizers.Adam(0.01)
    callbacks: tuple[Callable[[], Any], ...] = ()
    keep: str = "best"
    layers: tuple[Callable[[], Any], ...] = (lambda: keras.layers.Dropout(0.3),)
    metrics: tuple[Any, ...] = ("accuracy",)
    class_weight: dict[int, float] | None = None

    def model(self) -> keras.Model:
        training.start_job(3, deterministic=False)
        network = keras.Sequential(
            [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(16, activation="relu")]
            + [layer() for layer in self.layers if layer]
            + [keras.layers.Dense(10, activation="softmax")]
        )
        model = models.with_preprocessing(network, (28, 28, 1), "unit")
        training.compile_model(model, self.optimizer(), loss="auto", metrics=self.metrics, labels="one_hot")
        return model


@dataclass
class Trained:
    state: list[bytes]
    rows: list[dict[str, float]]
    best_epoch: int | None
    callbacks: list[Any]

    def __post_init__(self) -> None:
        self.rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in self.rows]


def train(case: Case, data: Dataset, plan: CheckpointPlan, *more: Any) -> Trained:
    model, data = case.model(), replace(data, class_weight=case.class_weight)
    fit_plan = training.plan_fit(model, data, epochs=EPOCHS, batch_size=BATCH_SIZE, seed=3, engine=case.engine)
    callbacks = [callback() for callback in case.callbacks]
    result = training.fit(model, data, fit_plan, keep=case.keep, callbacks=[*callbacks, *more], checkpoints=plan)
    state = [variable.numpy().tobytes() for variable in copies.state(model)]
    return Trained(state, result.history, result.best_epoch, callbacks)


def train_on(case: Case, data: Dataset, folder: Path, *more: Any, **settings: Any) -> Trained:
    """Train from the newest checkpoint in this folder."""
    start, problems = checkpoints.newest(folder)
    assert problems == []
    return train(case, data, CheckpointPlan(folder, start=start, **settings), *more)


class Noise(keras.layers.Layer):
    """A user's layer with random numbers of Keras and a variable of its own."""

    def build(self, shape) -> None:
        self.seeds = keras.random.SeedGenerator(5)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, images, training=False):
        self.calls.assign_add(1.0)
        factors = keras.random.uniform(keras.ops.shape(images), 0.5, 1.5, seed=self.seeds)
        return images * factors if training else images


MOMENTUM = {"learning_rate": 0.01, "momentum": 0.9}
CASES = {
    "dropout, early stopping, reduced rate": Case(callbacks=(early_stopping, reduce_rate)),
    "plain Keras": Case("keras", callbacks=(early_stopping, reduce_rate)),
    "averaged weights": Case(optimizer=lambda: keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.9)),
    "averaged weights, plain Keras": Case(
        "keras", optimizer=lambda: keras.optimizers.SGD(0.01, use_ema=True, ema_overwrite_frequency=5)
    ),
    "schedule": Case(
        optimizer=lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 40), momentum=0.9)
    ),
    "accumulated gradients": Case(optimizer=lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=3)),
    "augmentation": Case(layers=(lambda: keras.layers.GaussianNoise(0.2), lambda: keras.layers.BatchNormalization())),
    "augmentation, plain Keras": Case("keras", layers=(lambda: keras.layers.GaussianNoise(0.2),)),
    "user's layer": Case(layers=(Noise,)),
    "user's layer, plain Keras": Case("keras", layers=(Noise,)),
    "last epoch": Case(keep="last"),
    "class weights": Case(class_weight={digit: 1.0 + digit / 7 for digit in range(10)}),
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return few_digits()


IN_CI = (
    "dropout, early stopping, reduced rate",
    "plain Keras",
    "augmentation, plain Keras",
    "last epoch",
    "class weights",
)


@pytest.mark.long_after(2)
@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in IN_CI else pytest.mark.faults) for one in CASES])
def test_after_an_interruption_all_is_equal_to_the_bit(name: str, data: Dataset, tmp_path: Path) -> None:
    case = CASES[name]
    whole = train(case, data, CheckpointPlan(), Interrupt())
    for at in ("begin 2", "end 3"):
        with pytest.raises(Interrupted):
            train_on(case, data, tmp_path, Interrupt(at))
    resumed = train_on(case, data, tmp_path, Interrupt())
    assert resumed.rows == whole.rows
    assert resumed.state == whole.state
    assert resumed.best_epoch == whole.best_epoch


@pytest.mark.long_after(2)
@pytest.mark.parametrize("name", ["dropout, early stopping, reduced rate", "plain Keras", "class weights"])
def test_within_an_epoch_it_continues_with_the_next_step(
    name: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program.Plan, "block_length", 2)
    case = CASES[name]
    whole, interrupt = train(case, data, CheckpointPlan(), watch := Interrupt()), Interrupt("step 2.6")
    with pytest.raises(Interrupted):
        train_on(case, data, tmp_path, interrupt, seconds=0.0)
    start, _ = checkpoints.newest(tmp_path)
    assert start is not None
    assert (start.epoch, start.step) == (1, 5 if case.engine == "keras" else 4)
    monkeypatch.setattr(program.Plan, "block_length", 3)  # the new process measures another speed
    resumed = train_on(case, data, tmp_path, again := Interrupt(), seconds=0.0)
    assert resumed.rows == whole.rows
    assert resumed.state == whole.state
    if case.engine == "keras":
        assert again.seen == watch.seen  # what callbacks count, they count once


def test_a_time_budget_ends_the_training_between_two_steps(data: Dataset, tmp_path: Path) -> None:
    case = CASES["last epoch"]
    whole = train(case, data, CheckpointPlan())
    for _ in range(EPOCHS - 1):
        with pytest.raises(TimeBudgetSpent, match=r"fit.max_seconds=1e-06 have passed, after epoch \d"):
            train_on(case, data, tmp_path, max_seconds=1e-6)
    resumed = train_on(case, data, tmp_path, max_seconds=1e-6)
    assert (resumed.rows, resumed.state) == (whole.rows, whole.state)


def test_a_training_that_had_ended_trains_no_further_epoch(data: Dataset, tmp_path: Path) -> None:
    stopping = Case(callbacks=(lambda: keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1),))
    first = train_on(stopping, data, tmp_path)
    assert len(first.rows) < EPOCHS
    again = train_on(stopping, data, tmp_path)
    assert (again.rows, again.state, again.best_epoch) == (first.rows, first.state, first.best_epoch)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the interrupted one's file stays open
def test_csv_logger_continues_its_file(data: Dataset, tmp_path: Path) -> None:
    def logging_to(name: str) -> Case:
        return Case(callbacks=(lambda: keras.callbacks.CSVLogger(str(tmp_path / name)),))

    train(logging_to("whole.csv"), data, CheckpointPlan(), Interrupt())
    for at in ("end 1", "begin 3", "end 3", ""):
        if at:
            with pytest.raises(Interrupted):
                train_on(logging_to("resumed.csv"), data, tmp_path / "checkpoint", Interrupt(at))
        else:
            train_on(logging_to("resumed.csv"), data, tmp_path / "checkpoint", Interrupt())
    assert (tmp_path / "resumed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_checkpoints_stay_within_their_share_of_the_training_time(data, tmp_path: Path, monkeypatch) -> None:
    written: list[int] = []
    cost, write = 0.05, checkpoints.write

    def slow_write(folder: Path, checkpoint: checkpoints.Checkpoint) -> None:
        time.sleep(cost)
        written.append(checkpoint.epoch)
        write(folder, checkpoint)

    monkeypatch.setattr(checkpoints, "write", slow_write)
    pause = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: time.sleep(cost))
    train(Case(), data, CheckpointPlan(tmp_path / "all"), pause)
    assert written[-1] == EPOCHS  # 100 %: after every epoch; of several that wait, the newest
    written.clear()
    train(Case(), data, CheckpointPlan(tmp_path / "few", percent=0.01), pause)  # at 0.05 s each, one in 500 s
    assert written == [1]


CALLBACK = """
import os, keras

class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if os.environ.get("STOP_AT") == str(epoch + 1):
            raise OSError("as if the disk were full")
"""
WORDS = ["source=mnist_5k", "data.limit=300", "model.units=[8]", "fit.epochs=3", "save.formats=[weights]"]
WORDS += ["fit.checkpoint_percent=100", "trust=[stopping]", "+callbacks.stop._target_=stopping.Stop"]


def values(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def saved_weights(file: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with h5py.File(file) as opened:
        opened.visititems(
            lambda name, entry: found.update({name: entry[()].tobytes()} if hasattr(entry, "dtype") else {})
        )
    return found


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int | None], None]:
    """Let the user's callback fail at the end of this epoch."""
    (tmp_path / "stopping.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda epoch: monkeypatch.setenv("STOP_AT", str(epoch))


@pytest.mark.long_after(1)
@pytest.mark.parametrize("tracking", ["mlflow", "none"])
def test_the_same_command_continues_an_interrupted_run(tracking: str, train_here, tmp_path: Path, stop_at) -> None:
    words = [*WORDS, f"tracking={tracking}"]
    assert train_here(*words).code == 0
    (whole,) = (tmp_path / "runs").glob("*/*")
    assert not (whole / "checkpoint").exists()
    stop_at(2)
    assert train_here(*words).code == 1
    (folder,) = set((tmp_path / "runs").glob("*/*")) - {whole}
    assert (folder / "checkpoint").is_dir()
    stop_at(None)
    again = train_here(*words)
    assert again.code == 0, again.err
    assert "Continuing adam-units8-mnist_5k" in (folder / "train.log").read_text()
    assert "after epoch 1 (interrupted: OSError: as if the disk were full)" in (folder / "train.log").read_text()
    assert set((tmp_path / "runs").glob("*/*")) == {whole, folder}
    assert values(folder) == values(whole)
    assert not (folder / "checkpoint").exists()
    tags = json.loads((folder / "tags.json").read_text())
    assert (tags["resumed.count"], tags["resumed.epochs"], "error" in tags) == ("1", "1", False)
    if tracking == "mlflow":
        (run,) = [run for run in train_here.runs() if run.tags["run.folder"] == str(folder)]
        assert (run.status, run.tags["resumed.count"], "error" in run.tags) == ("FINISHED", "1", False)
        client, _ = open_store(train_here.store)
        assert [entry.step for entry in client.get_metric_history(run.run_id, "epoch/loss")] == [1, 2, 3]


def test_a_sweep_looks_for_a_continued_job_in_the_folder_of_its_run(
    train_here, tmp_path: Path, stop_at, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--multirun", "seed=0", *WORDS]
    stop_at(2)
    assert train_here(*words).code == 1
    (interrupted,) = [file.parent for file in (tmp_path / "runs").glob("*/*/0/status.json")]
    stop_at(None)
    kept = tmp_path / "kept"
    remove = outcomes.forget_all

    def keep_and_remove(folder: Path) -> None:
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        remove(folder)

    monkeypatch.setattr(outcomes, "forget_all", keep_and_remove)  # a sweep removes them at its end
    again = train_here(*words)
    assert again.code == 0, again.err
    (started,), (done,) = ([*kept.glob(f"{kind}/*")] for kind in ("started", "done"))
    assert json.loads(started.read_text())["folder"] == json.loads(done.read_text())["folder"] == str(interrupted)


@pytest.mark.parametrize(
    ("loader", "augmented"),
    [
        *(pytest.param(loader, True, marks=pytest.mark.faults) for loader in ("resident", "stream", "generator")),
        *(pytest.param(loader, False, marks=pytest.mark.faults) for loader in ("resident", "stream", "generator")),
    ],
)
def test_folders_and_augmented_images_continue_to_the_bit(
    loader: str, augmented: bool, train_here, make_folder, tmp_path: Path, stop_at
) -> None:
    """The order of the images, their random changes and the dropout go on where they were."""
    make_folder("pets", shape=(12, 12, 3))
    words = [word for word in WORDS if not word.startswith(("source", "data.limit"))]
    words += ["source=directory", "source.path=pets", f"source.loader={loader}", "fit.batch_size=7", "model=cnn"]
    words = [word for word in words if not word.startswith("model.units")] + ["tracking=none"]
    words += ["+data.augmentation.horizontal_flip=true", "+data.augmentation.zoom_range=0.2"] if augmented else []
    assert train_here(*words).code == 0
    (whole,) = (tmp_path / "runs").glob("*/*")
    for epoch in (2, 3):
        stop_at(epoch)
        assert train_here(*words).code == 1
    stop_at(None)
    again = train_here(*words)
    assert again.code == 0, again.err
    (folder,) = set((tmp_path / "runs").glob("*/*")) - {whole}
    assert json.loads((folder / "tags.json").read_text())["resumed.count"] == "2"
    assert values(folder) == values(whole)
    weights = [saved_weights(run / "model_files" / "model.weights.h5") for run in (folder, whole)]
    assert weights[0] == weights[1]


def test_another_configuration_is_refused_with_the_differing_keys(train_here, tmp_path: Path, stop_at) -> None:
    stop_at(2)
    folder = tmp_path / "mine"
    words = [*WORDS, "tracking=none", f"hydra.run.dir={folder}"]
    assert train_here(*words).code == 1
    before = {file: file.read_bytes() for file in (folder / "checkpoint").iterdir()}
    other = train_here(*words, "optimizer.learning_rate=0.5")
    assert other.code == 2
    assert "holds the interrupted run" in other.err
    assert "optimizer.learning_rate=0.5 (there 0.01)" in other.err
    assert {file: file.read_bytes() for file in (folder / "checkpoint").iterdir()} == before
    must = train_here(*WORDS, "tracking=none", "fit.resume=must")
    assert (must.code, "there is no interrupted run of this configuration" in must.err) == (2, True)
    stop_at(None)
    assert train_here(*words).code == 0


@pytest.mark.long
def test_of_two_torn_generations_nothing_is_used(train_here, tmp_path: Path, stop_at) -> None:
    words = [*WORDS, "tracking=none"]
    stop_at(3)
    assert train_here(*words).code == 1
    (folder,) = (tmp_path / "runs").glob("*/*")
    files = sorted((folder / "checkpoint").iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert len(files) == 2
    files[1].write_bytes(files[1].read_bytes()[:-7])
    assert train_here(*words).code == 1
    assert "is torn or was changed" in (folder / "train.log").read_text()
    assert "after epoch 1 (" in (folder / "train.log").read_text()
    for file in (folder / "checkpoint").iterdir():
        file.write_bytes(b"nothing")
    must = train_here(*words, "fit.resume=must")
    assert (must.code, "has no whole checkpoint" in must.err) == (2, True)
    stop_at(None)
    assert train_here(*words).code == 0
    assert "at epoch 1: it has no whole checkpoint" in (folder / "train.log").read_text()


def test_a_run_that_is_being_continued_is_not_continued_twice(train_here, tmp_path: Path, stop_at) -> None:
    words = [*WORDS, "tracking=none"]
    stop_at(2)
    assert train_here(*words).code == 1
    (folder,) = (tmp_path / "runs").glob("*/*")
    code = f"import fcntl, os, time\nf = open({str(folder / 'training.lock')!r}, 'r+')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
    code += "print('locked', flush=True)\ntime.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        second = train_here(*words, "fit.resume=must")
        assert (second.code, "is being trained by process" in second.err) == (2, True)
    finally:
        holder.kill()
        holder.communicate()


WEIGHTS = [None, pytest.param({digit: 1 + digit / 7 for digit in range(10)}, marks=pytest.mark.faults)]


@pytest.mark.long_after(2)
@pytest.mark.parametrize("metric", ["accuracy", "mean_squared_error", {"_target_": "keras.metrics.F1Score"}], ids=str)
@pytest.mark.parametrize("class_weight", WEIGHTS, ids=["", "weighted"])
def test_metrics_do_not_depend_on_how_many_steps_a_block_has(
    metric: Any, class_weight: dict[int, float] | None, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_metrics, "CHUNK_IMAGES", 64)
    rows = []
    for length in (1, 3, 1000):
        monkeypatch.setattr(program.Plan, "block_length", length)
        rows.append(train(Case(metrics=(metric,), class_weight=class_weight), data, CheckpointPlan()).rows)
    assert rows[0] == rows[1] == rows[2]
