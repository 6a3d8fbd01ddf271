"""Runs the words of a training command: one experiment, or with --multirun a sweep."""

import functools
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mnistlab.config import ConfigError, conf_folder, hydra_internals, register, trust
from mnistlab.config.compose import check_command, parse_command_line, starts_jobs
from mnistlab.config.explaining import explain
from mnistlab.runtime import devices, startup
from mnistlab.sweep import clusters, job

if TYPE_CHECKING:
    from mnistlab.sweep.plan import Sweep


@dataclass(frozen=True)
class Ended:
    """How a training command ended.

    failures: (overrides, error) of each job of this process that failed; run: the folder of the last one that had a
    record; sweep: the sweep, None for a single experiment; status: of a sweep, 0 or 1.
    """

    failures: Sequence[tuple[str, BaseException]]
    run: Path | None
    sweep: "Sweep | None" = None
    status: int = 0


def run(words: Sequence[str]) -> Ended:
    """Run a command line. It sets `sys.argv`, which Hydra reads.

    Raises:
        ConfigError: a user's mistake; nothing was started.
    """
    register()
    hydra_internals.import_plugins()
    job.failures.clear()
    job.folders.clear()
    arguments, flags = parse_command_line(words)
    if arguments.help and not any("hydra.searchpath" in override for override in arguments.overrides):
        hydra_internals.list_options_quickly()
    run_hydra = functools.partial(_run_hydra, arguments.overrides, flags)
    status, sweep = 0, None
    try:
        with trust.trusting(arguments.trust):
            if starts_jobs(arguments):
                with hydra_internals.composing_files_once():
                    status, sweep = _run_jobs(arguments, run_hydra)
            else:
                run_hydra()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, list(words))) from error
    return Ended(list(job.failures), job.folders[-1] if job.folders else None, sweep, status)


def _run_jobs(arguments: Namespace, run_hydra: Callable[..., None]) -> "tuple[int, Sweep | None]":
    """Run the experiment or the sweep; returns the sweep and its status."""
    from mnistlab.tracking import background, stores  # not for --help

    is_sweep = arguments.multirun or any(word.startswith("sweep=") for word in arguments.overrides)
    starts_early = is_sweep and background.pid() is None
    if starts_early:
        background.start()  # its libraries load while the jobs are checked
    try:
        command = check_command(arguments)
        clusters.check(command.configs[0].launch)
        stores.check_writable(Path(command.configs[0].paths.root))
    except BaseException:
        if starts_early:
            background.abandon()
        raise
    if not command.multirun:
        run_hydra()
        return 0, None
    devices.reserve_cpu_devices(config.fit.cpu_devices for config in command.configs)
    job.prepare_process(command.configs[0], close_orphans=False)
    with startup.loading():
        from mnistlab.sweep.conduct import run_sweep
    with hydra_internals.starting_jobs_quickly(job.known_value):
        return run_sweep(command, run_hydra)


def _run_hydra(overrides: Sequence[str], flags: Sequence[str], sweep_overrides: Sequence[str] = ()) -> None:
    """Let Hydra run the jobs."""
    sys.argv[1:] = [*overrides, *sweep_overrides, *flags]
    hydra.main(config_path=str(conf_folder()), config_name="train", version_base="1.3")(job.run_job)()
