"""Builds, before a sweep starts, what can fail in a job before its training."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mnistlab import experiment, training
from mnistlab.config import Config
from mnistlab.data import loading
from mnistlab.data.folders import batches
from mnistlab.training import building


class Checked(NamedTuple):
    """needed_space: as `experiment.needed_space`; compile_ahead: as `building.compilation_ahead`."""

    needed_space: dict[Path, int]
    compile_ahead: Callable[[], None] | None


NOT_CHECKED = Checked({}, None)


def check(config: Config) -> Checked:
    """Build data, model, optimizer and callbacks of a job.

    Raises:
        ConfigError: the first that fails.
    """
    building.check_without_data(config)
    dataset = loading.load(config)
    batches.check_batch_size(config.fit.batch_size, dataset)
    training.start_job(config.seed, deterministic=False)  # layers get the names that they will have in the job
    model = experiment.build_model(config, dataset)
    building.build_callbacks(config, model)
    needed_space = experiment.needed_space(config, model, dataset)
    return Checked(needed_space, building.compilation_ahead(config, model, dataset))
