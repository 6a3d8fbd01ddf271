"""The trials of a search as plain data."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrialSummary:
    """A trial of a search. values: setting -> value; state: 'complete', 'pruned', 'diverged' or 'running'; score: of a
    pruned trial at its last epoch, `epochs`."""

    number: int
    job: str
    values: dict[str, Any]
    state: str
    score: float | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class SearchSummary:
    """A search. space: a line for each setting; seed: of the trials; importances: setting -> share of the variance of
    the scores; best: the number of the best trial."""

    space: list[str]
    sampler: str
    pruner: str | None
    seed: int
    trials: list[TrialSummary]
    importances: dict[str, float]
    best: int | None
