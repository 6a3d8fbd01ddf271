"""The verdict and the table for the terminal: one screenful, at most 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from mnistlab.comparison.results import Comparison
from mnistlab.comparison.tables import Table, options_table

COLUMNS = 100
ROWS = 24
MAX_OPTIONS = 12


def terminal_summary(comparison: Comparison) -> str:
    """Verdict, ranking, the pairs with the leader and the warnings; 24 lines for up to seven options.

    The verdict comes first. What does not fit is counted and left to the report.
    """
    table = _compact(options_table(comparison))
    lines = _wrapped(comparison.verdict)
    shown = Table(table.title, table.header, table.rows[:MAX_OPTIONS])
    lines += ["", *table_lines(shown)]
    if len(table.rows) > MAX_OPTIONS:
        lines.append(f"and {len(table.rows) - MAX_OPTIONS} more options in the report")
    room = max(ROWS - len(lines) - 2, 4)
    warnings = [line for note in comparison.notes if note.level == "warning" for line in _warning(note.text)]
    rest = len(warnings) - room // 2 + 1
    if rest > 1:
        warnings = [*warnings[: room // 2 - 1], f"and {rest} more lines of warnings in the report"]
    pairs = _leader_pairs(comparison)
    left = room - len(warnings)
    if len(pairs) > left:
        pairs = [*pairs[: max(left - 1, 0)], f"and {len(pairs) - max(left - 1, 0)} more pairs in the report"]
    for block in (pairs, warnings):
        lines += ["", *block] if block else []
    return "\n".join(lines)


def _compact(table: Table) -> Table:
    """The ranking with shorter headings and no repeated units; the verdict names the objective."""
    points = any("points" in row[3] for row in table.rows)
    header = [table.header[0], "mean", table.header[2], "sd, points" if points else "sd", *table.header[4:]]
    rows = [[*row[:3], row[3].removesuffix(" points"), *row[4:]] for row in table.rows]
    return Table(table.title, header, rows)


def table_lines(table: Table, columns: int = COLUMNS) -> list[str]:
    """Aligned columns; the first column is cut where the row would be too wide."""
    rows = [table.header, *table.rows]
    widths = [max(len(row[index]) for row in rows) for index in range(len(table.header))]
    others = sum(widths[1:]) + 2 * (len(widths) - 1)
    widths[0] = max(8, min(widths[0], columns - others))
    return [_row(row, widths)[:columns].rstrip() for row in rows]


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0] if len(row[0]) <= widths[0] else f"{row[0][: widths[0] - 1]}…"
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([first.ljust(widths[0]), *cells])


def _leader_pairs(comparison: Comparison) -> list[str]:
    """The leading option against each other one, a line each; on a grid, optimizers at their best rates."""
    leader = comparison.options[0].name
    pairs = [pair for pair in comparison.pairs if leader in (pair.first, pair.second)]
    if comparison.grid and len(comparison.grid.rows) > 1:
        pairs = comparison.grid.at_best
    if all(pair.decision == "one seed" for pair in pairs):
        return []
    return [textwrap.shorten(pair.words, COLUMNS, placeholder=" …") for pair in pairs]


def _warning(text: str) -> list[str]:
    return _wrapped(f"warning: {text}")[:3]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, subsequent_indent="  ", break_long_words=True)
