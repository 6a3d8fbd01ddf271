"""Ends a trial of a search early if its validation results are hopeless beside those of the other trials.

The callback works with both engines. Between processes the trials meet in the study's storage.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from mnistlab.runtime import studies
from mnistlab.runtime.studies import PRUNED_AFTER

log = logging.getLogger("mnistlab")


class Pruning(keras.callbacks.Callback):
    """Reports a metric of each epoch to a trial of a study, and stops the training when the pruner says so.

    Args:
        trial: 'storage', 'study' (its name), 'number', 'metric' of Keras's logs, 'pruner', 'epochs'.
    """

    def __init__(self, trial: Mapping[str, Any]) -> None:
        super().__init__()
        import optuna

        storage = studies.open_storage(trial["storage"])
        pruner = studies.make_pruner(trial["pruner"], trial["epochs"])
        study = optuna.load_study(study_name=trial["study"], storage=storage, pruner=pruner)
        self.trial = studies.trial_of(study, trial["number"])
        self.metric = str(trial["metric"])
        self.last_epoch = int(trial["epochs"])
        self.pruned_after: int | None = None
        self._reported = {*study.get_trials(deepcopy=False)[self.trial.number].intermediate_values}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        value, number = float((logs or {}).get(self.metric, math.nan)), epoch + 1
        if not math.isfinite(value):
            return
        if number not in self._reported:  # an interrupted trial has reported its first epochs
            self.trial.report(value, number)
        if number < self.last_epoch and self.trial.should_prune():
            self.pruned_after = number
            self.trial.set_user_attr(PRUNED_AFTER, number)
            self.model.stop_training = True
            log.info("Stopped after epoch %d of %d: too far behind the other trials.", number, self.last_epoch)


def pruning_callbacks(trial: Mapping[str, Any]) -> list[Pruning]:
    """The callback of a trial of a search; none outside a search, without a pruner, and on a node without the study."""
    if not trial.get("pruner"):
        return []
    if "://" not in trial["storage"] and not Path(trial["storage"]).is_file():
        log.warning("No early stop: this machine does not share the study %s; sweep.storage can.", trial["storage"])
        return []
    return [Pruning(trial)]


def tags_if_pruned(callbacks: list[Pruning], identified: Mapping[str, str]) -> dict[str, Any]:
    """The tags of a run that was stopped early: it is not the computation that its settings ask for.

    identified: the run's fingerprint.
    """
    if not callbacks or callbacks[0].pruned_after is None:
        return {}
    changed = {name: f"pruned-{identified[name]}" for name in ("fingerprint", "fingerprint.request")}
    return {PRUNED_AFTER: callbacks[0].pruned_after, **changed}
