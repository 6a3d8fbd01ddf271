"""The study of a search: Optuna's, driven through its ask-and-tell interface and kept in a file or a database.

No plugin for Hydra's sweepers: they decide on a batch of jobs and wait for it, and know neither the jobs that are done
nor those of an interrupted start. The rounds of a sweep know both and run on every launcher.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mnistlab.config import Config, ConfigError, secrets
from mnistlab.config.objectives import BEST_EPOCH, EXTREMES
from mnistlab.config.search_space import Dimension, SearchSpace, Value
from mnistlab.runtime import studies
from mnistlab.tracking.database_driver import check_driver

if TYPE_CHECKING:
    import optuna

FILE_NAME = "study.log"
STARTS = (BEST_EPOCH, *(name.removesuffix("val_") for name in EXTREMES))  # of an objective, before an epoch's metric
NUM_RANDOM = 10  # trials before the sampler learns from the others
State = Literal["running", "complete", "pruned", "diverged"]


@dataclass(frozen=True)
class Trial:
    """A trial: its number from 0, the values of its settings by the dimensions' names, its state and score.

    epochs: after which it was stopped, None if it was not.
    """

    number: int
    values: dict[str, Value]
    state: State = "running"
    score: float | None = None
    epochs: int | None = None


class Study:
    """Chooses the settings of trials from the scores of those before.

    The same scores lead to the same trials, also after an interruption: the sampler is seeded for each trial anew.
    """

    def __init__(self, space: SearchSpace, folder: Path, name: str, direction: str, config: Config) -> None:
        import optuna

        self.space, self.config, self.name = space, config, name
        self.address = config.sweep.storage or str(folder.resolve() / FILE_NAME)
        check_driver(self.address, "sweep.storage")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._study = optuna.create_study(
                storage=studies.open_storage(self.address, mend=True),
                study_name=name,
                direction="maximize" if direction == "higher" else "minimize",
                load_if_exists=True,
            )
        except Exception as error:  # Optuna, SQLAlchemy and its drivers have their own
            said = secrets.hide_secrets(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            raise ConfigError(
                f"The study of the search cannot be read: {secrets.hide_secrets(self.address)} ({said}). "
                + ("Check sweep.storage." if config.sweep.storage else "Move the file away: finished runs are reused.")
            ) from error

    def start(self, values: Mapping[str, Value]) -> None:
        """Let a new study begin with these values, as far as they are in the space."""
        if values and not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(dict(values))

    def ask(self) -> Trial:
        """The next trial."""
        number = len(self.trials())
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()
        values: dict[str, Value] = {}
        for dimension in self.space.active(values):
            values[dimension.name] = _value(dimension, _suggest(trial, dimension))
        return Trial(trial.number, values)

    def _sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        import optuna

        seed = (self.config.seed * 1_000_003 + number) % 2**32
        if self.config.sweep.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with studies.quiet():  # multivariate, group: experimental, as is the parameter in parallel
            return optuna.samplers.TPESampler(
                n_startup_trials=NUM_RANDOM, multivariate=True, group=True, constant_liar=True, seed=seed
            )

    def tell(self, number: int, score: float | None) -> None:
        """The score of a trial; None or not finite: it diverged. A trial that was stopped early counts as pruned."""
        from optuna.trial import TrialState

        trial = self._study.get_trials(deepcopy=False)[number]
        if trial.state.is_finished():
            return
        stopped = _stopped_after(trial)
        if score is not None and math.isfinite(score) and stopped is None:
            self._study.tell(number, score)
        else:  # the samplers learn from those, not from failed ones
            self._study.tell(number, state=TrialState.PRUNED)

    def trials(self) -> list[Trial]:
        """All trials in their order."""
        found = self._study.get_trials(deepcopy=False)
        return [self._trial(one) for one in found if one.state.name != "WAITING"]  # enqueued, not yet asked for

    def _trial(self, found: "optuna.trial.FrozenTrial") -> Trial:
        values = {
            one.name: _value(one, found.params[one.name]) for one in self.space.dimensions if one.name in found.params
        }
        stopped = _stopped_after(found)
        if not found.state.is_finished():
            return Trial(found.number, values)
        if found.value is not None and found.state.name == "COMPLETE":
            return Trial(found.number, values, "complete", found.value)
        if stopped is None:
            return Trial(found.number, values, "diverged")
        return Trial(found.number, values, "pruned", found.intermediate_values.get(stopped), stopped)

    def link(self, number: int) -> dict[str, Any]:
        """What the job of a trial needs to report its epochs: see `training.pruning`. Without `sweep.storage`, whose
        password must not stand in the plan's file: the job's configuration has it."""
        objective = self.config.sweep.objective
        start = next((part for part in STARTS if objective.startswith(part)), "")
        return {
            "storage": "" if self.config.sweep.storage else self.address,
            "study": self.name,
            "number": number,
            "metric": objective.removeprefix(start),
            "pruner": self.config.sweep.pruner if start else None,
            "epochs": self.config.fit.epochs,
        }


def _value(dimension: Dimension, chosen: Any) -> Value:
    return str(chosen) if dimension.choices else dimension.number(chosen)


def _suggest(trial: "optuna.Trial", dimension: Dimension) -> Any:
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.choices:
        return trial.suggest_categorical(dimension.name, dimension.choices)
    if dimension.whole:
        return trial.suggest_int(dimension.name, int(low), int(high), step=int(step or 1), log=dimension.log)
    return trial.suggest_float(dimension.name, low, high, step=step, log=dimension.log)


def _stopped_after(trial: "optuna.trial.FrozenTrial") -> int | None:
    found = trial.user_attrs.get(studies.PRUNED_AFTER)
    return None if found is None else int(found)


def importances(address: str, name: str) -> dict[str, float]:
    """How much of the differences between the finished trials comes from each setting, in sum 1; empty if there are too
    few to tell. Functional ANOVA (Hutter, Hoos and Leyton-Brown 2014).

    To be called in the background process: it loads scikit-learn.
    """
    import optuna

    study = optuna.load_study(study_name=name, storage=studies.open_storage(address))
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (RuntimeError, ValueError):  # a single trial, or equal scores
        return {}
