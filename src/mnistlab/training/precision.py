"""The precision in which a network computes, `fit.precision`: Keras's dtype policy of its layers.

A mixed policy computes in 16 bits and keeps the weights in float32. Scaling, augmentation and the last layer stay in
float32: pixel coordinates, and the softmax that the loss needs, have too few digits in 16 bits. The preprocessing
within `model=pretrained` does not.
"""

import contextlib
from collections.abc import Iterator

import keras


def policy_name(precision: str | None) -> str:
    """The policy of this setting; without one Keras's default, also where an earlier job had another."""
    return precision or str(keras.config.floatx())


def outer_policy(precision: str | None) -> str | None:
    """The policy of the layers around the network."""
    return None if _is_mixed(precision) else precision


@contextlib.contextmanager
def policy(precision: str | None) -> Iterator[None]:
    """Build layers with this policy; afterwards the one before is the default again."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy_name(precision))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def with_exact_output(network: keras.Model, precision: str | None) -> keras.Model:
    """The network with its last layer in float32 if the policy is a mixed one. Of a network whose last layer Keras does
    not know, such as a subclass of keras.Model, only the outputs are converted."""
    if not _is_mixed(precision):
        return network
    last = network.layers[-1]
    is_known = type(network).__module__.startswith("keras.") and not isinstance(last, keras.Model)
    if is_known and isinstance(network, keras.Sequential):
        last.dtype_policy = "float32"  # in effect from its next call on, behind the scaling
        return network
    if is_known and last.output is network.output:
        last.dtype_policy = "float32"
        return keras.Model(network.inputs, last(last.input), name=network.name)
    return keras.Sequential([network, keras.layers.Activation("linear", dtype="float32")])


def scaled(optimizer: keras.Optimizer, precision: str | None) -> keras.Optimizer:
    """The optimizer; with float16 it scales the loss, so that small gradients are not rounded to 0."""
    if precision != "mixed_float16" or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


def _is_mixed(precision: str | None) -> bool:
    return (precision or "").startswith("mixed_")
