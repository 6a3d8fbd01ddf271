"""One function per architecture: flat arguments in, a plain `keras.Model` out.

The run adds three arguments: `input_shape` (height, width, channels) of scaled float images, `num_outputs` and
`output_activation` of the last layer. `with_preprocessing` puts the scaling in front, so that a saved model takes raw
pixels.
"""

from collections.abc import Sequence

import keras
from keras import layers as kl

SCALINGS = {"unit": (1 / 255, 0.0), "centered": (1 / 127.5, -1.0), "none": (1.0, 0.0)}


def mlp(
    input_shape: Sequence[int],
    num_outputs: int,
    output_activation: str = "softmax",
    *,
    units: Sequence[int] = (128,),
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.Model:
    """The guide's network (Part 3): Flatten, hidden Dense layers, a Dense output.

    Args:
        units: one hidden layer per entry.
        dropout: share of units dropped after each hidden layer, 0 <= dropout < 1.
    """
    hidden: list[keras.Layer] = [kl.Flatten()]
    for size in units:
        hidden.append(kl.Dense(size, activation=activation))
        hidden += [kl.Dropout(dropout)] if dropout else []
    return stack(input_shape, num_outputs, output_activation, layers=hidden)


def logistic(input_shape: Sequence[int], num_outputs: int, output_activation: str = "softmax") -> keras.Model:
    """Multinomial logistic regression: no hidden layer."""
    return stack(input_shape, num_outputs, output_activation, layers=[kl.Flatten()])


def cnn(
    input_shape: Sequence[int],
    num_outputs: int,
    output_activation: str = "softmax",
    *,
    filters: Sequence[int] = (32, 64),
    kernel_size: int = 3,
    units: int = 128,
    dropout: float = 0.5,
) -> keras.Model:
    """Convolution and pooling per entry of `filters`, a hidden Dense layer, dropout, a Dense output."""
    body: list[keras.Layer] = []
    for count in filters:
        body.append(kl.Conv2D(count, kernel_size, activation="relu", padding="same"))
        body.append(kl.MaxPooling2D())
    body += [kl.Flatten(), kl.Dense(units, activation="relu")]
    body += [kl.Dropout(dropout)] if dropout else []
    return stack(input_shape, num_outputs, output_activation, layers=body)


def stack(
    input_shape: Sequence[int], num_outputs: int, output_activation: str = "softmax", *, layers: Sequence[keras.Layer]
) -> keras.Model:
    """Any stack of Keras layers, closed by a Dense output layer."""
    return keras.Sequential(
        [keras.Input(tuple(input_shape)), *layers, kl.Dense(num_outputs, activation=output_activation, name="output")]
    )


def scale_and_offset(scaling: str | float) -> tuple[float, float]:
    """Scale and offset, pixel * scale + offset, of 'unit' (pixels / 255, Part 2.2), 'centered' (pixels / 127.5 - 1),
    'none' (only a cast to float) or a factor."""
    return SCALINGS[scaling] if isinstance(scaling, str) else (scaling, 0.0)


def with_preprocessing(
    network: keras.Model, input_shape: Sequence[int], scaling: str | float, augmenting: Sequence[keras.Layer] = ()
) -> keras.Model:
    """The network with its scaling in front: raw uint8 pixels in, (n, height, width, channels).

    Args:
        scaling: as for `scale_and_offset`.
        augmenting: random layers between the scaling and the network; they do nothing outside training.
    """
    scale, offset = scale_and_offset(scaling)
    front = [
        keras.Input(tuple(input_shape), dtype="uint8", name="pixels"),
        kl.Rescaling(scale, offset, name="scaling"),
        *augmenting,
    ]
    body = network.layers if isinstance(network, keras.Sequential) else [network]
    return keras.Sequential([*front, *body], name="classifier")
