"""The private names of Hydra that mnistlab uses, each with its reason. A test fails when Hydra renames one."""

import contextlib
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core import utils as hydra_utils
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf

from mnistlab.config import secrets


def argument_parser() -> ArgumentParser:
    """Hydra's parser of the command line: the same flags as Hydra will accept, known before it starts."""
    parser: ArgumentParser = get_args_parser()
    return parser


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


def start_jobs_quickly() -> None:
    """Let a sweeper start jobs without composing each of them to see whether it can: mnistlab has checked them."""
    Sweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]


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
    content = OmegaConf.to_container(config, resolve=resolve)
    secrets.remember_settings(content)
    text = OmegaConf.to_yaml(OmegaConf.create(secrets.hidden(content)))
    Path(f).write_text(secrets.hide_secrets(text), encoding="utf-8")


# Done by the import: the worker of a parallel launcher saves these files before it calls anything of mnistlab.
hydra_utils._save_config = _save_without_secrets
OmegaConf.save = staticmethod(_save_yaml)  # type: ignore[method-assign]
