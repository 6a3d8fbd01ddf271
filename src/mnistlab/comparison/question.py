"""The question that a comparison answers, and the rounds in which an answer came about, as plain dataclasses."""

import math
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["best", "better_than", "equivalent", "fastest_within"]
Stopped = Literal["", "clear", "hopeless", "max_seeds"]


@dataclass(frozen=True)
class Question:
    """What is asked of the options.

    kind: "best": which one is best; "better_than": which differ from the baseline, an option; "equivalent": which do
    not differ by more than the margin, in points for accuracies, else in the objective's unit; "fastest_within": which
    is the fastest of those within the margin of the best.
    """

    kind: Kind = "best"
    baseline: str = ""
    margin: float = 0.0

    def __str__(self) -> str:
        if self.kind == "best":
            return "best"
        return f"{self.kind}:{self.baseline or format(self.margin, 'g')}"


def parse_question(text: str) -> Question:
    """The question in the form of a setting: "best", "better_than:adam", "equivalent:0.2".

    Raises:
        ValueError: it has another form.
    """
    kind, _, argument = str(text).partition(":")
    argument = argument.strip()
    if kind == "best" and not argument:
        return Question()
    if kind == "better_than" and argument:
        return Question("better_than", baseline=argument)
    if kind in ("equivalent", "fastest_within") and _is_positive(argument):
        return Question("equivalent" if kind == "equivalent" else "fastest_within", margin=float(argument))
    raise ValueError(
        "the question must be best, better_than:OPTION (better_than:adam), equivalent:MARGIN or fastest_within:MARGIN, "
        f"a number above 0, for accuracies in points (equivalent:0.2). Received: {text}"
    )


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


@dataclass(frozen=True)
class Standing:
    """One option after a round.

    difference, low, high: how far the leader is ahead of it on the seeds that both have, with an interval; in the
    objective's unit, positive where the leader is better. open: whether it gets further seeds; words: why not.
    """

    option: str
    num_seeds: int
    mean: float | None
    difference: float | None
    low: float | None
    high: float | None
    open: bool
    words: str = ""


@dataclass(frozen=True)
class Round:
    """The state after a round of seeds. num_runs: of all options so far; standings: the best mean first."""

    num_seeds: int
    num_runs: int
    leader: str
    standings: list[Standing] = field(default_factory=list)

    @property
    def open(self) -> list[str]:
        """The options that are still in doubt."""
        return [standing.option for standing in self.standings if standing.open]
