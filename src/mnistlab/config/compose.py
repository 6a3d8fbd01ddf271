"""Composes and checks the configuration of every job of a command line, before anything starts."""

import contextlib
import re
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict

from mnistlab.config import Config, ConfigError, build, conf_folder, hydra_internals, options, register, secrets, trust
from mnistlab.config.checks import apply_keras_names, typed
from mnistlab.config.class_keys import quote_mappings
from mnistlab.config.explaining import COMPOSING_ERRORS, explain, known_keys, search_override
from mnistlab.config.file_settings import as_overrides
from mnistlab.config.hydra_trust import hydra_problems
from mnistlab.config.objectives import resolve_objective
from mnistlab.config.search_space import SearchSpace, read_space
from mnistlab.config.sweep_size import check_number_of_jobs, repeated_seeds
from mnistlab.config.yaml_files import check_sizes


def compose_config(
    overrides: list[str], config_name: str = "train", config_dir: str | None = None, *, typed: bool = True
) -> Config:
    """The checked configuration that these overrides give; for notebooks, tests and the checks before a run.

    Args:
        overrides: as on the command line, ['optimizer=sgd', 'fit.epochs=5', 'trust=[mypackage]'].
        config_dir: a folder with the user's config groups.
        typed: whether the user wrote all overrides, so that they name packages to trust.

    Raises:
        ConfigError: all problems of the configuration.
    """
    secrets.remember_settings(list(overrides))
    overrides, named = trust.split_trust(quote_mappings(overrides))
    named = named if typed else set()
    try:
        return _composed_and_checked(overrides, config_name, config_dir, named)
    except ConfigError as error:
        found = list(_all_problems(error, overrides, config_name, config_dir, named))
        raise ConfigError(_with_those_of_files(found, overrides, config_name, config_dir, named)) from error


def _with_those_of_files(
    problems: list[str], overrides: list[str], config_name: str, config_dir: str | None, named: Iterable[str]
) -> list[str]:
    """All problems of the user's files and of mappings too, with the file; the same problems if none are used."""
    written, places = as_overrides(overrides, config_dir)
    if not places and written == overrides:
        return problems
    try:
        _composed_and_checked(written, config_name, config_dir, named)
    except ConfigError as error:
        listed = _all_problems(error, written, config_name, config_dir, named)
        found = [problem + _place_of(problem, places) for problem in listed]
        are_placed = any(str(file) in problem for file in places.values() for problem in problems)
        return found if len(found) > len(problems) or not are_placed else problems
    return problems


def _place_of(problem: str, places: Mapping[str, Path]) -> str:
    """' In FILE.' if a message is about a setting of a file."""
    about = [file for key, file in places.items() if re.match(rf"{re.escape(key)}(?![\w.])", problem)]
    return f" In {about[0]}." if about else ""


def _all_problems(
    error: ConfigError, overrides: list[str], config_name: str, config_dir: str | None, named: Iterable[str]
) -> Iterator[str]:
    """The problems of this error, and those that remain without the overrides that it names: Hydra and OmegaConf stop
    at the first."""
    wrong = [override for override in overrides if any(_is_about(problem, override) for problem in error.problems)]
    groups = tuple(f"{_key(override)}." for override in wrong if "." not in _key(override))
    rest = [one for one in overrides if one not in wrong and not _key(one).startswith(groups)] if wrong else []
    yield from error.problems
    if not rest:
        return
    try:
        _composed_and_checked(rest, config_name, config_dir, named)
    except ConfigError as more:
        removed = [override for override in overrides if override not in rest]
        for problem in _all_problems(more, rest, config_name, config_dir, named):
            if problem not in error.problems and not any(_is_about(problem, override) for override in removed):
                yield problem


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _is_about(problem: str, override: str) -> bool:
    """Whether a message begins with the setting of this override, or with the override."""
    key = re.escape(_key(override))
    return problem.startswith(override) or re.match(rf"{key}(?![\w.])", problem) is not None


def _composed_and_checked(
    overrides: list[str], config_name: str, config_dir: str | None, named: Iterable[str]
) -> Config:
    return _checked_job(compose_settings(overrides, config_name, config_dir), overrides, config_dir, named)


def _checked_job(composed: DictConfig, overrides: list[str], config_dir: str | None, named: Iterable[str]) -> Config:
    """composed: one job, with the `hydra` node, which is removed."""
    choices = dict(composed.hydra.runtime.choices)
    with open_dict(composed):
        del composed["hydra"]
    if not OmegaConf.is_interpolation(composed.paths, "run") and composed.paths.run is None:
        composed.paths.run = "${paths.root}/runs/" + datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f")
    return checked(composed, overrides, choices, config_dir, named=named)


def compose_settings(overrides: list[str], config_name: str, config_dir: str | None) -> DictConfig:
    """The composed configuration, including the `hydra` node."""
    register()
    check_sizes(options.config_folders(config_dir)[1:])
    try:
        with hydra_internals.composing(str(conf_folder())):
            return compose(config_name, overrides=[*overrides, *search_override(config_dir)], return_hydra_config=True)
    except COMPOSING_ERRORS as error:
        raise ConfigError(explain(error, overrides, config_dir)) from error


def checked(
    composed: DictConfig,
    overrides: list[str],
    choices: dict[str, str | None],
    config_dir: str | None = None,
    *,
    named: Iterable[str] = (),
) -> Config:
    """The typed form of a composed configuration. Checks its callables and the arguments of mnistlab's too.

    named: packages that the user trusts besides those that this process trusts.

    Raises:
        ConfigError: all problems of the configuration.
    """
    lists = options.option_lists(overrides)
    if problems := list(options.one_option_problems(choices, lists, overrides)):
        raise ConfigError(problems)
    config = typed(composed)
    config.config_dir = config_dir
    problems = list(apply_keras_names(config, [override.lstrip("+~").split("=", 1)[0] for override in overrides]))
    problems += [*build.argument_problems(config), *build.trust_problems(config, {*trust.trusted(), *named})]
    if problems:
        raise ConfigError(problems)
    resolve_objective(config)
    config.overrides = [entry for entry in overrides if not entry.lstrip("+~").startswith("hydra.")]
    config.choices = {group: option for group, option in choices.items() if option and not group.startswith("hydra/")}
    # Hydra names no choice for a list of options, as in callbacks=[early_stopping,reduce_lr].
    config.choices.setdefault("callbacks", "+".join(config.callbacks))
    for group in filter(lists.get, lists):
        config.choices.setdefault(group, "+".join(lists[group]))
    return config


def parse_command_line(words: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Hydra's arguments from the words of the command line, flags and overrides in any order.

    Returns:
        the arguments, and the flags with their values. Hydra itself reads them only after all overrides. `trust` of the
        arguments: the packages that the user named; `trust=` is no setting, so that no file can have it.

    Raises:
        ConfigError: a flag that Hydra does not have, or one that would run what a file says.
    """
    secrets.remember_settings(list(words))
    words = quote_mappings(words)
    arguments, unknown = hydra_internals.argument_parser().parse_known_intermixed_args(list(words))
    if unknown:
        raise ConfigError(options.flag_advice(unknown[0], words, known_keys([], None)))
    flags = list(reversed(words))
    for override in reversed(arguments.overrides):
        flags.remove(override)
    if arguments.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun reads a pickled configuration, which can run any code. Repeat the overrides that the "
            "run recorded in its config.yaml instead: python -m mnistlab.train OVERRIDES."
        )
    arguments.overrides, arguments.trust = trust.split_trust(arguments.overrides)
    return arguments, flags[::-1]


def starts_jobs(arguments: Namespace) -> bool:
    """Whether this command line trains; Hydra's other functions (--help, --cfg, ...) need no check before."""
    informs = arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    return not (informs or arguments.config_path is not None)


@dataclass(frozen=True)
class Command:
    """A checked command line.

    configs: one per job; swept: the keys that have several values, in the order given ('optimizer', 'seed');
    extra: overrides that the sweep's settings add to the command line; words: of a multirun, as they were given, and
    trusted: the packages that the user named; config_name, config_dir: of the flags; sweeper: the settings of Hydra's;
    space: of a search, and then the configs are that without a trial's settings, and trials at the edges of the space.
    """

    multirun: bool
    configs: list[Config]
    swept: list[str]
    extra: list[str]
    words: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    config_name: str = "train"
    config_dir: str | None = None
    sweeper: Mapping[str, Any] = field(default_factory=dict)
    space: SearchSpace | None = None

    @property
    def is_grid(self) -> bool:
        """Whether the jobs are known beforehand; otherwise a sweeper that is installed chooses them."""
        return self.sweeper_name in ("", "BasicSweeper")

    @property
    def sweeper_name(self) -> str:
        """The class of Hydra's sweeper: 'OptunaSweeper'."""
        return str(self.sweeper.get("_target_", "")).rpartition(".")[2]


def check_command(arguments: Namespace) -> Command:
    """Compose and check every job of this command line.

    Raises:
        ConfigError: the problems of all jobs, each listed once.
    """
    name, folder = arguments.config_name or "train", arguments.config_dir
    if folder is not None and not Path(folder).is_dir():
        what = "a file" if Path(folder).exists() else "there is none"
        raise ConfigError(f"--config-dir must be a folder of YAML files. Received: {folder}, {what}.")
    fixed = _fixed(_parse(arguments.overrides))
    try:
        first = compose_settings(fixed, name, folder)
    except ConfigError:
        compose_config(fixed, name, folder, typed=False)  # raises all problems, not only Hydra's first
        raise
    if problems_of_hydra := list(hydra_problems(OmegaConf.to_container(first.hydra), trust.trusted())):
        raise ConfigError(problems_of_hydra)
    if not (arguments.multirun or str(first.hydra.mode) == "RunMode.MULTIRUN"):
        config = _check_single(first, arguments.overrides, name, folder)
        if config.sweep.seeds > 1 and (given := [one for one in arguments.overrides if one.startswith("sweep.seeds=")]):
            raise ConfigError(f"sweep.seeds repeats the jobs of a multirun: add --multirun. Received: {given[-1]}.")
        return Command(False, [config], [], [])
    params = [f"{key}={value}" for key, value in (first.hydra.sweeper.get("params") or {}).items()]
    given = _parse([*params, *arguments.overrides])
    space, extra = None, []
    if first.sweep.trials is None:
        check_number_of_jobs(given)
        extra = repeated_seeds(compose_settings(_fixed(given), name, folder) if params else first, given)
        check_number_of_jobs([*given, *_parse(extra)])
        jobs, swept = expand([*params, *arguments.overrides, *extra])
    else:
        space = read_space(given, compose_config(_fixed(given), name, folder, typed=False), _parse)
        jobs = [list(space.fixed), *map(space.overrides, space.edges())]
        swept = space.settings
    configs, problems = [], {}
    for job in jobs:
        try:
            configs.append(compose_config(job, name, folder, typed=False))
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(problems)
    given_by = {"--config-dir": folder, "--config-name": arguments.config_name}
    flags = [word for flag, value in given_by.items() if value for word in (flag, value)]
    flags += ["--multirun"] if arguments.multirun else []
    words, trusted = (*flags, *arguments.overrides), tuple(sorted(arguments.trust))
    sweeper: Any = OmegaConf.to_container(first.hydra.sweeper)
    return Command(True, configs, swept, extra, words, trusted, name, folder, sweeper, space)


def _check_single(composed: DictConfig, overrides: list[str], config_name: str, config_dir: str | None) -> Config:
    """The only job's configuration. It is composed once; again only to find all problems."""
    if not any(entry.is_sweep_override() for entry in _parse(overrides)):
        with contextlib.suppress(ConfigError):
            return _checked_job(composed, overrides, config_dir, ())
    return compose_config(overrides, config_name, config_dir, typed=False)


def _fixed(overrides: Sequence[Override]) -> list[str]:
    """The overrides with one value."""
    return [entry.input_line or "" for entry in overrides if not entry.is_sweep_override()]


def expand(overrides: list[str]) -> tuple[list[list[str]], list[str]]:
    """The overrides of each job of a multirun, one list per combination of the swept values (a value that is listed
    twice counts once), and the swept keys: groups first, then settings, the seed last."""
    kept = [entry for entry in _parse(overrides) if not entry.is_hydra_override()]
    last = {entry.get_key_element(): entry for entry in kept}
    swept = [key for key, entry in last.items() if entry.is_sweep_override()]
    if not all(_listable(entry) for entry in kept):
        kept = [entry for entry in kept if not entry.is_sweep_override()]
    jobs = {tuple(job): job for job in hydra_internals.split_sweep(kept)}
    return list(jobs.values()), sorted(swept, key=lambda key: (key == "seed", "." in key))


def _parse(overrides: list[str]) -> list[Override]:
    register()
    try:
        with hydra_internals.composing(str(conf_folder())):
            return hydra_internals.parse_overrides(overrides)
    except (OverrideParseException, ValueError) as error:  # Python refuses numbers of thousands of digits
        raise ConfigError(explain(error, overrides)) from error


def _listable(entry: Override) -> bool:
    """Whether the basic sweeper can list the values; intervals are for sweepers such as Optuna."""
    return entry.is_discrete_sweep() or not entry.is_sweep_override()
