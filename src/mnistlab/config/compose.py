"""Composes and checks the configuration of every job of a command line; explains mistakes before anything starts."""

import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hydra import compose
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from mnistlab.config import (
    Config,
    ConfigError,
    build,
    conf_folder,
    flatten,
    hydra_internals,
    options,
    register,
    suggest,
)
from mnistlab.config.checks import AUGMENTATIONS, NO_AUGMENTATIONS, apply_keras_names, no_such_setting, typed
from mnistlab.config.class_keys import quote_mappings

OPEN_GROUPS = ("source", "model", "optimizer", "schedule", "callbacks")
ONE_OPTION_GROUPS = ("source", "data", "model", "optimizer", "schedule", "tracking")
OPTION_LIST = re.compile(r"\+*([\w/]+)(?:@[\w.]*)?=\[(.*)\]")


def compose_config(overrides: list[str], config_name: str = "train", config_dir: str | None = None) -> Config:
    """The checked configuration that these overrides give; for notebooks, tests and the checks before a run.

    Args:
        overrides: as on the command line, ['optimizer=sgd', 'fit.epochs=5'].
        config_dir: a folder with the user's config groups.

    Raises:
        ConfigError: all problems of the configuration.
    """
    overrides = quote_mappings(overrides)
    composed = _composed(overrides, config_name, config_dir)
    choices = dict(composed.hydra.runtime.choices)
    with open_dict(composed):
        del composed["hydra"]
    if composed.paths.run is None:
        composed.paths.run = "${paths.root}/runs/" + datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    return checked(composed, overrides, choices, config_dir)


def _composed(overrides: list[str], config_name: str, config_dir: str | None) -> DictConfig:
    """The composed configuration, including the `hydra` node."""
    register()
    try:
        with hydra_internals.composing(str(conf_folder())):
            return compose(config_name, overrides=[*overrides, *_search(config_dir)], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain(error, overrides, config_dir)) from error


def _search(config_dir: str | None) -> list[str]:
    """The override that makes Hydra search the user's folder of config groups too."""
    return [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []


def checked(
    composed: DictConfig, overrides: list[str], choices: dict[str, str | None], config_dir: str | None = None
) -> Config:
    """The typed form of a composed configuration. Checks the arguments of mnistlab's callables too.

    Raises:
        ConfigError: all problems of the configuration.
    """
    lists = _option_lists(overrides)
    if problems := list(_one_option_problems(choices, lists, overrides)):
        raise ConfigError(problems)
    config = typed(composed)
    config.config_dir = config_dir
    given = [override.lstrip("+~").split("=", 1)[0] for override in overrides]
    problems = [*apply_keras_names(config, given), *build.argument_problems(config)]
    if problems:
        raise ConfigError(problems)
    config.overrides = [entry for entry in overrides if not entry.lstrip("+~").startswith("hydra.")]
    config.choices = {group: option for group, option in choices.items() if option and not group.startswith("hydra/")}
    # Hydra names no choice for a list of options, as in callbacks=[early_stopping,reduce_lr].
    config.choices.setdefault("callbacks", "+".join(config.callbacks))
    for group, names in lists.items():
        if names:
            config.choices.setdefault(group, "+".join(names))
    return config


def _option_lists(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Group -> its options, of the overrides that give a group a list: 'experiment=[small,wide]'."""
    matches = [found for override in overrides if (found := OPTION_LIST.fullmatch(override))]
    return {found[1]: [name.strip(" '\"") for name in found[2].split(",") if name.strip()] for found in matches}


def _one_option_problems(
    choices: Mapping[str, str | None], lists: Mapping[str, Sequence[str]], overrides: Sequence[str]
) -> Iterator[str]:
    """Groups that have a list of options, which Hydra would merge into one. It names no choice for them."""
    for group in ONE_OPTION_GROUPS:
        if any(override.lstrip("+").startswith(f"{group}={{") for override in overrides):
            yield options.mapping_advice(group)
            continue
        removed = any(override.split("=")[0] == f"~{group}" for override in overrides)
        if choices.get(group) or removed:
            continue
        names = lists.get(group)
        received = "a list in a YAML file" if names is None else f"{group}=[{','.join(names)}]"
        advice = f"Write {group}={names[0] if names else 'OPTION'}"
        if group != "tracking" and (names is None or len(names) > 1):
            several = ",".join(names or ["OPTION", "OPTION"])
            advice = f"{advice}, or to compare them: --multirun {group}={several}"
        yield (
            f"{group} takes one option, not a list: the settings of several options would be merged into one. "
            f"Received: {received}. {advice}."
        )


def parse_command_line(words: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Hydra's arguments from the words of the command line, flags and overrides in any order.

    Returns:
        the arguments, and the flags with their values. Hydra itself reads them only after all overrides.

    Raises:
        ConfigError: a flag that Hydra does not have.
    """
    words = quote_mappings(words)
    arguments, unknown = hydra_internals.argument_parser().parse_known_intermixed_args(list(words))
    if unknown:
        raise ConfigError(options.flag_advice(unknown[0], words, _known_keys([], None)))
    flags = list(reversed(words))
    for override in reversed(arguments.overrides):
        flags.remove(override)
    return arguments, flags[::-1]


@dataclass(frozen=True)
class Command:
    """A checked command line.

    configs: one per job; swept: the keys that have several values, in the order given ('optimizer', 'seed');
    extra: overrides that the sweep's settings add to the command line.
    """

    multirun: bool
    configs: list[Config]
    swept: list[str]
    extra: list[str]


def check_command(arguments: Namespace) -> Command:
    """Compose and check every job of this command line.

    Raises:
        ConfigError: the problems of all jobs, each listed once.
    """
    name, folder = arguments.config_name or "train", arguments.config_dir
    first = _composed(_fixed(_parse(arguments.overrides)), name, folder)
    if not (arguments.multirun or str(first.hydra.mode) == "RunMode.MULTIRUN"):
        config = compose_config(arguments.overrides, name, folder)
        if config.sweep.seeds > 1 and (given := [one for one in arguments.overrides if one.startswith("sweep.seeds=")]):
            raise ConfigError(f"sweep.seeds repeats the jobs of a multirun: add --multirun. Received: {given[-1]}.")
        return Command(False, [config], [], [])
    params = [f"{key}={value}" for key, value in (first.hydra.sweeper.get("params") or {}).items()]
    given = _parse([*params, *arguments.overrides])
    extra = _repeats(_composed(_fixed(given), name, folder) if params else first, given)
    jobs, swept = expand([*params, *arguments.overrides, *extra])
    configs, problems = [], {}
    for job in jobs:
        try:
            configs.append(compose_config(job, name, folder))
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(problems)
    return Command(True, configs, swept, extra)


def _fixed(overrides: Sequence[Override]) -> list[str]:
    """The overrides with one value."""
    return [entry.input_line or "" for entry in overrides if not entry.is_sweep_override()]


def _repeats(composed: DictConfig, overrides: Sequence[Override]) -> list[str]:
    """sweep.seeds=5 means seed=range(0,5), with seed=3 seed=range(3,8). Seeds that are listed are used as they are.

    Args:
        composed: the configuration without the swept values.

    Raises:
        ConfigError: `sweep.seeds` differs from the number of the listed seeds; a setting under `sweep` is swept.
    """
    last = {entry.get_key_element().lstrip("+"): entry for entry in overrides}
    if problems := [
        f"{key} applies to the whole sweep and takes one value. Received: {entry.input_line}."
        for key, entry in last.items()
        if key.split(".")[0] == "sweep" and entry.is_sweep_override()
    ]:
        raise ConfigError(problems)
    seed, num_seeds = last.get("seed"), composed.sweep.seeds
    if seed is None or not seed.is_sweep_override():
        return [f"seed=range({composed.seed},{composed.seed + num_seeds})"] if num_seeds > 1 else []
    num_listed = len(set(seed.sweep_string_iterator())) if seed.is_discrete_sweep() else num_seeds
    if num_listed != num_seeds and (num_seeds != 1 or "sweep.seeds" in last):
        raise ConfigError(
            f"{seed.input_line} lists {num_listed} seeds, and sweep.seeds is {num_seeds}: the two must agree. "
            f"Write sweep.seeds={num_listed}, or leave one of them out."
        )
    return []


def expand(overrides: list[str]) -> tuple[list[list[str]], list[str]]:
    """The overrides of each job of a multirun, one list per combination of the swept values (a value that is listed
    twice counts once), and the swept keys: groups first, then settings, the seed last."""
    kept = [entry for entry in _parse(overrides) if not entry.is_hydra_override()]
    if not all(_listable(entry) for entry in kept):
        kept = [entry for entry in kept if not entry.is_sweep_override()]
    last = {entry.get_key_element(): entry for entry in kept}
    swept = [key for key, entry in last.items() if entry.is_sweep_override()]
    jobs = {tuple(job): job for job in hydra_internals.split_sweep(kept)}
    return list(jobs.values()), sorted(swept, key=lambda key: (key == "seed", "." in key))


def _parse(overrides: list[str]) -> list[Override]:
    register()
    try:
        with hydra_internals.composing(str(conf_folder())):
            return hydra_internals.parse_overrides(overrides)
    except OverrideParseException as error:
        raise ConfigError(explain(error, overrides)) from error


def _listable(entry: Override) -> bool:
    """Whether the basic sweeper can list the values; intervals are for sweepers such as Optuna."""
    return entry.is_discrete_sweep() or not entry.is_sweep_override()


def explain(error: Exception, overrides: list[str], config_dir: str | None = None) -> str:
    """An error of Hydra or OmegaConf in the user's terms, with the choices, also those of the user's folder."""
    message, cause = str(error), str(error.__cause__ or "")
    if found := re.search(r"Could not (?:find|load) '(?:(.+)/)?([^'/]+)'", message):
        listed = re.findall(r"^\t(\S+)$", message, re.MULTILINE)
        folders = [folder / (found[1] or "") for folder in options.config_folders(config_dir)]
        choices = listed or [file.stem for folder in folders for file in folder.glob("*.yaml")]
        hint = suggest(found[2], choices)
        elsewhere = "" if "Did you mean" in hint else options.group_advice(found[2], found[1] or "", config_dir)
        return f"{found[1]}={found[2]} is not an option.{elsewhere or hint}"
    if found := re.search(r"Ambiguous value for argument '([^'=]+)=([^']*)'", message):
        return options.several_values_advice(found[1], found[2])
    if found := re.search(r"Could not override '([^'@]+)", message):
        return _no_such_key(found[1], overrides, config_dir)
    if found := re.search(r"Error merging override (.*)", message):
        reason = re.sub(r"^field '.*' is not Optional", "null is not allowed here", cause.split("\n")[0])
        if "Cannot merge DictConfig with ListConfig" in reason:
            key, _, value = found[1].partition("=")
            return f"{key} is a list: write '{key}=[{value}]'. Received: {found[1]}."
        return f"{found[1]} does not fit: {reason}."
    if "Config group override must be" in message:
        return "A group needs an option: group=option, not null. For none use `callbacks=none`, `tracking=none`."
    if isinstance(error, OverrideParseException):
        key, equals, value = error.override.partition("=")
        if not equals and re.fullmatch(r"[\w.+~@/]+", key):
            return f"{key} needs a value: {key}=VALUE, or to remove it: ~{key}."
        quoted = "Quote an argument that has brackets, braces or spaces: 'callbacks=[early_stopping,reduce_lr]'."
        if "{" in value and value[0] not in "{[\"'" and '"' not in value:  # a path of Keras: {epoch}.keras
            quoted = f"Quote a value with braces twice: '{key}=\"{value}\"'."
        return f"{error.override} cannot be read as key=value: {message.splitlines()[0]}. {quoted}"
    return " ".join(line.strip() for line in message.splitlines() if line.strip() and "hydra.cc" not in line)


def _no_such_key(key: str, overrides: list[str], config_dir: str | None) -> str:
    if key.startswith("data.augmentation."):
        elsewhere = NO_AUGMENTATIONS.get(key.rpartition(".")[2])
        if elsewhere:
            return f"{key} is not an augmentation: {elsewhere}."
        hint = suggest(key.rpartition(".")[2], AUGMENTATIONS)
        return f"{key} is not set yet: to add an augmentation, write +{key}=VALUE.{hint}"
    if key in ONE_OPTION_GROUPS and any(one.startswith(f"{key}={{") for one in overrides):
        return options.mapping_advice(key)
    known = _known_keys(overrides, config_dir)
    if key in known and "." in key:
        given = next((one for one in overrides if one.partition("=")[0] == key), f"{key}=VALUE")
        return f"{key} has no such entries yet: to add them, write '+{given}'."
    advice = options.option_advice(key, overrides, config_dir)
    if advice and not any(name.rpartition(".")[2] == key for name in known):
        return advice
    message = no_such_setting(key, known)
    if " Did you mean" not in message:
        message += options.group_advice(key.rpartition(".")[2], config_dir=config_dir)
    group = key.split(".")[0]
    if group in OPEN_GROUPS and "." in key and (" Did you mean" not in message or f"mean {group}." in message):
        return f"{message} To pass {group} an additional argument, write +{key}=VALUE."
    return message


def _known_keys(overrides: list[str], config_dir: str | None) -> list[str]:
    """All dotted settings of the chosen options, and the groups themselves."""
    register()
    folders = [entry for folder in options.config_folders(config_dir) for entry in folder.iterdir() if entry.is_dir()]
    groups = list(dict.fromkeys(entry.name for entry in folders if entry.name != "hydra"))
    chosen = [override for override in overrides if override.split("=")[0] in groups]
    for choices in (chosen, []):
        try:
            with hydra_internals.composing(str(conf_folder())):
                composed = compose("train", overrides=[*choices, *_search(config_dir)])
        except (HydraException, OmegaConfBaseException):
            continue
        settings = flatten(OmegaConf.to_container(composed, resolve=False))
        return [*settings, *groups]
    return groups
