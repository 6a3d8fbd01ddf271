"""The saved model has the weights that were validated, whatever callbacks and optimizers do to weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from small_data import few_digits

from mnistlab import training
from mnistlab.config import ConfigError
from mnistlab.training import models, saving

callbacks, optimizers = keras.callbacks, keras.optimizers
NUM_EPOCHS = 2


def new_model(optimizer: keras.Optimizer) -> keras.Model:
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model = models.with_preprocessing(network, (28, 28, 1), "unit")
    training.compile_model(model, optimizer, loss="auto", metrics=["accuracy"], labels="one_hot")
    return model


def train(optimizer: keras.Optimizer, used: list[Any], engine: str, keep: str = "best", monitor: str = "val_loss"):
    dataset = few_digits()
    training.start_job(0, deterministic=False)
    model = new_model(optimizer)
    training.check_callbacks({str(index): entry for index, entry in enumerate(used)}, model, ["accuracy"])
    plan = training.plan_fit(model, dataset, epochs=NUM_EPOCHS, batch_size=32, seed=0, engine=engine)
    assert plan.engine == engine
    return model, training.fit(model, dataset, plan, keep=keep, monitor=monitor, callbacks=used)


class Noise(callbacks.Callback):
    """Adds to the weights at one moment of every epoch, or at the end."""

    def __init__(self, moment: str) -> None:
        super().__init__()
        setattr(self, moment, self.add)

    def add(self, *arguments: Any, **more: Any) -> None:
        self.model.set_weights([weights + 0.05 for weights in self.model.get_weights()])


class OwnAverage(callbacks.Callback):
    """Validates with an average of its own, as users wrote before Keras had SwapEMAWeights."""

    average: list[np.ndarray] | None = None

    def on_test_begin(self, logs: Any = None) -> None:
        self.trained = self.model.get_weights()
        before = self.average or self.trained
        self.average = [0.5 * one + 0.5 * two for one, two in zip(before, self.trained, strict=True)]
        self.model.set_weights(self.average)

    def on_test_end(self, logs: Any = None) -> None:
        self.model.set_weights(self.trained)


class HalfAtTheEnd(optimizers.SGD):
    """An optimizer with a rule of its own for the final weights, as schedule-free ones have."""

    def finalize_variable_values(self, var_list: Any) -> None:
        for variable in var_list:
            variable.assign(0.5 * variable)
        self.learning_rate.assign(0.0)


def sgd(**arguments: Any) -> Callable[[], keras.Optimizer]:
    return lambda: optimizers.SGD(0.05, **arguments)


AVERAGED = {"use_ema": True, "ema_momentum": 0.9}
CASES: dict[str, tuple[Callable[[], keras.Optimizer], Callable[[], list[Any]]]] = {
    "plain": (sgd(), list),
    "averaged weights": (sgd(**AVERAGED), list),
    "averaged weights, overwritten": (sgd(**AVERAGED, ema_overwrite_frequency=7), list),
    "swapped for validation": (sgd(**AVERAGED), lambda: [callbacks.SwapEMAWeights()]),
    "swapped until the end of the epoch": (sgd(**AVERAGED), lambda: [callbacks.SwapEMAWeights(swap_on_epoch=True)]),
    "averaged, early stopping restores": (
        sgd(**AVERAGED),
        lambda: [callbacks.EarlyStopping(patience=0, min_delta=9, restore_best_weights=True)],
    ),
    "early stopping restores": (
        sgd(),
        lambda: [callbacks.EarlyStopping(patience=0, min_delta=9, restore_best_weights=True)],
    ),
    "rate reduced": (sgd(), lambda: [callbacks.ReduceLROnPlateau(monitor="val_loss", patience=0, min_delta=9)]),
    "changed at the end of each epoch": (sgd(), lambda: [Noise("on_epoch_end")]),
    "changed before each validation": (sgd(), lambda: [Noise("on_test_begin")]),
    "changed after each validation": (sgd(), lambda: [Noise("on_test_end")]),
    "changed at the end of training": (sgd(), lambda: [Noise("on_train_end")]),
    "an average of the user's": (sgd(), lambda: [OwnAverage()]),
    "an optimizer's own final weights": (lambda: HalfAtTheEnd(0.05), list),
}


SETTINGS = (("fused", "best"), ("keras", "last"))
BOTH_ENGINES = ("plain", "averaged weights", "averaged weights, overwritten", "an optimizer's own final weights")


@pytest.mark.long_after(3)
@pytest.mark.parametrize(
    ("name", "engine", "keep"),
    [
        (name, *settings)
        for index, name in enumerate(CASES)
        for settings in (SETTINGS if name in BOTH_ENGINES else SETTINGS[index % 2 :][:1])
    ],
)
def test_the_reloaded_model_has_the_validation_that_was_reported(name, engine, keep, tmp_path) -> None:
    make_optimizer, make_callbacks = CASES[name]
    model, result = train(make_optimizer(), make_callbacks(), engine, keep)
    (file,) = saving.save_model(model, tmp_path, ["keras"])
    reloaded = keras.models.load_model(file, custom_objects={"HalfAtTheEnd": HalfAtTheEnd})
    validation = few_digits().validation
    measured = reloaded.evaluate(
        validation.images, few_digits().targets(validation.labels), batch_size=1000, verbose=0, return_dict=True
    )
    reported = result.metrics()
    for metric in ("loss", "accuracy"):
        assert measured[metric] == pytest.approx(reported[f"best_epoch_val_{metric}"], abs=1e-6)
    tested, _ = training.predict(model, few_digits(), "test", engine)
    test = few_digits().test
    again = reloaded.evaluate(test.images, few_digits().targets(test.labels), batch_size=1000, verbose=0)
    assert [tested["loss"], tested["accuracy"]] == pytest.approx(again, abs=1e-6)


@pytest.mark.long_after(1)
@pytest.mark.parametrize(
    "name", ["averaged weights", "averaged weights, overwritten", "an optimizer's own final weights"]
)
def test_both_engines_validate_with_the_weights_that_keras_ends_with(name) -> None:
    optimizer = CASES[name][0]
    histories = [train(optimizer(), [], engine)[1].history for engine in ("fused", "keras")]
    for ours, theirs in zip(*histories, strict=True):
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-4)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    dataset = few_digits()
    training.start_job(0, deterministic=False)
    plain = new_model(optimizer())  # Keras alone, for as many epochs: it finalizes the weights after the last
    order = [training.fitting.epoch_order(len(dataset.train), 0, epoch) for epoch in range(NUM_EPOCHS)]
    images, targets = (np.concatenate([array[rows] for rows in order]) for array in dataset_arrays())
    steps = NUM_EPOCHS * -(-len(dataset.train) // 32)
    plain.fit(batches(images, targets, len(dataset.train)), steps_per_epoch=steps, shuffle=False, verbose=0)
    measured = plain.evaluate(dataset.validation.images, dataset.targets(dataset.validation.labels), verbose=0)
    assert histories[1][-1]["val_loss"] == pytest.approx(measured[0], rel=1e-4)


def dataset_arrays() -> tuple[np.ndarray, np.ndarray]:
    train = few_digits().train
    return train.images, few_digits().targets(train.labels)


def batches(images: np.ndarray, targets: np.ndarray, num_images: int) -> Any:
    """All epochs as one, with the smaller last batch of each."""
    for epoch in range(0, len(images), num_images):
        for start in range(epoch, epoch + num_images, 32):
            rows = slice(start, min(start + 32, epoch + num_images))
            yield images[rows], targets[rows]


def test_callbacks_see_the_averaged_weights_at_the_end_of_an_epoch(tmp_path) -> None:
    saves = callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    _, result = train(sgd(**AVERAGED)(), [saves], "fused")
    validation = few_digits().validation
    for number, row in enumerate(result.history, start=1):
        saved = keras.models.load_model(tmp_path / f"{number}.keras")
        loss, _ = saved.evaluate(validation.images, few_digits().targets(validation.labels), verbose=0)
        assert loss == pytest.approx(row["val_loss"], abs=1e-6)


@pytest.mark.long_after(1)
@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_the_training_continues_from_the_weights_that_it_trained(engine) -> None:
    plain = train(sgd()(), [], engine)[1]
    averaged = train(sgd(**AVERAGED)(), [], engine)[1]
    assert [row["loss"] for row in plain.history] == pytest.approx([row["loss"] for row in averaged.history], rel=1e-5)
    assert plain.history[0]["val_loss"] != pytest.approx(averaged.history[0]["val_loss"], rel=1e-3)


@pytest.mark.parametrize(("name", "warns"), [("changed at the end of training", True), ("averaged weights", False)])
def test_weights_that_no_validation_has_seen_are_announced(name, warns, caplog) -> None:
    make_optimizer, make_callbacks = CASES[name]
    with caplog.at_level(logging.WARNING):
        _, result = train(make_optimizer(), make_callbacks(), "fused")
    message = (
        "A callback changed the weights after the last validation. The model gets the weights of epoch "
        f"{result.best_epoch}, as they were validated (save.which, save.monitor)."
    )
    assert (message in caplog.messages) is warns


def test_swapping_averages_that_the_optimizer_does_not_have_is_an_error() -> None:
    with pytest.raises(ConfigError) as error:
        training.check_callbacks({"swap": callbacks.SwapEMAWeights()}, new_model(sgd()()), ["accuracy"])
    assert str(error.value) == "callbacks.swap needs averaged weights: set +optimizer.use_ema=true."
