"""One function per architecture: flat arguments in, a plain `keras.Model` out.

The run adds three arguments: `input_shape` (height, width, channels) of scaled float images, `num_outputs` and
`output_activation` of the last layer. `with_preprocessing` puts the scaling in front, so that a saved model takes raw
pixels.
"""

from collections.abc import Sequence

import keras
from keras import layers as kl

from mnistlab.data.value_range import UINT8, ValueRange, number

TARGET_RANGES = {"unit": (0, 1), "centered": (-1, 1), "pixels": (0, 255)}
LEFT_AS_THEY_ARE = ("signed", "standardized")  # kinds of value ranges that a network takes as they are


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


def resolve_scaling(scaling: str | float, values: ValueRange = UINT8) -> str | float:
    """The scaling that 'auto' chooses for images of this value range: 'none' for values around 0, else 'unit'."""
    if scaling != "auto":
        return scaling
    return "none" if values.kind in LEFT_AS_THEY_ARE else "unit"


def scale_and_offset(scaling: str | float, values: ValueRange = UINT8) -> tuple[float, float]:
    """Scale and offset, value * scale + offset, of a scaling.

    scaling: maps black..white to 0..1 ('unit', Part 2.2), -1..1 ('centered') or 0..255 ('pixels'); 'none': only a cast
    to float; 'auto'; or a factor.
    """
    scaling = resolve_scaling(scaling, values)
    if not isinstance(scaling, str):
        return scaling, 0.0
    if scaling == "none":
        return 1.0, 0.0
    black, white = TARGET_RANGES[scaling]
    scale = (white - black) / values.width
    return scale, black - values.black * scale


def scaling_formula(scaling: str | float, values: ValueRange = UINT8) -> str:
    """What the model does with raw values: 'unit, (value - 0) / 65535'."""
    scaling = resolve_scaling(scaling, values)
    if not isinstance(scaling, str):
        return f"value * {scaling!r}"
    if scaling == "none":
        return "none, value"
    share = f"(value - {number(values.black)}) / {number(values.width)}".replace("- -", "+ ")
    return {"unit": f"unit, {share}", "centered": f"centered, 2 * {share} - 1", "pixels": f"pixels, 255 * {share}"}[
        scaling
    ]


def with_preprocessing(
    network: keras.Model,
    input_shape: Sequence[int],
    scaling: str | float,
    augmenting: Sequence[keras.Layer] = (),
    values: ValueRange = UINT8,
    dtype: str = "uint8",
) -> keras.Model:
    """The network with its scaling in front: raw pixels in, (n, height, width, channels).

    Args:
        scaling: as for `scale_and_offset`.
        augmenting: random layers between the scaling and the network; they do nothing outside training.
        values, dtype: of the raw pixels, uint8 or float32.
    """
    scale, offset = scale_and_offset(scaling, values)
    front = [
        keras.Input(tuple(input_shape), dtype=dtype, name="pixels"),
        kl.Rescaling(scale, offset, name="scaling"),
        *augmenting,
    ]
    body = network.layers if isinstance(network, keras.Sequential) else [network]
    return keras.Sequential([*front, *body], name="classifier")
