"""`model=pretrained`: its values, its training on both engines, its files of weights, its errors."""

from __future__ import annotations

import inspect
import json
import types
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from small_data import few_digits

from mnistlab import training
from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.config.pretrained_bases import BASES, Base
from mnistlab.runtime.keras_internals import all_layers
from mnistlab.training import building, models, pretrained, saving

layers = keras.layers
SMALL = {"base": "MobileNet", "resize": (32, 32), "arguments": {"alpha": 0.25}}
# Arguments that pretrained() gives, or that change the top or the preprocessing.
NO_LAYERS = {"include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation"}
NO_LAYERS |= {"name", "dropout", "dropout_rate", "include_preprocessing"}
MODULES = {name: module for name, module in vars(keras.applications).items() if isinstance(module, types.ModuleType)}


def small_base(include_top: bool = False) -> keras.Model:
    return keras.applications.MobileNet(
        include_top=include_top, weights=None, input_shape=(32, 32, 3), alpha=0.25, classes=5
    )


@pytest.fixture(scope="module")
def base() -> keras.Model:
    """A small network whose features vary: its normalizations have the statistics of noise."""
    keras.utils.set_random_seed(0)
    network = small_base()
    normalizations = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0
    network(np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype("float32"), training=True)
    return network


@pytest.fixture(scope="module")
def weights(base: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("weights") / "base.weights.h5"
    base.save_weights(file)
    return str(file)


def official(whole: Path, file: Path) -> Path:
    """A file as keras.applications offers them: the weights of a saved .h5 model at the top level."""
    with h5py.File(whole) as saved, h5py.File(file, "w") as made:
        for name, group in saved["model_weights"].items():
            saved.copy(group, made, name)
        for name, value in saved["model_weights"].attrs.items():
            made.attrs[name] = value
    return file


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape).astype("float32")


def of_base(network: keras.Model) -> keras.Model:
    (nested,) = (layer for layer in network.layers if isinstance(layer, keras.Model))
    return nested


def test_the_bases_are_those_of_keras_applications() -> None:
    found = {name for name, value in vars(keras.applications).items() if isinstance(value, types.FunctionType)}
    assert set(BASES) == found
    for name, family in BASES.items():
        module = getattr(keras.applications, name).__module__
        assert MODULES[family.module].preprocess_input.__module__ == module.replace("resnet50", "resnet")
        assert set(family.arguments) == set(inspect.signature(getattr(keras.applications, name)).parameters) - NO_LAYERS


@pytest.mark.parametrize("family", sorted(set(BASES.values())), ids=lambda family: family.module)
def test_the_preprocessing_is_that_of_the_family(family: Base) -> None:
    images = pixels(4, 6, 5, 3)
    expected = MODULES[family.module].preprocess_input(images.copy())
    inputs = keras.Input((6, 5, 3))
    preprocessing = keras.Model(inputs, pretrained._preprocessed(inputs, family.preprocessing))
    np.testing.assert_allclose(preprocessing(images), expected, atol=1e-5)


@pytest.mark.parametrize("preprocessing", ["caffe", "torch"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_and_preprocessing_are_saved_with_the_model(channels: int, preprocessing: str, tmp_path: Path) -> None:
    inputs = keras.Input((5, 4, channels))
    front = keras.Model(inputs, pretrained._preprocessed(pretrained._three_channels(inputs), preprocessing))
    images = pixels(3, 5, 4, channels)
    colours = np.repeat(images, 3, axis=-1) if channels == 1 else images[..., :3]
    expected = keras.applications.imagenet_utils.preprocess_input(colours.copy(), mode=preprocessing)
    np.testing.assert_allclose(front(images), expected, atol=1e-5)
    for file in saving.save_model(front, tmp_path, ["keras", "h5"]):
        np.testing.assert_array_equal(keras.models.load_model(file, compile=False)(images), front(images))
    np.testing.assert_array_equal(keras.models.clone_model(front)(images), front(images))


@pytest.mark.parametrize("kind", ["weights", "official"])
def test_weights_come_from_a_file(kind: str, base: keras.Model, weights: str, tmp_path: Path) -> None:
    file = Path(weights)
    if kind == "official":
        base.save(tmp_path / "whole.h5")
        file = official(tmp_path / "whole.h5", tmp_path / "base_notop.h5")
    network = pretrained.pretrained((32, 32, 1), 3, weights=str(file), **SMALL)
    for ours, theirs in zip(of_base(network).get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    images = pixels(2, 32, 32, 1)
    features = base(np.repeat(images, 3, axis=-1) / 127.5 - 1, training=False).numpy()
    means = keras.Model(network.input, network.get_layer("means").output)
    np.testing.assert_allclose(means(images), features.mean(axis=(1, 2)), atol=1e-3)


def test_weights_that_do_not_fit_are_refused(base: keras.Model, weights: str, tmp_path: Path) -> None:
    whole = small_base(include_top=True)
    whole.save_weights(tmp_path / "top.weights.h5")
    whole.save(tmp_path / "top.h5")
    (tmp_path / "damaged.weights.h5").write_bytes(Path(weights).read_bytes()[:1000])
    reasons = {
        "top.weights.h5": "137 arrays: the base's and 2 more, so the file includes the top. Take the file with notop",
        "top.h5": "137 arrays: the base's and 2 more, so the file includes the top. Take the file with notop",
        "damaged.weights.h5": "is cut off: its end is missing",
    }
    for name, reason in reasons.items():
        with pytest.raises(ConfigError) as error:
            pretrained._load_weights(base, "MobileNet", tmp_path / name)
        assert reason in str(error.value), name
    with pytest.raises(ConfigError) as error:
        pretrained.pretrained((32, 32, 1), 3, weights=weights, **{**SMALL, "arguments": {"alpha": 0.5}})
    assert "model.weights must have the 135 arrays of MobileNet without its top (include_top=False)" in str(error.value)
    assert "135 arrays of other shapes" in str(error.value)


def test_the_base_is_in_inference_mode_and_has_imagenet_s_normalization() -> None:
    """A network in the way of Keras's EfficientNet, as it is built with weights=imagenet."""
    inputs = keras.Input((4, 4, 3))
    outputs = layers.Normalization(name="normalization")(layers.Rescaling(1 / 255)(inputs))
    outputs = layers.Rescaling((1 / np.sqrt(pretrained.DEVIATION)).tolist())(outputs)
    outputs = layers.BatchNormalization()(layers.Dropout(0.5)(layers.Conv2D(2, 1, name="convolution")(outputs)))
    network = keras.Model(inputs, outputs)
    network.get_layer("normalization").set_weights([pretrained.MEAN, pretrained.DEVIATION, np.array(0)])
    network.get_layer("normalization").finalize_state()
    images = pixels(3, 4, 4, 3)
    made = pretrained._in_inference_mode(network)
    np.testing.assert_allclose(made(images), network(images, training=False), rtol=1e-4, atol=1e-4)
    pretrained._set_trainable(made, "EfficientNetB0", "all")
    np.testing.assert_array_equal(made(images, training=True), made(images, training=False))
    assert [weight.path for weight in made.trainable_weights] == ["convolution/kernel", "convolution/bias"]


@pytest.mark.long
def test_the_chosen_layers_train_alike_on_both_engines(weights: str) -> None:
    dataset, results = few_digits(40), []
    for engine in ("fused", "keras"):
        keras.utils.set_random_seed(0)
        network = pretrained.pretrained((28, 28, 1), 10, weights=weights, trainable=20, **SMALL)
        model = models.with_preprocessing(network, (28, 28, 1), "none")
        model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy", run_eagerly=engine == "keras")
        before = model.get_weights()
        plan = training.plan_fit(model, dataset, epochs=1, batch_size=20, seed=0, engine=engine)
        assert plan.engine == engine
        results.append((training.fit(model, dataset, plan, keep="last").history[0]["loss"], model.get_weights()))
        changed = [
            weight.path
            for weight, old, new in zip(model.weights, before, model.get_weights(), strict=True)
            if not np.array_equal(old, new)
        ]
        kernels = [f"conv_{kind}_{block}/kernel" for block in (11, 12, 13) for kind in ("dw", "pw")]
        assert changed == [*kernels, "output/kernel", "output/bias"]
    (fused, ours), (plain, theirs) = results
    assert fused == pytest.approx(plain, rel=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_a_saved_model_needs_no_mnistlab_and_goes_on_from_its_weights(weights: str, tmp_path: Path) -> None:
    dataset = few_digits(40)
    settings = ["model=pretrained", "model.base=MobileNet", "model.resize=[32,32]", "+model.arguments.alpha=0.25"]
    model = building.build_model(compose_config([*settings, f"model.weights={weights}"]), dataset)
    model.optimizer.build(model.trainable_variables)
    assert [model.layers[0].scale, model.layers[0].offset] == [1.0, 0.0]
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as saved:
        assert "mnistlab" not in json.dumps(json.loads(saved.read("config.json")))
    images = dataset.test.images[:20]
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert len(loaded.trainable_weights) == len(model.trainable_weights) == 2

    (tmp_path / "unread.weights.h5").touch()
    settings += [f"model.weights={tmp_path}/unread.weights.h5", "model.trainable=all", "optimizer.learning_rate=1e-5"]
    fine = compose_config(settings)
    tuned = building.build_model(fine, dataset, tmp_path / "model.keras")
    np.testing.assert_array_equal(tuned(images), model(images))
    trained = {weight.path for weight in tuned.trainable_weights}
    normalizing = [layer for layer in all_layers(tuned) if isinstance(layer, layers.BatchNormalization)]
    assert len(normalizing) == 27
    assert trained == {
        weight.path for layer in all_layers(tuned) if layer not in normalizing for weight in layer.trainable_variables
    }
    assert len(trained) == 27 + 2


WRONG_SETTINGS = {
    "model.base=MobilNetV2": "model.base must be a network of keras.applications. Received: MobilNetV2. "
    "Did you mean MobileNetV2?",
    "model.weights=mine.weights.h5": "model.weights must be imagenet, null (random) or a file. "
    "Received: mine.weights.h5, which does not exist.",
    "model.weights=imagnet": "model.weights must be imagenet, null (random) or a file of weights that ends in "
    ".weights.h5 or .h5, such as the *_notop.h5 of keras.applications. Received: imagnet.",
    "model.trainable=top": "model.trainable must be none, all, or how many of the base's last layers are trained, such "
    "as 20. Received: top.",
    "model.base=Xception model.resize=64": "model.resize must be null or two whole numbers >= 71, "
    "'[height,width]', for Xception. Received: [64, 64].",
    "model.arguments=3": "model.arguments must be a mapping, such as '{alpha: 0.35}'. Received: 3.",
    "+model.arguments.alfa=0.35": "model.arguments must be those that change the layers of MobileNetV2. "
    "Received: alfa. Did you mean model.arguments.alpha? Choices: alpha.",
    "model.base=EfficientNetV2B0 +model.arguments.include_preprocessing=false": "model.arguments must be those that "
    "change the layers of EfficientNetV2B0. Received: include_preprocessing. It takes none.",
    "model.base=MobileNetV3Small save.formats=[keras,h5]": "save.formats must not have h5 for MobileNetV3Small, which "
    "Keras cannot load from an .h5 file. Received: keras,h5. Set save.formats=[keras].",
    "model.dropout=1": "model.dropout must be a number, 0 <= value < 1. Received: 1.",
    "data.scaling=unit": "data.scaling must be pixels for model=pretrained, which scales pixels from 0 to 255 as its "
    "base needs it. Received: unit. Leave it out, or set data.scaling=pixels.",
    "data.rescale=1/100": "data.rescale must be null for model=pretrained, which scales pixels from 0 to 255 as its "
    "base needs it. Received: 0.01. Leave it out, or set data.rescale=null.",
}


@pytest.mark.parametrize("settings", WRONG_SETTINGS)
def test_settings_are_checked_before_the_data_are_loaded(settings: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["model=pretrained", *settings.split()])
    assert str(error.value).startswith(WRONG_SETTINGS[settings])
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        (
            (28, 28, 1),
            {"resize": None},
            "MobileNet needs images of at least 32x32 pixels. Received: 28x28. Set model.resize=[32,32] or more.",
        ),
        ((32, 32, 2), {}, "model=pretrained needs images of 1, 3 or 4 channels. Received: 2 channels."),
        ((32, 32, 1), {"trainable": 200}, "model.trainable must be at most the 86 layers of MobileNet. Received: 200."),
    ],
)
def test_images_and_layers_that_do_not_suit_the_base(shape: tuple, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        pretrained.pretrained(shape, 3, weights=None, **{**SMALL, **settings})
    assert str(error.value) == message


def test_without_a_network_the_remedy_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    address = "http://127.0.0.1:9/base.h5"  # no server listens here

    def from_nowhere(*_: object, **__: object) -> str:
        return str(keras.utils.get_file("base.h5", address, cache_dir=str(tmp_path)))

    monkeypatch.setattr(keras.src.applications.mobilenet.file_utils, "get_file", from_nowhere)
    with pytest.raises(ConfigError) as error:
        pretrained.pretrained((28, 28, 1), 3, **SMALL)
    message = str(error.value)
    start = "model.weights=imagenet: the weights of MobileNet are not in Keras's cache and cannot be downloaded: "
    assert message.startswith(start)
    assert message.endswith(f"refused. Download {address} on another computer and set model.weights=FILE.")
