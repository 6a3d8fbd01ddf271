"""A run's name: the optimizer, then every setting that differs from the defaults (`adam-lr0.001-cnn`)."""

import functools
import re
from typing import Any

import yaml

from mnistlab.config import Config, ConfigError, conf_folder, parameters
from mnistlab.config.compose import compose_config

SHORT = {"learning_rate": "lr", "batch_size": "batch", "class_weight": "weight"}
NOT_IN_NAMES = ("optimizer", "tracking", "run.", "paths.", "tracking.", "sweep", "source.path")


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
    return "-".join(words)[:200]


def _changed(config: Config) -> dict[str, Any]:
    """Overridden keys -> values that differ from what the chosen options and the defaults give."""
    settings = parameters(config)
    mappings = {
        key.removesuffix("._target_"): str(value) for key, value in settings.items() if key.endswith("._target_")
    }
    settings = {**{key: target.rpartition(".")[2] for key, target in mappings.items()}, **settings}
    keys = [override.lstrip("+~").split("=", 1)[0].split("@")[0] for override in config.overrides]
    keys = [key for key in dict.fromkeys(keys) if not key.startswith(NOT_IN_NAMES) or key.startswith("optimizer.")]
    if not keys:
        return {}
    unchanged, defaults = _unchanged(_groups(config), config.config_dir)
    before = {**unchanged, **{key: defaults.get(key) for key in keys if key in config.choices}}
    return {key: settings[key] for key in keys if key in settings and settings[key] != before.get(key)}


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
    if "." not in key and key != "seed":
        text = str(value).strip("[]").replace(" ", "").replace(",", "+").replace("'", "")
        return f"{key}_{text}" if text in ("default", "none") else text
    if key == "init.from":
        return f"from_{_short_reference(str(value))}"
    if last == "_target_":
        return str(value).rpartition(".")[2]
    text = str(value).replace(" ", "").replace("'", "").strip("[]{}").replace("/", "_") or "none"
    return f"{SHORT.get(last, last)}{'' if text[:1].isdigit() else '_'}{text}"


def _short_reference(start_from: str) -> str:
    """A model to start from in a few letters: an id's first eight, a file's name with its folder's."""
    parts = [part for part in re.split(r"[/:]+", start_from) if part not in ("", "runs", "models", "model_files")]
    ids = [part[:8] for part in parts if re.fullmatch(r"[0-9a-f]{32}", part)]
    return ids[0] if ids else re.sub(r"[^\w.@-]", "_", "_".join(parts[-2:]).removesuffix(".keras"))
