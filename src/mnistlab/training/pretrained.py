"""`model=pretrained`: a network of keras.applications with a new output layer, for transfer learning and fine-tuning.

All that the base needs (size, three channels, its preprocessing) is in the model, as layers of Keras, so that a saved
model takes raw pixels and is loaded without mnistlab.
"""

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers as kl

from mnistlab.config import ConfigError
from mnistlab.config.pretrained_bases import BASES
from mnistlab.runtime.keras_internals import all_layers
from mnistlab.training import model_files

# Of the pixels of ImageNet in 0..1, RGB; and in 0..255, BGR: the constants of keras.applications.
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BGR_MEAN = np.array([103.939, 116.779, 123.68])


def pretrained(
    input_shape: Sequence[int],
    num_outputs: int,
    output_activation: str = "softmax",
    *,
    base: str = "MobileNetV2",
    weights: str | None = "imagenet",
    trainable: str | int = "none",
    resize: Sequence[int] | None = (96, 96),
    dropout: float = 0.2,
    arguments: Mapping[str, Any] | None = None,
) -> keras.Model:
    """A network of keras.applications without its top, the mean of each feature map, dropout and a Dense output.

    It takes pixels from 0 to 255. The base runs in inference mode, also in training: its BatchNormalization layers are
    frozen and its dropout is off, also in layers that are trained. (`base(images, training=False)` does not do this in
    Keras 3: a training step calls all layers with training=True.)

    Args:
        base: its name in keras.applications.
        weights: 'imagenet' (from Keras's cache, or downloaded), a file of the base's weights without the top, or None:
            random.
        trainable: 'none', 'all', or the number of the base's last layers that are trained.
        resize: [height, width] of the base's images; None: the size that they have.
        dropout: share of the mean feature maps dropped before the last layer, 0 <= dropout < 1.
        arguments: of the base's function, such as {'alpha': 0.35}.

    Raises:
        ConfigError: the weights do not fit or cannot be downloaded, or the images do not suit the base.
    """
    images = keras.Input(tuple(input_shape))
    values = images if resize is None else kl.Resizing(*resize, name="resizing")(images)
    values = _preprocessed(_three_channels(values), BASES[base].preprocessing)
    size = (values.shape[1], values.shape[2])
    if min(size) < BASES[base].smallest:
        least = BASES[base].smallest
        raise ConfigError(
            f"{base} needs images of at least {least}x{least} pixels. Received: {size[0]}x{size[1]}. "
            f"Set model.resize=[{least},{least}] or more."
        )
    network = _in_inference_mode(_load_base(base, weights, size, arguments or {}))
    _set_trainable(network, base, trainable)
    means = kl.GlobalAveragePooling2D(name="means")(network(values))
    means = kl.Dropout(dropout)(means) if dropout else means
    outputs = kl.Dense(num_outputs, activation=output_activation, name="output")(means)
    return keras.Model(images, outputs, name="pretrained")


def _three_channels(images: keras.KerasTensor) -> keras.KerasTensor:
    """A grey channel three times; of four channels the first three."""
    num_channels = images.shape[-1]
    if num_channels == 1:
        return kl.Concatenate(name="three_channels")([images] * 3)
    if num_channels == 4:
        return _channels(images, (0, 1, 2))
    if num_channels != 3:
        raise ConfigError(f"model=pretrained needs images of 1, 3 or 4 channels. Received: {num_channels} channels.")
    return images


def _channels(images: keras.KerasTensor, indices: Sequence[int]) -> keras.KerasTensor:
    """These channels of the images, without a slice, which Keras cannot load from an .h5 file."""
    height, width, num_channels = images.shape[1:]
    values = kl.Reshape((height, width, num_channels, 1))(images)
    cropped = [kl.Cropping3D(((0, 0), (0, 0), (index, num_channels - 1 - index)))(values) for index in indices]
    return kl.Reshape((height, width, len(indices)))(kl.Concatenate(axis=3)(cropped))


def _preprocessed(pixels: keras.KerasTensor, preprocessing: str) -> keras.KerasTensor:
    """What `preprocess_input` of the base's module makes of pixels from 0 to 255, in layers that Keras can save."""
    if preprocessing == "caffe":
        return kl.Rescaling([1.0, 1.0, 1.0], (-BGR_MEAN).tolist(), name="preprocessing")(_channels(pixels, (2, 1, 0)))
    if preprocessing == "tf":
        return kl.Rescaling(1 / 127.5, -1.0, name="preprocessing")(pixels)
    if preprocessing == "torch":
        scale, offset = 1 / (255 * DEVIATION), -MEAN / DEVIATION
        return kl.Rescaling(scale.tolist(), offset.tolist(), name="preprocessing")(pixels)
    return pixels


def _load_base(base: str, weights: str | None, size: tuple[int, int], arguments: Mapping[str, Any]) -> keras.Model:
    """The network without its top, with its weights."""
    build = getattr(keras.applications, base)
    from_keras = weights if weights == "imagenet" else None
    with warnings.catch_warnings():
        # Weights of 224x224 serve other sizes too, which MobileNets mention.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
        try:
            network: keras.Model = build(include_top=False, weights=from_keras, input_shape=(*size, 3), **arguments)
        except Exception as error:
            failure = re.match(r"URL fetch failure on (\S+): \S+ -- (.*)", str(error))
            if not failure:
                raise
            raise ConfigError(
                f"model.weights=imagenet: the weights of {base} are not in Keras's cache and cannot be downloaded: "
                f"{failure[2].rstrip('.')}. Download {failure[1]} on another computer and set model.weights=FILE."
            ) from error
    if weights is not None and from_keras is None:
        _load_weights(network, base, Path(weights).expanduser())
    return network


def _load_weights(network: keras.Model, base: str, file: Path) -> None:
    """Load a file of weights. One with more arrays is refused, which Keras would accept in its newer format."""
    expected = Counter(tuple(weight.shape) for weight in network.weights)
    found = _shapes_in(file)
    cause: Exception | None = None
    try:
        network.load_weights(file)
    except Exception as error:
        cause = error
    if cause is not None or (file.name.endswith(".weights.h5") and found - expected):
        raise ConfigError(
            f"model.weights must have the {expected.total()} arrays of {base} without its top (include_top=False). "
            f"Received: {file} with {_difference(expected, found, cause)}."
        ) from cause
    for layer in network.layers:
        if _is_adapted(layer) and not np.allclose(layer.mean, MEAN, atol=1e-3):
            raise ConfigError(
                f"model.weights must be of {base} trained on ImageNet. Received: {file}, in which the mean pixel is "
                f"{np.ravel(layer.mean).tolist()} and not {MEAN.tolist()}."
            )


def _difference(expected: Counter[tuple[int, ...]], found: Counter[tuple[int, ...]], cause: Exception | None) -> str:
    """What is wrong with the arrays of a file of weights."""
    if expected - found:
        reason = f": {str(cause).strip().splitlines()[0].rstrip('.')}" if cause else ""
        return f"{found.total()} arrays of other shapes{reason}"
    return (
        f"{found.total()} arrays: the base's and {(found - expected).total()} more, so the file includes the top. "
        "Take the file with notop or no_top in its name, or save the weights of the network with include_top=False; "
        "to start from a run of mnistlab, set init.from"
    )


def _shapes_in(file: Path) -> Counter[tuple[int, ...]]:
    """The shapes of the arrays in a file of weights, without the optimizer's and the states of random numbers."""
    import h5py

    shapes: Counter[tuple[int, ...]] = Counter()

    def gather(name: str, entry: object) -> None:
        if isinstance(entry, h5py.Dataset) and not name.startswith("optimizer") and "seed_generator" not in name:
            shapes[tuple(entry.shape)] += 1

    try:
        with h5py.File(file) as opened:
            opened.visititems(gather)
    except OSError as error:
        model_files.read(file, "model.weights")  # says what the file is
        raise ConfigError(f"model.weights={file} cannot be read; it may be damaged: {error}.") from error
    return shapes


def _in_inference_mode(network: keras.Model) -> keras.Model:
    """The network without dropout, and with EfficientNet's normalization of pixels as constants.

    These constants are weights in EfficientNet's files. With 'imagenet' Keras adds a layer to correct them (their
    variance is a standard deviation); with a file it does not, and random weights have none.
    """

    def replaced(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if _is_adapted(layer):
            return kl.Rescaling((1 / DEVIATION).tolist(), (-MEAN / DEVIATION).tolist(), name=layer.name)
        if normalizes and isinstance(layer, kl.Rescaling) and isinstance(layer.scale, list):
            return kl.Rescaling(1.0, name=layer.name)
        if isinstance(layer, kl.Dropout):
            config["rate"] = 0.0
        return type(layer).from_config(config)

    normalizes = any(map(_is_adapted, network.layers))
    if not normalizes and not any(isinstance(layer, kl.Dropout) for layer in network.layers):
        return network
    copy: keras.Model = keras.models.clone_model(network, clone_function=replaced)
    for layer in network.layers:
        if layer.weights and not _is_adapted(layer):
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _is_adapted(layer: keras.Layer) -> bool:
    """Whether it normalizes with weights, not with constants."""
    return isinstance(layer, kl.Normalization) and layer.input_mean is None


def _set_trainable(network: keras.Model, base: str, trainable: str | int) -> None:
    """Freeze all layers but the chosen last ones, and every BatchNormalization."""
    num_layers = len(network.layers)
    chosen = {"none": 0, "all": num_layers}.get(str(trainable))
    last = int(trainable) if chosen is None else chosen
    if last > num_layers:
        raise ConfigError(f"model.trainable must be at most the {num_layers} layers of {base}. Received: {trainable}.")
    if last == 0:
        network.trainable = False
    for layer in network.layers[: num_layers - last]:
        layer.trainable = False
    for layer in all_layers(network):
        if isinstance(layer, kl.BatchNormalization):
            layer.trainable = False
