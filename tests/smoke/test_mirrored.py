"""`fit.strategy=mirrored`: two devices give the numbers of one but for rounding, or refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import two_devices
from PIL import Image

from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config

# Sums of float32 values in another order differ by some 1e-7 of their size; in these runs losses by 5e-7 at most. Parts
# of a batch that are weighted as Keras does it change the losses by 1e-3.
ROUNDING = 1e-5
UNEVEN = ["data.limit=100", "fit.batch_size=33"]  # 33 = 16 + 17 images, and the last batch has one
REFUSED = {
    "optimizer.clipnorm": ["+optimizer.clipnorm=1"],
    "optimizer.gradient_accumulation_steps": ["+optimizer.gradient_accumulation_steps=2"],
    "LossScaleOptimizer": ["fit.precision=mixed_float16"],
    "reduction=sum": ["fit.loss={_target_: keras.losses.CategoricalCrossentropy, reduction: sum}"],
    "activity_regularizer": [
        "model=layers",
        "model.layers=[{_target_: keras.layers.Flatten}, "
        "{_target_: keras.layers.Dense, units: 4, activity_regularizer: l2}]",
    ],
    "another number of devices: 3 CPU after 2 CPU": ["fit.cpu_devices=3"],
    "fit.cpu_devices=9": ["fit.cpu_devices=9"],
}


@pytest.fixture(scope="module")
def quick() -> Any:
    class_weight = f"data.class_weight={{{', '.join(f'{label}: {0.5 + label}' for label in range(10))}}}"
    uneven = [*UNEVEN, "optimizer=momentum", "optimizer.learning_rate=0.1", class_weight]
    return two_devices.run("compare_and_refuse", cases={"uneven": uneven}, refused=list(REFUSED.values()))


def check_equal(result: dict[str, Any], rounding: float = ROUNDING) -> None:
    one, several = result["one"], result["several"]
    assert len(one["epochs"]) == len(several["epochs"]) == 2
    for before, now in zip([*one["epochs"], one["test"]], [*several["epochs"], several["test"]], strict=True):
        assert before.keys() == now.keys()
        for name in before:
            assert math.isclose(before[name], now[name], rel_tol=rounding, abs_tol=rounding), name
    assert result["weights"] <= rounding * 10
    assert result["moved"] > 1000 * max(result["weights"], 1e-7)
    assert (result["plan"]["engine"], result["plan"]["devices"]) == ("keras", "2 CPU")


def test_two_devices_equal_one_where_batches_cannot_be_halved(quick: Any) -> None:
    check_equal(quick[0]["uneven"])


@pytest.mark.parametrize("what", REFUSED)
def test_what_devices_would_compute_in_another_way_is_refused(quick: Any, what: str) -> None:
    message = quick[1][list(REFUSED).index(what)]
    assert what.removeprefix("another number of devices: ") in message
    if "cpu_devices" not in REFUSED[what][-1]:
        assert message.startswith("fit.strategy=mirrored cannot train this: ")
        assert "fit.strategy=null" in message


def test_the_fused_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match="fit.engine=fused trains on one device. Received: fit.strategy=mirrored"):
        compose_config(["fit.strategy=mirrored", "fit.engine=fused"])
    with pytest.raises(ConfigError, match="fit.strategy must be one of the choices. .* Did you mean mirrored"):
        compose_config(["fit.strategy=mirror"])
    with pytest.raises(ConfigError, match="fit.cpu_devices must satisfy value >= 1"):
        compose_config(["fit.strategy=mirrored", "fit.cpu_devices=0"])


F1 = "{_target_: keras.metrics.F1Score, average: macro}"
CASES = {
    "even": ["data.limit=128", "optimizer=minibatch_gd"],
    "one image at a time": ["data.limit=20", "optimizer=sgd"],
    "all at once": ["data.limit=101", "fit.batch_size=all"],
    "adam": [*UNEVEN, "optimizer=adam"],
    "cnn": [*UNEVEN, "optimizer=momentum", "model=cnn", "model.dropout=0"],
    "regularized": [
        *UNEVEN,
        "optimizer=momentum",
        "model=layers",
        "model.layers=[{_target_: keras.layers.Flatten}, "
        "{_target_: keras.layers.Dense, units: 8, kernel_regularizer: l2, kernel_constraint: max_norm}]",
    ],
    "batch normalization": [
        *UNEVEN,
        "optimizer=minibatch_gd",
        "model=layers",
        "model.layers=[{_target_: keras.layers.Flatten}, {_target_: keras.layers.Dense, units: 8}, "
        "{_target_: keras.layers.BatchNormalization}]",
    ],
    "integer labels": [*UNEVEN, "data.labels=integer", "schedule=cosine"],
    "metrics": [*UNEVEN, f"fit.metrics=[accuracy,{F1},{{_target_: keras.metrics.AUC}}]"],
    "average of weights": [*UNEVEN, "+optimizer.use_ema=true", "+optimizer.ema_momentum=0.9"],
    "float64": [*UNEVEN, "fit.precision=float64"],
}


@pytest.fixture(scope="module")
def thorough() -> Any:
    return two_devices.run("compare", cases=CASES)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_two_devices_equal_one(thorough: Any, case: str) -> None:
    check_equal(thorough[case])


@pytest.mark.long
def test_three_devices_equal_one() -> None:
    result = two_devices.run("compare", cases={"adam": CASES["adam"]}, cpu_devices=3)["adam"]
    assert result["plan"]["devices"] == "3 CPU"
    check_equal(result | {"plan": {"engine": "keras", "devices": "2 CPU"}})


@pytest.mark.long
def test_image_files_are_shared_as_images_in_memory(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for name, brightest in (("dark", 100), ("light", 256)):
        (tmp_path / name).mkdir()
        for index in range(40):
            pixels = noise.integers(0, brightest, (12, 12), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    words = ["source=directory", f"source.path={tmp_path}", "data.image_size=[12,12]", "fit.batch_size=7"]
    cases = {loader: [*words, f"source.loader={loader}"] for loader in ("resident", "stream", "generator")}
    results = two_devices.run("compare", cases=cases)
    for loader in cases:
        check_equal(results[loader])
        assert results[loader]["several"] == results["resident"]["several"]


@pytest.mark.long
def test_each_device_drops_units_of_its_own() -> None:
    in_common, as_before, *kept = two_devices.run("same_pictures_through_dropout")
    assert all(400 < count < 600 for count in (in_common, as_before, *kept))


@pytest.mark.long
def test_an_interrupted_training_continues_exactly() -> None:
    result = two_devices.run("interrupted")
    assert result["place"] == [1, 2]
    assert result["rows"][0] == result["rows"][1]
    assert len(result["rows"][0]) == 3
    assert result["equal"]
