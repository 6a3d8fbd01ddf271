"""Small multiples of an interaction, within `style.drawing_settings`: a panel per column, the options as its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistlab.comparison import layout
from mnistlab.comparison.interaction_wording import axis_name
from mnistlab.comparison.results import Interaction, InteractionCell
from mnistlab.comparison.scales import Scale, choose_scale, common_scale, set_scale
from mnistlab.comparison.style import INK, MAX_SHOWN, WIDTH, option_styles
from mnistlab.comparison.tables import is_leader

MAX_PANELS = 9
TITLE_SIZE, LABEL_SIZE = 8, 8
BOLD = 9  # the size of normal letters that are as wide as the titles' bold ones
NAME_LENGTH = 24
TOP = 0.3  # inches above the panels
ROW, GAP, TITLE, TICKS = 0.17, 0.14, 0.24, 0.26  # inches: of an option, between panels, above and below a panel


@dataclass(frozen=True)
class Panels:
    """How the panels are arranged; sizes in inches."""

    num_columns: int
    num_rows: int
    left: float
    width: float
    height: float


def interaction_figure(found: Interaction) -> Figure | None:
    """Each option's mean with its interval in every column, on a common axis of values; None without a trained run.

    At most 20 options (the best on average over their ranks) and nine panels; the others are counted below.
    """
    rows, columns = _shown_rows(found), found.columns[:MAX_PANELS]
    cells = [[_cell(found, row, column) for row in rows] for column in columns]
    scales = [_scale(found, panel) for panel in cells if any(cell.mean is not None for cell in panel)]
    if not scales:
        return None
    scale = common_scale(scales)
    names = layout.short_names(rows, NAME_LENGTH)
    panels = _arrange(list(names.values()), columns)
    block = TITLE + panels.height + TICKS
    height = TOP + panels.num_rows * block + 0.3
    title = (
        f"{layout.shorten(f'{found.objective} by {axis_name(found.column_axis)}', 44)} ({found.direction} is better)"
    )
    figure = layout.new_figure(height, title, _footnotes(found, rows, columns, scale))
    height = figure.get_size_inches()[1]
    for index, panel in enumerate(cells):
        across, down = index % panels.num_columns, index // panels.num_columns
        left, top = panels.left + across * (panels.width + GAP), TOP + down * block + TITLE
        box = (left / WIDTH, 1 - (top + panels.height) / height, panels.width / WIDTH, panels.height / height)
        axes = figure.add_axes(box)
        _label_panel(axes, panel, panels.width, names if across == 0 else {})
        set_scale(axes, scale, found.objective, "x", inset=0.2, size=7.5)
        _draw_panel(axes, found, panel)
    return figure


def _shown_rows(found: Interaction) -> list[str]:
    """The options in the table's order; beyond 20, those with the best mean rank over the columns."""
    if len(found.rows) <= MAX_SHOWN:
        return found.rows
    sign = -1.0 if found.direction == "higher" else 1.0
    ranks: dict[str, list[int]] = {row: [] for row in found.rows}
    for index in range(len(found.columns)):
        means = {row: cells[index].mean for row, cells in zip(found.rows, found.cells, strict=True)}
        ordered = sorted(found.rows, key=lambda row: (means[row] is None, sign * (means[row] or 0.0)))
        for rank, row in enumerate(ordered):
            ranks[row].append(rank)
    best = sorted(found.rows, key=lambda row: sum(ranks[row]))[:MAX_SHOWN]
    return [row for row in found.rows if row in best]


def _cell(found: Interaction, row: str, column: str) -> InteractionCell:
    return found.cells[found.rows.index(row)][found.columns.index(column)]


def _scale(found: Interaction, panel: Sequence[InteractionCell]) -> Scale:
    """The scale of one panel."""
    finals = {cell.row: cell.mean for cell in panel if cell.mean is not None}
    values = {cell.row: [cell.mean, *(cell.interval or ())] for cell in panel if cell.mean is not None}
    return choose_scale(finals, values, found.direction)


def _arrange(rows: Sequence[str], columns: Sequence[str]) -> Panels:
    """Up to three panels side by side, as many as leave room for their titles."""
    left = 0.25 + layout.text_inches(rows, LABEL_SIZE)
    available = WIDTH - left - 0.15
    title = layout.text_inches(columns, BOLD)
    most = 2 if len(columns) == 4 else min(3, len(columns))
    fitting = [count for count in range(most, 1, -1) if (available - (count - 1) * GAP) / count >= title]
    num_columns = fitting[0] if fitting else min(2, len(columns))
    width = (available - (num_columns - 1) * GAP) / num_columns
    return Panels(num_columns, -(-len(columns) // num_columns), left, width, ROW * len(rows) + 0.1)


def _label_panel(axes: Axes, panel: Sequence[InteractionCell], width: float, names: Mapping[str, str]) -> None:
    """Title and, for the first panel of a row, the options' names; width in inches."""
    layout.label_rows(axes, [names.get(cell.row, "") for cell in panel])
    axes.tick_params(axis="y", labelsize=LABEL_SIZE)
    limit = max(int(width / layout.text_inches(["0" * 100], BOLD) * 100), 12)
    axes.set_title(layout.shorten(panel[0].column, limit), fontsize=TITLE_SIZE, pad=4)


def _draw_panel(axes: Axes, found: Interaction, panel: Sequence[InteractionCell]) -> None:
    """The means of one column."""
    styles = option_styles(cell.row for cell in panel)
    for line, cell in enumerate(panel):
        style = styles[cell.row]
        if is_leader(found, cell):
            axes.axhspan(line - 0.45, line + 0.45, color=INK, alpha=0.08, linewidth=0)
        if cell.mean is None:
            axes.text(0.03, line, "no trained run", transform=axes.get_yaxis_transform(), va="center", fontsize=7)
            continue
        axes.plot(cell.interval or [], [line] * 2 if cell.interval else [], color=style.colour, marker="|")
        axes.plot([cell.mean], [line], marker=style.marker, color=style.colour, markersize=4.5)


def _footnotes(found: Interaction, rows: Sequence[str], columns: Sequence[str], scale: Scale) -> list[str]:
    several = any(cell.interval for cells in found.cells for cell in cells)
    hidden = [
        f"{len(found.rows) - len(rows)} options" if len(rows) < len(found.rows) else "",
        f"{len(found.columns) - len(columns)} columns" if len(columns) < len(found.columns) else "",
    ]
    listed = ", ".join(filter(None, hidden))
    return [
        "mean and 95 % bootstrap interval" if several else "",
        "grey row: best",
        "grey columns: compressed scale" if scale.edge is not None else "",
        f"not shown: {listed}" if listed else "",
    ]
