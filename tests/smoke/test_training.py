"""Training: seeds repeat, epochs differ, weights weigh, what cannot work is refused before the first epoch."""

from __future__ import annotations

import logging
import os
import signal

import keras
import numpy as np
import pytest

from mnistlab import experiment, training
from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.data import prepare
from mnistlab.data.sources import mnist_5k
from mnistlab.runtime import background
from mnistlab.tracking.recorder import Recorder
from mnistlab.training import models, saving
from mnistlab.training.callbacks import KeepBest, LogEpochs


def new_model(optimizer="adam", labels="one_hot", units=8, dropout=0.0, rate=None, metrics=("accuracy",)):
    network = models.mlp((28, 28, 1), 10, units=[units], dropout=dropout)
    model = models.with_preprocessing(network, (28, 28, 1), "unit")
    built = keras.optimizers.get(optimizer)
    if rate is not None:
        built.learning_rate = rate
    training.compile_model(model, built, loss="auto", metrics=metrics, labels=labels)
    return model


def train(dataset, seed=0, epochs=2, batch_size=32, callbacks=(), **settings):
    keras.utils.clear_session()
    training.seed_everything(seed, deterministic=False)
    model = new_model(**settings)
    history = keras.callbacks.History()
    training.fit(model, dataset, epochs=epochs, batch_size=batch_size, seed=seed, callbacks=[history, *callbacks])
    return model, history.history


@pytest.fixture(scope="module")
def dataset():
    return prepare(mnist_5k(), limit=300)


def test_equal_seeds_repeat_and_others_differ(dataset) -> None:
    first, again, other = (train(dataset, seed=seed, dropout=0.2)[1] for seed in (0, 0, 1))
    assert first["loss"] == pytest.approx(again["loss"], rel=1e-6)
    assert first["loss"] != pytest.approx(other["loss"], rel=1e-3)


def test_one_hot_and_integer_labels_are_the_same_mathematics() -> None:
    losses = [
        train(prepare(mnist_5k(), limit=300, labels=labels), labels=labels)[1]["loss"]
        for labels in ("one_hot", "integer")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_each_epoch_has_its_own_order_and_misses_nobody(dataset) -> None:
    batches = training.ShuffledBatches(dataset, 32, seed=0)
    assert len(batches) == 10
    epochs = []
    for epoch in range(2):
        batches.begin(epoch)
        epochs.append(np.concatenate([batches[index][0] for index in range(len(batches))]))
    assert len(epochs[0]) == len(dataset.train)
    assert not np.array_equal(epochs[0], epochs[1])
    assert epochs[0].astype(int).sum() == epochs[1].astype(int).sum() == dataset.train.images.astype(int).sum()


def test_class_weights_are_keras_s() -> None:
    weight = {digit: 1.0 + digit for digit in range(10)}
    dataset = prepare(mnist_5k(), limit=300, class_weight=weight)
    ours, _ = train(dataset, epochs=1, batch_size=300, optimizer="sgd", rate=0.5)
    keras.utils.clear_session()
    training.seed_everything(0, deterministic=False)
    theirs = new_model("sgd", rate=0.5)
    order = training.epoch_order(300, 0, 0)
    theirs.fit(
        dataset.train.images[order],
        dataset.targets(dataset.train.labels)[order],
        batch_size=300,
        class_weight=weight,
        shuffle=False,
        verbose=0,
    )
    for mine, keras_s in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, keras_s, rtol=1e-5, atol=1e-7)


def test_a_rare_class_is_recalled_better_with_balanced_weights() -> None:
    recalls = []
    for class_weight in (None, "balanced"):
        dataset = prepare(mnist_5k(), keep={3: 0.03}, class_weight=class_weight)
        model, _ = train(dataset, epochs=3, units=32, rate=0.003)
        _, probabilities = training.predict(model, dataset, "test")
        threes = dataset.test.labels == 3
        recalls.append((probabilities[threes].argmax(1) == 3).mean())
    assert recalls[1] > recalls[0] + 0.05


def test_epochs_are_logged_with_the_rate_they_used(dataset, tmp_path) -> None:
    log = LogEpochs(Recorder(tmp_path))
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 / 2**epoch)
    train(dataset, epochs=3, callbacks=[halve, log])
    assert [row["learning_rate"] for row in log.epochs] == [0.01, 0.005, 0.0025]
    assert all({"loss", "accuracy", "val_loss", "val_accuracy", "epoch_seconds"} <= set(row) for row in log.epochs)


def test_the_best_epoch_s_weights_come_back(dataset) -> None:
    best = KeepBest("val_loss")
    model, history = train(dataset, epochs=4, rate=0.1, callbacks=[best])
    assert best.best_epoch == 1 + int(np.argmin(history["val_loss"]))
    best.restore()
    metrics, _ = training.predict(model, dataset, "validation")
    assert metrics["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-5)


def test_a_run_of_nan_has_no_best_epoch(dataset) -> None:
    best = KeepBest("val_loss")
    train(dataset, optimizer="sgd", rate=1e30, callbacks=[best])
    assert best.best_epoch is None


def test_batch_sizes(caplog) -> None:
    assert training.resolve_batch_size("all", 300) == 300
    assert training.resolve_batch_size(64, 300) == 64
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        assert training.resolve_batch_size(1000, 300) == 300
    assert "more than the 300 training images" in caplog.text


def test_a_monitor_that_no_epoch_will_have_is_refused() -> None:
    callback = keras.callbacks.EarlyStopping(monitor="val_acuracy")
    with pytest.raises(ConfigError, match=r"callbacks.early.monitor.*val_acuracy.*Did you mean val_accuracy"):
        training.check_callbacks({"early": callback}, new_model(), ["accuracy"])


def test_reducing_the_rate_of_a_schedule_is_refused() -> None:
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9))
    callback = keras.callbacks.ReduceLROnPlateau(monitor="val_loss")
    with pytest.raises(ConfigError, match="is a schedule"):
        training.check_callbacks({"reduce_lr": callback}, new_model(optimizer), ["accuracy"])
    training.check_callbacks({"reduce_lr": callback}, new_model(), ["accuracy"])


@pytest.mark.parametrize(("loss", "metrics"), [("categorical_crossentropi", []), ("auto", ["acuracy"])])
def test_unknown_losses_and_metrics_are_refused(loss, metrics) -> None:
    network = models.logistic((28, 28, 1), 10)
    with pytest.raises(ConfigError, match="is not known to Keras"):
        training.compile_model(network, keras.optimizers.SGD(), loss=loss, metrics=metrics, labels="one_hot")


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_a_saved_model_starts_an_equal_one(dataset, tmp_path, name) -> None:
    trained, _ = train(dataset, epochs=1)
    saving.save_model(trained, tmp_path, ["keras", "h5", "weights"])
    fresh = new_model()
    before = fresh.predict(dataset.test.images[:20], verbose=0)
    saving.load_weights(fresh, tmp_path / name)
    after = fresh.predict(dataset.test.images[:20], verbose=0)
    np.testing.assert_allclose(after, trained.predict(dataset.test.images[:20], verbose=0), rtol=1e-6)
    assert not np.allclose(before, after)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_another_architecture_is_refused_with_both_shapes(dataset, tmp_path, name) -> None:
    saving.save_model(new_model(units=8), tmp_path, ["keras", "h5", "weights"])
    with pytest.raises(ConfigError) as refused:
        saving.load_weights(new_model(units=16), tmp_path / name)
    assert "(784, 8)" in str(refused.value)
    assert "(784, 16)" in str(refused.value)


def test_a_damaged_or_missing_model_is_refused(tmp_path) -> None:
    saving.save_model(new_model(), tmp_path, ["keras", "h5", "weights"])
    for name in ("model.keras", "model.h5", "model.weights.h5"):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(ConfigError, match="damaged"):
            saving.load_weights(new_model(), file)
    with pytest.raises(ConfigError, match="does not exist"):
        saving.load_weights(new_model(), tmp_path / "none.keras")
    with pytest.raises(ConfigError, match=r"must be a .keras"):
        (tmp_path / "model.pkl").write_text("")
        saving.load_weights(new_model(), tmp_path / "model.pkl")


def test_a_run_is_complete_when_it_returns_whatever_became_of_the_second_process(tmp_path) -> None:
    small = ["source=mnist_5k", "data.limit=100", "fit.epochs=1", "tracking=none"]
    for name in ("first", "second"):
        result = experiment.run(compose_config([*small, f"paths.run={tmp_path / name}"]))
        assert {file.name for file in (result.folder / "figures").iterdir()} == {
            "confusion_matrix.png",
            "learning_curves.png",
            "wrong_images.png",
        }
        os.kill(background.call(os.getpid), signal.SIGKILL)
