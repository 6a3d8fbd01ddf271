"""Small multiples of the learning curves, within `style.drawing_settings`: each option's training and validation."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistlab.comparison import layout
from mnistlab.comparison.curve_figures import (
    Band,
    Metric,
    bands_scale,
    curve_labels,
    draw_range,
    last_epoch,
    missing_note,
    option_bands,
)
from mnistlab.comparison.records import RunRecord
from mnistlab.comparison.results import Comparison
from mnistlab.comparison.scales import COMPRESSED_NOTE, Scale, epoch_scale, set_scale
from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import INK, WIDTH, OptionStyle, describe_hidden, option_styles, shown_options

LEFT, RIGHT, TOP, GAP = 0.6, 0.12, 0.34, 0.14  # inches
TITLE_SIZE, TITLE_LINE = 8, 0.135
EPOCHS = 0.24  # inches below a panel, for the epochs


def option_panels_figure(comparison: Comparison, records: Sequence[RunRecord], metric: Metric) -> Figure | None:
    """A panel per option: validation with its range over seeds, training dashed, the other options' validation pale.

    All panels have the same axes, so that they can be compared. None if no run has the metric.
    """
    bands = option_bands(comparison, records, metric)
    if not bands:
        return None
    names = shown_options(comparison)
    num_columns = min(len(bands), 2 if len(bands) in (2, 4) else 3)
    num_rows = -(-len(bands) // num_columns)
    width = (WIDTH - LEFT - RIGHT - (num_columns - 1) * GAP) / num_columns
    titles = _titles(curve_labels(names, bands), width)
    above = TITLE_LINE * max(title.count("\n") + 1 for title in titles.values()) + 0.08
    panel = 1.9 if num_rows == 1 else 1.3 if num_rows <= 3 else 0.95
    scale = bands_scale(bands, metric, with_training=True)
    notes = [_note(bands), COMPRESSED_NOTE if scale.edge is not None else "", missing_note(names, bands)]
    height = TOP + num_rows * (above + panel + EPOCHS) + 0.42
    title = f"Training and validation {metric} of each option"
    figure = layout.new_figure(height, title, [*notes, describe_hidden(comparison)])
    styles = option_styles(names)
    full_height = figure.get_size_inches()[1]
    for index, name in enumerate(bands):
        left = LEFT + (index % num_columns) * (width + GAP)
        top = TOP + (index // num_columns) * (above + panel + EPOCHS) + above
        box = (left / WIDTH, 1 - (top + panel) / full_height, width / WIDTH, panel / full_height)
        axes = figure.add_axes(box)
        _draw_panel(axes, bands, name, styles[name], scale, metric)
        axes.set_title(titles[name], fontsize=TITLE_SIZE, pad=4)
        if index % num_columns:
            axes.tick_params(labelleft=False)
        if index + num_columns >= len(bands):
            axes.set_xlabel("Epoch", fontsize=TITLE_SIZE, labelpad=1)
    return figure


def _titles(labels: Mapping[str, str], width: float) -> dict[str, str]:
    """The names in lines that fit a panel; width in inches."""
    limit = int(width / layout.text_inches(["0" * 100], TITLE_SIZE + 1) * 100)
    return {name: "\n".join(textwrap.wrap(label, limit)) for name, label in labels.items()}


def _draw_panel(
    axes: Axes, bands: Mapping[str, Band], name: str, style: OptionStyle, scale: Scale, metric: Metric
) -> None:
    """The option's curves before those of the others; points where there is one epoch."""
    set_scale(axes, scale, metric, size=7.5)
    epoch_scale(axes, last_epoch(bands))
    _draw_others([band for other, band in bands.items() if other != name], axes)
    band = bands[name]
    if band.num_runs > 1:
        draw_range(axes, band, style.colour)
    marked = {"color": style.colour, "markersize": 4.5}
    _draw_curve(axes, band.times, band.training, linestyle=(0, (3, 1.5)), linewidth=1.2, fillstyle="none", **marked)
    _draw_curve(axes, band.times, band.mean, linewidth=1.6, **marked)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.grid(True)


def _draw_others(bands: Sequence[Band], axes: Axes) -> None:
    """Pale curves; those with several epochs as one line with gaps, which is much faster to draw."""
    pale: dict[str, Any] = {"color": INK, "alpha": 0.14, "linewidth": 0.8, "markersize": 2}
    long = [band for band in bands if np.isfinite(band.mean).sum() > 1]
    if long:
        parts = [(np.append(band.times, np.nan), np.append(band.mean, np.nan)) for band in long]
        axes.plot(*(np.concatenate(values) for values in zip(*parts, strict=True)), **pale)
    for band in bands:
        if band not in long:
            _draw_curve(axes, band.times, band.mean, **pale)


def _draw_curve(axes: Axes, times: Floats, values: Floats, **style: Any) -> None:
    """A line, or a mark if the curve is a single point."""
    axes.plot(times, values, marker="o" if np.isfinite(values).sum() == 1 else None, **style)


def _note(bands: Mapping[str, Band]) -> str:
    one_epoch = all(len(band.times) == 1 for band in bands.values())
    marks = ("full mark", "hollow mark") if one_epoch else ("solid", "dashed")
    several = any(band.num_runs > 1 for band in bands.values())
    seeds = "; means over seeds, band: range of the validation over seeds" if several else ""
    others = "; pale: validation of the other options" if len(bands) > 1 else ""
    return f"{marks[0]}: validation; {marks[1]}: training{others}{seeds}"
