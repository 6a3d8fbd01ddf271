"""Layout of figures: axes in inches, axis ranges without outlying options, labels that do not overlap."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import WIDTH, OptionStyle
from mnistlab.comparison.wording import is_fraction


def new_figure(height: float, title: str = "", footnote: str = "") -> Figure:
    """A figure of the common width: bold title at the top left, small print at the bottom; height in inches."""
    figure = Figure(figsize=(WIDTH, height))
    figure.text(0.02, 1 - 0.22 / height, title, weight="bold", fontsize=10)
    figure.text(0.02, 0.07 / height, footnote, fontsize=7.5)
    return figure


def add_axes(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes with margins given in inches."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    return figure.add_axes(box)


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """One row with a faint grid line per label, the first on top."""
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True)


def format_values(axis: Any, objective: str) -> None:
    """Per cent for accuracies, plain numbers otherwise; no offsets and no powers of ten."""
    if is_fraction(objective):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    else:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axis.set_minor_formatter(NullFormatter())


def set_time_scale(axes: Axes, times: Sequence[float]) -> None:
    """A time axis from zero; logarithmic if the longest time is more than ten times the shortest."""
    positive = [time for time in times if math.isfinite(time) and time > 0]
    if not positive:
        return
    if max(positive) > 10 * min(positive):
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 1.3, max(positive) * 1.3)
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_xlim(0, max(positive) * 1.08)


@dataclass(frozen=True)
class LimitedRange:
    """An axis range for most options, and the options outside of it."""

    low: float
    high: float
    outside: frozenset[str]


def limited_range(finals: Mapping[str, float], values: Mapping[str, Iterable[float]], direction: str) -> LimitedRange:
    """A range in which the options are distinguishable, without those that would compress the others.

    The worst option is excluded while the others span less than 12 % of the range that includes it; at most half
    of the options are excluded. finals: each option's final value. values: all values drawn for it.
    """
    ordered = sorted(finals, key=lambda name: finals[name], reverse=direction == "higher")
    kept = list(ordered)
    while len(kept) > max(2, (len(ordered) + 1) // 2):
        full_range = abs(finals[kept[0]] - finals[kept[-1]])
        if abs(finals[kept[0]] - finals[kept[-2]]) > 0.12 * full_range:
            break
        kept.pop()
    drawn = [value for name in kept for value in values[name]]
    ends = [finals[name] for name in kept]
    low, high = min(drawn), max(drawn)
    limit = 2.5 * max(max(ends) - min(ends), 1e-9)
    if len(kept) > 1 and direction == "higher":
        low = max(low, min(ends) - limit)
    elif len(kept) > 1:
        high = min(high, max(ends) + limit)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return LimitedRange(low - margin, high + margin, frozenset(set(ordered) - set(kept)))


def draw_edge_arrow(axes: Axes, row: int, colour: str, direction: str) -> None:
    """An arrow towards a value outside the axis."""
    ends = (0.12, 0.01) if direction == "higher" else (0.88, 0.99)
    axes.annotate(
        "",
        (ends[1], row),
        (ends[0], row),
        xycoords=axes.get_yaxis_transform(),
        arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.6},
    )


def end_label(name: str, end: float, span: LimitedRange, objective: str) -> str:
    """A curve's label: its name, with an arrow and its last value if that is outside the axis."""
    if span.low <= end <= span.high:
        return name
    value = f"{100 * end:.0f} %" if is_fraction(objective) else f"{end:.2g}"
    return f"{name} {'↓' if end < span.low else '↑'} {value}"


def label_curves(
    axes: Axes,
    ends: Mapping[str, tuple[float, float]],
    texts: Mapping[str, str],
    styles: Mapping[str, OptionStyle],
    connect: bool,
) -> None:
    """Label the curves right of the axes, with their markers; thin lines connect the labels to the curves' ends."""
    to_axes = axes.transData + axes.transAxes.inverted()
    points = {name: to_axes.transform(end) for name, end in ends.items()}
    height = axes.bbox.height / axes.figure.dpi
    heights = spread_out([float(points[name][1]) for name in ends], 0.155 / height)
    for name, y in zip(ends, heights, strict=True):
        colour = styles[name].colour
        inside = 0 <= points[name][1] <= 1
        settings: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "color": colour}
        if connect and inside:
            axes.plot([points[name][0], 1.02], [points[name][1], y], linewidth=0.7, alpha=0.7, **settings)
        axes.plot([1.04], [y], marker=styles[name].marker, markersize=5, **settings)
        axes.text(1.07, y, texts[name], transform=axes.transAxes, va="center", fontsize=8.5)


def spread_out(positions: Sequence[float], gap: float) -> Floats:
    """Positions between 0 and 1 moved apart to at least `gap` (less if there are too many), in the same order."""
    if len(positions) < 2:
        return np.array(positions)
    order = np.argsort(positions, kind="stable")
    offsets = min(gap, 1 / (len(positions) - 1)) * np.arange(len(positions))
    excess = np.maximum.accumulate(np.clip(positions, 0, 1)[order] - offsets)
    spread = np.empty(len(positions))
    spread[order] = np.minimum(excess, 1 - offsets[-1]) + offsets
    return spread


def shorten(name: str, limit: int = 24) -> str:
    """The name; if it is longer than the limit, without its middle."""
    return name if len(name) <= limit else f"{name[: limit - 9]}…{name[-8:]}"


def text_inches(texts: Iterable[str], size: float = 9) -> float:
    """The approximate width of the longest line of the texts, in inches."""
    lines = [line for text in texts for line in text.splitlines()]
    return max(map(len, lines), default=0) * size * 0.0088
