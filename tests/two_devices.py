"""Trains on one device and on several logical CPU devices, in a process of its own, and prints what they gave as JSON.

TensorFlow fixes its devices when it starts. The test names the number of devices and the cases by their settings.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

SEPARATOR = "RESULT "


def run(function: str, **arguments: Any) -> Any:
    """What a function of this file returns in a new process, in which warnings are errors."""
    code = f"import two_devices; two_devices.answer({function!r}, {arguments!r})"
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.rpartition(SEPARATOR)[2])


def answer(function: str, arguments: dict[str, Any]) -> None:
    """Call a function of this file and print what it returns."""
    from mnistlab.runtime import startup

    with startup.loading():
        from mnistlab.training import devices
    devices.prepare(3)
    print(SEPARATOR + json.dumps(globals()[function](**arguments)))


def compare(cases: dict[str, list[str]], cpu_devices: int = 2) -> dict[str, dict[str, Any]]:
    """Train each case, given by settings, on one device with plain Keras and on several, from the same start.

    Returns:
        'one', 'several': the epochs' metrics, and those of the test; 'weights': the largest difference between the
        weights afterwards; 'moved': how far the weights of one device moved; 'plan': engine and devices of several.
    """
    import numpy as np

    results = {}
    for name, words in cases.items():
        one, start, plan = trained([*words, "fit.engine=keras"])
        several, same_start, plan = trained([*words, "fit.strategy=mirrored", f"fit.cpu_devices={cpu_devices}"])
        ends = list(zip(start[1], same_start[1], strict=True))
        assert all(np.array_equal(*pair) for pair in zip(start[0], same_start[0], strict=True))
        results[name] = {
            "one": one,
            "several": several,
            "weights": max(float(np.abs(a - b).max()) for a, b in ends),
            "moved": max(float(np.abs(a - b).max()) for a, b in zip(*start, strict=True)),
            "plan": plan,
        }
    return results


def compare_and_refuse(cases: dict[str, list[str]], refused: list[list[str]]) -> list[Any]:
    """`compare`, and the messages of settings that several devices cannot train."""
    compared = compare(cases)
    return [compared, [refusal(words) for words in refused]]


def refusal(words: list[str]) -> str:
    """The ConfigError of building the model of these settings."""
    from mnistlab import training
    from mnistlab.config import ConfigError
    from mnistlab.config.compose import compose_config
    from mnistlab.data import loading
    from mnistlab.training import building

    shared = ["source=mnist_5k", "data.limit=100", "fit.strategy=mirrored", "fit.cpu_devices=2"]
    try:
        config = compose_config([*shared, *words])
        training.start_job(config.seed, deterministic=False)
        building.build_model(config, loading.load(config))
    except ConfigError as error:
        return str(error)
    return ""


def trained(words: list[str]) -> tuple[dict[str, Any], tuple[list[Any], list[Any]], dict[str, str]]:
    """Train these settings: metrics, weights before and after, the plan's tags."""
    from mnistlab import training
    from mnistlab.config.compose import compose_config
    from mnistlab.data import loading
    from mnistlab.training import building

    config = compose_config(["source=mnist_5k", "fit.epochs=2", *words])
    building.check_without_data(config)
    training.start_job(config.seed, deterministic=False)
    dataset = loading.load(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword")
        model = building.build_model(config, dataset)
        plan = building.plan_fit(config, model, dataset)
        before = model.get_weights()
        result = training.fit(model, dataset, plan, keep="last")
        metrics, _ = training.predict(model, dataset, "test", plan.engine)
    rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in result.history]
    return {"epochs": rows, "test": metrics}, (before, model.get_weights()), plan.tags()


def same_pictures_through_dropout(**_: Any) -> list[float]:
    """How many values dropout leaves of the same picture, on each of two devices, in common and altogether."""
    import keras
    import numpy as np
    import tensorflow as tf

    from mnistlab.training import devices, mirrored

    strategy = devices.mirrored_strategy(2)
    with strategy.scope():
        model = keras.Sequential([keras.Input((1000,)), keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(1)])
        model.compile("sgd", "mse")

    class Data:
        train = type("Images", (), {"images": np.ones((1, 1000), np.float32), "labels": np.zeros(1)})

        @staticmethod
        def targets(labels: Any) -> Any:
            return labels[:, None]

    mirrored.distribute(model, strategy, Data)  # type: ignore[arg-type]
    replicas = mirrored.Replicas(model, strategy)

    @tf.function
    def kept() -> Any:
        def step() -> Any:
            replicas._seed()
            return model.layers[0](tf.ones((1, 1000)), training=True) > 0

        return strategy.experimental_local_results(strategy.run(step))

    first, second = (np.asarray(values) for values in kept())
    again, _ = (np.asarray(values) for values in kept())
    return [int((first == second).sum()), int((first == again).sum()), int(first.sum()), int(second.sum())]


def interrupted(**_: Any) -> dict[str, Any]:
    """Train with dropout, momentum and uneven batches to the end, and again in two pieces."""
    from mnistlab import training
    from mnistlab.config.compose import compose_config
    from mnistlab.data import loading
    from mnistlab.runtime import checkpoints
    from mnistlab.training import building
    from mnistlab.training.checkpointing import CheckpointPlan
    from mnistlab.training.engine import copies

    words = ["source=mnist_5k", "data.limit=100", "fit.batch_size=33", "optimizer=momentum", "model.dropout=0.4"]
    config = compose_config([*words, "fit.epochs=3", "fit.strategy=mirrored", "fit.cpu_devices=2"])

    class Stopped(Exception):
        pass

    import keras

    stops = {7}  # the third step of the second epoch

    class Stop(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.steps += 1
            if self.steps in stops:
                stops.clear()
                raise Stopped

    def train(plan: CheckpointPlan, *callbacks: Any) -> tuple[list[Any], list[str]]:
        training.start_job(0, deterministic=False)
        dataset = loading.load(config)
        model = building.build_model(config, dataset)
        fit_plan = building.plan_fit(config, model, dataset)
        result = training.fit(model, dataset, fit_plan, keep="last", callbacks=callbacks, checkpoints=plan)
        rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in result.history]
        return rows, [variable.numpy().tobytes().hex() for variable in copies.state(model)]

    rows, state = train(CheckpointPlan())
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(Stopped):
            train(CheckpointPlan(Path(folder), seconds=0.0), Stop())
        start, _ = checkpoints.newest(Path(folder))
        assert start is not None
        resumed = train(CheckpointPlan(Path(folder), start=start), Stop())
    return {"place": [start.epoch, start.step], "rows": [rows, resumed[0]], "equal": state == resumed[1]}
