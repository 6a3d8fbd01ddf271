"""The values of mnistlab's models' arguments, checked before the data are loaded."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from mnistlab.config import pretrained_bases

WHOLE = "a whole number >= 1"
SEVERAL = "a list of whole numbers >= 1, one per layer, such as [128,64]; or one number"
SIDES = "a whole number >= 1, or two: [height,width]"
LAYERS = "a list of layers, each a mapping with _target_, such as [{_target_: keras.layers.Dense, units: 64}]"
SHARE = "a number, 0 <= value < 1"
RULES = {
    "models.mlp": {"units": SEVERAL, "dropout": SHARE},
    "models.cnn": {"filters": SEVERAL, "kernel_size": SIDES, "units": WHOLE, "dropout": SHARE},
    "models.stack": {"layers": LAYERS},
    "resnet.resnet": {"filters": SEVERAL, "blocks": WHOLE, "stem_pool": WHOLE, "dropout": SHARE},
    "pretrained.pretrained": {"dropout": SHARE},
}


def value_problems(node: MutableMapping[str, Any]) -> Iterator[str]:
    """Arguments of a model of mnistlab that its layers would refuse. A single number becomes a list where one is due.

    Args:
        node: the configuration's `model`; changed in place.
    """
    target = str(node["_target_"])
    if target == pretrained_bases.TARGET:
        yield from pretrained_bases.setting_problems(node)
    for name, rule in RULES.get(target.removeprefix("mnistlab.training."), {}).items():
        value = node.get(name)
        if rule == SEVERAL and _is_whole(value):
            node[name] = value = [value]
        if name in node and not _holds(rule, value):
            yield f"model.{name} must be {rule}. Received: {value}."


def _holds(rule: str, value: Any) -> bool:
    if rule == SEVERAL:
        return isinstance(value, list) and all(map(_is_whole, value))
    if rule == LAYERS:
        return isinstance(value, list) and all(isinstance(layer, Mapping) and "_target_" in layer for layer in value)
    if rule == SIDES and isinstance(value, list):
        return len(value) == 2 and all(map(_is_whole, value))
    if rule in (WHOLE, SIDES):
        return _is_whole(value)
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 1
