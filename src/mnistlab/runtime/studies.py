"""Optuna's studies: their storage, trials and pruners, for the sweep that asks and the jobs that report."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

PRUNED_AFTER = "pruned_after_epoch"  # in the trial's attributes and the run's tags
HYPERBAND_REDUCTION = 3


def open_storage(address: str, mend: bool = False) -> "optuna.storages.BaseStorage":
    """The storage of a study: a journal file, or what an URL of Optuna's names.

    mend: nobody else writes now: remove a line that a full disk has cut off, after which Optuna could read no other.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" in address:
        return optuna.storages.get_storage(address)
    if mend:
        _remove_half_line(Path(address))
    return optuna.storages.JournalStorage(JournalFileBackend(address))


def _remove_half_line(file: Path) -> None:
    with contextlib.suppress(FileNotFoundError), file.open("rb+") as journal:
        content = journal.read()
        if content and not content.endswith(b"\n"):
            journal.truncate(content.rfind(b"\n") + 1)


def make_pruner(name: str | None, epochs: int) -> "optuna.pruners.BasePruner":
    """The pruner of this name.

    median: stops a trial whose best value so far is worse than the median of the other trials' values at this epoch
    (Golovin et al. 2017, Google Vizier); hyperband: Li et al. 2018; None: none. epochs: of a whole training.
    """
    import optuna

    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0)
    if name == "hyperband":
        with quiet():
            return optuna.pruners.HyperbandPruner(
                min_resource=1, max_resource=epochs, reduction_factor=HYPERBAND_REDUCTION
            )
    return optuna.pruners.NopPruner()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings that something is experimental."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def trial_of(study: "optuna.Study", number: int) -> "optuna.Trial":
    """The trial of this number, which another process has asked for. Its id is public in no other way."""
    import optuna

    return optuna.trial.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
