"""Sweeps whose jobs a sweeper of Hydra's plugins chooses while it runs: Optuna's, Ax, Nevergrad, one of the user's."""

import dataclasses
from collections.abc import Sequence

from mnistlab.config import secrets
from mnistlab.config.compose import Command, compose_config
from mnistlab.sweep import outcomes
from mnistlab.sweep.plan import Sweep, add_jobs
from mnistlab.tracking.recorder import wait_for_all


def adopt_jobs(sweep: Sweep, command: Command) -> None:
    """Make the jobs that the sweeper has started those of the sweep; the settings in which they differ are its axes."""
    sweep.store_errors |= wait_for_all()
    started = {key: job for key, job in outcomes.started(sweep.folder).items() if job.overrides}
    if not started:
        return
    words = {_name(word): word for word in command.words}
    for key, outcome in started.items():  # the files that jobs leave have no secrets
        complete = [words.get(_name(word), word) if secrets.HIDDEN in word else word for word in outcome.overrides]
        started[key] = dataclasses.replace(outcome, overrides=complete)
    given = {key: _settings(job.overrides) for key, job in started.items()}
    names = dict.fromkeys(name for settings in given.values() for name in settings)
    varied = [name for name in names if len({settings.get(name) for settings in given.values()}) > 1] or command.swept
    labels = {
        key: {name: secrets.hidden(settings[name], name) for name in varied if name in settings}
        for key, settings in given.items()
    }
    configs = [
        compose_config(list(job.overrides), command.config_name, command.config_dir, typed=False)
        for job in started.values()
    ]
    sweep.jobs = []
    add_jobs(sweep, command, configs, list(labels.values()))
    for job, key in zip(sweep.jobs, started, strict=True):
        job.key = key  # that of the overrides with their secrets
    sweep.axes = command.configs[0].sweep.axes or [name for name in varied if name != "seed"] or sweep.axes


def _name(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    words = [word.lstrip("+~").partition("=") for word in overrides]
    return {name: value for name, _, value in words if not name.startswith(("sweep", "hydra", "launch"))}
