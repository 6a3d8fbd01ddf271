"""How a command continues an interrupted run: which one, from which checkpoint, and what its record still lacks."""

import logging
from collections.abc import Mapping

from mnistlab.config import Config, ConfigError
from mnistlab.runtime import checkpoints
from mnistlab.runtime.checkpoints import Checkpoint
from mnistlab.tracking import continuing, interrupted
from mnistlab.tracking.interrupted import EarlierRun
from mnistlab.tracking.recorder import Recorder

log = logging.getLogger("mnistlab")


def find_checkpoint(config: Config, identified: Mapping[str, str]) -> tuple[EarlierRun | None, Checkpoint | None]:
    """The interrupted run that this command continues, and its newest whole checkpoint; from here on the configuration
    names that run's folder.

    identified: what `identity` returns. Raises a ConfigError if the run cannot be continued and must be.
    """
    earlier = interrupted.claim(config, identified)
    if earlier is None:
        return None, None
    start, problems = checkpoints.newest(earlier.checkpoints)
    for problem in problems:
        log.warning("WARNING: the checkpoint %s.", problem)
    if start is None and config.fit.resume == "must":
        interrupted.unlock(earlier.folder)
        raise ConfigError(
            f"fit.resume=must: the run {earlier.name} in {earlier.folder} has no whole checkpoint. Start it again from "
            "epoch 1 with fit.resume=auto."
        )
    continuing.move_to(config, earlier.folder)
    return earlier, start


def record_earlier_epochs(record: Recorder, earlier: EarlierRun | None, start: Checkpoint | None) -> None:
    """Say where an interrupted run is continued; record what its checkpoint has and the record lacks."""
    if earlier is None:
        return
    where = f"after {start.place}" if start else "at epoch 1: it has no whole checkpoint"
    log.info("Continuing %s %s (interrupted: %s). Its folder: %s", earlier.name, where, earlier.reason, earlier.folder)
    for epoch, row in enumerate(_epochs_in(start), start=1):
        record.log_metrics(row, epoch)


def _epochs_in(start: Checkpoint | None) -> list[dict[str, float]]:
    """The epochs' rows of metrics in a checkpoint."""
    states = [saved for name, saved in start.state["callbacks"] if name == "History"] if start else []
    return list(states[0]["rows"]) if states else []
