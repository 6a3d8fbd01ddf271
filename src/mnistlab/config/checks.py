"""Turns a composed configuration into a typed `Config` and collects all problems with its values."""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from mnistlab.config import FILLED_IN, Config, ConfigError, flatten, secrets, suggest, trust
from mnistlab.config.class_keys import read_mapping
from mnistlab.config.keras_names import name_problems
from mnistlab.config.schema import KERAS_NAMES
from mnistlab.config.value_checks import class_mapping_problems, value_problems

MAX_EPOCHS = 100_000  # a second each is more than a day
PRECISIONS = ("float32", "float64", "mixed_bfloat16", "mixed_float16")  # Keras's dtype policies
MODEL_FORMATS = ("keras", "h5", "weights")
# ImageDataGenerator's arguments that vary an image, and those that mnistlab sets elsewhere.
AUGMENTATIONS = (
    "rotation_range",
    "width_shift_range",
    "height_shift_range",
    "brightness_range",
    "shear_range",
    "zoom_range",
    "channel_shift_range",
    "fill_mode",
    "cval",
    "horizontal_flip",
    "vertical_flip",
    "interpolation_order",
)
NO_AUGMENTATIONS = {
    "rescale": "it is for all images and part of the saved model: set data.rescale=1/255 (or data.scaling=unit)",
    "validation_split": "set data.validation_split, and data.split=keras for ImageDataGenerator's own split",
    **dict.fromkeys(
        ("featurewise_center", "featurewise_std_normalization", "samplewise_center", "samplewise_std_normalization"),
        "a normalization must hold in validation and in the saved model too: add keras.layers.Normalization, "
        "LayerNormalization or BatchNormalization to the model (model=layers)",
    ),
    **dict.fromkeys(("zca_whitening", "zca_epsilon"), "whiten the images before, or learn it: model=layers"),
    "preprocessing_function": "write it as a Keras layer of the model (model=layers), so that the saved model has it",
    **dict.fromkeys(("data_format", "dtype"), "images are (height, width, channels) and uint8 here"),
}


def typed(composed: DictConfig) -> Config:
    """The typed configuration of one job.

    Raises:
        ConfigError: all problems, one message per setting.
    """
    given = [name for name in flatten(OmegaConf.to_container(composed, resolve=False)) if _is_setting(name)]
    from_environment = expressions_of_environment(composed)
    unknown = list(_unknown_keys(composed, Config, [*setting_names(), *given]))
    if unknown:
        raise ConfigError(unknown)
    try:
        config: Config = OmegaConf.to_object(composed)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(_missing_or_unresolved(error, composed)) from error
    config.from_environment = from_environment
    config.data.class_weight = read_mapping(config.data.class_weight)
    config.data.keep = read_mapping(config.data.keep)
    if problems := list(_list_problems(config)):
        raise ConfigError(problems)
    problems = [*_field_problems(config), *_meaning_problems(config), *name_problems(config), *value_problems(config)]
    if problems:
        raise ConfigError(problems)
    rate = config.optimizer.get("learning_rate")
    if isinstance(rate, int):  # Keras takes learning_rate=1.0 and refuses learning_rate=1
        config.optimizer["learning_rate"] = float(rate)
    if type(path := config.source.get("path")) is int:  # a folder may be called 5
        config.source["path"] = str(path)
    return config


def expressions_of_environment(composed: DictConfig) -> dict[str, Any]:
    """The settings that come from environment variables, also through other settings, with `${oc.env:NAME}` in place of
    each value. The values are remembered as secrets."""
    raw = OmegaConf.to_container(composed, resolve=False)
    secrets.remember_settings(raw)
    if "oc.env:" not in repr(raw):
        return {}

    def expression(variable: str, *default: Any) -> str:
        secrets.remember_variable(variable)
        return "${oc.env:" + ",".join(map(str, (variable, *default))) + "}"

    OmegaConf.register_new_resolver("oc.env", expression, replace=True)
    try:
        found = OmegaConf.to_container(OmegaConf.create(raw), resolve=True)  # without types: a text may stand anywhere
    except OmegaConfBaseException:
        found = raw
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
    return {key: value for key, value in flatten(found).items() if "${oc.env:" in str(value)}


def _factor(value: Any) -> float | None:
    """A positive number, also written as a fraction ('1/255', '1./255'); None if the value is not one."""
    above, _, below = str(value).replace(" ", "").partition("/")
    try:
        factor = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        return None
    return factor if 0 < factor < math.inf else None


def apply_keras_names(config: Config, given: Iterable[str] = ()) -> list[str]:
    """Move values given under Keras's names to mnistlab's names for them, so that equal settings compare equal.

    Args:
        given: the names of the settings on the command line.

    Returns:
        Problems: both names of one setting were given, with different values.
    """
    data, given, problems = config.data, set(given), []
    for name, keras_name in KERAS_NAMES.items():
        value, before = getattr(data, keras_name), getattr(data, name)
        if value is None:
            continue
        if before != value and {f"data.{name}", f"data.{keras_name}"} <= given:
            problems.append(
                f"data.{name} and data.{keras_name} are two names of one setting. Received: {before} and {value}."
            )
        setattr(data, name, value)
        setattr(data, keras_name, None)
    if "image_size" in config.source and data.image_size is not None:
        config.source["image_size"] = data.image_size
    if data.rescale is not None:
        if {"data.rescale", "data.scaling"} <= given:
            problems.append(
                "data.rescale and data.scaling are two names of one setting. "
                f"Received: {data.rescale} and {data.scaling}."
            )
        data.rescale = _factor(data.rescale)
        if data.rescale is not None and math.isclose(data.rescale, 1 / 255, rel_tol=1e-9):
            data.rescale = None
        data.scaling = "unit" if data.rescale is None else "none"
    return problems


def _missing_or_unresolved(error: OmegaConfBaseException, composed: DictConfig) -> str:
    if removed := [key for key in get_type_hints(Config) if key not in FILLED_IN and key not in composed]:
        return f"{', '.join(removed)} cannot be removed: every run needs it. Received: ~{removed[0]}."
    key = error.full_key or "a setting"
    if type(error).__name__ == "MissingMandatoryValue":
        return f"{key} must be given: {key}=VALUE."
    reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error).splitlines()[0])
    return f"{key} cannot be resolved: {reason.strip(chr(34)).rstrip('.')}."


def _unknown_keys(node: DictConfig, schema: type, known: Sequence[str], prefix: str = "") -> Iterator[str]:
    types = {name: kind for name, kind in get_type_hints(schema).items() if prefix or name not in FILLED_IN}
    for key in map(str, node):
        if key not in types:
            name = f"{prefix}{key}"
            yield no_such_setting(name, [one for one in known if one != name and not one.startswith(f"{name}.")])
        elif dataclasses.is_dataclass(types[key]) and OmegaConf.is_interpolation(node, key):
            received = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index,call-overload]
            yield f"{prefix}{key} must be a mapping of settings: names and values. Received: {received}."
        elif dataclasses.is_dataclass(types[key]) and not OmegaConf.is_missing(node, key):
            yield from _unknown_keys(node[key], types[key], known, f"{prefix}{key}.")


def _is_setting(name: str) -> bool:
    return name.split(".")[0] not in FILLED_IN


def setting_names(schema: Any = Config, prefix: str = "") -> list[str]:
    """The dotted names of all typed settings."""
    names = []
    for name, kind in get_type_hints(schema).items():
        if name in FILLED_IN and not prefix:
            continue
        nested = setting_names(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else []
        names += nested or [f"{prefix}{name}"]
    return names


def no_such_setting(key: str, known: Iterable[str]) -> str:
    """The message for an unknown setting: the nearest known one, and all settings of the same group."""
    if key == "trust":
        return trust.IN_FILE
    parent, _, last = key.rpartition(".")
    known = list(dict.fromkeys(known))
    beside = [name for name in known if name.startswith(f"{parent}." if parent else "")]
    near = [name for name in known if name.rpartition(".")[2] == last]
    near = [name for name in beside if _alike(last, name.rpartition(".")[2])] + near
    near.sort(key=lambda name: name.rpartition(".")[2] != last)
    near += [name for name in known if _alike(last, name.rpartition(".")[2])]
    near += difflib.get_close_matches(key, beside, n=1, cutoff=0.6)
    skip = len(parent) + 1 if parent else 0
    choices = sorted({name[skip:].split(".")[0] for name in beside} - {"_target_"})
    hint = f" Did you mean {near[0]}?" if near else ""
    listed = f" Choices{f' in {parent}' if parent else ''}: {', '.join(choices)}." if choices else ""
    return f"{key} is not a setting.{hint}{listed}"


def _alike(word: str, name: str) -> bool:
    """Whether a word is a misspelt name or its initials: lr for learning_rate."""
    initials = "".join(part[:1] for part in name.split("_"))
    return word in (name, initials) or bool(difflib.get_close_matches(word, [name], cutoff=0.8))


ITEMS: dict[str, tuple[tuple[type, ...], str]] = {
    "names": ((str,), "a list of names, or one name"),
    "metrics": ((str, Mapping), "a list of Keras's metrics, by name or as mappings with _target_, or one of them"),
    "numbers": ((int, float), "a list of numbers, or one number"),
}


def _list_problems(config: Any, prefix: str = "") -> Iterator[str]:
    """Make lists of single items where a list is meant (save.formats=keras); yield what is no such list."""
    for entry in dataclasses.fields(config):
        value, name = getattr(config, entry.name), f"{prefix}{entry.name}"
        if dataclasses.is_dataclass(value):
            yield from _list_problems(value, f"{name}.")
        elif "items" in entry.metadata and (value is not None or entry.name not in ("axes", "tune_range")):
            items = value if isinstance(value, list) else [] if value is None else [value]
            types, rule = ITEMS[entry.metadata["items"]]
            if not all(isinstance(item, types) and not isinstance(item, bool) for item in items):
                yield f"{name} must be {rule}. Received: {value}."
            setattr(config, entry.name, [float(item) if isinstance(item, int) else item for item in items])


def _field_problems(config: Any, prefix: str = "") -> Iterator[str]:
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        name = f"{prefix}{entry.name}"
        if dataclasses.is_dataclass(value):
            yield from _field_problems(value, f"{name}.")
        elif value is None:
            continue
        elif "choices" in entry.metadata and value not in entry.metadata["choices"]:
            yield f"{name} must be one of the choices. Received: {value}.{suggest(value, entry.metadata['choices'])}"
        elif "holds" in entry.metadata and not entry.metadata["holds"](value):
            yield f"{name} must satisfy {entry.metadata['rule']}. Received: {value}."


def _meaning_problems(config: Config) -> Iterator[str]:
    """Problems that neither a type nor a range can express."""
    batch_size = config.fit.batch_size
    whole = isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size >= 1
    if not whole and batch_size != "all":
        yield f"fit.batch_size must be a whole number >= 1, or `all` (one step an epoch). Received: {batch_size}."
    if config.fit.epochs > MAX_EPOCHS:
        yield (
            f"fit.epochs counts passes through all training images, not steps: at most {MAX_EPOCHS:,}. "
            f"Received: {config.fit.epochs}. To end when it no longer improves: "
            "callbacks=early_stopping fit.epochs=1000."
        )
    precision = config.fit.precision
    if precision is not None and precision not in PRECISIONS:
        near = {"16": "mixed_float16", "bf": "mixed_bfloat16", "64": "float64"}
        found = [name for part, name in near.items() if part in precision]
        hint = f" Did you mean {found[-1]}?" if found else ""
        yield f"fit.precision={precision} is not an option.{hint} Choices: {', '.join(PRECISIONS)}."
    rate = config.optimizer.get("learning_rate")
    if isinstance(rate, int | float) and not (0 <= rate < math.inf):
        yield f"optimizer.learning_rate must be a finite number >= 0. Received: {rate}."
    elif isinstance(rate, str):
        yield f"optimizer.learning_rate must be a number >= 0, or a schedule. Received: {rate!r}."
    elif config.schedule and isinstance(rate, Mapping):
        yield "optimizer.learning_rate must be a number where a schedule is chosen. Write one, or schedule=constant."
    for name, node in config.callbacks.items():
        target = str(node.get("_target_")) if isinstance(node, Mapping) else ""
        if config.schedule and target.endswith((".ReduceLROnPlateau", ".LearningRateScheduler")):
            yield (
                f"callbacks.{name} and schedule both set the learning rate. Use one of the two: add ~callbacks.{name}, "
                "or schedule=constant."
            )
    for word in dict.fromkeys(config.save.formats):
        if word not in MODEL_FORMATS:
            yield f"save.formats lists file formats. Received: {word}.{suggest(word, MODEL_FORMATS)}"
    for key in config.init:
        if key != "from":
            yield f"init.{key} is not a setting.{suggest(str(key), ['from'], 'init.')}"
    for target in config.sweep.targets:
        if not 0 < target <= 1:
            yield (
                "sweep.targets are accuracies as fractions, 0.95 and not 95: each must satisfy 0 < value <= 1. "
                f"Received: {target:g}."
            )
    weight = config.data.class_weight
    if isinstance(weight, str) and weight != "balanced":
        yield f"data.class_weight is null, balanced or a mapping of classes to weights. Received: {weight}."
    factor = config.data.rescale
    if factor is not None and _factor(factor) is None:
        yield f"data.rescale is null or a factor above 0, such as 1/255. Received: {factor}."
    yield from _image_problems(config)
    yield from class_mapping_problems("data.class_weight", weight, 0.0, math.inf)
    yield from class_mapping_problems("data.keep", config.data.keep, 0.0, 1.0)


def _image_problems(config: Config) -> Iterator[str]:
    name, size = "image_size", config.data.image_size
    if config.data.target_size is not None:
        name, size = "target_size", config.data.target_size
    whole = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side >= 1 for side in size)
    if size is not None and not whole:
        yield f"data.{name} is null or two whole numbers, '[height,width]'. Received: {size}."
    elif size is not None and "image_size" not in config.source:
        yield f"data.{name}={size} has no effect: this source's images have one size. It is for source=directory."
    for name in config.data.augmentation:
        if name in NO_AUGMENTATIONS:
            yield f"data.augmentation.{name} is not an augmentation: {NO_AUGMENTATIONS[name]}."
        elif name not in AUGMENTATIONS:
            yield (
                f"data.augmentation.{name} is not an argument of ImageDataGenerator that varies images."
                f"{suggest(str(name), AUGMENTATIONS, 'data.augmentation.')}"
            )
