"""A run's name: the optimizer, then every setting that differs from the defaults (`adam-lr0.001-cnn`)."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from mnistlab.config import Config, ConfigError, conf_folder, parameters
from mnistlab.config.compose import compose_config
from mnistlab.config.trust import FUNCTION_GETTERS

SHORT = {"learning_rate": "lr", "batch_size": "batch", "class_weight": "weight"}
MAX_LENGTH = 200
REMOVED = object()  # the value of a setting that the command line removes
NOT_IN_NAMES = ("optimizer", "tracking", "run.", "paths.", "tracking.", "sweep", "launch", "source.path", "explain")


def run_name(config: Config, used_source: str | None = None) -> str:
    """Name a run after the overrides that change a setting, optimizer and model first.

    Args:
        used_source: the data set that was loaded; part of the name if it is not the configured one.
    """
    changed = _changed(config)
    first = [key for key in changed if key.startswith("optimizer.")]
    first += [key for key in changed if key == "model" or key.startswith("model.")]
    ordered = [*first, *(key for key in changed if key not in first)]
    words = [config.choices.get("optimizer", "run"), *(_word(key, changed[key]) for key in ordered)]
    if (
        used_source
        and used_source != config.choices.get("source", used_source)
        and config.choices.get("source") != "npz"
    ):
        words.append(used_source)
    name = re.sub(r"[^\w.,+@=()-]", "_", "-".join(words))
    if len(name) <= MAX_LENGTH:
        return name
    return f"{name[: MAX_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _changed(config: Config) -> dict[str, Any]:
    """Overridden keys -> values that differ from what the chosen options and the defaults give, mappings in short."""
    settings = parameters(config)
    keys = [override.lstrip("+~").split("=", 1)[0].split("@")[0] for override in config.overrides]
    keys = [key for key in dict.fromkeys(keys) if not key.startswith(NOT_IN_NAMES) or key.startswith("optimizer.")]
    if not keys:
        return {}
    unchanged, defaults = _unchanged(_groups(config), config.config_dir)
    before = {**unchanged, **{key: defaults.get(key) for key in keys if key in config.choices}}
    changed: dict[str, Any] = {}
    for key in keys:
        if key in settings:
            changed |= {key: settings[key]} if settings[key] != before.get(key) else {}
        elif (inside := _below(settings, key)) != _below(before, key):
            changed[key] = _in_short(_node(config, key), key, settings) if inside else REMOVED
    return changed


def _below(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name.startswith(f"{key}.")}


def _node(config: Config, key: str) -> Any:
    """The mapping or list of a setting; None where there is none."""
    node: Any = dataclasses.asdict(config)
    for part in key.split("."):
        node = {str(name): value for name, value in node.items()}.get(part) if isinstance(node, Mapping) else None
    return node


def _in_short(node: Any, key: str, settings: Mapping[str, Any]) -> str:
    """A mapping as '3=0.1+cat=0.5', one with a `_target_` as 'F1Score(average=macro)', a list as 'accuracy,auc'. Values
    as in the parameters, which have no secrets."""
    if isinstance(node, list) and key not in settings:
        return ",".join(_in_short(entry, f"{key}.{index}", settings) for index, entry in enumerate(node))
    if not isinstance(node, Mapping) or key in settings:
        return str(settings.get(key, node)).replace(" ", "").replace("'", "").strip("[]")
    target = str(node.get("_target_", ""))
    called = str(node.get("path")) if target in FUNCTION_GETTERS else target
    left_out = ("_target_", "path") if target in FUNCTION_GETTERS else ("_target_",)
    entries = [
        f"{name}={_in_short(value, f'{key}.{name}', settings)}" for name, value in node.items() if name not in left_out
    ]
    arguments = "+".join(entries)
    return f"{called.rpartition('.')[2]}({arguments})" if target and entries else called.rpartition(".")[2] or arguments


def default_learning_rate(config: Config) -> Any:
    """The learning rate in the chosen optimizer's YAML file, without the overrides of the command line."""
    file = conf_folder() / "optimizer" / f"{config.choices.get('optimizer')}.yaml"
    if file.is_file():  # read the file: composing takes a tenth of a second
        given: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        rate = (given.get("optimizer") or given).get("learning_rate")
        if isinstance(rate, int | float):
            return rate
    return option_settings(config).get("optimizer.learning_rate")


def option_settings(config: Config) -> dict[str, Any]:
    """The settings that the chosen options give, without the command line's other overrides. Not those of the source:
    some need overrides to be composed, such as source=npz."""
    groups = tuple(group for group in _groups(config) if not group.startswith("source="))
    settings = _unchanged(groups, config.config_dir)[0]
    return {key: value for key, value in settings.items() if not key.startswith("source")}


def _groups(config: Config) -> tuple[str, ...]:
    return tuple(entry for entry in config.overrides if entry.split("=")[0] in config.choices)


@functools.cache
def _unchanged(groups: tuple[str, ...], config_dir: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings that the chosen options give without further overrides, and the options chosen by default."""
    try:
        return parameters(compose_config(list(groups), config_dir=config_dir)), compose_config([]).choices
    except ConfigError:  # an option that needs further overrides, such as source=npz
        return {}, {}


def _word(key: str, value: Any) -> str:
    last = key.rpartition(".")[2]
    if value is REMOVED:
        return f"without_{last}"
    if "." not in key and not isinstance(value, bool | int):
        text = str(value).strip("[]").replace(" ", "").replace(",", "+").replace("'", "")
        return f"{key}_{text}" if text in ("default", "none") else text
    if key == "init.from":
        return f"from_{_short_reference(str(value))}"
    if last == "_target_":
        return str(value).rpartition(".")[2]
    text = str(value).replace(" ", "").replace("'", "").strip("[]{}") or "none"
    joined = text[:1].isdigit() and "=" not in text
    return f"{SHORT.get(last, last)}{'' if joined else '_'}{text}"


def _short_reference(start_from: str) -> str:
    """A model to start from in a few letters: an id's first eight, a file's name with its folder's."""
    parts = [part for part in re.split(r"[/:]+", start_from) if part not in ("", "runs", "models", "model_files")]
    ids = [part[:8] for part in parts if re.fullmatch(r"[0-9a-f]{32}", part)]
    return ids[0] if ids else re.sub(r"[^\w.@-]", "_", "_".join(parts[-2:]).removesuffix(".keras"))
