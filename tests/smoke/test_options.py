"""Every YAML option of every group, found by a recursive glob: it explains itself, composes, and builds."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from small_data import few_digits

from mnistlab import training
from mnistlab.config import conf_folder
from mnistlab.config.build import build, build_optimizer
from mnistlab.config.compose import compose_config
from mnistlab.runtime.keras_internals import learning_rate_or_schedule
from mnistlab.training import models

OPTIONS = sorted(conf_folder().rglob("*.yaml"))
CHOICES = [(file.parent.name, file.stem) for file in OPTIONS if file.parent.parent == conf_folder()]
NEED_A_PATH = ("npz", "csv", "idx", "directory")
NEEDED = {("source", option): ["source.path=own"] for option in NEED_A_PATH}
SCHEDULE = "callbacks.learning_rate_scheduler.schedule.path=test_options.warm_up"
NEEDED |= {("callbacks", "learning_rate_scheduler"): [SCHEDULE]}
SMALL_BASE = ["model.base=MobileNet", "model.weights=null", "model.resize=[32,32]", "+model.arguments.alpha=0.25"]
NEEDED |= {("model", "pretrained"): SMALL_BASE}


def warm_up(epoch: int, learning_rate: float) -> float:
    return learning_rate + epoch


def of_group(group: str) -> list[str]:
    return [option for name, option in CHOICES if name == group]


def build_model(*overrides: str) -> keras.Model:
    config = compose_config(list(overrides))
    network = build(config.model, "model", input_shape=(28, 28, 1), num_outputs=10, output_activation="softmax")
    model = models.with_preprocessing(network, (28, 28, 1), config.data.scaling)
    optimizer = build(config.optimizer, "optimizer")
    training.compile_model(model, optimizer, loss="auto", metrics=["accuracy"], labels="one_hot")
    return model


def test_the_glob_finds_the_groups() -> None:
    assert len(of_group("optimizer")) >= 17
    groups = {"source", "data", "model", "optimizer", "schedule", "callbacks", "tracking", "experiment", "debug"}
    assert groups <= {group for group, _ in CHOICES}


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: str(file.relative_to(conf_folder())))
def test_each_option_starts_with_a_comment_that_explains_it(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = lines[1] if lines[0] == "# @package _global_" else lines[0]
    assert comment.startswith("# ")
    assert len(comment) > 30
    if file.parent.name in ("experiment", "debug"):
        assert f"python -m mnistlab.train {file.parent.name}={file.stem} " in comment


@pytest.mark.parametrize(("group", "option"), CHOICES)
def test_each_option_composes_and_passes_the_checks(group: str, option: str) -> None:
    config = compose_config([f"{group}={option}", *NEEDED.get((group, option), [])])
    assert option in config.choices[group] or option == "default"


@pytest.mark.long_after(8)
@pytest.mark.parametrize("option", of_group("optimizer"))
def test_each_optimizer_learns(option: str) -> None:
    keras.utils.set_random_seed(0)
    model, dataset = build_model(f"optimizer={option}"), few_digits(200)
    images, targets = dataset.train.images, dataset.targets(dataset.train.labels)
    before = model.evaluate(images, targets, verbose=0)[0]
    for _ in range(10):
        model.train_on_batch(images, targets)
    assert model.evaluate(images, targets, verbose=0)[0] < before
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@pytest.mark.parametrize("option", of_group("schedule"))
def test_each_schedule_starts_from_the_learning_rate(option: str) -> None:
    config = compose_config([f"schedule={option}", "optimizer.learning_rate=0.5"])
    optimizer = build_optimizer(config, steps_per_epoch=20)
    schedule = learning_rate_or_schedule(optimizer)
    if option == "constant":
        assert schedule is optimizer.learning_rate
        assert float(schedule) == 0.5
        return
    rates = [float(schedule(step)) for step in range(60)]
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert 0 <= rates[-1] < 0.8 * max(rates)


@pytest.mark.parametrize("option", of_group("model"))
def test_each_model_trains_an_epoch_on_raw_pixels(option: str) -> None:
    model, dataset = build_model(f"model={option}", *NEEDED.get(("model", option), [])), few_digits(200)
    assert model.input_shape == (None, 28, 28, 1)
    assert model.inputs[0].dtype == "uint8"
    result = training.fit(model, dataset, training.plan_fit(model, dataset, epochs=1, batch_size=32, seed=0))
    assert np.isfinite(result.history[0]["loss"])
    probabilities = model(dataset.test.images[:5], training=False)
    assert probabilities.numpy().sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)


@pytest.mark.parametrize("option", of_group("callbacks"))
def test_each_callback_builds_and_passes_its_checks(option: str, tmp_path: Path) -> None:
    config = compose_config([f"callbacks={option}", f"paths.run={tmp_path}", *NEEDED.get(("callbacks", option), [])])
    built = {name: build(node, f"callbacks.{name}") for name, node in config.callbacks.items()}
    training.check_callbacks(built, build_model(), ["accuracy"])
    if option == "default":
        assert {type(callback).__name__ for callback in built.values()} == {
            "EarlyStopping",
            "ModelCheckpoint",
            "ReduceLROnPlateau",
        }
        assert built["model_checkpoint"].filepath == f"{tmp_path}/checkpoints/best_model.keras"


def test_the_mlp_is_the_guides() -> None:
    model = build_model()
    assert [type(layer).__name__ for layer in model.layers] == ["Rescaling", "Flatten", "Dense", "Dense"]
    assert [layer.activation.__name__ for layer in model.layers[2:]] == ["relu", "softmax"]
    assert model.count_params() == 784 * 128 + 128 + 128 * 10 + 10


@pytest.mark.parametrize(
    ("name", "kind", "batch_size", "rate"),
    [
        ("batch_gd", "SGD", "all", 0.01),
        ("sgd", "SGD", 1, 0.01),
        ("minibatch_gd", "SGD", 32, 0.01),
        ("momentum", "SGD", 32, 0.01),
        ("adagrad", "Adagrad", 32, 0.01),
        ("rmsprop", "RMSprop", 32, 0.01),
        ("adam", "Adam", 32, 0.01),
    ],
)
def test_the_guides_seven_strategies(name: str, kind: str, batch_size: int | str, rate: float) -> None:
    config = compose_config([f"optimizer={name}"])
    optimizer = build(config.optimizer, "optimizer")
    assert type(optimizer).__name__ == kind
    assert float(optimizer.learning_rate) == pytest.approx(rate)
    assert getattr(optimizer, "momentum", 0.0) == (0.9 if name == "momentum" else 0.0) or kind == "RMSprop"
    assert config.fit.batch_size == batch_size
