"""The private names of Hydra that mnistlab uses, each with its reason. A test fails when Hydra renames one."""

import contextlib
import copy
import dataclasses
import importlib
import pickle
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core import utils as hydra_utils
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf
from omegaconf import _utils as omegaconf_utils

from mnistlab.config import secrets
from mnistlab.config.schema import ConfigError

PLUGINS = "hydra_plugins"
config_loader_impl: Any = importlib.import_module(ConfigLoaderImpl.__module__)  # the module, whose names are replaced


def argument_parser() -> ArgumentParser:
    """Hydra's parser of the command line: the same flags as Hydra will accept, known before it starts."""
    parser: ArgumentParser = get_args_parser()
    return parser


def import_plugins() -> None:
    """Let Hydra import its plugins, all that are installed.

    Raises:
        ConfigError: one of them fails, with more than the ImportError for which Hydra prints a warning.
    """
    try:
        Plugins.instance()
    except Exception as error:
        files = [Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__)]
        plugins = [parts[parts.index(PLUGINS) + 1] for parts in files if PLUGINS in parts[:-1]]
        if not plugins:
            raise
        name = plugins[-1].removesuffix(".py")
        raise ConfigError(
            f"{name}, a plugin of Hydra, cannot be imported with these versions of Python and Hydra. Received: "
            f"{type(error).__name__}: {error}. Install another version of it, or remove it: "
            f"pip uninstall {name.replace('_', '-')}"
        ) from error


@contextlib.contextmanager
def composing(conf_folder: str) -> Iterator[None]:
    """A Hydra instance to compose with. Also inside a job, where the global instance belongs to the job."""
    job_instance, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(conf_folder, job_name="train", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = job_instance  # `initialize_config_dir` has put a copy in its place


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra parses them; call it inside `composing`."""
    return list(OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(overrides)))


def split_sweep(overrides: list[Override]) -> list[list[str]]:
    """The overrides of each job of a multirun, as Hydra's basic sweeper combines them."""
    (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return [list(job) for job in jobs]


@contextlib.contextmanager
def only_these_jobs(jobs: Sequence[Sequence[str]]) -> Iterator[None]:
    """Let the basic sweeper launch these jobs, each a list of overrides, instead of all combinations."""

    def listed(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        size = max_batch_size or max(len(jobs), 1)
        return [[list(job) for job in jobs[start : start + size]] for start in range(0, len(jobs), size)]

    # Hydra has loaded the class a second time, as a plugin.
    sweeper: Any = Plugins.instance().class_name_to_class[f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"]
    original = sweeper.__dict__["split_arguments"]
    sweeper.split_arguments = staticmethod(listed)
    try:
        yield
    finally:
        sweeper.split_arguments = original


@contextlib.contextmanager
def starting_jobs_quickly(known_value: Callable[[Sequence[str]], float | None]) -> Iterator[None]:
    """While this lasts, jobs are not composed to see whether they can be: mnistlab has checked them.

    known_value: overrides of a job -> its objective, if the job is not to be run; else None. Hydra's own launcher then
    does not compose the job; the numbers of the others stay. Other launchers start it.
    """
    launcher: Any = next(one for one in Plugins.instance().discover(Launcher) if one.__name__ == "BasicLauncher")
    original, validate = launcher.launch, Sweeper.validate_batch_is_legal

    def launch(self: Any, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[hydra_utils.JobReturn]:
        results: list[hydra_utils.JobReturn] = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            if (value := known_value(overrides)) is None:
                results += original(self, [overrides], number)
            else:
                done = hydra_utils.JobStatus.COMPLETED
                results.append(hydra_utils.JobReturn(overrides, status=done, _return_value=value))
        return results

    launcher.launch = launch
    Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        launcher.launch = original
        Sweeper.validate_batch_is_legal = validate  # type: ignore[method-assign]


@dataclasses.dataclass
class Composed:
    """Copies of the files that were read, of the lists of their defaults, and of what these were put together to."""

    files: dict[tuple, bytes] = dataclasses.field(default_factory=dict)
    lists: dict[tuple, Any] = dataclasses.field(default_factory=dict)
    together: dict[int, bytes] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def composing_files_once(known: Composed | None = None) -> Iterator[None]:
    """While this lasts, each file is read once, and the files of equal choices are put together once.

    The jobs of a sweep that differ in values only, such as the seed, then share that work, and so do the check of a
    job and its start by Hydra's launcher in this process. A file that is edited meanwhile changes no job: what was
    checked is what runs. known: from before, and kept.
    """
    known = known or Composed()
    files, lists, composed = known.files, known.lists, known.together
    load, list_defaults = ConfigRepository.load_config, config_loader_impl.create_defaults_list
    put_together = ConfigLoaderImpl._compose_config_from_defaults_list

    def load_once(self: Any, config_path: str) -> Any:
        key = (*_places(self), config_path)
        if key not in files:
            files[key] = pickle.dumps(load(self, config_path))
        return pickle.loads(files[key])  # a copy: Hydra puts the nodes of a file into the configuration

    def list_defaults_once(
        repo: Any, config_name: str | None, overrides_list: list[Override], prepend_hydra: bool, skip_missing: bool
    ) -> Any:
        given = [override for override in overrides_list if not override.is_sweep_override()]
        values = [one for one in given if isinstance(one.value(), dict) or not repo.group_exists(one.key_or_group)]
        choices = tuple(override.input_line for override in given if override not in values)
        key = (*_places(repo), config_name, prepend_hydra, skip_missing, choices)
        if key not in lists:
            lists[key] = list_defaults(repo, config_name, overrides_list, prepend_hydra, skip_missing)
        return dataclasses.replace(lists[key], config_overrides=values)

    def put_together_once(self: Any, defaults: Any, repo: Any) -> Any:
        if id(defaults) not in composed:  # `lists` keeps it, so no other has this id
            composed[id(defaults)] = pickle.dumps(put_together(self, defaults, repo))
        return pickle.loads(composed[id(defaults)])  # takes a seventh of the time of copy.deepcopy

    def copy_without_store(self: Any, _: dict) -> Any:
        return copy.copy(self)  # its list of sources is replaced, never changed; a deep copy has all of the ConfigStore

    before = vars(ConfigRepository).get("__deepcopy__")
    ConfigRepository.__deepcopy__ = copy_without_store  # type: ignore[attr-defined]
    ConfigRepository.load_config = load_once  # type: ignore[method-assign]
    config_loader_impl.create_defaults_list = list_defaults_once
    ConfigLoaderImpl._compose_config_from_defaults_list = put_together_once  # type: ignore[method-assign]
    try:
        yield
    finally:
        if before is None:
            del ConfigRepository.__deepcopy__  # type: ignore[attr-defined]
        else:
            ConfigRepository.__deepcopy__ = before  # type: ignore[attr-defined]
        ConfigRepository.load_config = load  # type: ignore[method-assign]
        config_loader_impl.create_defaults_list = list_defaults
        ConfigLoaderImpl._compose_config_from_defaults_list = put_together  # type: ignore[method-assign]


def _places(repository: Any) -> list[tuple[str, str]]:
    """Where a repository looks for files, in this order."""
    return [(source.provider, source.path) for source in repository.get_sources()]


def list_options_quickly() -> None:
    """Let --help list the options of a group without composing the configuration for each group, half of its time."""

    def options(self: Any, group_name: str, results_filter: Any = ObjectType.CONFIG, *_: Any, **__: Any) -> list[str]:
        return list(self.repository.get_group_options(group_name, results_filter))

    ConfigLoaderImpl.get_group_options = options  # type: ignore[method-assign]


def _save_without_secrets(cfg: Any, filename: str, output_dir: Path) -> None:
    """In place of Hydra's function that writes .hydra/config.yaml, hydra.yaml and overrides.yaml."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    _save_yaml(cfg, Path(output_dir) / filename)


def _save_yaml(config: Any, f: Any, resolve: bool = False) -> None:
    """In place of `OmegaConf.save`, with which Hydra's sweeper writes multirun.yaml."""
    content = OmegaConf.to_container(config, resolve=resolve, enum_to_str=True)
    secrets.remember_settings(content)
    text = yaml.dump(
        secrets.hidden(content), default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=_Dumper
    )
    Path(f).write_text(secrets.hide_secrets(text), encoding="utf-8")


class _Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """Writes YAML as `OmegaConf.to_yaml` does, in a third of its time: by libyaml, if PyYAML has it."""


_Dumper.add_representer(str, omegaconf_utils.OmegaConfDumper.str_representer)


_omegaconf_loader = omegaconf_utils.get_yaml_loader()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML as OmegaConf does, by libyaml: with its numbers, without dates, and no key twice."""

    yaml_implicit_resolvers = _omegaconf_loader.yaml_implicit_resolvers
    yaml_constructors = _omegaconf_loader.yaml_constructors

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        marks: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if key.tag == yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG:
                if key.value in marks:
                    problem = f"found duplicate key {key.value}"
                    raise yaml.constructor.ConstructorError(
                        "while constructing a mapping", node.start_mark, problem, key.start_mark
                    )
                marks[key.value] = key.start_mark
        mapping: dict = super().construct_mapping(node, deep=deep)
        return mapping


# Done by the import: the worker of a parallel launcher saves these files before it calls anything of mnistlab.
hydra_utils._save_config = _save_without_secrets
omegaconf_utils.get_yaml_loader = lambda: _Loader  # reads the files of conf/ in half of the time
OmegaConf.save = staticmethod(_save_yaml)  # type: ignore[method-assign]
