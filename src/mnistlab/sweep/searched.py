"""What a search asks for and what came of it, as plain data: its space, its jobs, the record of its trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnistlab.config import Config
from mnistlab.config.compose import Command, compose_config
from mnistlab.config.search_space import SearchSpace, Value

DEFAULTS, FOUND = "default", "found"
SETTINGS = "settings"  # the axis of the comparison: default or found
SEED_DISTANCE = 1000  # of the trials' seed from the comparison's first


@dataclass(frozen=True)
class SearchTrial:
    """A trial as it is recorded.

    job: its name in the sweep; values: dimension -> value; state: 'complete', 'pruned', 'diverged' or 'running', which
    is one that has failed or was interrupted; score: the objective, of a pruned trial at its last epoch; epochs: after
    which it was stopped, None if it was not.
    """

    number: int
    job: str
    values: dict[str, Value]
    state: str
    score: float | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Searched:
    """The record of a search. space: a line for each dimension; seed: of the trials; importances: dimension -> share of
    the differences between the scores; best: the number of the best trial, None if no trial is complete."""

    space: list[str]
    sampler: str
    pruner: str | None
    seed: int
    trials: list[SearchTrial] = field(default_factory=list)
    importances: dict[str, float] = field(default_factory=dict)
    best: int | None = None


@dataclass(frozen=True)
class Search:
    """A search that is under way.

    seeds: of the comparison; trial_seed: of all trials; number: of trials; base: the configuration of the defaults.
    """

    space: SearchSpace
    seeds: Sequence[int]
    trial_seed: int
    number: int
    base: Config

    def default_jobs(self, command: Command) -> list[tuple[Config, Mapping[str, Any]]]:
        """The jobs of the comparison with the defaults, and their labels."""
        return [self._job(command, self.space.fixed, DEFAULTS, seed) for seed in self.seeds]

    def found_jobs(self, command: Command, values: Mapping[str, Value]) -> list[tuple[Config, Mapping[str, Any]]]:
        """The jobs of the comparison with the best values, and their labels."""
        return [self._job(command, self.space.overrides(values), FOUND, seed) for seed in self.seeds]

    def trial_job(self, command: Command, number: int, values: Mapping[str, Value]) -> tuple[Config, Mapping[str, Any]]:
        """The job of a trial, and its labels."""
        config, labels = self._job(command, self.space.overrides(values), f"trial{number}", self.trial_seed)
        return config, {SETTINGS: labels[SETTINGS]}

    def _job(
        self, command: Command, overrides: Sequence[str], label: str, seed: int
    ) -> tuple[Config, Mapping[str, Any]]:
        kept = [word for word in overrides if not word.startswith("seed=")]
        config = compose_config([*kept, f"seed={seed}"], command.config_name, command.config_dir, typed=False)
        return config, {SETTINGS: label, "seed": seed}


def plan_search(command: Command) -> Search | None:
    """What a command searches for; None if it does not."""
    if command.space is None:
        return None
    base = command.configs[0]
    seeds = range(base.seed, base.seed + base.sweep.seeds)
    return Search(command.space, seeds, base.seed + SEED_DISTANCE, base.sweep.trials or 1, base)
