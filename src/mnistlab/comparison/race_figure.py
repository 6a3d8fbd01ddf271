"""How far every option was behind the leader after each round of seeds, with the intervals of the tests."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnistlab.comparison import layout
from mnistlab.comparison.results import Comparison
from mnistlab.comparison.style import option_styles
from mnistlab.comparison.wording import is_fraction

MAX_ROWS = 12


def rounds_figure(comparison: Comparison) -> Figure | None:
    """A small panel for each option but the winner or last leader: its distance to that round's leader over the number
    of seeds, until it was decided; None without rounds. To be drawn within `style.drawing_settings`."""
    answer = comparison.answer
    if answer is None or len(answer.rounds) < 1:
        return None
    last = answer.rounds[-1]
    names = [one.option for one in last.standings if one.option != last.leader][:MAX_ROWS]
    if not names:
        return None
    styles = option_styles([one.option for one in last.standings])
    scale = 100 if is_fraction(comparison.objective) else 1
    num_columns = 3
    num_rows = -(-len(names) // num_columns)
    height = 1.25 * num_rows + 0.95
    unit = "points" if scale == 100 else comparison.objective
    title = f"Behind the leader after each round, in {unit}"
    footnote = "dot: difference to the round's leader; bar: its interval, below 0 where the option is out"
    figure = layout.new_figure(height, title, [footnote])
    width, _ = figure.get_size_inches()
    panel = (width - 0.55) / num_columns
    seeds = [found.num_seeds for found in answer.rounds]
    for index, name in enumerate(names):
        row, column = divmod(index, num_columns)
        left = 0.5 + column * panel
        bottom = height - 0.45 - 1.25 * (row + 1) + 0.3
        axes = figure.add_axes((left / width, bottom / height, (panel - 0.45) / width, 0.68 / height))
        _draw(axes, comparison, name, styles[name].colour, scale)
        axes.set_title(layout.shorten(name), fontsize=8.5)
        axes.set_xlim(seeds[0] - 0.5, seeds[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.tick_params(labelsize=7.5)
        if row == num_rows - 1 or index + num_columns >= len(names):
            axes.set_xlabel("Seeds", fontsize=8)
    return figure


def _draw(axes: Axes, comparison: Comparison, name: str, colour: str, scale: float) -> None:
    points: list[tuple[float, float, float, float]] = []
    for found in comparison.answer.rounds if comparison.answer else ():
        one = next(standing for standing in found.standings if standing.option == name)
        decided_before = one.words and points and one.num_seeds < found.num_seeds
        if one.difference is None or one.low is None or one.high is None or decided_before:
            continue
        points.append((found.num_seeds, -scale * one.difference, -scale * one.high, -scale * one.low))
    axes.axhline(0, color="#8a8a8a", linewidth=0.8)
    if not points:
        axes.text(0.5, 0.5, "no test", transform=axes.transAxes, ha="center", va="center", fontsize=8)
        return
    seeds, middle, low, high = np.array(points).T
    axes.vlines(seeds, low, high, color=colour, linewidth=1.6)
    axes.plot(seeds, middle, "o", color=colour, markersize=3.5)
    near = np.abs(np.concatenate([middle, low[-1:], high[-1:]])).max()
    lowest, highest = min(low.min(), 0.0), max(high.max(), 0.0)
    axes.set_ylim(max(lowest, -4 * near) * 1.08, min(highest, 4 * near) * 1.08 + 0.02 * near)
