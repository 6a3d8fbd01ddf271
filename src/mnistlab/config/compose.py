"""Before anything starts: compose every job of the command line, check it, and say in plain words what is wrong."""

from __future__ import annotations

import contextlib
import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mnistlab.config import Config, ConfigError, build, conf_folder, flatten, register, suggest
from mnistlab.config.checks import AUGMENTATIONS, NO_AUGMENTATIONS, no_such_setting, take_keras_words, typed

OPEN_GROUPS = ("source", "model", "optimizer", "callbacks")


def compose_config(overrides: list[str], config_name: str = "train", config_dir: str | None = None) -> Config:
    """The checked configuration that these overrides give; for notebooks, tests and the checks before a run.

    Args:
        overrides: words of the command line, ['optimizer=sgd', 'fit.epochs=5'].
        config_dir: a folder with groups of the user's own.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    composed = _composed(overrides, config_name, config_dir)
    choices = dict(composed.hydra.runtime.choices)
    with open_dict(composed):
        del composed["hydra"]
    if composed.paths.run is None:
        composed.paths.run = "${paths.root}/runs/" + datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    return checked(composed, overrides, choices, config_dir)


@contextlib.contextmanager
def _composing() -> Iterator[None]:
    """A Hydra of our own to compose with, also inside a job, where Hydra's one instance is the job's."""
    shared = GlobalHydra.instance()
    kept, shared.hydra = shared.hydra, None
    try:
        with initialize_config_dir(str(conf_folder()), job_name="train", version_base="1.3"):
            yield
    finally:
        shared.hydra = kept


def _composed(overrides: list[str], config_name: str, config_dir: str | None) -> DictConfig:
    """The composed configuration with Hydra's own part in it."""
    register()
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    try:
        with _composing():
            return compose(config_name, overrides=[*overrides, *search], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain(error, overrides)) from error


def checked(
    composed: DictConfig, overrides: list[str], choices: dict[str, str | None], config_dir: str | None = None
) -> Config:
    """The typed configuration of a composed one, the arguments of mnistlab's own callables checked too."""
    config = typed(composed)
    given = [word.lstrip("+~").split("=", 1)[0] for word in overrides]
    problems = [*take_keras_words(config, given), *build.argument_problems(config)]
    if problems:
        raise ConfigError(problems)
    config.overrides = [word for word in overrides if not word.lstrip("+~").startswith("hydra.")]
    config.config_dir = config_dir
    config.choices = {group: option for group, option in choices.items() if option and not group.startswith("hydra/")}
    # Hydra names no choice for a list of options, as in callbacks=[early_stopping,reduce_lr].
    config.choices.setdefault("callbacks", "+".join(config.callbacks))
    return config


@dataclass(frozen=True)
class Command:
    """What a command line asks for: the words of each job and, if they were checked, its configuration.

    swept: the overrides that take several values, in the order given ('optimizer', 'seed').
    extra: words that the sweep's settings add to the command line.
    """

    multirun: bool
    configs: list[Config]
    swept: list[str]
    extra: list[str]


def check_command(arguments: Namespace) -> Command:
    """Compose and check every job that this command line would start.

    Raises:
        ConfigError: the problems of all jobs, each said once.
    """
    name, folder = arguments.config_name or "train", arguments.config_dir
    parsed = _parse(arguments.overrides)
    base = [entry.input_line or "" for entry in parsed if not entry.is_sweep_override()]
    first = _composed(base, name, folder)
    if not (arguments.multirun or str(first.hydra.mode) == "RunMode.MULTIRUN"):
        return Command(False, [compose_config(arguments.overrides, name, folder)], [], [])
    params = [f"{key}={value}" for key, value in (first.hydra.sweeper.get("params") or {}).items()]
    extra = _repeats(first, [*params, *arguments.overrides])
    jobs, swept = expand([*params, *arguments.overrides, *extra])
    configs, problems = [], {}
    for words in jobs:
        try:
            configs.append(compose_config(words, name, folder))
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(problems)
    return Command(True, configs, swept, extra)


def _repeats(composed: DictConfig, words: list[str]) -> list[str]:
    """sweep.seeds=5 is seed=range(0,5), unless the command line has seeds of its own."""
    seeds = composed.sweep.seeds
    return [f"seed=range(0,{seeds})"] if seeds > 1 and not any(word.startswith("seed=") for word in words) else []


def expand(overrides: list[str]) -> tuple[list[list[str]], list[str]]:
    """The words of each job of a multirun, one list per combination of the swept values, and the swept keys: groups
    first, then settings, the seed last."""
    kept = [entry for entry in _parse(overrides) if not entry.is_hydra_override()]
    if not all(_listable(entry) for entry in kept):
        kept = [entry for entry in kept if not entry.is_sweep_override()]
    (jobs,) = BasicSweeper.split_arguments(kept, max_batch_size=None)
    last = {entry.get_key_element(): entry for entry in kept}
    swept = [key for key, entry in last.items() if entry.is_sweep_override()]
    return [list(job) for job in jobs], sorted(swept, key=lambda key: (key == "seed", "." in key))


def _parse(overrides: list[str]) -> list[Override]:
    register()
    try:
        with _composing():
            return list(OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides))
    except OverrideParseException as error:
        raise ConfigError(explain(error, overrides)) from error


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
        elsewhere = NO_AUGMENTATIONS.get(key.rpartition(".")[2])
        if elsewhere:
            return f"{key} is no augmentation: {elsewhere}."
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
            with _composing():
                composed = compose("train", overrides=words)
        except (HydraException, OmegaConfBaseException):
            continue
        settings = flatten(OmegaConf.to_container(composed, resolve=False))
        return [*settings, *groups]
    return groups
