"""A tuned sweep: every option at its best and at its default learning rate, on seeds that the tuning did not use."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnistlab.comparison.compare import compare
from mnistlab.comparison.grid import LEARNING_RATE, grid_points
from mnistlab.comparison.records import RunRecord
from mnistlab.comparison.results import Comparison, GridRow, LearningRateGrid, Note, OptionSummary, Tuned
from mnistlab.comparison.tables import Table, csv_text
from mnistlab.comparison.wording import format_value, is_fraction, join_names

SOURCES = (
    "Schneider, Balles and Hennig (2019), DeepOBS: a deep learning optimizer benchmark suite, ICLR, arXiv 1903.05499",
    "Choi et al. (2019), On empirical comparisons of optimizers for deep learning, arXiv 1910.05446",
)


@dataclass(frozen=True)
class Rates:
    """What a tuned sweep tried and chose. num_rates: per option; seeds: of the tuning; defaults, best: option ->
    learning rate, None if none could be chosen, and then the option is compared at its default; problems: why."""

    num_rates: int
    seeds: Sequence[int]
    defaults: Mapping[str, float]
    best: Mapping[str, float | None]
    problems: Mapping[str, str]

    def at_best(self, record: RunRecord) -> bool:
        """Whether a run is of the comparison, with its option's best rate."""
        name = str(record.params.get("optimizer"))
        rate = self.best.get(name)
        return self._is_compared(record, self.defaults.get(name) if rate is None else rate)

    def at_default(self, record: RunRecord) -> bool:
        """Whether a run is of the comparison, with its option's default rate."""
        return self._is_compared(record, self.defaults.get(str(record.params.get("optimizer"))))

    def _is_compared(self, record: RunRecord, rate: float | None) -> bool:
        used = record.params.get(LEARNING_RATE)
        is_rate = isinstance(used, int | float) and rate is not None and math.isclose(used, rate)
        return is_rate and record.seed not in self.seeds


def with_tuning(comparison: Comparison, records: Sequence[RunRecord], rates: Rates) -> Comparison:
    """The comparison at the best rates with the tuning that led to them. records: of all runs of the sweep."""
    names = {option.name for option in comparison.options}
    mine = [record for record in records if record.params.get("optimizer") in names]
    objective, direction = comparison.objective, comparison.direction
    default_runs = [record for record in mine if rates.at_default(record)]
    at_default: list[OptionSummary] = []
    if default_runs:
        found = compare(default_runs, comparison.axis, objective, direction=direction, targets=(), resamples=0)
        at_default = found.options
    ranks, default_ranks = _ranks(comparison.options), _ranks(at_default)
    points = grid_points([record for record in mine if record.seed in rates.seeds], objective)
    rows = [
        GridRow(name, of_rates, rates.best[name], rates.defaults[name], ranks.get(name), default_ranks.get(name))
        for name, of_rates in points.items()
        if name in rates.defaults
    ]
    warnings = [_edge_warning(row) for row in rows if row.best in (row.points[0].learning_rate, _last(row))]
    warnings += [
        f"{name} is compared at its default learning rate, {rates.defaults[name]:g}: {why}"
        for name, why in rates.problems.items()
        if name in names
    ]
    words = _describe_orders(comparison.options, at_default) if any(map(rates.best.get, names)) else ""
    tuned = Tuned(rates.num_rates, list(rates.seeds), LearningRateGrid(rows, warnings, []), at_default, words)
    notes = [*comparison.notes, *(Note("warning", text) for text in warnings)]
    method = f"{comparison.method} {_describe_method(tuned)}"
    verdict = f"{_at_which_rates(comparison.options, rates)}: {comparison.verdict}"
    return dataclasses.replace(comparison, verdict=verdict, tuned=tuned, notes=notes, method=method)


def rates_table(comparison: Comparison) -> Table | None:
    """Every option at its best and at its default rate, on the same seeds, with ranks; None if nothing was tuned."""
    tuned, objective = comparison.tuned, comparison.objective
    if tuned is None:
        return None
    rows_of = {row.optimizer: row for row in tuned.grid.rows}
    at_default = {option.name: option for option in tuned.at_default}
    rows = []
    for option in comparison.options:
        row, default = rows_of.get(option.name), at_default.get(option.name)
        gain = None if row is None or default is None or row.best is None else _difference(option.mean, default.mean)
        best_cells, default_cells = ["-", "-"], ["-", "-"]
        if row is not None:
            best_cells = [_number(row.best), _number(row.rank_at_best)]
            default_cells = [_number(row.default), _number(row.rank_at_default)]
        best_cells.insert(1, format_value(objective, option.mean))
        default_cells.insert(1, format_value(objective, default.mean if default else None))
        rows.append([option.name, *best_cells, *default_cells, "-" if gain is None else _signed(gain, objective)])
    header = ["option", "best rate", "value", "rank", "default rate", "value", "rank", "best less default"]
    return Table("Best rate and default rate, on seeds that the tuning did not use", header, rows)


def tuning_table(comparison: Comparison) -> Table | None:
    """A row per learning rate that was tried; None if nothing was tuned."""
    tuned, objective = comparison.tuned, comparison.objective
    if tuned is None:
        return None
    rows = []
    for row in tuned.grid.rows:
        for point in row.points:
            rate = point.learning_rate
            marks = {"chosen": rate == row.best, "default": rate == row.default}
            cells = [f"{rate:g}", format_value(objective, point.mean), _sd(point.sd, objective), str(point.num_runs)]
            rows.append([row.optimizer, *cells, str(point.num_failed), ", ".join(filter(marks.get, marks))])
    seeds = join_names([str(seed) for seed in tuned.seeds])
    header = ["option", "learning rate", objective, "sd", "runs", "failed", ""]
    return Table(f"The tuning, on {'seed' if len(tuned.seeds) == 1 else 'seeds'} {seeds}", header, rows)


def tuning_csv(tuned: Tuned) -> str:
    """A row per learning rate that was tried."""
    header = ["option", "learning_rate", "mean", "sd", "num_runs", "num_failed", "is_chosen"]
    rows = [
        [row.optimizer, *dataclasses.astuple(point), point.learning_rate == row.best]
        for row in tuned.grid.rows
        for point in row.points
    ]
    return csv_text(header, rows)


def _at_which_rates(options: Sequence[OptionSummary], rates: Rates) -> str:
    without = [option.name for option in options if rates.best.get(option.name) is None]
    if len(without) == len(options):
        return "At the default learning rates"
    return "Each at its best learning rate" + (f", {join_names(without)} at the default" if without else "")


def _ranks(options: Sequence[OptionSummary]) -> dict[str, int]:
    """Ranks from 1 of options that are ranked, without those that have no mean."""
    return {name: rank for rank, name in enumerate((one.name for one in options if one.mean is not None), start=1)}


def _last(row: GridRow) -> float:
    return row.points[-1].learning_rate


def _edge_warning(row: GridRow) -> str:
    edge, more = ("highest", "higher") if row.best == _last(row) else ("lowest", "lower")
    return (
        f"{row.optimizer}: the best learning rate, {row.best:g}, is the {edge} that was tried, also after the grid was "
        f"extended; a {more} one may be better: give another range, sweep.tune_range, in its file"
    )


def _describe_orders(at_best: Sequence[OptionSummary], at_default: Sequence[OptionSummary]) -> str:
    """Whether the ranking depends on the tuning, in a sentence; "" with fewer than two options."""
    best, default = list(_ranks(at_best)), list(_ranks(at_default))
    if min(len(best), len(default)) < 2:
        return ""
    if best == default:
        return f"The ranking is the same at the default rates: {', '.join(best)}."
    return f"At the default rates the ranking is {', '.join(default)}; each at its best rate, it is {', '.join(best)}."


def _describe_method(tuned: Tuned) -> str:
    count = f"{len(tuned.seeds)} run{'' if len(tuned.seeds) == 1 else 's'}"
    return (
        f"Tuning: {tuned.num_rates} learning rates for every option, {count} each; the one with the best mean on "
        "validation data is chosen, but none at which a run failed or diverged. From DeepOBS (Schneider et al. 2019): "
        "a logarithmic grid of learning rates, new runs with other seeds at the chosen one, and the sensitivity curve. "
        "From AlgoPerf (Dahl et al. 2023): the same number of trials for every option, a range of its own for each, "
        "and the choice by validation data. From Choi et al. (2019): that the ranking depends on the tuning, so it is "
        "shown with and without it, and that the best rate must not be at the edge of its range, so the range is "
        "extended. Different from all three: only the learning rate is tuned, with one model on one data set. Tuning "
        "and comparison have different seeds, but the same validation images."
    )


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _signed(value: float, objective: str) -> str:
    return f"{100 * value:+.2f} points" if is_fraction(objective) else f"{value:+.4g}"


def _sd(value: float | None, objective: str) -> str:
    return "-" if value is None else f"{100 * value:.2g} points" if is_fraction(objective) else f"{value:.2g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
