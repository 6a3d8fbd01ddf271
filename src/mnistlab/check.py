"""The checking command, `python -m mnistlab.check`: every check of a training command and of its data, no training.

It takes the words of `mnistlab.train`, builds data, models, optimizers and callbacks of all jobs, and writes nothing.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnistlab.config import Config, ConfigError, register, trust
from mnistlab.config.compose import Command, check_command, parse_command_line, starts_jobs
from mnistlab.runtime import errors, exits, space, startup

if TYPE_CHECKING:
    from mnistlab.sweep.plan import SweepJob

USAGE = """Check a training command and its data, without training. Nothing is written.

Usage: python -m mnistlab.check [the words of python -m mnistlab.train]

  python -m mnistlab.check source=npz source.path=mine.npz model=cnn
  python -m mnistlab.check --multirun optimizer=sgd,momentum,adam
  python -m mnistlab.check --config-dir my_conf experiment=mine trust=[mypackage]

All problems are listed at once, those of all jobs of a sweep too. Data that are not here yet are downloaded, as the
training would do.
Exit status: 0 all checks passed, 2 there are problems."""
MAX_LISTED = 20


def main() -> None:
    """The command. Exit status: 0 all checks passed, 2 problems, 130, 143 or 129 stopped."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_check, USAGE))


def _check() -> None:
    register()
    arguments, flags = parse_command_line(sys.argv[1:])
    if not starts_jobs(arguments):
        raise ConfigError(f"mnistlab.check takes the words of a training. Received: {' '.join(flags)}.")
    with trust.trusting(arguments.trust):
        _check_jobs(check_command(arguments))


def _check_jobs(command: Command) -> None:
    problems = _place_problems(command.configs[0])
    for config in command.configs:
        config.sweep.preflight = True
        if "cache" in config.source:
            config.source["cache"] = None  # it would be written
    with startup.loading():
        from mnistlab.sweep import plan
    exits.catch_signals()
    try:
        jobs = plan.check_jobs(command)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from error
    if not problems:
        try:
            space.check_space(space.total(job.needed_space for job in jobs), "This command")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    _print_summary(command, jobs)


def _place_problems(config: Config) -> list[str]:
    """What is wrong with the place of the runs and with the tracking store. A server that does not answer is a warning,
    as in the training, unless it is required."""
    from mnistlab.tracking import servers, stores

    problems = []
    try:
        stores.check_writable(Path(config.paths.root), create=False)
    except ConfigError as error:
        problems += error.problems
    if config.tracking.backend != "mlflow" or (problems and config.tracking.uri is None):
        return problems
    try:
        store = stores.checked_address(config.tracking, config.paths.root, create=False)
        if reason := servers.outage(store.uri):
            print(f"WARNING: the tracking server does not answer ({reason}). A training would record in folders.")
    except ConfigError as error:
        problems += error.problems
    return problems


def _print_summary(command: Command, jobs: "Sequence[SweepJob]") -> None:
    from mnistlab import experiment
    from mnistlab.data import loading
    from mnistlab.training import building

    first = command.configs[0]
    for warning in dict.fromkeys(loading.load(job.config).warning for job in jobs):
        if warning:
            print(f"WARNING: {warning}")
    seen: dict[str, None] = {}  # in order
    for job in jobs:
        dataset = loading.load(job.config)
        described = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
        shape = "x".join(map(str, dataset.image_shape))
        seen[f"{dataset.name}: {described} images of {shape}, {dataset.num_classes} classes"] = None
    for number, text in enumerate(seen):
        print(f"{'data' if number == 0 else '':10}{text}")
    if command.multirun:
        print(f"{'jobs':10}{len(jobs)}: {_listed([job.name for job in jobs])}")
    else:
        model = experiment.build_model(first, loading.load(first))
        name = first.choices.get("model", "model")
        print(f"{'model':10}{name}, {model.count_params():,} parameters; {type(model.optimizer).__name__}")
        plan = building.plan_fit(first, model, loading.load(first), building.build_callbacks(first, model))
        steps = f"{plan.steps_per_epoch:,} steps, {plan.batch_size:,} images each"
        print(f"{'training':10}{plan.epochs:,} epochs of {steps}; engine {plan.engine}")
    needed = space.total(job.needed_space for job in jobs)
    for folder, size in needed.items():
        print(f"{'space':10}about {space.readable(size)} in {folder}")
    print("All checks passed. Nothing was written.")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


if __name__ == "__main__":
    main()
