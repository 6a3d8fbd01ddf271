"""`model=resnet`: a residual network that is small enough for digits on a CPU."""

from collections.abc import Sequence

import keras
from keras import layers as kl

from mnistlab.config import ConfigError

MOMENTUM = 0.9  # of the moving averages; Keras's 0.99 lags behind in trainings of few epochs


def resnet(
    input_shape: Sequence[int],
    num_outputs: int,
    output_activation: str = "softmax",
    *,
    filters: Sequence[int] = (24, 48, 96),
    blocks: int = 1,
    stem_pool: int = 2,
    dropout: float = 0.0,
) -> keras.Model:
    """A residual network with pre-activation: He et al. 2016, "Identity mappings in deep residual networks" (v2).

    A convolution, stages of residual blocks at half the size of the stage before, the mean of each feature map, and a
    Dense output.

    Args:
        filters: one stage per entry, with so many feature maps.
        blocks: residual blocks of two convolutions in each stage.
        stem_pool: max pooling after the first convolution; 2 halves the image at once; 1 is nearly 3 times slower.
        dropout: share of the mean feature maps dropped before the last layer, 0 <= dropout < 1.

    Raises:
        ConfigError: there is no stage.
    """
    if not filters:
        raise ConfigError("model.filters must have an entry for each stage, such as [24,48,96]. Received: [].")
    images = keras.Input(tuple(input_shape))
    maps = _convolution(filters[0])(images)
    maps = kl.MaxPooling2D(stem_pool, padding="same")(maps) if stem_pool > 1 else maps
    for stage, count in enumerate(filters):
        for block in range(blocks):
            maps = _residual_block(maps, count, stride=2 if stage and not block else 1)
    maps = kl.ReLU()(_normalize(maps))
    means = kl.GlobalAveragePooling2D()(maps)
    means = kl.Dropout(dropout)(means) if dropout else means
    outputs = kl.Dense(num_outputs, activation=output_activation, name="output")(means)
    return keras.Model(images, outputs, name="resnet")


def _residual_block(maps: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """The maps plus two convolutions of them; a 1x1 convolution of their means where number or size changes."""
    active = kl.ReLU()(_normalize(maps))
    shortcut = maps
    if stride > 1 or maps.shape[-1] != filters:
        # He et al. 2018 (ResNet-D). On a CPU, gradients of a 1x1 convolution with a stride may crash TensorFlow.
        means = kl.AveragePooling2D(stride, padding="same")(active) if stride > 1 else active
        shortcut = _convolution(filters, size=1)(means)
    active = kl.ReLU()(_normalize(_convolution(filters, stride)(active)))
    return kl.Add()([shortcut, _convolution(filters)(active)])


def _convolution(filters: int, stride: int = 1, size: int = 3) -> keras.Layer:
    return kl.Conv2D(filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal")


def _normalize(maps: keras.KerasTensor) -> keras.KerasTensor:
    return kl.BatchNormalization(momentum=MOMENTUM)(maps)
