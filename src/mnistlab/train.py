"""The training command, `python -m mnistlab.train`. Importing it loads neither TensorFlow nor MLflow."""

import functools
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mnistlab.config import ConfigError, conf_folder, hydra_internals, register, trust
from mnistlab.config.compose import check_command, parse_command_line, starts_jobs
from mnistlab.config.explaining import explain
from mnistlab.runtime import errors, exits, startup
from mnistlab.sweep import job


def main() -> None:
    """The command. Exit status: 0 success, 1 a job failed, 2 a user's mistake; 130 stopped by Ctrl-C, 143 by SIGTERM,
    129 by SIGHUP."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors are raised to us; `explain` formats them
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_run))


def _run() -> int:
    register()
    arguments, flags = parse_command_line(sys.argv[1:])
    if arguments.help and not any("hydra.searchpath" in override for override in arguments.overrides):
        hydra_internals.list_options_quickly()
    run_hydra = functools.partial(_run_hydra, arguments.overrides, flags)
    try:
        with trust.trusting(arguments.trust):
            return _run_jobs(arguments, run_hydra) if starts_jobs(arguments) else run_hydra()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, sys.argv[1:])) from error


def _run_jobs(arguments: Namespace, run_hydra: Callable[..., int]) -> int:
    from mnistlab.tracking import stores  # not for --help

    command = check_command(arguments)
    stores.check_writable(Path(command.configs[0].paths.root))
    if not command.multirun:
        return run_hydra()
    if command.configs[0].sweep.isolate:  # this process must leave the memory of a GPU to those of the jobs
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    job.prepare_process(command.configs[0], close_orphans=False)
    with startup.loading():
        from mnistlab.sweep.conduct import run_sweep
    hydra_internals.start_jobs_quickly()
    return run_sweep(command, run_hydra)


def _run_hydra(overrides: Sequence[str], flags: Sequence[str], sweep_overrides: Sequence[str] = ()) -> int:
    """Let Hydra run the jobs; report failures and return the exit status."""
    sys.argv[1:] = [*overrides, *sweep_overrides, *flags]
    hydra.main(config_path=str(conf_folder()), config_name="train", version_base="1.3")(job.run_job)()
    return 0 if sweep_overrides else errors.report_failures(job.failures)  # a sweep reports its failures itself


if __name__ == "__main__":
    main()
