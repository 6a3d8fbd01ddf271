"""Learning-rate schedules: each step has the rate of the formula, in both engines, the history and the saved model."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from small_data import few_digits
from test_sweep_properties import write_images

from mnistlab import experiment
from mnistlab.config import Config, ConfigError, parameters
from mnistlab.config.build import build_optimizer, check_without_data
from mnistlab.config.compose import check_command, compose_config, parse_command_line
from mnistlab.config.run_names import run_name
from mnistlab.data import epoch_order
from mnistlab.runtime.keras_internals import learning_rate_or_schedule
from mnistlab.sweep.plan import plan_sweep
from mnistlab.training import building, fit, saving, start_job

STEPS_PER_EPOCH, EPOCHS = 50, 4
TOTAL = STEPS_PER_EPOCH * EPOCHS
OWN_RATE = "optimizer.learning_rate={_target_: keras.optimizers.schedules.InverseTimeDecay, "
OWN_RATE += "initial_learning_rate: 0.1, decay_steps: 10, decay_rate: 0.5}"


def half_cosine(share: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * share)) / 2


def one_cycle(step: int) -> float:
    """PyTorch's OneCycleLR with the peak 1, but for the shape of its rise."""
    peak_step = 0.3 * TOTAL - 1
    if step <= peak_step:
        return 1 / 25 + (1 - 1 / 25) * step / peak_step
    last = 1 / 25 / 1e4
    return last + (1 - last) * half_cosine((step - peak_step) / (TOTAL - 1 - peak_step))


FORMULAS: dict[tuple[str, ...], Callable[[int], float]] = {
    ("cosine",): lambda step: half_cosine(step / TOTAL),
    ("cosine", "schedule.alpha=0.1", "schedule.warmup_epochs=0.5"): lambda step: (
        step / 25 if step < 25 else 0.1 + 0.9 * half_cosine((step - 25) / (TOTAL - 25))
    ),
    ("exponential", "schedule.decay_rate=0.5"): lambda step: 0.5 ** (step / 50),
    ("exponential", "schedule.decay_rate=0.5", "schedule.staircase=true"): lambda step: 0.5 ** (step // 50),
    ("piecewise",): lambda step: 1.0 if step < 100 else 0.1 if step < 150 else 0.01,
    ("piecewise", "schedule.boundaries=[1,2.5]", "schedule.factors=[0.5,0.2]"): lambda step: (
        1.0 if step < 50 else 0.5 if step < 125 else 0.2
    ),
    ("one_cycle",): one_cycle,
}


@pytest.mark.parametrize("words", FORMULAS, ids=" ".join)
def test_each_step_has_the_rate_of_the_formula(words: tuple[str, ...]) -> None:
    option, *settings = words
    config = compose_config([f"schedule={option}", *settings, "optimizer.learning_rate=0.4", f"fit.epochs={EPOCHS}"])
    schedule = learning_rate_or_schedule(build_optimizer(config, STEPS_PER_EPOCH))
    assert type(schedule).__module__.startswith("keras.")
    for step in (0, 1, 24, 25, 49, 50, 58, 59, 60, 99, 100, 124, 125, 149, 150, 198, 199):
        assert float(schedule(step)) == pytest.approx(0.4 * FORMULAS[words](step), rel=1e-4, abs=1e-7), step


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("option", ["cosine", "exponential", "piecewise", "one_cycle"])
def test_a_training_of_one_or_two_steps_has_positive_rates(option: str, epochs: int) -> None:
    config = compose_config([f"schedule={option}", f"fit.epochs={epochs}"])
    schedule = learning_rate_or_schedule(build_optimizer(config, 1))
    rates = [float(schedule(step)) for step in range(epochs)]
    assert rates[0] == pytest.approx(0.01)
    assert all(0 < rate <= 0.0100001 for rate in rates)


def composed(*overrides: str) -> Config:
    return compose_config(["tracking=none", "model.units=16", *overrides])


@pytest.mark.long_after(1)
@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_both_engines_train_as_plain_keras_with_this_schedule(engine: str, tmp_path: Path) -> None:
    """300 images in batches of 64: 5 steps, the last one smaller."""
    dataset, epochs = few_digits(), 3
    config = composed("schedule=one_cycle", "fit.batch_size=64", f"fit.engine={engine}", f"fit.epochs={epochs}")
    start_job(0, deterministic=False)
    model = building.build_model(config, dataset)
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    # The three numbers that a user of Keras computes: 0.3 * 15 - 1, 15 - 1 - 3.5, 1 / (25 * 1e4).
    rates = keras.optimizers.schedules.CosineDecay(0.01 / 25, 10.5, 4e-6, warmup_target=0.01, warmup_steps=3.5)
    plain.compile(keras.optimizers.Adam(rates), "categorical_crossentropy", metrics=["accuracy"])

    history = fit(model, dataset, building.plan_fit(config, model, dataset, {}), keep="last").history
    images, targets = dataset.train.images, dataset.targets(dataset.train.labels)
    for epoch, row in enumerate(history):
        order = epoch_order(len(images), 0, epoch)
        losses = plain.fit(images[order], targets[order], batch_size=64, shuffle=False, verbose=0).history
        assert row["loss"] == pytest.approx(losses["loss"][0], rel=1e-5)
        assert row["accuracy"] == pytest.approx(losses["accuracy"][0], abs=1e-6)
        assert row["learning_rate"] == pytest.approx(float(rates(5 * epoch + 4)), rel=1e-6)  # of its last step
    assert history[-1]["learning_rate"] == pytest.approx(0.01 * 4e-6)
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)

    (file,) = saving.save_model(model, tmp_path, ["keras"])
    with zipfile.ZipFile(file) as archive:
        assert b"mnistlab" not in archive.read("config.json")
    loaded = learning_rate_or_schedule(keras.models.load_model(file).optimizer)
    assert loaded.get_config() == learning_rate_or_schedule(model.optimizer).get_config()


def test_without_a_schedule_the_learning_rate_stays_a_number() -> None:
    for overrides in ((), ("schedule=constant",)):
        optimizer = build_optimizer(compose_config(list(overrides)), 10)
        assert isinstance(learning_rate_or_schedule(optimizer), keras.Variable)
        assert optimizer.get_config()["learning_rate"] == pytest.approx(0.01)


BOTH = (
    "callbacks.{} and schedule both set the learning rate. Use one of the two: add ~callbacks.{}, or schedule=constant."
)
MISTAKES = {
    ("schedule=cosine", "schedule.warmup_epochs=3"): (
        "schedule.warmup_epochs must satisfy 0 <= value < fit.epochs, here 3. Received: 3."
    ),
    ("schedule=cosine", "schedule.alpha=-1"): "schedule.alpha must satisfy 0 <= value <= 1. Received: -1.",
    ("schedule=exponential", "schedule.decay_rate=fast"): (
        "schedule.decay_rate must satisfy 0 < value <= 1. Received: fast."
    ),
    ("schedule=one_cycle", "schedule.pct_start=30"): "schedule.pct_start must satisfy 0 <= value < 1. Received: 30.",
    ("schedule=piecewise", "schedule.boundaries=[2,5]"): (
        "schedule.boundaries must satisfy last < fit.epochs, here 3. Received: [2.0, 5.0]."
    ),
    ("schedule=piecewise", "schedule.factors=0.1"): (
        "schedule.factors and schedule.boundaries must be equally many. Received: 1 factors, 2 boundaries."
    ),
    ("schedule=piecewise", "schedule.factors=[a,b]"): (
        "schedule.factors must be a list of numbers. Received: ['a', 'b']."
    ),
    ("schedule=cosine", "callbacks=default"): BOTH.format("reduce_lr", "reduce_lr"),
    ("schedule=cosine", OWN_RATE): (
        "optimizer.learning_rate must be a number where a schedule is chosen. Write one, or schedule=constant."
    ),
    ("schedule=cosine", "~optimizer.learning_rate"): (
        "schedule needs the learning rate from which it starts. Received: keras.optimizers.Adam without one. "
        "Add +optimizer.learning_rate=0.001."
    ),
    ("schedule=cosine", "optimizer._target_=test_schedules.WithoutRate"): (
        "schedule needs an optimizer with the argument learning_rate. Received: test_schedules.WithoutRate, which has "
        "none. Set schedule=constant."
    ),
    ("+schedule._target_=keras.optimizers.SGD",): (
        "schedule._target_ must name a learning-rate schedule, and keras.optimizers.SGD is none."
    ),
    ("schedule.pct_start=0.2",): (
        "schedule.pct_start is a setting of schedule=one_cycle, which is not chosen. "
        "Write: schedule=one_cycle schedule.pct_start=0.2."
    ),
    ("schedule=[cosine,one_cycle]",): "schedule takes one option, not a list",
    ("schedule=cosine,one_cycle",): "To compare them: --multirun schedule=cosine,one_cycle.",
    (OWN_RATE.replace("decay_steps", "decay_stps"),): (
        "optimizer.learning_rate.decay_stps is not an argument of keras.optimizers.schedules.InverseTimeDecay. "
        "Did you mean decay_steps?"
    ),
}


class WithoutRate(keras.optimizers.SGD):
    def __init__(self, speed: float = 0.1) -> None:
        super().__init__(speed)


@pytest.mark.parametrize("overrides", MISTAKES, ids=" ".join)
def test_a_mistake_is_refused_before_the_data_are_loaded(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refused:
        check_without_data(compose_config(list(overrides)))
    assert MISTAKES[overrides] in str(refused.value)


class Saw(keras.optimizers.schedules.LearningRateSchedule):
    """A user's own schedule, a class that is not registered with Keras."""

    def __init__(self, learning_rate: float, steps_per_epoch: int, low: float = 0.1) -> None:
        self.learning_rate, self.steps_per_epoch, self.low = learning_rate, steps_per_epoch, low

    def __call__(self, step):
        share = keras.ops.cast(step % self.steps_per_epoch, "float32") / self.steps_per_epoch
        return self.learning_rate * (1 - (1 - self.low) * share)

    def get_config(self):
        return {"learning_rate": self.learning_rate, "steps_per_epoch": self.steps_per_epoch, "low": self.low}


OWN_SCHEDULES = {
    "schedule=saw": ("-epochs2-saw", "schedule.low", lambda step: 0.01 * (1 - 0.9 * (step % 5) / 5)),
    OWN_RATE: ("adam-lr_InverseTimeDecay", "optimizer.learning_rate.decay_rate", lambda step: 0.1 / (1 + 0.05 * step)),
}


@pytest.mark.long_after(1)
@pytest.mark.parametrize("override", OWN_SCHEDULES, ids=lambda override: override.partition("=")[0])
def test_a_schedule_of_ones_own(override: str, tmp_path: Path) -> None:
    (tmp_path / "schedule").mkdir()
    (tmp_path / "schedule" / "saw.yaml").write_text("_target_: test_schedules.Saw\nlow: 0.1\n")
    settings = ["tracking=none", f"paths.root={tmp_path}", "model.units=16", "source=mnist_5k", "data.limit=320"]
    settings.append("trust=test_schedules")
    config = compose_config([*settings, "fit.batch_size=64", "fit.epochs=2", override], config_dir=str(tmp_path))
    name, parameter, formula = OWN_SCHEDULES[override]
    result = experiment.run(config)
    assert name in result.name
    assert parameter in parameters(config)
    assert [row["learning_rate"] for row in result.epochs] == pytest.approx([formula(4), formula(9)])


def test_a_schedule_of_keras_gets_the_steps_of_the_training() -> None:
    config = compose_config(["+schedule._target_=keras.optimizers.schedules.PolynomialDecay", "+schedule.power=2"])
    schedule = learning_rate_or_schedule(build_optimizer(config, 20))
    assert (schedule.initial_learning_rate, schedule.decay_steps, schedule.power) == (0.01, 60, 2)
    assert run_name(config) == "adam-PolynomialDecay-power2"


def test_a_sweep_over_schedules_has_labelled_and_different_jobs(tmp_path: Path) -> None:
    write_images(tmp_path / "a.npz", 0)
    own = "{_target_: keras.optimizers.schedules.CosineDecay, initial_learning_rate: 0.1, decay_steps: 9}"
    axes = {"schedule": ["constant", "cosine", "one_cycle"], "optimizer.learning_rate": ["0.1", own]}
    for axis, values in axes.items():
        words = ["tracking=none", "source=npz", f"source.path={tmp_path}/a.npz", f"{axis}={','.join(values)}"]
        sweep = plan_sweep(check_command(parse_command_line(["--multirun", *words])[0]))
        assert sweep.axes == [axis]
        assert [str(job.values[axis]).replace(" ", "") for job in sweep.jobs] == [
            one.replace(" ", "") for one in values
        ]
        assert len({job.name for job in sweep.jobs}) == len({job.key for job in sweep.jobs}) == len(values)
        assert len({job.fingerprint["fingerprint"] for job in sweep.jobs}) == len(values)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["schedule=exponential", "schedule.staircase=no"], "staircase must satisfy true or false. Received: no."),
        (
            ["schedule=cosine", "+schedule.learning_rate=5", "optimizer.learning_rate=7"],
            "optimizer.learning_rate has no effect on this schedule, mnistlab.training.schedules.cosine: its own",
        ),
        (
            [
                "+schedule._target_=keras.optimizers.schedules.PiecewiseConstantDecay",
                "+schedule.boundaries=[10]",
                "+schedule.values=[0.1,0.01]",
                "optimizer.learning_rate=7",
            ],
            "Received: optimizer.learning_rate=7.0. Leave it out, or set the schedule's.",
        ),
    ],
    ids=["staircase", "a rate of its own", "no rate"],
)
def test_settings_that_a_schedule_does_not_use_are_refused(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_without_data(compose_config(words))
    assert expected in str(error.value)
