"""The networks of keras.applications for `model=pretrained`, and its settings, checked before the data are loaded."""

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from mnistlab.config.schema import Config, suggest

TARGET = "mnistlab.training.pretrained.pretrained"
NOT_IN_H5 = ("convnext", "inception_resnet_v2", "mobilenet_v3")  # layers or operations that Keras does not find again
WEIGHT_FILES = (".weights.h5", ".h5", ".hdf5")


class Base(NamedTuple):
    """A family of networks.

    module: of keras.applications; preprocessing: what its `preprocess_input` does, 'caffe', 'tf', 'torch' or 'none'
    (the network does it); smallest: the least height and width of its images; arguments: those that change its layers.
    """

    module: str
    preprocessing: str
    smallest: int = 32
    arguments: tuple[str, ...] = ()


_FAMILIES = {
    Base("convnext", "none"): [f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")],
    Base("densenet", "torch"): ["DenseNet121", "DenseNet169", "DenseNet201"],
    Base("efficientnet", "none"): [f"EfficientNetB{size}" for size in range(8)],
    Base("efficientnet_v2", "none"): [f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")],
    Base("inception_resnet_v2", "tf", 75): ["InceptionResNetV2"],
    Base("inception_v3", "tf", 75): ["InceptionV3"],
    Base("mobilenet", "tf", 32, ("alpha", "depth_multiplier")): ["MobileNet"],
    Base("mobilenet_v2", "tf", 32, ("alpha",)): ["MobileNetV2"],
    Base("mobilenet_v3", "none", 32, ("alpha", "minimalistic")): ["MobileNetV3Small", "MobileNetV3Large"],
    Base("nasnet", "tf"): ["NASNetMobile", "NASNetLarge"],
    Base("resnet", "caffe"): ["ResNet50", "ResNet101", "ResNet152"],
    Base("resnet_v2", "tf"): ["ResNet50V2", "ResNet101V2", "ResNet152V2"],
    Base("vgg16", "caffe"): ["VGG16"],
    Base("vgg19", "caffe"): ["VGG19"],
    Base("xception", "tf", 71): ["Xception"],
}
BASES = {name: family for family, names in _FAMILIES.items() for name in names}


def setting_problems(node: MutableMapping[str, Any]) -> Iterator[str]:
    """What is wrong with the settings of `model=pretrained`. A number as `resize` becomes two.

    Args:
        node: the configuration's `model`; changed in place.
    """
    if _is_whole(node.get("resize"), 1):
        node["resize"] = [node["resize"], node["resize"]]
    base = str(node.get("base", "MobileNetV2"))
    yield from _weights_problems(node.get("weights", "imagenet"))
    trainable = node.get("trainable", "none")
    if trainable not in ("none", "all") and not _is_whole(trainable, 1):
        yield (
            "model.trainable must be none, all, or how many of the base's last layers are trained, such as 20. "
            f"Received: {trainable}."
        )
    if base not in BASES:
        yield f"model.base must be a network of keras.applications. Received: {base}.{suggest(base, BASES)}"
        return
    yield from _size_problems(base, node.get("resize"))
    yield from _argument_problems(base, node.get("arguments") or {})


def _size_problems(base: str, resize: Any) -> Iterator[str]:
    smallest = BASES[base].smallest
    is_pair = isinstance(resize, list) and len(resize) == 2 and all(_is_whole(side, smallest) for side in resize)
    if resize is not None and not is_pair:
        yield (
            f"model.resize must be null or two whole numbers >= {smallest}, '[height,width]', for {base}. "
            f"Received: {resize}."
        )


def _argument_problems(base: str, arguments: Any) -> Iterator[str]:
    if not isinstance(arguments, Mapping):
        yield f"model.arguments must be a mapping, such as '{{alpha: 0.35}}'. Received: {arguments}."
        return
    known = BASES[base].arguments
    for name in arguments:
        if name not in known:
            choices = suggest(str(name), known, "model.arguments.") if known else " It takes none."
            yield f"model.arguments must be those that change the layers of {base}. Received: {name}.{choices}"


def without_weights(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration's `model` for a network that gets all its weights from `init.from`: none are loaded before."""
    return {**node, "weights": None} if node.get("_target_") == TARGET else node


def conflicts(config: Config) -> Iterator[str]:
    """Settings outside `model` that do not suit it: pixels that are not from 0 to 255, a file that cannot be loaded."""
    name, value, needed = "scaling", config.data.scaling, "pixels"
    if config.data.rescale is not None:
        name, value, needed = "rescale", config.data.rescale, "null"
    if value != needed:
        yield (
            f"data.{name} must be {needed} for model=pretrained, which scales pixels from 0 to 255 as its base needs "
            f"it. Received: {value}. Leave it out, or set data.{name}={needed}."
        )
    base = BASES.get(str(config.model.get("base")))
    if base and base.module in NOT_IN_H5 and "h5" in config.save.formats:
        yield (
            f"save.formats must not have h5 for {config.model['base']}, which Keras cannot load from an .h5 file. "
            f"Received: {','.join(config.save.formats)}. Set save.formats=[keras]."
        )


def _weights_problems(weights: Any) -> Iterator[str]:
    if weights in (None, "imagenet"):
        return
    if not isinstance(weights, str) or not weights.endswith(WEIGHT_FILES):
        yield (
            "model.weights must be imagenet, null (random) or a file of weights that ends in .weights.h5 or .h5, such "
            f"as the *_notop.h5 of keras.applications. Received: {weights}."
        )
    elif not Path(weights).expanduser().is_file():
        yield f"model.weights must be imagenet, null (random) or a file. Received: {weights}, which does not exist."


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least
