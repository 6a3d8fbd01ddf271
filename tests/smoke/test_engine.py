"""The fused engine computes what Keras computes: each step as `train_on_batch`, epochs as plain `fit`."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from small_data import digits, few_digits

from mnistlab import training
from mnistlab.config import ConfigError
from mnistlab.data import Dataset, prepare
from mnistlab.training import TrainingResult, models
from mnistlab.training.engine import fused, program, programs
from mnistlab.training.plan import choose_engine

STEPS = 20
layers, optimizers = keras.layers, keras.optimizers


def mlp(*extra: Any, classes: int = 10, units: int = 128) -> keras.Model:
    head = layers.Dense(classes, activation="softmax" if classes > 1 else "sigmoid")
    front = [keras.Input((28, 28, 1), dtype="uint8"), layers.Rescaling(1 / 255), layers.Flatten()]
    return keras.Sequential([*front, layers.Dense(units, activation="relu"), *extra, head])


def cnn() -> keras.Model:
    network = models.cnn((28, 28, 1), 10, filters=(8, 8), units=16)
    return models.with_preprocessing(network, (28, 28, 1), "unit")


@dataclass
class Case:
    optimizer: Any
    batch_size: int = 32
    num: int = 0
    network: Any = mlp
    weights: dict[int, float] | None = None
    loss: str = "categorical_crossentropy"
    images: int = field(init=False)

    def __post_init__(self) -> None:
        self.images = self.num or STEPS * self.batch_size


SKEW = {digit: 1.0 + digit for digit in range(10)}
CASES = {
    # the guide's seven
    "batch_gd": Case(lambda: optimizers.SGD(0.01), 2000, 2000),
    "sgd": Case(lambda: optimizers.SGD(0.01), 1),
    "minibatch_gd": Case(lambda: optimizers.SGD(0.01)),
    "momentum": Case(lambda: optimizers.SGD(0.01, momentum=0.9)),
    "adagrad": Case(lambda: optimizers.Adagrad(0.01)),
    "rmsprop": Case(lambda: optimizers.RMSprop(0.01)),
    "adam": Case(lambda: optimizers.Adam(0.01)),
    # weights and a smaller last batch
    "class weights, one image a step": Case(lambda: optimizers.Adam(0.001), 1, weights=SKEW),
    "smaller last batch, weights, slots": Case(lambda: optimizers.Adam(0.01), 32, 19 * 32 + 7, weights=SKEW),
    # labels
    "integer labels": Case(lambda: optimizers.Adam(0.01), loss="sparse_categorical_crossentropy"),
    "binary": Case(lambda: optimizers.Adam(0.01), 32, 19 * 32 + 3, lambda: mlp(classes=1), loss="binary_crossentropy"),
    # what an optimizer can do besides
    "schedule": Case(lambda: optimizers.SGD(optimizers.schedules.ExponentialDecay(0.05, 3, 0.8))),
    "clipping": Case(lambda: optimizers.Adam(0.01, global_clipnorm=0.1)),
    "averaged weights": Case(lambda: optimizers.SGD(0.01, use_ema=True, ema_overwrite_frequency=5)),
    "accumulated gradients": Case(lambda: optimizers.SGD(0.01, gradient_accumulation_steps=3)),
    "weight decay": Case(lambda: optimizers.AdamW(0.01, weight_decay=0.1)),
    # layers with randomness, state, losses of their own
    "dropout": Case(lambda: optimizers.SGD(0.01), 32, 19 * 32 + 16, lambda: mlp(layers.Dropout(0.5))),
    "batch normalization": Case(lambda: optimizers.SGD(0.01), 32, 624, lambda: mlp(layers.BatchNormalization())),
    "regularized": Case(
        lambda: optimizers.SGD(0.01),
        32,
        19 * 32 + 16,
        lambda: mlp(layers.Dense(32, kernel_regularizer="l2", activity_regularizer="l1", kernel_constraint="max_norm")),
    ),
    "cnn": Case(lambda: optimizers.Adam(0.001), 32, 5 * 32 + 16, cnn),
}
CASES["adafactor"] = Case(lambda: optimizers.Adafactor(0.001, epsilon_1=1e-10), 32, 8 * 32)
for _name in ("Adadelta", "Adamax", "Nadam", "Ftrl", "Lion", "Lamb", "Muon"):
    CASES[_name.lower()] = Case(functools.partial(getattr(optimizers, _name), learning_rate=0.001), 32, 8 * 32)


@functools.cache
def shuffled_digits() -> tuple[np.ndarray, np.ndarray]:
    train = digits().train
    order = np.random.default_rng(0).permutation(len(train))
    return train.images[order], train.labels[order]


def labels_for(case: Case, labels: np.ndarray) -> np.ndarray:
    if case.loss == "sparse_categorical_crossentropy":
        return labels.astype(np.int32)
    if case.loss == "binary_crossentropy":
        return (labels[:, None] % 2).astype(np.float32)
    return np.eye(10, dtype=np.float32)[labels]


def compiled(case: Case) -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    network = case.network()
    network.compile(case.optimizer(), case.loss, metrics=["accuracy"])
    network.optimizer.build(network.trainable_variables)
    return network


def fit(network: keras.Model, dataset: Dataset, *, callbacks: Any = (), **settings: Any) -> TrainingResult:
    plan = training.plan_fit(network, dataset, **settings)
    return training.fit(network, dataset, plan, keep="last", callbacks=callbacks)


def column(result: TrainingResult, metric: str) -> list[float]:
    return [row[metric] for row in result.history]


def state(network: keras.Model) -> list[np.ndarray]:
    return [variable.numpy().astype(np.float64) for variable in (*network.variables, *network.optimizer.variables)]


class EachStep(keras.callbacks.Callback):
    """Keeps the running loss and all variables after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.losses, self.states = [], []

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.losses.append(float(logs["loss"]))
        self.states.append(state(self.model))


@pytest.mark.long_after(3)
@pytest.mark.long_after(5)
@pytest.mark.parametrize("name", CASES)
def test_every_step_is_the_step_that_keras_makes(name: str, monkeypatch) -> None:
    case = CASES[name]
    images, classes = shuffled_digits()
    labels = labels_for(case, classes)
    order = np.random.default_rng(3).permutation(len(images))[: case.images].astype(np.int32)
    data = fused.place_on_device(images, labels)
    if case.weights:
        data = data.weighted(np.vectorize(case.weights.get)(classes))
    monkeypatch.setattr(program.Plan, "block_length", 1)  # Keras's callbacks see every step
    watch, ours, plain = EachStep(), compiled(case), compiled(case)
    fused.fit(ours, data, lambda _: order, batch_size=case.batch_size, epochs=1, callbacks=[watch])

    total = 0.0
    for step, start in enumerate(range(0, case.images, case.batch_size)):
        rows = order[start : start + case.batch_size]
        loss = plain.train_on_batch(images[rows], labels[rows], class_weight=case.weights)[0]
        total += loss * len(rows)
        assert watch.losses[step] == pytest.approx(total / (start + len(rows)), rel=1e-5), f"loss at step {step + 1}"
        for mine, theirs in zip(watch.states[step], state(plain), strict=True):
            gap = np.linalg.norm(mine - theirs) / (np.linalg.norm(theirs) or 1.0)
            assert gap < 1e-5, f"weights at step {step + 1}"
    assert len(watch.losses) == math.ceil(case.images / case.batch_size)  # nothing dropped

    metrics, outputs = fused.evaluate(ours, data, np.arange(1000, dtype=np.int32))
    expected = ours.evaluate(images[:1000], labels[:1000], batch_size=100, verbose=0, return_dict=True)
    assert metrics == pytest.approx(expected, rel=2e-6)
    np.testing.assert_allclose(outputs, ours(images[:1000], training=False), rtol=1e-4, atol=1e-6)


@pytest.mark.long
@hypothesis.settings(
    max_examples=1,  # besides the four
    deadline=None,
    derandomize=True,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)
@hypothesis.example(num=41, batch_size=80, optimizer="rmsprop", weighted=False)  # one step
@hypothesis.example(num=40, batch_size=20, optimizer="sgd", weighted=True)  # full steps only
@hypothesis.example(num=33, batch_size=16, optimizer="adam", weighted=True)  # a last step of one image
@hypothesis.example(num=21, batch_size=1, optimizer="adagrad", weighted=False)
@hypothesis.given(
    num=st.integers(20, 70),
    batch_size=st.integers(1, 80),
    optimizer=st.sampled_from(["sgd", "adam", "rmsprop", "adagrad"]),
    weighted=st.booleans(),
)
def test_sizes_weights_and_optimizers_in_any_combination(num, batch_size, optimizer, weighted) -> None:
    dataset = prepare(digits(), limit=num, class_weight=SKEW if weighted else None)
    case = Case(lambda: optimizers.get(optimizer), network=lambda: mlp(units=8))
    results = []
    for engine in ("fused", "keras"):
        network = compiled(case)
        result = fit(network, dataset, epochs=2, batch_size=min(batch_size, num), seed=4, engine=engine)
        results.append((result, network.get_weights()))
    (fused_result, fused_weights), (keras_result, keras_weights) = results
    for metric in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert column(fused_result, metric) == pytest.approx(column(keras_result, metric), rel=1e-3, abs=1e-5)
    for ours, theirs in zip(fused_weights, keras_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.long_after(1)
@pytest.mark.parametrize("name", ["sgd", "minibatch_gd", "momentum", "adam"])
def test_the_loss_of_an_epoch_agrees(name: str) -> None:
    case, losses = CASES[name], []
    for engine in ("fused", "keras"):
        batch_size = case.batch_size * (4 if name == "sgd" else 1)
        result = fit(compiled(case), few_digits(1500), epochs=1, batch_size=batch_size, seed=0, engine=engine)
        losses.append(result.history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_callbacks_see_the_plain_network_and_can_stop_it(tmp_path) -> None:
    dataset, network = few_digits(), compiled(CASES["adam"])
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=0, min_delta=10, restore_best_weights=True)
    saved = keras.callbacks.ModelCheckpoint(tmp_path / "each-{epoch}.keras")
    restored = []
    images = dataset.test.images[:20]
    at_end = keras.callbacks.LambdaCallback(on_train_end=lambda logs: restored.append(network(images)))
    result = fit(network, dataset, epochs=9, batch_size=32, seed=0, engine="fused", callbacks=[stop, saved, at_end])
    assert len(result.history) == 2  # stopped after the epoch that was not better by 10
    first = keras.models.load_model(tmp_path / "each-1.keras")
    np.testing.assert_allclose(first(images), restored[0], rtol=1e-5)
    assert type(first) is keras.Sequential
    # afterwards the network is an ordinary one again
    network.fit(dataset.train.images[:64], dataset.targets(dataset.train.labels[:64]), verbose=0)


def test_a_callback_may_evaluate_data_of_its_own() -> None:
    dataset, network, measured = few_digits(), compiled(CASES["adam"]), []
    images, targets = dataset.test.images[:250], dataset.targets(dataset.test.labels[:250])

    def evaluate(epoch, logs) -> None:
        measured.append(network.evaluate(images, targets, batch_size=40, verbose=0))

    watch = keras.callbacks.LambdaCallback(on_epoch_end=evaluate)
    result = fit(network, dataset, epochs=2, batch_size=32, seed=0, engine="fused", callbacks=[watch])
    unwatched = fit(compiled(CASES["adam"]), dataset, epochs=2, batch_size=32, seed=0, engine="fused")
    assert measured[1] == pytest.approx(network.evaluate(images, targets, batch_size=40, verbose=0), rel=1e-5)
    assert column(result, "val_loss") == column(unwatched, "val_loss")


def test_a_reduced_learning_rate_takes_effect() -> None:
    network = compiled(CASES["minibatch_gd"])
    to_zero = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 if epoch == 0 else 0.0)
    weights = []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(network.get_weights()))
    fit(network, few_digits(), epochs=3, batch_size=32, seed=0, engine="fused", callbacks=[to_zero, keep])
    assert all(np.array_equal(before, after) for before, after in zip(weights[0], weights[2], strict=True))


def test_jobs_of_one_shape_share_the_program_but_not_the_weights() -> None:
    programs._programs.clear()
    losses = []
    for rate in (0.1, 0.001, 0.1):
        network = compiled(Case(lambda rate=rate: optimizers.SGD(rate)))
        losses.append(column(fit(network, few_digits(), epochs=2, batch_size=32, seed=0, engine="fused"), "loss"))
    assert len(programs._programs) == 1
    assert losses[0] == losses[2]
    assert losses[0] != losses[1]


def train_in_rounds(num_options: int, num_rounds: int, forget: bool) -> list[list[float]]:
    """Losses of options that need a program each, all of them once with each seed; forget: compile every job anew."""
    programs._programs.clear()
    losses = []
    for seed in range(num_rounds):
        for option in range(num_options):
            if forget:
                programs._programs.clear()
            keras.utils.set_random_seed(seed)
            network = compiled(Case(lambda option=option: optimizers.SGD(0.1, momentum=option / 100)))
            result = fit(network, few_digits(), epochs=1, batch_size=32, seed=seed, engine="fused")
            losses.append([*column(result, "loss"), *column(result, "val_loss")])
    return losses


@pytest.mark.long
def test_the_second_seed_of_many_options_compiles_nothing_and_gives_the_same_numbers(monkeypatch) -> None:
    traced: list[object] = []
    run_block = program.Program._run_block

    def count(self, *data):
        traced.append(self)
        return run_block(self, *data)

    monkeypatch.setattr(program.Program, "_run_block", count)
    num_options = programs.FEW_PROGRAMS + 1
    losses = train_in_rounds(num_options, 2, forget=False)
    assert len(set(map(id, traced))) == num_options
    num_traced = len(traced)
    assert losses == train_in_rounds(num_options, 2, forget=True)
    assert len(traced) == 3 * num_traced


def test_few_programs_are_kept_of_large_networks(monkeypatch) -> None:
    programs._programs.clear()
    monkeypatch.setattr(programs, "KEPT_BYTES", 100_000)
    networks = [
        compiled(Case(lambda: optimizers.SGD(0.1), network=functools.partial(mlp, units=8 + n))) for n in range(10)
    ]
    assert all(programs.program_for(network) for network in networks)
    assert len(programs._programs) == programs.FEW_PROGRAMS
    monkeypatch.setattr(programs, "KEPT_BYTES", 10_000_000)
    assert all(programs.program_for(network) for network in networks)
    assert len(programs._programs) == 10


def test_the_length_of_a_block_changes_no_number(monkeypatch) -> None:
    """It depends on the machine's speed."""
    results = []
    for block in (1, 7, 1000):
        monkeypatch.setattr(program.Plan, "block_length", block)
        network = compiled(Case(lambda: optimizers.Adam(0.01)))
        result = fit(network, few_digits(), epochs=2, batch_size=16, seed=0, engine="fused")
        results.append([column(result, metric) for metric in ("loss", "accuracy", "val_loss", "val_accuracy")])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_a_loss_that_is_not_finite_ends_the_training_at_its_step(engine: str) -> None:
    network = compiled(Case(lambda: optimizers.SGD(1e30)))
    result = fit(network, few_digits(640), epochs=5, batch_size=32, seed=0, engine=engine)
    assert result.diverged is not None
    assert result.diverged.epoch == 1
    assert 2 <= result.diverged.step <= 4
    assert math.isfinite(result.diverged.last_finite_loss)
    assert len(result.history) == 1


class OwnStep(keras.Model):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def test_a_network_that_cannot_be_fused_is_trained_by_keras_with_a_warning(caplog) -> None:
    base = mlp(units=8)
    network = OwnStep(base.inputs, base.outputs)
    network.compile("adam", "categorical_crossentropy")
    dataset = few_digits()
    assert choose_engine("auto", network, dataset, 4.0) == "keras"
    assert "OwnStep has a train_step of its own" in caplog.text
    with pytest.raises(ConfigError, match="OwnStep"):
        choose_engine("fused", network, dataset, 4.0)
    assert choose_engine("auto", compiled(CASES["adam"]), dataset, 1e-6) == "keras"
    assert choose_engine("auto", compiled(CASES["adam"]), dataset, 4.0) == "fused"


def test_a_layer_that_xla_cannot_compile_runs_on_tensorflow_s_kernels_and_is_named(monkeypatch) -> None:
    monkeypatch.setattr(program, "FAST_IN_XLA", (*program.FAST_IN_XLA, "RandomRotation"))
    programs._programs.clear()
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.RandomRotation(0.1, name="turn"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = fit(network, few_digits(100), epochs=1, batch_size=32, seed=0, engine="fused")
    assert result.diverged is None
    assert any("turn" in str(warning.message) and "kernels" in str(warning.message) for warning in seen)


@pytest.mark.parametrize(("seconds_per_step", "steps"), [(0.02, 20), (100.0, 1), (0.001, 60)])
def test_control_returns_to_python_after_the_steps_that_fill_a_block(monkeypatch, seconds_per_step, steps) -> None:
    """So Ctrl-C and the progress bar wait for less than a second, on a machine of any speed."""
    programs._programs.clear()
    monkeypatch.setattr(program.Program, "_seconds_per_step", lambda *arguments: seconds_per_step)
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch + 1))
    fit(compiled(CASES["sgd"]), few_digits(60), epochs=1, batch_size=1, seed=0, engine="fused", callbacks=[watch])
    blocks = np.diff([0, *seen])
    assert blocks.sum() == 60
    assert blocks.max() == steps
    assert steps * seconds_per_step <= max(program.BLOCK_SECONDS, seconds_per_step)
    programs._programs.clear()


def test_the_seconds_of_a_step_are_measured() -> None:
    """With compilation left out, and without training."""
    network = compiled(CASES["sgd"])
    before = state(network)
    trained = programs.program_for(network)
    data = fused.place_on_device(few_digits().train.images, few_digits().targets(few_digits().train.labels))
    trained.prepare(network, data, 1, 300, "graph")
    (seconds,) = {plan.seconds_per_step for plan in trained.plans.values() if plan.compiler == "graph"}
    assert 0 < seconds < math.inf
    assert all(np.array_equal(one, two) for one, two in zip(before, state(network), strict=True))


def test_images_that_the_network_enlarges_are_evaluated_in_small_chunks() -> None:
    dataset = few_digits()
    images, labels = dataset.test.images[:100], dataset.targets(dataset.test.labels[:100])
    rows = np.arange(100, dtype=np.int32)
    for size, expected in ((32, [100]), (128, [42, 42, 16])):
        resizing = layers.Resizing(size, size)
        front = [keras.Input((28, 28, 1), dtype="uint8"), layers.Rescaling(1 / 255), resizing]
        network = keras.Sequential([*front, layers.GlobalAveragePooling2D()])
        network.add(layers.Dense(10, activation="softmax"))
        network.compile("sgd", "categorical_crossentropy")
        outcome = programs.program_for(network).evaluate(network, fused.place_on_device(images, labels), rows)
        assert outcome.sizes == expected
        np.testing.assert_allclose(outcome.predictions, network(images), rtol=1e-5, atol=1e-6)
