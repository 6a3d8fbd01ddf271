"""The summary of a comparison on the terminal: verdict, ranking, pairs with the best option, warnings."""

import io
import os
import sys
from typing import IO, TYPE_CHECKING, Any

from mnistlab.comparison.results import AcrossData, Comparison
from mnistlab.comparison.searched import describe_best
from mnistlab.comparison.tables import Table, interaction_table, leaders_table, options_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

MAX_LINES = 24
MAX_OPTIONS = 12
MAX_COLUMNS = 6  # data sets side by side; with more, a row for each with its best option
UNLIMITED_WIDTH = 100_000


def terminal_summary(comparison: Comparison, terminal_width: int | None = None) -> str:
    """The summary as text: the verdict first, at most 24 lines before wrapping; what is left out is counted.

    One of several data sets is named in a line before its verdict.

    terminal_width: columns of the terminal to style and wrap the text for, in a process that does not have the
    terminal itself. None: plain text without escape codes; nothing is wrapped or shortened.
    """
    return _as_text(lambda console: _print(console, comparison), terminal_width)


def terminal_summary_across(across: AcrossData, terminal_width: int | None = None) -> str:
    """The summary across data sets: verdict, the options by data set, what was not compared; see `terminal_summary`."""
    return _as_text(lambda console: _print_across(console, across), terminal_width)


def _as_text(print_on: "Callable[[Console], None]", terminal_width: int | None) -> str:
    text = io.StringIO()
    color_system = "standard" if terminal_width else None
    width = terminal_width or UNLIMITED_WIDTH
    print_on(_console(file=text, width=width, force_terminal=bool(terminal_width), color_system=color_system))
    return text.getvalue().rstrip("\n")


def print_summary(comparison: Comparison, file: IO[str] | None = None) -> None:
    """Print the summary to the file (default: stdout), on a terminal with the best option in bold.

    The lines of `terminal_summary` are printed if the file is not a terminal, with NO_COLOR and with TERM=dumb.
    """
    file = file or sys.stdout
    if file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown"):
        _print(_console(file=file), comparison)
    else:
        print(terminal_summary(comparison), file=file)


def _console(**settings: Any) -> "Console":
    """A console that prints option names as they are: no markup such as [bold], no emoji, no highlighting."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, force_jupyter=False, **settings)


def _print(console: "Console", comparison: Comparison) -> None:
    from rich.text import Text

    table = _shorten_header(options_table(comparison))
    num_hidden = max(len(table.rows) - MAX_OPTIONS, 0)
    room = MAX_LINES - min(len(table.rows), MAX_OPTIONS) - (num_hidden > 0) - 5
    room = max(room - 2 * (comparison.interaction is not None) - (comparison.num_data_sets > 1), 4)
    texts = [note.text for note in comparison.notes if note.level == "warning"]
    warnings = _at_most([f"warning: {text}" for text in texts], max(room // 2, 1), "warnings")
    pairs = _at_most(_leader_pairs(comparison), room - len(warnings), "pairs")
    if comparison.num_data_sets > 1:
        console.print(f"Data: {comparison.data}")
    console.print(comparison.verdict, end="\n\n")
    _print_table(console, table, is_first_best=comparison.options[0].mean is not None)
    if num_hidden:
        console.print(f"and {num_hidden} more options in the report")
    interaction = [comparison.interaction.sentence] if comparison.interaction else []
    tuned = [comparison.tuned.words] if comparison.tuned and comparison.tuned.words else []
    searched = [describe_best(comparison.searched)] if comparison.searched else []
    for lines in filter(any, (pairs, interaction, tuned, searched, warnings)):
        console.print()
        for line in lines:
            text = Text(line)
            text.highlight_regex("^warning:", "yellow")
            console.print(text)


def _print_across(console: "Console", across: AcrossData) -> None:
    found = across.interaction
    table = interaction_table(found)
    if len(found.columns) > MAX_COLUMNS or sum(_column_widths(table.header, table.rows)) > console.width:
        table = leaders_table(found)
    console.print(across.verdict, end="\n\n")
    console.print(f"{table.title}:")
    _print_table(console, table, is_first_best=False)
    if len(table.rows) > MAX_OPTIONS:
        console.print(f"and {len(table.rows) - MAX_OPTIONS} more rows in the report")
    if across.not_compared:
        console.print()
    for sentence in across.not_compared:
        console.print(sentence)


def _column_widths(header: list[str], rows: list[list[str]]) -> list[int]:
    """Columns with two spaces between them."""
    from rich.cells import cell_len

    return [max(map(cell_len, column)) + 2 for column in zip(header, *rows, strict=True)]


def _print_table(console: "Console", table: "Table", is_first_best: bool) -> None:
    """Columns are as wide as their cells; only names are cut, where a row would exceed the console."""
    import rich.table

    rows = [table.header, *table.rows[:MAX_OPTIONS]]
    widths = [width - 2 for width in _column_widths(rows[0], rows[1:])]
    widths[0] = min(widths[0], max(8, console.width - sum(widths[1:]) - 2 * len(widths[1:])))
    width = sum(widths) + 2 * len(widths[1:])
    grid = rich.table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), width=width, header_style="")
    for index, (title, column_width) in enumerate(zip(table.header, widths, strict=True)):
        grid.add_column(title, width=column_width, no_wrap=True, justify="right" if index else "left")
    for index, row in enumerate(rows[1:]):
        grid.add_row(*row, style="bold" if index == 0 and is_first_best else None)
    console.print(grid, crop=False, no_wrap=True, overflow="ellipsis")


def _shorten_header(table: "Table") -> "Table":
    """The ranking with short headings and no repeated units; the verdict names the objective."""
    points = any("points" in row[3] for row in table.rows)
    header = [table.header[0], "mean", table.header[2], "sd, points" if points else "sd", *table.header[4:]]
    rows = [[*row[:3], row[3].removesuffix(" points"), *row[4:]] for row in table.rows]
    return Table(table.title, header, rows)


def _leader_pairs(comparison: Comparison) -> list[str]:
    """The pairs with the leading option; for a learning-rate grid, the optimizers at their best rates."""
    leader = comparison.options[0].name
    pairs = [pair for pair in comparison.pairs if leader in (pair.first, pair.second)]
    if comparison.answer and (comparison.answer.winner or comparison.answer.question != "best"):
        pairs = comparison.answer.pairs
    if comparison.grid and len(comparison.grid.rows) > 1:
        pairs = comparison.grid.at_best
    is_claimed = not {pair.decision for pair in pairs} <= {"one seed", "same runs"}
    return [pair.words for pair in pairs] if is_claimed else []


def _at_most(lines: list[str], limit: int, noun: str) -> list[str]:
    """The first lines; what exceeds the limit is counted in the last one."""
    if len(lines) <= limit:
        return lines
    num_shown = max(limit - 1, 0)
    return [*lines[:num_shown], f"and {len(lines) - num_shown} more {noun} in the report"]
