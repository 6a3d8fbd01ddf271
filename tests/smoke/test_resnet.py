"""`model=resnet`: its shapes, its shortcuts, its training on both engines."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from small_data import few_digits

from mnistlab import training
from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.training import models
from mnistlab.training.resnet import resnet

layers = keras.layers


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape).astype("float32")


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 33, 3), (28, 28, 4)])
def test_any_small_image_is_halved_by_the_stem_and_by_each_further_stage(shape: tuple[int, int, int]) -> None:
    network = resnet(shape, 3)
    outputs = network(pixels(5, *shape) / 255, training=False).numpy()
    assert outputs.shape == (5, 3)
    assert outputs.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    maps = [layer.output.shape[1:] for layer in network.layers if isinstance(layer, layers.Add)]
    expected = [(-(-shape[0] // step), -(-shape[1] // step), filters) for step, filters in ((2, 24), (4, 48), (8, 96))]
    assert maps == expected


def test_without_its_convolutions_a_block_is_the_identity() -> None:
    """Pre-activation: where the blocks' convolutions are zero, their sums are the first convolution's maxima."""
    network = resnet((8, 8, 1), 3, filters=(4,), blocks=2)
    (stem,) = (layer for layer in network.layers if isinstance(layer, layers.MaxPooling2D))
    sums = [layer.output for layer in network.layers if isinstance(layer, layers.Add)]
    for layer in network.layers[2:]:
        if isinstance(layer, layers.Conv2D):
            layer.set_weights([np.zeros_like(values) for values in layer.get_weights()])
    first, *others = keras.Model(network.input, [stem.output, *sums])(pixels(2, 8, 8, 1))
    assert len(others) == 2
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_no_1x1_convolution_has_a_stride() -> None:
    """Its gradients corrupt TensorFlow's memory on a CPU, for 25 images of 14x14 with 4 channels for example."""
    strided = [layer for layer in resnet((28, 28, 1), 10, blocks=2).layers if getattr(layer, "strides", None) == (2, 2)]
    assert {layer.kernel_size for layer in strided if isinstance(layer, layers.Conv2D)} == {(3, 3)}


def test_both_engines_train_it_alike() -> None:
    dataset, results = few_digits(60), []
    for engine in ("fused", "keras"):
        keras.utils.set_random_seed(0)
        model = models.with_preprocessing(resnet((28, 28, 1), 10, filters=(4, 8)), (28, 28, 1), "unit")
        model.compile(keras.optimizers.SGD(0.05), "categorical_crossentropy")
        plan = training.plan_fit(model, dataset, epochs=1, batch_size=25, seed=0, engine=engine)
        results.append((training.fit(model, dataset, plan, keep="last").history[0], model.get_weights()))
    (fused, ours), (plain, theirs) = results
    assert fused["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert fused["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_its_settings_are_checked_before_the_data_are_loaded() -> None:
    assert compose_config(["model=resnet", "model.filters=24"]).model["filters"] == [24]
    with pytest.raises(ConfigError) as error:
        compose_config(["model=resnet", "model.filters=[24,0]", "model.blocks=[1,2]", "model.stem_pool=0"])
    assert error.value.problems == [
        "model.filters must be a list of whole numbers >= 1, one per layer, such as [128,64]; or one number. "
        "Received: [24, 0].",
        "model.blocks must be a whole number >= 1. Received: [1, 2].",
        "model.stem_pool must be a whole number >= 1. Received: 0.",
    ]
    with pytest.raises(ConfigError, match=r"model.filters must have an entry for each stage.*Received: \[\]"):
        resnet((8, 8, 1), 3, filters=())


def test_the_preset_is_the_measured_network() -> None:
    config = compose_config(["experiment=resnet_995"])
    settings = {name: value for name, value in config.model.items() if name != "_target_"}
    assert resnet((28, 28, 1), 10, **settings).count_params() == 174_274
    assert config.choices["schedule"] == "one_cycle"
    assert config.data.augmentation == {
        **{"rotation_range": 10, "width_shift_range": 0.07, "height_shift_range": 0.07, "zoom_range": 0.1},
        **{"horizontal_flip": False, "fill_mode": "nearest"},
    }
