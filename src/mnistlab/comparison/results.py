"""The result of a comparison as plain dataclasses; their field names are the keys of comparison.json."""

import json
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from mnistlab.comparison.question import Round, Stopped
from mnistlab.comparison.search_summary import SearchSummary
from mnistlab.comparison.statistics import finite_or_none

Decision = Literal["better", "equivalent", "undecided", "one seed", "no shared seeds", "no spread", "same runs"]
Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class Note:
    """A remark on fairness: a "warning" may invalidate the verdict, a "note" explains a difference by design."""

    level: Literal["warning", "note"]
    text: str


@dataclass(frozen=True)
class TargetTime:
    """Time-to-target (AlgoPerf, Dahl et al. 2023): medians over seeds, None if half of the runs missed it."""

    target: float
    num_reached: int
    num_runs: int
    epochs: float | None
    steps: float | None
    seconds: float | None


@dataclass(frozen=True)
class CurveDiagnosis:
    """The diagnosis of an option's learning curves, and how fast they converged (medians over seeds).

    settled_epoch: first epoch within the tolerance of the run's final value. level_epoch, level_seconds: the same
    for the best option's final value; None if half of the runs never come within the tolerance.
    """

    words: str
    settled_epoch: float | None = None
    level_epoch: float | None = None
    level_seconds: float | None = None


@dataclass(frozen=True)
class OptionSummary:
    """One option over its seeds. mean, sd and interval: of the objective over trained runs.

    counterpart: the mean of the metric that `metric_names.counterpart` names; None if the runs lack it.
    run_ids: of all its runs, by seed; "" for a job that failed before it had a run.
    """

    name: str
    values: dict[str, Any]
    seeds: list[int]
    scores: list[float]
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    num_runs: int
    num_diverged: int
    num_failed: int
    num_unfinished: int
    failure_rate: float
    test_accuracy: float | None
    train_seconds: float | None
    targets: list[TargetTime]
    counterpart: float | None
    reading: CurveDiagnosis
    run_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    """Two options, paired by seed; `first` is the better one on the seeds that both have.

    advantage, low, high: mean difference and interval in the objective's unit, positive where `first` is better,
    for both directions. confidence: level of the interval, 1 minus the significance level of the test.
    decision: "same runs" if both options have exactly the same runs. more_seeds: 101 stands for more than 100;
    None without an estimate.
    """

    first: str
    second: str
    num_seeds: int
    advantage: float | None
    low: float | None
    high: float | None
    confidence: float | None
    p: float | None
    p_holm: float | None
    decision: Decision
    more_seeds: int | None
    words: str


@dataclass(frozen=True)
class Answer:
    """The answer to a comparison's question.

    words: in a sentence; pairs: those that it rests on, each with the interval of its test; winner: of the question
    "best", None without one; by_search: whether the words are those of the search for the best, not of all pairs.
    rounds: how it came about, of a sweep that compared after every seed; stopped, why: the reason why such a sweep
    ended or can end, "" and "" if it has to go on.
    """

    question: str
    words: str
    pairs: list[Pair]
    winner: str | None = None
    by_search: bool = False
    rounds: list[Round] = field(default_factory=list)
    stopped: Stopped = ""
    why: str = ""


@dataclass(frozen=True)
class GridPoint:
    """One optimizer at one learning rate; mean and sd are None if no run trained."""

    learning_rate: float
    mean: float | None
    sd: float | None
    num_runs: int
    num_failed: int


@dataclass(frozen=True)
class GridRow:
    """One optimizer over its learning rates, ascending; its ranks among the optimizers start from 1."""

    optimizer: str
    points: list[GridPoint]
    best: float | None
    default: float | None
    rank_at_best: int | None
    rank_at_default: int | None


@dataclass(frozen=True)
class LearningRateGrid:
    """Several learning rates per optimizer. at_best: the pairs of optimizers, each at its best rate."""

    rows: list[GridRow]
    warnings: list[str]
    at_best: list[Pair]


@dataclass(frozen=True)
class Tuned:
    """How the options of a tuned sweep got their learning rates. grid: the tuning's runs, with the chosen rates, and
    ranks on the comparison's seeds; at_default: the options there; words: whether the ranking depends on the tuning."""

    num_rates: int
    seeds: list[int]
    grid: LearningRateGrid
    at_default: list[OptionSummary]
    words: str


@dataclass(frozen=True)
class InteractionCell:
    """One row in one column: mean, sd and 95 % bootstrap interval of the objective over its trained seeds."""

    row: str
    column: str
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None
    num_seeds: int


@dataclass(frozen=True)
class ColumnLeader:
    """The best row of a column; None without a trained run.

    beats_runner_up: None if no test was possible (one seed). num_beaten: how many of the num_others other rows it
    beats by the pairwise tests; rows with the same runs count once.
    """

    column: str
    leader: str | None
    runner_up: str | None
    beats_runner_up: bool | None
    num_beaten: int
    num_others: int


@dataclass(frozen=True)
class Contrast:
    """A difference of differences: how much more `first` is ahead of `second` in `column` than in `other_column`.

    difference, low, high: in the objective's unit, paired by seed; the difference is never negative. confidence:
    level of the interval. p_holm: corrected for all contrasts of the interaction.
    """

    first: str
    second: str
    column: str
    other_column: str
    num_seeds: int
    difference: float | None
    low: float | None
    high: float | None
    confidence: float | None
    p: float | None
    p_holm: float | None
    significant: bool
    words: str


@dataclass(frozen=True)
class Interaction:
    """Whether the order of the rows (options) depends on the column: a data set, or values of the other axes.

    cells: a list of cells per row. num_contrasts: size of the family that Holm's correction counts; `contrasts`
    holds those that were tested, the smallest p first. same_runs: rows that are the same runs in all columns, as
    lists. missing: cells without a trained run.
    """

    is_by_data: bool
    row_axis: list[str]
    rows: list[str]
    column_axis: list[str]
    columns: list[str]
    objective: str
    direction: Direction
    cells: list[list[InteractionCell]]
    leaders: list[ColumnLeader]
    contrasts: list[Contrast]
    num_contrasts: int
    same_runs: list[list[str]]
    missing: list[str]
    sentence: str


@dataclass(frozen=True)
class DataIdentity:
    """What identifies a data set. source: the settings that name it; hashes: split -> seed -> hash of its content.

    Splits: "data" (all), "train", "validation", "test"; those that no run recorded are left out. A split may be
    determined by the seed.
    """

    source: str
    hashes: dict[str, dict[int, str]]


@dataclass(frozen=True)
class Comparison:
    """The verdict and everything it is based on. options: best first, those without a trained run last.

    axis: the settings that distinguish the options; data_axis: those that selected the data set. num_data_sets: how
    many `compare_by_data` found. interaction: of the axes with each other, if there are several. resolution: the step
    between two scores that are possible, 1 / n for an accuracy on n images, 0 for a continuous score. answer: to the
    question that was asked; new_images: whether the leader's difference to the next option holds for new images, too.
    """

    verdict: str
    axis: list[str]
    objective: str
    direction: Direction
    data: str
    alpha: float
    seeds: list[int]
    options: list[OptionSummary]
    pairs: list[Pair]
    notes: list[Note]
    convergence: str
    grid: LearningRateGrid | None
    method: str
    data_axis: list[str] = field(default_factory=list)
    num_data_sets: int = 1
    identity: DataIdentity | None = None
    interaction: Interaction | None = None
    resolution: float = 0.0
    answer: Answer | None = None
    new_images: str = ""
    tuned: Tuned | None = None
    searched: SearchSummary | None = None


@dataclass(frozen=True)
class AcrossData:
    """The options over several data sets: ranks (Demsar 2006), interaction, and what was not compared.

    pairs hold Holm-adjusted p values. ranking: the result of the ranks in a sentence. not_compared: sentences.
    """

    verdict: str
    data: list[str]
    mean_ranks: dict[str, float]
    p: float | None
    pairs: list[tuple[str, str, float | None]]
    ranking: str
    interaction: Interaction
    not_compared: list[str]


def to_json(result: Comparison | AcrossData | Interaction) -> str:
    """The result as JSON; NaN and infinities become null. Thousands of pairs are not indented, which takes seconds."""
    return json.dumps(_plain(result), indent=None if len(getattr(result, "pairs", ())) > 1000 else 1, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | Pair | None):  # the numbers of a pair are plain; there may be many thousands
        return vars(value) if isinstance(value, Pair) else value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) or isinstance(value, dict):
        return {str(key): _plain(item) for key, item in (value if isinstance(value, dict) else vars(value)).items()}
    return finite_or_none(value) if isinstance(value, float) else str(value)
