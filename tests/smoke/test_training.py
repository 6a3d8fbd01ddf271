"""Training: seeds repeat, epochs differ, class weights apply; mistakes are found before the first epoch."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import signal

import keras
import numpy as np
import pytest
from small_data import digits, few_digits

from mnistlab import experiment, training
from mnistlab.comparison import metric_direction
from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.data import Dataset, epoch_order, prepare
from mnistlab.tracking import background
from mnistlab.training import TrainingResult, models, saved_epoch, saving
from mnistlab.training.callbacks import KeepEpoch, is_better, lower_is_better
from mnistlab.training.engine.fused import NonFiniteLoss
from mnistlab.training.fitting import ShuffledBatches
from mnistlab.training.plan import resolve_batch_size


def new_model(optimizer="adam", labels="one_hot", units=8, dropout=0.0, rate=None, metrics=("accuracy",)):
    network = models.mlp((28, 28, 1), 10, units=[units], dropout=dropout)
    model = models.with_preprocessing(network, (28, 28, 1), "unit")
    built = keras.optimizers.get(optimizer)
    if rate is not None:
        built.learning_rate = rate
    training.compile_model(model, built, loss="auto", metrics=metrics, labels=labels)
    return model


def train(
    dataset: Dataset,
    seed=0,
    epochs=2,
    batch_size=32,
    keep="last",
    callbacks=(),
    on_epoch=None,
    engine="auto",
    **settings,
):
    """A model, trained from the seed, and the training's result."""
    training.start_job(seed, deterministic=False)
    model = new_model(**settings)
    plan = training.plan_fit(model, dataset, epochs=epochs, batch_size=batch_size, seed=seed, engine=engine)
    observe = {"on_epoch": on_epoch} if on_epoch else {}
    return model, training.fit(model, dataset, plan, keep=keep, callbacks=callbacks, **observe)


def column(result: TrainingResult, metric: str) -> list[float]:
    return [row[metric] for row in result.history]


def test_equal_seeds_repeat_and_others_differ() -> None:
    losses = [column(train(few_digits(), seed=seed, dropout=0.2)[1], "loss") for seed in (0, 0, 1)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_one_hot_and_integer_labels_are_the_same_mathematics() -> None:
    losses = [
        column(train(prepare(digits(), limit=300, labels=labels), labels=labels)[1], "loss")
        for labels in ("one_hot", "integer")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_each_epoch_has_its_order_and_every_image() -> None:
    train_images = few_digits().train.images
    batches = ShuffledBatches(few_digits(), 32, seed=0)
    assert len(batches) == 10
    epochs = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        epochs.append(np.concatenate([batches[index][0] for index in range(len(batches))]))
    assert len(epochs[0]) == len(train_images)
    assert not np.array_equal(epochs[0], epochs[1])
    assert epochs[0].astype(int).sum() == epochs[1].astype(int).sum() == train_images.astype(int).sum()


def test_class_weights_are_those_of_keras() -> None:
    weight = {digit: 1.0 + digit for digit in range(10)}
    dataset = prepare(digits(), limit=300, class_weight=weight)
    ours, _ = train(dataset, epochs=1, batch_size=300, optimizer="sgd", rate=0.5)
    training.start_job(0, deterministic=False)
    theirs = new_model("sgd", rate=0.5)
    order = epoch_order(300, 0, 0)
    theirs.fit(
        dataset.train.images[order],
        dataset.targets(dataset.train.labels)[order],
        batch_size=300,
        class_weight=weight,
        shuffle=False,
        verbose=0,
    )
    for our_weights, their_weights in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(our_weights, their_weights, rtol=1e-5, atol=1e-7)


@pytest.mark.long
def test_a_rare_class_is_recalled_better_with_balanced_weights() -> None:
    recalls = []
    for class_weight in (None, "balanced"):
        dataset = prepare(digits(), keep={3: 0.03}, class_weight=class_weight)
        model, _ = train(dataset, epochs=3, units=32, rate=0.003)
        _, probabilities = training.predict(model, dataset, "test")
        threes = dataset.test.labels == 3
        recalls.append((probabilities[threes].argmax(1) == 3).mean())
    assert recalls[1] > recalls[0] + 0.05


def test_epochs_are_reported_with_the_rate_they_used() -> None:
    reported = []
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 / 2**epoch)
    _, result = train(
        few_digits(), epochs=3, callbacks=[halve], on_epoch=lambda row, epoch: reported.append((epoch, row))
    )
    assert column(result, "learning_rate") == [0.01, 0.005, 0.0025]
    metrics = {"loss", "accuracy", "val_loss", "val_accuracy", "epoch_seconds"}
    assert all(metrics <= set(row) for row in result.history)
    assert reported == list(enumerate(result.history, start=1))


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    model, result = train(few_digits(), epochs=4, rate=0.1, keep="best")
    losses = column(result, "val_loss")
    assert result.best_epoch == 1 + int(np.argmin(losses))
    metrics, _ = training.predict(model, few_digits(), "validation")
    assert metrics["loss"] == pytest.approx(min(losses), rel=1e-5)


def test_auto_saves_the_best_epoch_unless_it_would_be_chosen_by_the_test_set() -> None:
    held_out = few_digits()
    on_test, keras_split = prepare(digits(), limit=300, validation="test"), few_digits_without_test()
    chosen = {
        which: [saved_epoch(which, data) for data in (held_out, on_test, keras_split)]
        for which in ("auto", "best", "last")
    }
    assert chosen == {
        "auto": ["best", "last", "last"],
        "best": ["best", "best", "best"],
        "last": ["last", "last", "last"],
    }


def worse_in_the_last_epoch(epochs: int = 3) -> keras.callbacks.Callback:
    """A learning rate that is far too large in the last epoch, so that an earlier one is the best."""
    return keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 if epoch < epochs - 1 else 1.0)


def few_digits_without_test() -> Dataset:
    """data.split=keras without a test folder: the validation images are the test images."""
    source = dataclasses.replace(digits(), test=None)
    return prepare(source, split="keras", validation_fraction=0.25, limit=300)


@pytest.mark.parametrize("engine", ["fused", "keras"])
@pytest.mark.parametrize("restores", [False, True])
def test_with_the_test_set_as_validation_the_last_epoch_is_reported_and_saved(engine, restores) -> None:
    dataset = prepare(digits(), limit=300, validation="test")
    restoring = [keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)] if restores else []
    callbacks = [worse_in_the_last_epoch(), *restoring]
    model, result = train(dataset, keep="last", engine=engine, callbacks=callbacks, epochs=3)
    losses = column(result, "val_loss")
    assert int(np.argmin(losses)) < len(losses) - 1
    assert (result.best_epoch, result.reported) == (len(losses), "last")
    assert result.metrics()["best_epoch_val_loss"] == losses[-1]
    metrics, _ = training.predict(model, dataset, "test")
    assert metrics["loss"] == pytest.approx(losses[-1], rel=1e-5)


def test_best_and_the_test_set_as_validation_is_a_choice_that_a_user_can_make() -> None:
    dataset = prepare(digits(), limit=300, validation="test")
    model, result = train(dataset, keep="best", callbacks=[worse_in_the_last_epoch()], epochs=3)
    losses = column(result, "val_loss")
    assert (result.best_epoch, result.reported) == (1 + int(np.argmin(losses)), "best")
    metrics, _ = training.predict(model, dataset, "test")
    assert metrics["loss"] == pytest.approx(min(losses), rel=1e-5)


def test_last_on_a_hold_out_saves_and_reports_the_last_epoch() -> None:
    model, result = train(few_digits(), keep="last", callbacks=[worse_in_the_last_epoch()], epochs=3)
    losses = column(result, "val_loss")
    assert (result.best_epoch, result.reported) == (3, "last")
    assert result.metrics()["best_epoch_val_loss"] == losses[-1]
    metrics, _ = training.predict(model, few_digits(), "validation")
    assert metrics["loss"] == pytest.approx(losses[-1], rel=1e-5)
    assert metrics["loss"] > min(losses) * 1.01


@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_a_last_epoch_that_is_not_finite_stays_diverged(engine) -> None:
    dataset = prepare(digits(), limit=300, validation="test")
    raise_rate = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 if epoch < 2 else 1e30)
    _, result = train(dataset, keep="last", engine=engine, epochs=3, optimizer="sgd", callbacks=[raise_rate])
    assert [math.isfinite(value) for value in column(result, "loss")] == [True, True, False]
    assert result.best_epoch is None
    assert set(result.metrics()) == {"train_seconds", "steps_per_epoch"}
    assert result.outcome(learned=True)["outcome"] == "diverged"
    assert result.outcome(learned=True)["outcome.epoch"] == 3


def test_a_training_of_nan_has_no_best_epoch() -> None:
    _, result = train(few_digits(), optimizer="sgd", rate=1e30, keep="best")
    assert result.best_epoch is None
    assert set(result.metrics()) == {"train_seconds", "steps_per_epoch"}
    outcome = result.outcome(learned=True)
    assert outcome["outcome"] == "diverged"
    assert outcome["outcome.epoch"] == 1
    assert outcome["outcome.step"] == result.diverged.step
    assert outcome["outcome.learning_rate"] == pytest.approx(1e30)


def test_better_is_lower_for_losses_and_higher_for_other_metrics() -> None:
    best = KeepEpoch("val_accuracy")
    best.set_model(new_model())
    for epoch, accuracy in enumerate((math.nan, 0.5, 0.75, 0.75, 0.25)):
        best.on_epoch_end(epoch, {"val_accuracy": accuracy})
    assert (best.epoch, best.value) == (3, 0.75)
    assert is_better("val_loss", 0.1, 0.2)
    assert is_better("val_mean_absolute_error", 0.1, math.nan)
    assert not is_better("val_loss", math.inf, math.nan)
    assert not is_better("accuracy", 0.1, 0.2)


def test_the_best_epoch_and_a_comparison_agree_on_the_direction_of_keras_metrics() -> None:
    names = [name for name in dir(keras.metrics) if callable(getattr(keras.metrics, name)) and name[0] != "_"]
    short = ["mse", "mae", "mape", "msle", "logcosh", "auc_1", "mae_2"]
    known = {name: direction for name in (*names, *short) if (direction := metric_direction(name))}
    assert {*short, "hinge", "KLDivergence", "Poisson", "AUC", "binary_accuracy"} <= set(known)
    assert {f"val_{name}": lower_is_better(f"val_{name}") for name in known} == {
        f"val_{name}": direction == "lower" for name, direction in known.items()
    }


ROWS = [
    {"loss": 2.0, "val_loss": 1.0, "val_accuracy": 0.5, "learning_rate": 0.1, "epoch_seconds": 1.0},
    {"loss": 1.0, "val_loss": 1.5, "val_accuracy": 0.25, "learning_rate": 0.05, "epoch_seconds": 1.0},
]


def test_the_metrics_of_a_result_are_those_of_its_best_epoch() -> None:
    result = TrainingResult(ROWS, best_epoch=1, seconds=2.5, steps_per_epoch=10)
    assert result.metrics() == {
        "best_epoch": 1,
        "best_epoch_loss": 2.0,
        "best_epoch_val_loss": 1.0,
        "best_epoch_val_accuracy": 0.5,
        "min_val_loss": 1.0,
        "max_val_accuracy": 0.5,
        "train_seconds": 2.5,
        "steps_per_epoch": 10,
    }


def test_the_outcome_of_a_result() -> None:
    result = TrainingResult(ROWS, best_epoch=1, seconds=2.5, steps_per_epoch=10)
    assert result.outcome(learned=True) == {"outcome": "trained"}
    assert result.outcome(learned=False) == {
        "outcome": "diverged",
        "outcome.epoch": 2,
        "outcome.step": "",
        "outcome.learning_rate": 0.05,
        "outcome.last_finite_loss": 1.0,
    }
    rows = [*ROWS, {"loss": math.nan, "val_loss": math.nan, "learning_rate": 0.05}]
    found = NonFiniteLoss(epoch=3, step=7, loss=math.nan, last_finite_loss=0.75)
    assert TrainingResult(rows, 1, 2.5, 10, found).outcome(learned=True) == {
        "outcome": "diverged",
        "outcome.epoch": 3,
        "outcome.step": 7,
        "outcome.learning_rate": 0.05,
        "outcome.last_finite_loss": 0.75,
    }
    unexplained = TrainingResult([{"loss": math.inf, "learning_rate": 0.1}], None, 2.5, 10)
    assert unexplained.outcome(learned=False)["outcome.last_finite_loss"] == ""


def test_batch_sizes(caplog) -> None:
    assert resolve_batch_size("all", 300) == 300
    assert resolve_batch_size(64, 300) == 64
    assert caplog.text == ""
    assert resolve_batch_size(1000, 300) == 300
    with caplog.at_level(logging.WARNING):
        plan = training.plan_fit(new_model(), few_digits(), epochs=1, batch_size=1000, seed=0)
    assert (plan.batch_size, plan.steps_per_epoch) == (300, 1)
    assert "fit.batch_size=1000 is more than the 300 training images" in caplog.text


def test_a_monitor_that_no_epoch_will_have_is_an_error() -> None:
    callback = keras.callbacks.EarlyStopping(monitor="val_acuracy")
    with pytest.raises(ConfigError, match=r"callbacks.early.monitor.*val_acuracy.*Did you mean val_accuracy"):
        training.check_callbacks({"early": callback}, new_model(), ["accuracy"])


def test_reducing_the_rate_of_a_schedule_is_an_error() -> None:
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9))
    callback = keras.callbacks.ReduceLROnPlateau(monitor="val_loss")
    with pytest.raises(ConfigError, match="is a schedule"):
        training.check_callbacks({"reduce_lr": callback}, new_model(optimizer), ["accuracy"])
    training.check_callbacks({"reduce_lr": callback}, new_model(), ["accuracy"])


@pytest.mark.parametrize(("loss", "metrics"), [("categorical_crossentropi", []), ("auto", ["acuracy"])])
def test_unknown_losses_and_metrics_are_errors(loss, metrics) -> None:
    network = models.logistic((28, 28, 1), 10)
    with pytest.raises(ConfigError, match="is not known to Keras"):
        training.compile_model(network, keras.optimizers.SGD(), loss=loss, metrics=metrics, labels="one_hot")


FILES = ["model.keras", "model.h5", "model.weights.h5"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained model and the folder that it is saved in, in every format."""
    folder = tmp_path_factory.mktemp("saved")
    trained, _ = train(few_digits(), epochs=1)
    saving.save_model(trained, folder, ["keras", "h5", "weights"])
    return trained, folder


@pytest.mark.parametrize("name", FILES)
def test_a_saved_model_starts_an_equal_one(saved, name) -> None:
    trained, folder = saved
    images, fresh = few_digits().test.images[:20], new_model()
    before = fresh(images)
    saving.load_weights(fresh, folder / name)
    np.testing.assert_allclose(fresh(images), trained(images), rtol=1e-6)
    assert not np.allclose(before, fresh(images))


@pytest.mark.parametrize("name", FILES)
def test_another_architecture_is_an_error_with_both_shapes(saved, name) -> None:
    with pytest.raises(ConfigError) as error:
        saving.load_weights(new_model(units=16), saved[1] / name)
    assert "(784, 8)" in str(error.value)
    assert "(784, 16)" in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_model_is_an_error(saved, tmp_path, name) -> None:
    content = (saved[1] / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match="damaged"):
        saving.load_weights(new_model(), tmp_path / name)


def test_a_missing_model_and_one_of_another_type_are_errors(tmp_path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        saving.load_weights(new_model(), tmp_path / "none.keras")
    (tmp_path / "model.pkl").write_text("")
    with pytest.raises(ConfigError, match=r"must be a .keras"):
        saving.load_weights(new_model(), tmp_path / "model.pkl")


def test_a_run_is_complete_when_it_returns_even_after_the_background_process_died(tmp_path) -> None:
    small = ["source=mnist_5k", "data.limit=100", "fit.epochs=1", "tracking=none"]
    for name in ("first", "second"):
        result = experiment.run(compose_config([*small, f"paths.run={tmp_path / name}"]))
        assert {file.name for file in (result.folder / "figures").iterdir()} == {
            "confusion_matrix.png",
            "learning_curves.png",
            "wrong_images.png",
        }
        os.kill(background.call(os.getpid), signal.SIGKILL)


@pytest.mark.long
def test_a_run_with_the_test_set_as_validation_says_which_epoch_counts(tmp_path, caplog) -> None:
    schedule = "keras.optimizers.schedules.PiecewiseConstantDecay"  # far too large in the last 10 of 30 steps
    rate = f"optimizer.learning_rate={{_target_: {schedule}, boundaries: [20], values: [0.01, 1.0]}}"
    small = ["source=mnist_5k", "data.limit=300", rate, "tracking=none"]
    experiment._warn_once.cache_clear()
    results, texts = {}, {}
    for which in ("auto", "best"):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            overrides = [*small, "data=notebook", f"save.which={which}", f"paths.run={tmp_path / which}"]
            results[which], texts[which] = experiment.run(compose_config(overrides)), caplog.text
    losses = [row["val_loss"] for row in results["auto"].epochs]
    best = 1 + int(np.argmin(losses))
    assert best < 3
    assert results["auto"].best_epoch == results["auto"].metrics["best_epoch"] == 3
    assert results["auto"].metrics["best_epoch_val_loss"] == losses[-1]
    assert results["auto"].metrics["test_loss"] == pytest.approx(losses[-1], rel=1e-5)
    assert results["best"].metrics["test_loss"] == pytest.approx(min(losses), rel=1e-5)
    assert "so the last epoch is reported and saved" in texts["auto"]
    assert "last epoch 3 of 3; trained in" in texts["auto"]
    assert "save.which=best chooses the epoch by them" in texts["best"]
    assert f"best epoch {best} of 3 by val_loss; trained in" in texts["best"]
