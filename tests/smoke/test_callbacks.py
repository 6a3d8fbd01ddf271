"""Callbacks that could only fail after the training has begun are refused before; those that work write their files."""

from __future__ import annotations

import csv
import inspect
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from small_data import few_digits

from mnistlab import experiment, training
from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.data import loading
from mnistlab.training import building, callback_checks, models
from mnistlab.training.plan import choose_engine

OPTIONS = "csv_logger,tensorboard,backup_and_restore,early_stopping,model_checkpoint,learning_rate_scheduler"
SCHEDULE = ["callbacks.learning_rate_scheduler.schedule.path=my_schedules.halve"]
MODULE = """
import keras

def halve(epoch, rate):
    return rate / 2

def whole(epoch, rate):
    return 1

def broken(epoch, rate):
    return {}["rate"]

class EveryBatch(keras.callbacks.Callback):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def on_train_batch_end(self, batch, logs=None):
        pass

def network(input_shape, units):
    return None
"""


@pytest.fixture(autouse=True)
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_schedules.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_schedules", None)


def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> str:
    """The error of a run that has neither loaded data nor written anything."""
    monkeypatch.setattr(loading, "load", lambda config: pytest.fail("the data were loaded"))
    with pytest.raises(ConfigError) as error:
        experiment.run(compose_config([*overrides, f"paths.run={tmp_path / 'run'}", "tracking=none"]))
    assert not (tmp_path / "run").exists()
    return str(error.value)


def node(target: str, **arguments: Any) -> str:
    """+callbacks.mine={_target_: ..., ...} on the command line."""
    given = "".join(f", {key}: {value}" for key, value in arguments.items())
    return f"+callbacks.mine={{_target_: keras.callbacks.{target}{given}}}"


FUNCTION = "{_target_: hydra.utils.get_method, path: MODULE.FUNCTION}"
REFUSED = {
    "patience as a word": (
        node("EarlyStopping", patience="three"),
        "mine.patience must be a number. Received: 'three'.",
    ),
    "no patience": (node("EarlyStopping", patience="null"), "mine.patience must be a number. Received: None."),
    "negative": (node("EarlyStopping", patience=-1), "mine.patience must be a number with value >= 0. Received: -1."),
    "baseline": (node("EarlyStopping", baseline="low"), "mine.baseline must be a number or null. Received: 'low'."),
    "restore": (
        node("EarlyStopping", restore_best_weights="perhaps"),
        "mine.restore_best_weights must be true or false. Received: 'perhaps'.",
    ),
    "mode": (node("EarlyStopping", mode="maximum"), "mine.mode must be auto, min or max. Received: 'maximum'."),
    "factor": (
        node("ReduceLROnPlateau", factor=-0.1),
        "mine.factor must be a number with 0 < value < 1. Received: -0.1.",
    ),
    "schedule": (
        node("LearningRateScheduler", schedule=0.1),
        f"mine.schedule must be a function, {FUNCTION}. Received: 0.1.",
    ),
    "hook": (
        node("LambdaCallback", on_epoch_end="print"),
        f"mine.on_epoch_end must be a function, {FUNCTION}. Received: 'print'.",
    ),
    "metric": (
        node("ModelCheckpoint", filepath="'a/{val_f1:.2f}.keras'"),
        "mine.filepath may have the fields of an epoch. Received: {val_f1} in a/{val_f1:.2f}.keras. "
        "Did you mean val_loss? Choices: accuracy, epoch, loss, val_accuracy, val_loss.",
    ),
    "batch field": (
        node("ModelCheckpoint", filepath="'a/{batch}.keras'"),
        "mine.filepath may have the fields of an epoch. Received: {batch} in a/{batch}.keras. "
        "Choices: accuracy, epoch, loss, val_accuracy, val_loss.",
    ),
    "format": (
        node("ModelCheckpoint", filepath="'a/{val_loss:d}.keras'"),
        "mine.filepath may have the fields of an epoch. Received: a/{val_loss:d}.keras (Unknown format code 'd' for "
        "object of type 'float'). Fields: epoch, val_loss, val_accuracy, loss, accuracy.",
    ),
    "between epochs": (
        node("ModelCheckpoint", filepath="a.keras", save_best_only="true", save_freq=100),
        "mine.save_best_only needs save_freq=epoch: between epochs there is no validation to compare. "
        "Received: save_freq=100.",
    ),
    "save_freq": (
        node("ModelCheckpoint", filepath="a.keras", save_freq=0),
        "mine.save_freq must be epoch, or a number of batches >= 1. Received: 0.",
    ),
    "update_freq": (
        node("TensorBoard", update_freq="epochs"),
        "mine.update_freq must be epoch or batch, or a number of batches >= 1. Received: 'epochs'.",
    ),
    "separator": (
        node("CSVLogger", filename="a.csv", separator="tab"),
        "mine.separator must be one character. Received: 'tab'.",
    ),
    "monitor": (
        node("EarlyStopping", monitor="val_acc"),
        "mine.monitor must be a metric of the training. Received: val_acc. Did you mean val_accuracy? "
        "Choices: accuracy, loss, val_accuracy, val_loss.",
    ),
    "argument": (
        node("EarlyStopping", patient=3),
        "mine.patient is not an argument of keras.callbacks.EarlyStopping. "
        "Did you mean patience? Choices: baseline, min_delta, mode, monitor, patience, "
        "restore_best_weights, start_from_epoch, verbose.",
    ),
    "class": (
        node("EarlyStoping"),
        "mine._target_=keras.callbacks.EarlyStoping: keras.callbacks has no 'EarlyStoping'. Did you mean "
        "EarlyStopping?",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_callback_that_can_only_fail_is_refused_before_the_data_are_loaded(name, tmp_path, monkeypatch) -> None:
    override, message = REFUSED[name]
    found = refusal(tmp_path, monkeypatch, override)
    assert found.startswith(f"callbacks.{message}")
    assert "\n" not in found


def test_an_ending_that_keras_cannot_save_is_refused(tmp_path, monkeypatch) -> None:
    message = refusal(tmp_path, monkeypatch, node("ModelCheckpoint", filepath="a/model"))
    assert message.startswith("callbacks.mine: keras.callbacks.ModelCheckpoint rejected its arguments: The filepath")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (node("CSVLogger", filename="null"), "callbacks.mine.filename must be a path. Received: None."),
        (node("CSVLogger", filename=5), "callbacks.mine.filename must be a path. Received: 5."),
        (node("EarlyStopping", monitor=5), "callbacks.mine.monitor must be a metric of the training. Received: 5."),
        ("+callbacks.mine._target_=5", "callbacks.mine._target_ must name the callback's class"),
    ],
)
def test_arguments_of_another_type_are_refused(override, message, tmp_path, monkeypatch) -> None:
    assert refusal(tmp_path, monkeypatch, override).startswith(message)


def test_only_filepath_has_fields(tmp_path) -> None:
    logger = keras.callbacks.CSVLogger(str(tmp_path / "{epoch}" / "x.csv"))
    saver = keras.callbacks.ModelCheckpoint(str(tmp_path / "a" / "{epoch}" / "x.keras"))
    callback_checks.check_without_model({"log": logger, "save": saver}, ["accuracy"])
    callback_checks.make_folders([logger, saver])
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} >= {"{epoch}", "a"}
    assert list((tmp_path / "a").iterdir()) == []


def test_paths_that_cannot_be_written_are_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    expected = {
        node(
            "CSVLogger", filename=tmp_path / "full"
        ): f"filename must be the path of a file. Received: {tmp_path}/full, which is a folder.",
        node(
            "TensorBoard", log_dir=tmp_path / "file"
        ): f"log_dir must be the path of a folder. Received: {tmp_path}/file, which is a file.",
        node(
            "CSVLogger", filename=tmp_path / "file" / "a.csv"
        ): f"filename={tmp_path}/file/a.csv cannot be written: {tmp_path}/file: Not a directory.",
        node(
            "BackupAndRestore", backup_dir=tmp_path / "full"
        ): f"backup_dir must be empty or new: Keras deletes it after the training. Received: {tmp_path}/full.",
    }
    for override, message in expected.items():
        assert refusal(tmp_path, monkeypatch, override) == f"callbacks.mine.{message}"


def test_two_callbacks_do_not_share_a_file_or_a_folder_that_keras_deletes(tmp_path, monkeypatch) -> None:
    same = [f"+callbacks.{name}={{_target_: keras.callbacks.CSVLogger, filename: {tmp_path}/a.csv}}" for name in "ab"]
    assert refusal(tmp_path, monkeypatch, *same) == (
        f"callbacks.a and callbacks.b write to the same {tmp_path}/a.csv. Give each its own."
    )
    inside = [node("BackupAndRestore", backup_dir=tmp_path / "kept"), same[0].replace("a.csv", "kept/a.csv")]
    assert refusal(tmp_path, monkeypatch, *inside) == (
        "callbacks.mine.backup_dir must be a folder of its own: Keras deletes it after the training. "
        f"Received: {tmp_path}/kept, which callbacks.a writes to."
    )


def test_the_state_of_an_earlier_training_is_not_continued_in_silence(tmp_path, monkeypatch) -> None:
    (tmp_path / "latest.weights.h5").write_text("")
    assert refusal(tmp_path, monkeypatch, node("BackupAndRestore", backup_dir=tmp_path)) == (
        "callbacks.mine.backup_dir holds the state of an earlier training, without its history, callbacks and random "
        f"numbers. Received: {tmp_path}. Start from its weights: init.from={tmp_path}/latest.weights.h5 and another "
        "backup_dir."
    )


@pytest.mark.parametrize(
    ("option", "package", "install"),
    [
        ("TensorBoard", "tensorboard", "pip install 'mnistlab[tensorboard]', or pip install tensorboard"),
        ("RemoteMonitor", "requests", "pip install requests"),
    ],
)
def test_a_missing_package_is_named_with_its_installation(option, package, install, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal(tmp_path, monkeypatch, node(option))
    assert message == f"callbacks.mine needs the package {package}: {install}."


USERS = {
    "+callbacks.mine={_target_: my_schedules.EveryBatch, factr: 1}": (
        "callbacks.mine.factr is not an argument of my_schedules.EveryBatch. Did you mean factor? Choices: factor.\n"
        "callbacks.mine.factor must be given: +callbacks.mine.factor=VALUE."
    ),
    "+callbacks.mine={_target_: my_schedulers.Every}": (
        "callbacks.mine._target_=my_schedulers.Every: there is no module 'my_schedulers' in this environment."
    ),
    "fit.loss={_target_: hydra.utils.get_method, path: my_schedules.halv}": (
        "fit.loss.path=my_schedules.halv: my_schedules has no 'halv'. Did you mean halve? "
        "Choices: EveryBatch, broken, halve, keras, network, whole."
    ),
    "fit.metrics=[{_target_: keras.metrics.AUC, num_threshold: 5}]": (
        "fit.metrics.0.num_threshold is not an argument of keras.metrics.AUC. Did you mean num_thresholds? Choices: "
        "curve, dtype, from_logits, label_weights, multi_label, name, num_labels, num_thresholds, summation_method, "
        "thresholds."
    ),
    "fit.metrics=[{_target_: keras.metrics.AUC, curve: A}]": (
        "fit.metrics.0: keras.metrics.AUC rejected its arguments: "
    ),
    "model=logistic model._target_=my_schedules.network": (
        "model: my_schedules.network must take the arguments input_shape, num_outputs, output_activation. "
        "Missing: num_outputs, output_activation."
    ),
}


@pytest.mark.parametrize("overrides", USERS)
def test_the_users_own_callables_are_imported_before_the_data_are_loaded(overrides, tmp_path, monkeypatch) -> None:
    words = overrides.split() if overrides.startswith("model") else [overrides]
    assert refusal(tmp_path, monkeypatch, *words).startswith(USERS[overrides])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("whole", "must return a float. Received: 1."),
        ("broken", "(epoch=0, learning_rate=0.01) failed: KeyError('rate')."),
    ],
)
def test_a_schedule_that_gives_no_number_is_refused_before_the_training(function, message, tmp_path) -> None:
    path = f"callbacks.learning_rate_scheduler.schedule.path=my_schedules.{function}"
    config = compose_config(["callbacks=learning_rate_scheduler", path, f"paths.run={tmp_path}"])
    with pytest.raises(ConfigError) as error:
        building.build_callbacks(config, new_model())
    assert (
        str(error.value) == f"callbacks.learning_rate_scheduler.schedule{' ' if function == 'whole' else ''}{message}"
    )


def own_metric(labels: Any, outputs: Any) -> Any:
    return keras.ops.mean(outputs, axis=-1)


def new_model(metrics: Any = ("accuracy",)) -> keras.Model:
    model = models.with_preprocessing(models.logistic((28, 28, 1), 10), (28, 28, 1), "unit")
    optimizer = keras.optimizers.SGD(0.01)
    training.compile_model(model, optimizer, loss="auto", metrics=metrics, labels="one_hot")
    return model


def test_a_metric_whose_direction_keras_does_not_know_needs_a_mode() -> None:
    mapping = {"_target_": "hydra.utils.get_method", "path": f"{__name__}.own_metric"}
    model = new_model([mapping])
    stop = keras.callbacks.EarlyStopping(monitor="val_own_metric")
    with pytest.raises(ConfigError) as error:
        training.check_callbacks({"stop": stop}, model, [mapping])
    assert str(error.value) == (
        "callbacks.stop: Keras does not know whether val_own_metric should rise or fall. "
        "Write +callbacks.stop.mode=min or +callbacks.stop.mode=max."
    )
    stop.mode = "max"
    training.check_callbacks({"stop": stop}, model, [mapping])


def test_the_options_write_their_files_into_missing_folders(tmp_path) -> None:
    settings = [
        *("source=mnist_5k", "data.limit=100", "fit.epochs=2", "tracking=none", f"callbacks=[{OPTIONS}]", *SCHEDULE),
        "fit.metrics=[accuracy,{_target_: keras.metrics.F1Score}]",
        "+callbacks.tensorboard.write_images=true",
        "callbacks.tensorboard.histogram_freq=1",
        "callbacks.model_checkpoint.filepath='${paths.run}/best/{epoch}-{val_accuracy:.1f}.keras'",
        "callbacks.csv_logger.filename=${paths.run}/new/folder/epochs.csv",
        f"paths.run={tmp_path / 'run'}",
    ]
    result = experiment.run(compose_config(settings))
    rows = list(csv.DictReader((tmp_path / "run/new/folder/epochs.csv").read_text().splitlines()))
    assert [float(row["val_loss"]) for row in rows] == [epoch["val_loss"] for epoch in result.epochs]
    assert [row["learning_rate"] for row in result.epochs] == [0.005, 0.0025]
    accuracies = [f"{number}-{epoch['val_accuracy']:.1f}.keras" for number, epoch in enumerate(result.epochs, start=1)]
    assert {file.name for file in (tmp_path / "run/best").iterdir()} <= set(accuracies)
    for split in ("train", "validation"):
        (events,) = (tmp_path / "run/tensorboard" / split).iterdir()
        content = events.read_bytes()
        assert (b"epoch_loss" in content, b"epoch_f1_score.3" in content) == (True, True)
    assert b"kernel/histogram" in next((tmp_path / "run/tensorboard/train").iterdir()).read_bytes()
    assert not (tmp_path / "run/backup").exists()  # Keras deletes it after a training that ended well


class Every(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...


SINGLE_BATCHES = {
    "callbacks.mine has on_train_batch_end": lambda path: Every(),
    "callbacks.mine has on_train_batch_begin": lambda path: keras.callbacks.LambdaCallback(on_train_batch_begin=print),
    "callbacks.mine has update_freq=5": lambda path: keras.callbacks.TensorBoard(path, update_freq=5),
    "callbacks.mine has save_freq=5": lambda path: keras.callbacks.ModelCheckpoint(f"{path}/a.keras", save_freq=5),
    "callbacks.mine has write_steps_per_second=true": lambda path: keras.callbacks.TensorBoard(
        path, write_steps_per_second=True
    ),
    "callbacks.mine has profile_batch": lambda path: keras.callbacks.TensorBoard(path, profile_batch=(10, 12)),
    "": lambda path: keras.callbacks.TensorBoard(path, histogram_freq=1),
}


def test_numpy_s_numbers_are_rates_as_for_keras() -> None:
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: np.float32(rate / 2))
    callback_checks.check_callbacks({"rate": scheduler}, new_model(), ["accuracy"])


@pytest.mark.parametrize("reason", SINGLE_BATCHES)
def test_a_callback_for_single_batches_is_trained_by_keras(reason, tmp_path, caplog) -> None:
    found = callback_checks.needs_single_batches({"mine": SINGLE_BATCHES[reason](str(tmp_path))})
    assert found == reason
    engines = [choose_engine(engine, new_model(), few_digits(), 4.0, found) for engine in ("auto", "fused")]
    assert engines == (["keras", "fused"] if reason else ["fused", "fused"])
    blocks = f"{reason}, but the fused engine calls callbacks after blocks of batches"
    assert caplog.messages == (
        [
            f"Training with plain Keras: {blocks} (accept that with fit.engine=fused).",
            f"{blocks}, whose length depends on the machine (fit.engine=keras: every batch).",
        ]
        if reason
        else []
    )


CHECKED = {
    "EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau", "LearningRateScheduler", "CSVLogger", "TensorBoard",
    "BackupAndRestore", "LambdaCallback", "RemoteMonitor", "OrbaxCheckpoint", "SwapEMAWeights",
    "TerminateOnNaN",
}  # fmt: skip
WITHOUT_ARGUMENTS = {"Callback", "History", "ProgbarLogger"}


def test_every_callback_of_keras_has_been_gone_through() -> None:
    found = {name for name, _ in inspect.getmembers(keras.callbacks, inspect.isclass)}
    assert found == CHECKED | WITHOUT_ARGUMENTS | {"CallbackList"}  # CallbackList is no callback, and is refused
    for name in WITHOUT_ARGUMENTS:
        assert not inspect.signature(getattr(keras.callbacks, name)).parameters
