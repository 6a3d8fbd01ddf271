"""Layout of figures: axes in inches, names and footnotes that fit, labels that do not overlap."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import WIDTH, OptionStyle

NOTE_WIDTH = 90  # characters of the footnote in a line
NOTE_LINE = 0.13  # inches
LABEL_STEP = 0.155  # inches between the labels of two curves
NAME_LENGTHS = (30, 40, 60)  # characters: longer ones where shorter names would be the same


def new_figure(height: float, title: str = "", footnotes: Iterable[str] = (), labels: float = 0.0) -> Figure:
    """A figure of the common width: bold title at the top left, small print at the bottom.

    height: in inches, without further lines of the footnote. footnotes: parts of it, empty ones are left out.
    labels: the inches that labels take; with long ones the figure is wider, so that the axes stay as large.
    """
    note = "; ".join(filter(None, footnotes))
    width = WIDTH + max(0.0, labels - 2.0)
    lines = textwrap.wrap(note[:1].upper() + note[1:], round(NOTE_WIDTH * width / WIDTH))
    height += NOTE_LINE * max(0, len(lines) - 1)
    figure = Figure(figsize=(width, height))
    figure.text(0.1 / width, 1 - 0.22 / height, title, weight="bold", fontsize=10)
    figure.text(0.1 / width, 0.07 / height, "\n".join(lines), fontsize=7.5, va="bottom")
    return figure


def add_axes(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes with margins given in inches; below is also room for the further lines of the footnote."""
    width, height = figure.get_size_inches()
    bottom += NOTE_LINE * figure.texts[1].get_text().count("\n")
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    return figure.add_axes(box)


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """One row with a faint grid line per label, the first on top."""
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True)


def label_curves(
    axes: Axes, ends: Mapping[str, tuple[float, float]], texts: Mapping[str, str], styles: Mapping[str, OptionStyle]
) -> None:
    """Label the curves right of the axes, with their markers; thin lines connect the labels to the curves' ends."""
    to_axes = axes.transData + axes.transAxes.inverted()
    points = {name: to_axes.transform(end) for name, end in ends.items()}
    inch = axes.figure.dpi / axes.bbox.width
    heights = spread_out([float(points[name][1]) for name in ends], LABEL_STEP * axes.figure.dpi / axes.bbox.height)
    for name, y in zip(ends, heights, strict=True):
        style, (end_x, end_y) = styles[name], points[name]
        settings: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "color": style.colour}
        axes.plot([end_x, 1.0, 1 + 0.18 * inch], [end_y, end_y, y], linewidth=0.7, alpha=0.7, linestyle="-", **settings)
        axes.plot([1 + 0.23 * inch], [y], marker=style.marker, markersize=5, **settings)
        axes.text(1 + 0.31 * inch, y, texts[name], transform=axes.transAxes, va="center", fontsize=8.5)


def curves_height(num_labels: int) -> float:
    """The height in inches of a figure with so many curves: every label has a line of its own."""
    return max(3.5, 1.02 + LABEL_STEP * num_labels)


def spread_out(positions: Sequence[float], gap: float) -> Floats:
    """Positions between 0 and 1 moved apart, as little as possible, to at least `gap`, in the same order.

    The gap is smaller if there are too many.
    """
    if len(positions) < 2:
        return np.array(positions)
    order = np.argsort(positions, kind="stable")
    offsets = min(gap, 1 / (len(positions) - 1)) * np.arange(len(positions))
    groups: list[list[float]] = []  # neighbours that touch, each moved to the mean of its wishes
    for wish in np.clip(positions, 0, 1)[order] - offsets:
        groups.append([float(wish)])
        while len(groups) > 1 and np.mean(groups[-2]) >= np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = [float(np.mean(group)) for group in groups for _ in group]
    spread = np.empty(len(positions))
    spread[order] = np.clip(moved, 0, 1 - offsets[-1]) + offsets
    return spread


def shorten(name: str, limit: int = 24) -> str:
    """The name; if it is longer than the limit, without its middle."""
    return name if len(name) <= limit else f"{name[: limit - 9]}…{name[-8:]}"


def short_names(names: Iterable[str], limit: int = NAME_LENGTHS[0]) -> dict[str, str]:
    """Shortened names that stay different; numbered where a long name does not tell options apart."""
    listed = list(names)
    for length in (limit, *(longer for longer in NAME_LENGTHS if longer > limit)):
        short = {name: shorten(name, length) for name in listed}
        if len(set(short.values())) == len(listed):
            return short
    counts = Counter(shorten(name, limit) for name in listed)
    return {
        name: f"{shorten(name, limit - 5)} ({number})" if counts[shorten(name, limit)] > 1 else shorten(name, limit)
        for number, name in enumerate(listed, start=1)
    }


def list_names(names: Sequence[str], limit: int = 3) -> str:
    """A few names one after the other, otherwise their number: "adam, sgd", "7 options"."""
    return ", ".join(map(shorten, names)) if len(names) <= limit else f"{len(names)} options"


def text_inches(texts: Iterable[str], size: float = 9) -> float:
    """The width of the longest line of the texts, in inches; size: of the letters, in points."""
    font = FontProperties(size=size)
    lines = [line for text in texts for line in text.splitlines()]
    widths = [text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines]
    return max(widths, default=0.0) / 72
