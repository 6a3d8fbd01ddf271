"""The tables of a comparison as text cells, for the HTML report, Markdown, CSV and the terminal."""

import csv
import io
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from mnistlab.comparison.interaction_wording import SharedLead
from mnistlab.comparison.metric_names import counterpart
from mnistlab.comparison.records import RunRecord, outcome
from mnistlab.comparison.results import (
    Comparison,
    Interaction,
    InteractionCell,
    LearningRateGrid,
    OptionSummary,
    Pair,
    TargetTime,
)
from mnistlab.comparison.wording import format_value, is_fraction, join_names

MAX_PAIRS = 28
MAX_ROWS = 50  # of options on a page; the CSV files have all
DIVERGENCE_TAGS = ("epoch", "step", "learning_rate", "last_finite_loss")  # each after "outcome."


@dataclass(frozen=True)
class Table:
    """A header and rows of text; the first column names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]


def leading_rows(table: Table | None) -> Table | None:
    """A table of very many options with the best of them only; its title names the file with all."""
    if table is None or len(table.rows) <= MAX_ROWS:
        return table
    title = f"{table.title} (the best {MAX_ROWS} of {len(table.rows)} options; all are in table.csv)"
    return Table(title, table.header, table.rows[:MAX_ROWS])


def options_table(comparison: Comparison) -> Table:
    """The ranking: the objective over seeds, failures and, not ranked on, test accuracy."""
    header = ["option", comparison.objective, "95 % interval", "sd", "seeds", "failed", "test accuracy", "seconds"]
    return Table("Ranking", header, [_option_row(comparison, option) for option in comparison.options])


def with_counterpart(table: Table, comparison: Comparison) -> Table:
    """The ranking with a column more, where it differs from the objective: "max_val_accuracy" after
    "best_epoch_val_accuracy", or the other way round."""
    name, objective = counterpart(comparison.objective), comparison.objective
    values = [format_value(objective, option.counterpart) for option in comparison.options]
    if name is None or set(values) == {"-"} or values == [row[1] for row in table.rows]:
        return table
    rows = [[*row[:4], value, *row[4:]] for row, value in zip(table.rows, values, strict=True)]
    return Table(table.title, [*table.header[:4], name, *table.header[4:]], rows)


def pairs_table(comparison: Comparison) -> Table | None:
    """Pairs with Holm-corrected p values; if there are many, those with the leader; None for one seed, and for a sweep
    until a verdict, which has withheld seeds from some of them (pairs.csv has them)."""
    if comparison.answer and comparison.answer.rounds:
        return None
    if {pair.decision for pair in comparison.pairs} <= {"one seed", "same runs"}:
        return None
    pairs, title = comparison.pairs, "All pairs of options"
    if len(pairs) > MAX_PAIRS:
        leader = comparison.options[0].name
        pairs = [pair for pair in pairs if leader in (pair.first, pair.second)]
        first = f", the first {MAX_ROWS} of {len(pairs)}" if len(pairs) > MAX_ROWS else ""
        title += f" (pairs with {leader}{first}; all {len(comparison.pairs)} are in pairs.csv)"
        pairs = pairs[:MAX_ROWS]
    rows = [[pair.words, interval_cell(comparison, pair), p_cell(pair.p_holm)] for pair in pairs]
    if comparison.answer and comparison.answer.winner and comparison.answer.question == "best":
        title += ": more comparisons, so each needs clearer evidence than the question which one is best"
    return Table(title, ["pair", "difference and interval", "p (Holm)"], rows)


def targets_table(comparison: Comparison) -> Table | None:
    """Time-to-target: median epochs, steps and seconds, and the number of runs that reached it; None if none did."""
    targets = [target for option in comparison.options for target in option.targets]
    if not any(target.num_reached for target in targets):
        return None
    levels = [f"{100 * target.target:g} %" for target in comparison.options[0].targets]
    rows = [[option.name, *map(_target_cell, option.targets)] for option in comparison.options]
    return Table("Time to target (median epochs · steps · seconds without compilation)", ["option", *levels], rows)


def curves_table(comparison: Comparison) -> Table:
    """The diagnosis of each option's learning curves, and when they converged."""
    rows = [[option.name, option.reading.words, _number(option.reading.settled_epoch)] for option in comparison.options]
    return Table(
        "Diagnosis of the learning curves", ["option", "diagnosis", "near its final value from epoch (median)"], rows
    )


def grid_table(grid: LearningRateGrid, objective: str) -> Table:
    """Optimizers at their best and at their default learning rate."""
    rows = []
    for row in sorted(grid.rows, key=lambda row: (row.rank_at_best or len(grid.rows) + 1, row.optimizer)):
        means = {point.learning_rate: point.mean for point in row.points}
        cells = []
        for rate, rank in ((row.best, row.rank_at_best), (row.default, row.rank_at_default)):
            value = format_value(objective, means.get(rate)) if rate is not None else "-"
            cells += [_number(rate), value, _number(rank)]
        rates = f"{row.points[0].learning_rate:g} to {row.points[-1].learning_rate:g} ({len(row.points)})"
        rows.append([row.optimizer, *cells, rates])
    header = ["optimizer", "best rate", "value", "rank", "default rate", "value", "rank", "grid"]
    return Table("Learning rates", header, rows)


def failures_table(records: Sequence[RunRecord], objective: str) -> Table | None:
    """Every run that failed, diverged or is unfinished, with its cause in one line; None if all trained."""
    rows = [
        [record.name or record.run_id, outcome(record, objective), failure_cause(record, objective)]
        for record in sorted(records, key=lambda record: (record.name, record.seed, record.run_id))
        if outcome(record, objective) != "trained"
    ]
    return Table("Failed, diverged and unfinished runs", ["run", "outcome", "cause"], rows) if rows else None


def failure_cause(record: RunRecord, objective: str) -> str:
    """Why a run has no result, in one line."""
    result = outcome(record, objective)
    if result == "failed":
        return (record.tags.get("error", "").strip().splitlines() or ["no error recorded"])[0]
    if result == "diverged":
        logged = ((key, record.tags.get(f"outcome.{key}")) for key in DIVERGENCE_TAGS)
        details = [f"{key.replace('_', ' ')} {value}" for key, value in logged if value is not None]
        return ", ".join(details) or f"{objective} is not finite"
    return f"no {objective} logged" if record.status == "FINISHED" else f"status {record.status}"


def options_csv(comparison: Comparison) -> str:
    """The ranking with unrounded numbers, a row per option; missing numbers are empty. resolution: the step between two
    possible scores, 0 for continuous ones."""
    targets = [f"{100 * target.target:g}" for target in comparison.options[0].targets]
    header = ["rank", "option", *comparison.axis, "objective", "mean", "sd", "interval_low", "interval_high"]
    header += ["num_seeds", "num_runs", "num_diverged", "num_failed", "num_unfinished", "failure_rate"]
    header += ["counterpart", "counterpart_mean", "test_accuracy", "train_seconds"]
    header += [f"{part}_to_{level}" for level in targets for part in ("reached", "epochs", "steps", "seconds")]
    header += ["curve_reading", "settled_epoch", "data", "resolution"]
    rows = [_csv_row(comparison, rank, option) for rank, option in enumerate(comparison.options, start=1)]
    return csv_text(header, rows)


def scores_csv(comparison: Comparison) -> str:
    """The objective of each option and seed, unrounded: what all tests are computed from; no row without a score."""
    rows = [
        [option.name, seed, score]
        for option in comparison.options
        for seed, score in zip(option.seeds, option.scores, strict=True)
    ]
    return csv_text(["option", "seed", "score"], rows)


def pairs_csv(comparison: Comparison) -> str:
    """Every pair with unrounded numbers; advantage is positive where `first` is better."""
    header = ["first", "second", "num_seeds", "advantage", "low", "high", "confidence", "p", "p_holm"]
    header += ["decision", "more_seeds", "words"]
    row = operator.attrgetter(*header)
    return csv_text(header, [row(pair) for pair in comparison.pairs])


def interaction_table(found: Interaction) -> Table:
    """The mean of every row in every column; the best of a column is marked in words."""
    seeds = max(cell.num_seeds for row in found.cells for cell in row)
    rows = [
        [name, *(_interaction_cell(found, cell, seeds) for cell in cells)]
        for name, cells in zip(found.rows, found.cells, strict=True)
    ]
    count = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    title = f"{found.objective} by {join_names([*found.row_axis, *found.column_axis])} ({count})"
    return Table(title, [join_names(found.row_axis), *found.columns], rows)


def contrasts_table(found: Interaction) -> Table | None:
    """The differences of differences that are significant, or the smallest p value; None if none was tested."""
    tested = [contrast for contrast in found.contrasts if contrast.p is not None]
    if not tested:
        return None
    shown = [contrast for contrast in tested if contrast.significant][:MAX_PAIRS] or tested[:1]
    rows = [[contrast.words, str(contrast.num_seeds), p_cell(contrast.p_holm)] for contrast in shown]
    title = f"Differences of differences ({len(shown)} of {found.num_contrasts})"
    return Table(title, ["contrast", "seeds", "p (Holm)"], rows)


def leaders_table(found: Interaction) -> Table:
    """The best row of every column, for more columns than fit side by side."""
    means = {(cell.row, cell.column): cell.mean for row in found.cells for cell in row}
    rows = []
    for leader in found.leaders:
        cells = []
        tied = [name for group in leader.tied for name in group] if isinstance(leader, SharedLead) else []
        for name, names in ((leader.leader or (tied or [""])[0], tied), (leader.runner_up or "", [])):
            shown = join_names(names, 4) if names else name or "-"
            cells += [shown, format_value(found.objective, means.get((name, leader.column)))]
        rows.append([leader.column, *cells, f"{leader.num_beaten} of {leader.num_others}"])
    header = [join_names(found.column_axis), "best", "mean", "second", "mean", "best beats"]
    return Table("The best of every column", header, rows)


def interaction_csv(found: Interaction) -> str:
    """A row per cell, with unrounded numbers; missing numbers are empty."""
    header = [" ".join(found.row_axis), " ".join(found.column_axis), "objective", "mean", "sd"]
    header += ["interval_low", "interval_high", "num_seeds", "is_best", "num_beaten", "num_others"]
    leaders = {leader.column: leader for leader in found.leaders}
    rows: list[list[object]] = []
    for cell in (cell for row in found.cells for cell in row):
        leader = leaders[cell.column]
        is_best = is_leader(found, cell)
        beaten = [leader.num_beaten, leader.num_others] if cell.row == leader.leader else [None, None]
        numbers = [cell.mean, cell.sd, *(cell.interval or (None, None)), cell.num_seeds]
        rows.append([cell.row, cell.column, found.objective, *numbers, int(is_best), *beaten])
    return csv_text(header, rows)


def is_leader(found: Interaction, cell: InteractionCell) -> bool:
    """Whether the cell is the best of its column, or has the same mean: the same runs, or by chance."""
    leader = next(leader for leader in found.leaders if leader.column == cell.column)
    if isinstance(leader, SharedLead):
        return any(cell.row in group for group in leader.tied)
    column = [row[found.columns.index(cell.column)] for row in found.cells]
    return cell.mean is not None and cell.mean in [one.mean for one in column if one.row == leader.leader]


def _interaction_cell(found: Interaction, cell: InteractionCell, most_seeds: int) -> str:
    """ "97.11 % (best)", "95.20 % (2 seeds)" if other cells have more seeds, "-" without a trained run."""
    marks = ["best"] if is_leader(found, cell) else []
    marks += [f"{cell.num_seeds} seed{'s' if cell.num_seeds > 1 else ''}"] if 0 < cell.num_seeds < most_seeds else []
    return format_value(found.objective, cell.mean) + (f" ({', '.join(marks)})" if marks else "")


def _option_row(comparison: Comparison, option: OptionSummary) -> list[str]:
    objective = comparison.objective
    interval = "-"
    if option.interval:
        low, high = (format_value(objective, value) for value in option.interval)
        interval = f"{low.removesuffix(' %')} to {high}"
    scale, unit = (100, " points") if is_fraction(objective) else (1, "")
    sd = "-" if option.sd is None else f"{scale * option.sd:#.2g}".rstrip(".") + unit
    num_failed = option.num_failed + option.num_diverged
    failed = f"{num_failed} of {option.num_runs - option.num_unfinished}" if num_failed else "0"
    seconds = "-" if option.train_seconds is None else f"{option.train_seconds:.3g}"
    test = format_value("test_accuracy", option.test_accuracy)
    cells = [format_value(objective, option.mean), interval, sd, str(len(option.seeds)), failed, test, seconds]
    return [option.name, *cells]


def interval_cell(comparison: Comparison, pair: Pair) -> str:
    """ "0.4 points [0.2, 0.6] at 95 %"."""
    if pair.advantage is None or pair.low is None or pair.high is None or pair.confidence is None:
        return "-"
    scale, unit = (100.0, " points") if is_fraction(comparison.objective) else (1.0, "")
    low, high = scale * pair.low, scale * pair.high
    return f"{scale * pair.advantage:.3g}{unit} [{low:.3g}, {high:.3g}] at {100 * pair.confidence:.3g} %"


def p_cell(p: float | None) -> str:
    """A p value with three decimals."""
    if p is None:
        return "-"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _target_cell(target: TargetTime) -> str:
    """ "2 · 3,376 · 0.9 s (4 of 5)"; the count only if some runs missed the target."""
    count = f"{target.num_reached} of {target.num_runs}"
    if target.epochs is None:
        return f"not reached ({count})"
    steps = "-" if target.steps is None else f"{target.steps:,.0f}"
    seconds = "-" if target.seconds is None else f"{target.seconds:.3g} s"
    missed = "" if target.num_reached == target.num_runs else f" ({count})"
    return f"{target.epochs:g} · {steps} · {seconds}{missed}"


def _csv_row(comparison: Comparison, rank: int, option: OptionSummary) -> list[object]:
    low, high = option.interval or (None, None)
    values = [option.values[key] for key in comparison.axis]
    row: list[object] = [rank, option.name, *values, comparison.objective, option.mean, option.sd, low, high]
    row += [len(option.seeds), option.num_runs, option.num_diverged, option.num_failed]
    row += [option.num_unfinished, option.failure_rate, counterpart(comparison.objective), option.counterpart]
    row += [option.test_accuracy, option.train_seconds]
    for target in option.targets:
        row += [target.num_reached, target.epochs, target.steps, target.seconds]
    return [*row, option.reading.words, option.reading.settled_epoch, comparison.data, comparison.resolution]


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A header and rows as CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
