"""Before anything starts: compose every job of the command line, check it, and say in plain words what is wrong."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mnistlab import build
from mnistlab.config import (
    AUGMENTATIONS,
    Config,
    ConfigError,
    conf_folder,
    flatten,
    no_such_setting,
    register,
    suggest,
    typed,
)

OPEN_GROUPS = ("source", "model", "optimizer", "callbacks")
MAX_CHECKED_JOBS = 200


def compose_config(overrides: list[str], config_name: str = "train", config_dir: str | None = None) -> Config:
    """The checked configuration that these overrides give; for notebooks, tests and the checks before a run.

    Args:
        overrides: words of the command line, ['optimizer=sgd', 'fit.epochs=5'].
        config_dir: a folder with groups of the user's own.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    register()
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    try:
        with initialize_config_dir(str(conf_folder()), job_name="train", version_base="1.3"):
            composed = compose(config_name, overrides=[*overrides, *search], return_hydra_config=True)
            choices = dict(composed.hydra.runtime.choices)
            with open_dict(composed):
                del composed["hydra"]
            return checked(composed, overrides, choices, config_dir)
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain(error, overrides)) from error


def checked(
    composed: DictConfig, overrides: list[str], choices: dict[str, str | None], config_dir: str | None = None
) -> Config:
    """The typed configuration of a composed one, the arguments of mnistlab's own callables checked too."""
    config = typed(composed)
    problems = build.argument_problems(config)
    if problems:
        raise ConfigError(problems)
    config.overrides = [word for word in overrides if not word.lstrip("+~").startswith("hydra.")]
    config.config_dir = config_dir
    config.choices = {group: option for group, option in choices.items() if option and not group.startswith("hydra/")}
    # Hydra names no choice for a list of options, as in callbacks=[early_stopping,reduce_lr].
    config.choices.setdefault("callbacks", "+".join(config.callbacks))
    return config


def check_command(arguments: Namespace) -> None:
    """Compose and check every job that this command line would start.

    Raises:
        ConfigError: the problems of all jobs, each said once.
    """
    problems: dict[str, None] = {}
    for overrides in job_overrides(arguments.overrides, arguments.multirun)[:MAX_CHECKED_JOBS]:
        try:
            compose_config(overrides, arguments.config_name or "train", arguments.config_dir)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(problems)


def job_overrides(overrides: list[str], multirun: bool) -> list[list[str]]:
    """The overrides of each job: one list for a run, one for each combination of a multirun's swept values."""
    if not multirun:
        return [overrides]
    register()
    try:
        with initialize_config_dir(str(conf_folder()), job_name="train", version_base="1.3"):
            parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)
    except OverrideParseException as error:
        raise ConfigError(explain(error, overrides)) from error
    kept = [entry for entry in parsed if not entry.is_hydra_override()]
    fixed = [entry.input_line or "" for entry in parsed if entry.is_hydra_override()]
    if not all(_listable(entry) for entry in kept):
        kept = [entry for entry in kept if not entry.is_sweep_override()]
    (jobs,) = BasicSweeper.split_arguments(kept, max_batch_size=None)
    return [[*job, *fixed] for job in jobs]


def _listable(entry: Override) -> bool:
    """Whether the basic sweeper can list the values; intervals are for Optuna and its like."""
    return entry.is_discrete_sweep() or not entry.is_sweep_override()


def explain(error: Exception, overrides: list[str]) -> str:
    """What an error of Hydra or OmegaConf means to the user, with the choices."""
    message, cause = str(error), str(error.__cause__ or "")
    if found := re.search(r"Could not (?:find|load) '(?:(.+)/)?([^'/]+)'", message):
        listed = re.findall(r"^\t(\S+)$", message, re.MULTILINE)
        choices = listed or [file.stem for file in (conf_folder() / (found[1] or "")).glob("*.yaml")]
        return f"{found[1]}={found[2]} is no option.{suggest(found[2], choices)}"
    if found := re.search(r"Could not override '([^'@]+)", message):
        return _no_such_key(found[1], overrides)
    if found := re.search(r"Error merging override (.*)", message):
        reason = re.sub(r"^field '.*' is not Optional", "null is not allowed here", cause.split("\n")[0])
        return f"{found[1]} does not fit: {reason}."
    if "Config group override must be" in message:
        return "A group needs an option: group=option. null is none; `callbacks=none` or `tracking=none` may be meant."
    if isinstance(error, OverrideParseException):
        quoted = "Quote an argument that has brackets, braces or spaces: 'callbacks=[early_stopping,reduce_lr]'."
        return f"{error.override} cannot be read as key=value: {message.splitlines()[0]}. {quoted}"
    return " ".join(line.strip() for line in message.splitlines() if line.strip() and "hydra.cc" not in line)


def _no_such_key(key: str, overrides: list[str]) -> str:
    if key.startswith("data.augmentation."):
        hint = suggest(key.rpartition(".")[2], AUGMENTATIONS)
        return f"{key} is not set yet: to add an augmentation, write +{key}=VALUE.{hint}"
    message = no_such_setting(key, _known_keys(overrides))
    group = key.split(".")[0]
    if group in OPEN_GROUPS and "." in key:
        return f"{message} To hand {group} one more argument, write +{key}=VALUE."
    return message


def _known_keys(overrides: list[str]) -> list[str]:
    """All dotted settings of the chosen options, and the groups themselves."""
    groups = [entry.name for entry in conf_folder().iterdir() if entry.is_dir() and entry.name != "hydra"]
    chosen = [word for word in overrides if word.split("=")[0] in groups]
    for words in (chosen, []):
        try:
            with initialize_config_dir(str(conf_folder()), job_name="train", version_base="1.3"):
                composed = compose("train", overrides=words)
        except (HydraException, OmegaConfBaseException):
            continue
        settings = flatten(OmegaConf.to_container(composed, resolve=False))
        return [*settings, *groups]
    return groups
