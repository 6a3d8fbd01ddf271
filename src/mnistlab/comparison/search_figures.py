"""The figures of a search: its history, the importance of its settings, and parallel coordinates of its trials."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnistlab.comparison import layout
from mnistlab.comparison.results import Comparison
from mnistlab.comparison.search_summary import SearchSummary, TrialSummary
from mnistlab.comparison.searched import dimensions
from mnistlab.comparison.style import COLOURS, ERROR_COLOUR
from mnistlab.comparison.wording import is_fraction

GREY = "#8a8a8a"
COLOUR_MAP = "viridis"
MAX_AXES = 8
MAX_TICKS = 6


def history_figure(comparison: Comparison) -> Figure | None:
    """The score of each trial and the best so far, over the trials; None without a scored trial."""
    search = comparison.searched
    complete = _scored(search, "complete")
    if search is None or not complete:
        return None
    scale, unit = _unit(comparison)
    pruned = _scored(search, "pruned")
    diverged = [trial.number for trial in search.trials if trial.state == "diverged"]
    footnotes = [
        "dot: a trial; line: the best so far",
        "grey: stopped early, its last value" if pruned else "",
        "cross below: diverged" if diverged else "",
    ]
    figure = layout.new_figure(2.9, "Score of each trial", footnotes)
    axes = layout.add_axes(figure, 0.62, 0.8, 0.2, 0.45)
    numbers = [trial.number for trial in complete]
    scores = np.array([scale * (trial.score or 0.0) for trial in complete])
    keep_best = np.maximum if comparison.direction == "higher" else np.minimum
    if pruned:
        values = [scale * (trial.score or 0.0) for trial in pruned]
        axes.plot([trial.number for trial in pruned], values, "o", color=GREY, markersize=3.5, zorder=2)
    axes.plot(numbers, scores, "o", color=COLOURS[0], markersize=4, zorder=3)
    last = max(trial.number for trial in search.trials)
    best = keep_best.accumulate(scores)
    axes.step([*numbers, last], [*best, best[-1]], where="post", color=COLOURS[1], linewidth=1.6, zorder=4)
    if diverged:
        axes.plot(diverged, [0.03] * len(diverged), "x", color=ERROR_COLOUR, transform=axes.get_xaxis_transform())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Trial")
    axes.set_ylabel(unit)
    axes.grid(True, axis="y")
    return figure


def importances_figure(comparison: Comparison) -> Figure | None:
    """A bar per setting: its share of the differences between the scores; None if it is not known."""
    search = comparison.searched
    if search is None or not search.importances:
        return None
    ranked = sorted(search.importances.items(), key=lambda entry: -entry[1])
    names = [_two_lines(name) for name, _ in ranked]
    widest = max(layout.text_inches([line for name in names for line in name.split("\n")]), 0.8)
    figure = layout.new_figure(0.36 * len(ranked) + 1.15, "Importance of the settings", ["of all complete trials"])
    axes = layout.add_axes(figure, widest + 0.25, 0.7, 0.55, 0.4)
    layout.label_rows(axes, names)
    shares = [100 * share for _, share in ranked]
    axes.barh(range(len(ranked)), shares, height=0.6, color=COLOURS[0])
    for row, share in enumerate(shares):
        axes.annotate(f"{share:.0f} %", (share, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, max(*shares, 1))
    axes.set_xlabel("Share of the variance of the scores, %")
    axes.grid(False, axis="y")
    return figure


def _two_lines(name: str) -> str:
    setting, _, condition = name.partition(" (")
    return f"{setting}\n({condition}" if condition else setting


def parallel_figure(comparison: Comparison) -> Figure | None:
    """A line per trial through its settings, coloured by its score; None with fewer than two scored trials."""
    search = comparison.searched
    trials = sorted(_scored(search, "complete"), key=lambda trial: trial.score or 0.0)
    if search is None or len(trials) < 2:
        return None
    if comparison.direction == "lower":
        trials.reverse()  # the best on top
    names = dimensions(search)
    shown = [name for name in names if len({_value(trial, name) for trial in trials} - {None}) > 1][:MAX_AXES]
    if not shown:
        return None
    scale, unit = _unit(comparison)
    scores = [scale * (trial.score or 0.0) for trial in trials]
    hidden = f"{len(shown)} of {len(names)} settings" if len(shown) < len(names) else ""
    footnotes = ["a line per complete trial; it is broken where a trial does not have the setting", hidden]
    figure = layout.new_figure(
        3.5, "Settings and scores of the trials", footnotes, labels=2.0 + 0.55 * max(0, len(shown) - 4)
    )
    axes = layout.add_axes(figure, 0.45, 1.05, 1.15, 0.65)
    colours = mpl.colormaps[COLOUR_MAP]
    norm = Normalize(min(scores), max(scores) if max(scores) > min(scores) else min(scores) + 1)
    columns = [_Column(name, [_value(trial, name) for trial in trials]) for name in shown]
    for trial, score in zip(trials, scores, strict=True):
        heights = [column.height(_value(trial, column.name)) for column in columns]
        axes.plot(range(len(columns)), heights, "-o", color=colours(norm(score)), linewidth=1, alpha=0.8, markersize=3)
    _draw_scales(axes, columns)
    _draw_colour_bar(figure, axes, norm, unit)
    return figure


class _Column:
    """One setting as a scale from 0 to 1: numbers by size, by their logarithm if they span factors, choices evenly."""

    def __init__(self, name: str, values: Sequence[str | float | None]) -> None:
        self.name = name
        known = [value for value in values if value is not None]
        self.is_numeric = all(isinstance(value, int | float) for value in known)
        self.choices = list(dict.fromkeys(sorted(map(str, known), key=_natural)))
        numbers = [float(value) for value in known] if self.is_numeric else [0.0]
        self.low, self.high = min(numbers), max(numbers)
        self.is_log = self.is_numeric and self.low > 0 and self.high / self.low > 20

    def height(self, value: str | float | None) -> float:
        """Where the value lies; NaN without one."""
        if value is None:
            return math.nan
        if not self.is_numeric:
            return self.choices.index(str(value)) / max(len(self.choices) - 1, 1)
        low, high, number = (self._scaled(one) for one in (self.low, self.high, float(value)))
        return (number - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and labels."""
        if self.is_numeric:
            return [(0.0, f"{self.low:g}"), (1.0, f"{self.high:g}")]
        step = -(-len(self.choices) // MAX_TICKS)
        return [(self.height(choice), layout.shorten(choice, 14)) for choice in self.choices[::step]]


def _natural(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _draw_scales(axes: Axes, columns: Sequence[_Column]) -> None:
    axes.set_xlim(-0.1, len(columns) - 0.9)
    axes.set_ylim(-0.06, 1.1)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    labels = [f"{column.name.rpartition('.')[2]}{' (log)' if column.is_log else ''}" for column in columns]
    axes.set_xticks(range(len(columns)), labels, rotation=25, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0, pad=8)
    for index, column in enumerate(columns):
        axes.axvline(index, color=GREY, linewidth=0.8, zorder=0)
        for height, label in column.ticks():
            axes.annotate(label, (index, height), (3, 2), textcoords="offset points", va="bottom", fontsize=7.5)


def _draw_colour_bar(figure: Figure, axes: Axes, norm: Normalize, unit: str) -> None:
    box = axes.get_position()
    width, _ = figure.get_size_inches()
    bar = figure.add_axes((box.x1 + 0.45 / width, box.y0, 0.1 / width, box.height))
    figure.colorbar(mpl.cm.ScalarMappable(norm, COLOUR_MAP), cax=bar)
    bar.set_title(unit, fontsize=7.5, fontweight="normal", loc="right")
    bar.tick_params(labelsize=7.5)


def _value(trial: TrialSummary, name: str) -> str | float | None:
    found = [value for key, value in trial.values.items() if key.partition(" (")[0] == name]
    return found[0] if found else None


def _scored(search: SearchSummary | None, state: str) -> list[TrialSummary]:
    trials = search.trials if search else []
    return [trial for trial in trials if trial.state == state and trial.score is not None]


def _unit(comparison: Comparison) -> tuple[float, str]:
    """The factor for scores, and their name on an axis."""
    is_share = is_fraction(comparison.objective)
    return (100, f"{comparison.objective}, %") if is_share else (1, comparison.objective)
