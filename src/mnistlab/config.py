"""The configuration's schema: what every setting is called, its type and range; how it becomes flat parameters.

Everything that mnistlab's own code reads is typed here. What goes to a callable (`source`, `model`, `optimizer`,
`callbacks`) is an open mapping: `build.py` checks it against the callable. Defaults live in conf/, not here.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

MODEL_FORMATS = ("keras", "h5", "weights")
# ImageDataGenerator's arguments: those that vary an image, and those that belong elsewhere here.
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


class ConfigError(ValueError):
    """What the user can mend: a setting, a file, an argument. Shown without a traceback.

    Args:
        problems: one or several messages; each states the rule, what was received and the choices.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def _choice(*options: str) -> Any:
    return field(metadata={"choices": options})


def _number(rule: str, holds: Callable[[float], bool]) -> Any:
    return field(metadata={"rule": rule, "holds": holds})


def _filled_in(default: Callable[[], Any]) -> Any:
    return field(default_factory=default, metadata={"omegaconf_ignore": True})


@dataclass(kw_only=True)
class DataConfig:
    labels: str = _choice("one_hot", "integer")
    class_mode: str | None = _choice("binary", "categorical", "sparse")
    scaling: str = _choice("unit", "centered", "none")
    rescale: Any
    image_size: Any
    target_size: Any
    split: str = _choice("stratified", "keras")
    validation: str = _choice("holdout", "test")
    validation_fraction: float = _number("0 < value < 1", lambda value: 0 < value < 1)
    validation_split: float | None = _number("0 < value < 1", lambda value: 0 < value < 1)
    test_fraction: float = _number("0 < value < 1", lambda value: 0 < value < 1)
    split_seed: int = _number("value >= 0", lambda value: value >= 0)
    class_weight: Any
    keep: Any
    limit: int | None = _number("value >= 1", lambda value: value >= 1)
    augmentation: dict[str, Any]


@dataclass(kw_only=True)
class FitConfig:
    epochs: int = _number("value >= 1", lambda value: value >= 1)
    batch_size: Any
    engine: str = _choice("auto", "fused", "keras")
    resident_gigabytes: float = _number("value > 0", lambda value: value > 0)
    loss: str
    metrics: list[str]


@dataclass(kw_only=True)
class SaveConfig:
    which: str = _choice("best", "last")
    monitor: str
    formats: list[str]


@dataclass(kw_only=True)
class TrackingConfig:
    backend: str = _choice("mlflow", "none")
    uri: str | None
    experiment: str | None


@dataclass(kw_only=True)
class PathsConfig:
    root: str
    run: str | None


@dataclass(kw_only=True)
class SweepConfig:
    seeds: int = _number("value >= 1", lambda value: value >= 1)
    axes: list[str] | None
    objective: str
    targets: list[float]
    preflight: bool
    dry_run: bool
    force: bool
    plan: str | None


@dataclass(frozen=True)
class SweepPart:
    """What a job knows of the sweep it belongs to: its name there and the tags that tie it to its parent run.

    wait: whether it must see its record completed itself; in the sweep's own process the sweep does.
    """

    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    wait: bool = True


@dataclass(kw_only=True)
class Config:
    """One experiment, complete.

    The last five are filled in after composing and are no settings: the chosen option of each group, the command
    line's words, the settings that came out of the environment (as expressions, so that no secret is recorded), the
    user's own folder of groups, and the job's part in a sweep.
    """

    source: dict[str, Any]
    data: DataConfig
    model: dict[str, Any]
    optimizer: dict[str, Any]
    callbacks: dict[str, Any]
    fit: FitConfig
    init: dict[str, Any]
    save: SaveConfig
    tracking: TrackingConfig
    paths: PathsConfig
    sweep: SweepConfig
    seed: int = _number("0 <= value < 2**32", lambda value: 0 <= value < 2**32)
    deterministic: bool
    choices: dict[str, str] = _filled_in(dict)
    overrides: list[str] = _filled_in(list)
    from_environment: dict[str, str] = _filled_in(dict)
    config_dir: str | None = _filled_in(lambda: None)
    part: SweepPart = _filled_in(SweepPart)


FILLED_IN = ("choices", "overrides", "from_environment", "config_dir", "part")


def project_root() -> str:
    """The folder that `mlruns/` and `runs/` lie in, wherever one stands: $MNISTLAB_ROOT, else the checkout that the
    package is installed from, else ~/mnistlab."""
    named = os.environ.get("MNISTLAB_ROOT")
    checkout = Path(__file__).resolve().parents[2]
    if named:
        return str(Path(named).expanduser().resolve())
    return str(checkout if (checkout / "pyproject.toml").is_file() else Path.home() / "mnistlab")


def conf_folder() -> Path:
    """The folder of the config groups: inside an installed package, beside `src/` in a checkout."""
    inside = Path(__file__).resolve().parent / "conf"
    return inside if inside.is_dir() else Path(__file__).resolve().parents[2] / "conf"


def register() -> None:
    """Make the schema and the resolver known to Hydra; safe to call more than once."""
    OmegaConf.register_new_resolver("project_root", project_root, replace=True)
    ConfigStore.instance().store(name="schema", node=Config)


def typed(composed: DictConfig) -> Config:
    """The typed configuration of one job.

    Raises:
        ConfigError: all that is wrong with it, one message per setting.
    """
    unknown = list(_unknown_keys(composed, Config))
    if unknown:
        raise ConfigError(unknown)
    try:
        config: Config = OmegaConf.to_object(composed)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(_missing_or_unresolved(error)) from error
    problems = [*_field_problems(config), *_meaning_problems(config)]
    if problems:
        raise ConfigError(problems)
    rate = config.optimizer.get("learning_rate")
    if isinstance(rate, int):  # Keras takes learning_rate=1.0 and refuses learning_rate=1
        config.optimizer["learning_rate"] = float(rate)
    config.from_environment = {
        key: value
        for key, value in flatten(OmegaConf.to_container(composed, resolve=False)).items()
        if isinstance(value, str) and "${oc.env:" in value
    }
    return config


def _factor(value: Any) -> float | None:
    """A number, also one written as a fraction: '1/255', '1./255'. None if it is none."""
    above, _, below = str(value).replace(" ", "").partition("/")
    try:
        factor = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        return None
    return factor if 0 < factor < math.inf else None


def take_keras_words(config: Config, given: Iterable[str] = ()) -> list[str]:
    """Put what is said in Keras's words where mnistlab's own word for it is, so that equal settings are equal.

    Args:
        given: the names of the settings on the command line.

    Returns:
        What is wrong: both words for one setting, with different values.
    """
    data, given, problems = config.data, set(given), []
    for own, keras in (("validation_fraction", "validation_split"), ("image_size", "target_size")):
        value, before = getattr(data, keras), getattr(data, own)
        if value is None:
            continue
        if before != value and {f"data.{own}", f"data.{keras}"} <= given:
            problems.append(
                f"data.{own} and data.{keras} are two words for one setting. Received: {before} and {value}."
            )
        setattr(data, own, value)
        setattr(data, keras, None)
    if "image_size" in config.source and data.image_size is not None:
        config.source["image_size"] = data.image_size
    if data.rescale is not None:
        if {"data.rescale", "data.scaling"} <= given:
            problems.append(
                "data.rescale and data.scaling are two words for one setting. "
                f"Received: {data.rescale} and {data.scaling}."
            )
        data.rescale = _factor(data.rescale)
        if data.rescale is not None and math.isclose(data.rescale, 1 / 255, rel_tol=1e-9):
            data.rescale = None
        data.scaling = "unit" if data.rescale is None else "none"
    return problems


def _missing_or_unresolved(error: OmegaConfBaseException) -> str:
    key = error.full_key or "a setting"
    if type(error).__name__ == "MissingMandatoryValue":
        return f"{key} must be given: {key}=VALUE."
    return f"{key} cannot be resolved: {str(error).splitlines()[0]}"


def _unknown_keys(node: DictConfig, schema: type, prefix: str = "") -> Iterator[str]:
    types = {name: kind for name, kind in get_type_hints(schema).items() if prefix or name not in FILLED_IN}
    for key in map(str, node):
        if key not in types:
            yield no_such_setting(f"{prefix}{key}", setting_names())
        elif dataclasses.is_dataclass(types[key]):
            yield from _unknown_keys(node[key], types[key], f"{prefix}{key}.")


def setting_names(schema: Any = Config, prefix: str = "") -> list[str]:
    """The dotted names of all typed settings."""
    names = []
    for name, kind in get_type_hints(schema).items():
        nested = setting_names(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else []
        names += nested or ([] if name in FILLED_IN and not prefix else [f"{prefix}{name}"])
    return names


def no_such_setting(key: str, known: Iterable[str]) -> str:
    """The message for a key that is no setting: the nearest known one, and what stands beside it."""
    parent, _, last = key.rpartition(".")
    beside = [name for name in known if name.startswith(f"{parent}." if parent else "")]
    near = [name for name in beside if _alike(last, name.rpartition(".")[2])]
    near += difflib.get_close_matches(key, beside, n=1, cutoff=0.6)
    skip = len(parent) + 1 if parent else 0
    choices = sorted({name[skip:].split(".")[0] for name in beside})
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{key} is no setting.{hint} Choices{f' in {parent}' if parent else ''}: {', '.join(choices)}."


def _alike(word: str, name: str) -> bool:
    """A slip of the keyboard, or the initials: lr for learning_rate."""
    initials = "".join(part[:1] for part in name.split("_"))
    return word in (name, initials) or bool(difflib.get_close_matches(word, [name], cutoff=0.8))


def suggest(word: str, choices: Iterable[str], prefix: str = "") -> str:
    """' Did you mean X? Choices: ...' for a word that is not among the choices."""
    ordered = sorted(choices)
    near = difflib.get_close_matches(word, ordered, n=1, cutoff=0.5)
    hint = f" Did you mean {prefix}{near[0]}?" if near else ""
    return f"{hint} Choices: {', '.join(ordered)}."


def _field_problems(config: Any, prefix: str = "") -> Iterator[str]:
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        name = f"{prefix}{entry.name}"
        if dataclasses.is_dataclass(value):
            yield from _field_problems(value, f"{name}.")
        elif value is None:
            continue
        elif "choices" in entry.metadata and value not in entry.metadata["choices"]:
            yield f"{name} is one of a few words. Received: {value}.{suggest(value, entry.metadata['choices'])}"
        elif "holds" in entry.metadata and not entry.metadata["holds"](value):
            yield f"{name} must satisfy {entry.metadata['rule']}. Received: {value}."


def _meaning_problems(config: Config) -> Iterator[str]:
    """What a type or a range cannot say."""
    batch_size = config.fit.batch_size
    whole = isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size >= 1
    if not whole and batch_size != "all":
        yield f"fit.batch_size must be a whole number >= 1, or `all` (one step an epoch). Received: {batch_size}."
    rate = config.optimizer.get("learning_rate")
    if isinstance(rate, int | float) and not (0 <= rate < math.inf):
        yield f"optimizer.learning_rate must be a number >= 0. Received: {rate}."
    elif isinstance(rate, str):
        yield f"optimizer.learning_rate must be a number >= 0, or a schedule. Received: {rate!r}."
    for word in config.save.formats:
        if word not in MODEL_FORMATS:
            yield f"save.formats lists file formats. Received: {word}.{suggest(word, MODEL_FORMATS)}"
    for key in config.init:
        if key != "from":
            yield f"init.{key} is no setting.{suggest(str(key), ['from'], 'init.')}"
    weight = config.data.class_weight
    if isinstance(weight, str) and weight != "balanced":
        yield f"data.class_weight is null, balanced or a mapping of classes to weights. Received: {weight}."
    factor = config.data.rescale
    if factor is not None and _factor(factor) is None:
        yield f"data.rescale is null or a factor above 0, such as 1/255. Received: {factor}."
    yield from _image_problems(config)
    yield from _class_mapping_problems("data.class_weight", weight, 0.0, math.inf)
    yield from _class_mapping_problems("data.keep", config.data.keep, 0.0, 1.0)


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
            yield f"data.augmentation.{name} is no augmentation: {NO_AUGMENTATIONS[name]}."
        elif name not in AUGMENTATIONS:
            yield (
                f"data.augmentation.{name} is no argument of ImageDataGenerator that varies images."
                f"{suggest(str(name), AUGMENTATIONS, 'data.augmentation.')}"
            )


def _class_mapping_problems(name: str, mapping: Any, low: float, high: float) -> Iterator[str]:
    if mapping is None or isinstance(mapping, str):
        return
    if not isinstance(mapping, Mapping):
        yield f"{name} maps classes to numbers, as in '{{0: 1, 1: 0.5}}'. Received: {mapping}."
        return
    for key, value in mapping.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not low < value <= high:
            bounds = f"{low:g} < value" + ("" if math.isinf(high) else f" <= {high:g}")
            yield f"{name} of class {key} must satisfy {bounds}. Received: {value}."


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists of mappings as flat dotted keys: {'optimizer.learning_rate': 0.01}."""
    if isinstance(node, Mapping) and node:
        items = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and any(isinstance(value, Mapping) for value in node):
        items = [(str(index), value) for index, value in enumerate(node)]
    else:
        return {prefix.rstrip("."): node}
    return {key: leaf for name, value in items for key, leaf in flatten(value, f"{prefix}{name}.").items()}


def parameters(config: Config) -> dict[str, Any]:
    """Every resolved setting under its dotted name, and each group's chosen option under the group's name.

    Settings that came out of the environment are given as their expression, passwords in URLs are blotted out.
    """
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in FILLED_IN}
    # An empty group (callbacks=none) flattens to {'callbacks': {}}; its choice, added last, says it better.
    flat = {**flatten(settings), **config.choices, **config.from_environment}
    return {key: hide_passwords(value) if isinstance(value, str) else value for key, value in flat.items()}


def hide_passwords(text: str) -> str:
    """scheme://user:password@host as scheme://user:<hidden>@host."""
    return re.sub(r"(\w+://[^/\s:@]*):[^@/\s]+@", r"\1:<hidden>@", text)
