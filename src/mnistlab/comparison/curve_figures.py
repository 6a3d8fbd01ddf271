"""Learning curves of all options in one figure, over epochs or over training seconds (Part 8 of the guide)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnistlab.comparison.layout import (
    LimitedRange,
    add_axes,
    add_footnote,
    add_title,
    format_values,
    label_curves,
    limited_range,
    set_time_scale,
    shorten,
    text_inches,
)
from mnistlab.comparison.records import RunRecord, group_by_option, outcome
from mnistlab.comparison.results import Comparison
from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import RC_PARAMS, OptionStyle, new_figure, option_styles, shown_options


@dataclass(frozen=True, eq=False)
class Band:
    """An option's curves over its seeds, one value per epoch: validation mean, minimum, maximum; training mean."""

    epochs: Floats
    seconds: Floats
    mean: Floats
    low: Floats
    high: Floats
    training: Floats
    diverged: bool


def curves_figure(
    comparison: Comparison,
    records: Sequence[RunRecord],
    metric: Literal["loss", "accuracy"],
    over: Literal["epochs", "seconds"] = "epochs",
) -> Figure | None:
    """A validation curve per option with its range over seeds; training curves are dashed.

    None if no run has the metric (or, over seconds, no epoch times). Options outside the axis are labelled with
    their final values.
    """
    bands = _bands(comparison, records, metric, over)
    if not bands:
        return None
    styles = option_styles(shown_options(comparison))
    span = _span(bands, metric)
    labels = {name: _end_label(name, band, span, metric) for name, band in bands.items()}
    with mpl.rc_context(RC_PARAMS):
        figure = new_figure(3.5)
        axes = add_axes(figure, 0.62, 0.64, 0.42 + text_inches(labels.values(), 8.5), 0.38)
        for name, band in bands.items():
            _draw_band(axes, band, styles[name], over)
        _scale(axes, bands, span, metric, over)
        ends = {name: _end(band, over) for name, band in bands.items()}
        label_curves(axes, ends, labels, styles, connect=over == "epochs")
        curve = "Validation loss" if metric == "loss" else "Validation accuracy"
        add_title(figure, f"{curve} per epoch" if over == "epochs" else f"{curve} over training time")
        axes.set_xlabel("Epoch" if over == "epochs" else "Training seconds")
        add_footnote(figure, "Line: mean; band: range over seeds; dashed: training")
        axes.grid(True)
    return figure


def _bands(comparison: Comparison, records: Sequence[RunRecord], metric: str, over: str) -> dict[str, Band]:
    """The drawn options' bands, best option first."""
    groups = group_by_option(records, comparison.axis)
    bands = {}
    for name in shown_options(comparison):
        band = option_band(groups[name], metric)
        if band is not None and (over == "epochs" or np.isfinite(band.seconds).all()):
            bands[name] = band
    return bands


def option_band(group: Sequence[RunRecord], metric: str) -> Band | None:
    """Trained runs if there are any, else the diverged ones; epochs that half of the runs reached."""
    runs = [run for run in group if outcome(run) == "trained" and run.history.get(f"val_{metric}")]
    diverged = not runs
    runs = runs or [run for run in group if outcome(run) == "diverged" and run.history.get(f"val_{metric}")]
    if not runs:
        return None
    validation = _stack(runs, f"val_{metric}")
    enough = np.isfinite(validation).sum(axis=0) * 2 >= len(runs)
    length = int(np.argmin(enough)) if not enough.all() else len(enough)
    if length == 0:
        return None
    validation = validation[:, :length]
    return Band(
        np.arange(1, length + 1, dtype=float),
        _column_means(np.cumsum(_stack(runs, "epoch_seconds", length), axis=1)),
        _column_means(validation),
        np.nanmin(validation, axis=0),
        np.nanmax(validation, axis=0),
        _column_means(_stack(runs, metric, length)),
        diverged,
    )


def _stack(runs: Sequence[RunRecord], name: str, length: int | None = None) -> Floats:
    """A history metric of several runs, shape (runs, epochs); NaN after a run's end and for infinities."""
    length = length or max(len(run.history.get(name, ())) for run in runs)
    stacked = np.full((len(runs), length), np.nan)
    for row, run in enumerate(runs):
        values = np.asarray(run.history.get(name, ())[:length], dtype=float)
        stacked[row, : len(values)] = np.where(np.isfinite(values), values, np.nan)
    return stacked


def _column_means(stacked: Floats) -> Floats:
    """Means over runs without the NaN; NaN where every run is."""
    counts = np.isfinite(stacked).sum(axis=0)
    return np.where(counts > 0, np.nansum(stacked, axis=0) / np.maximum(counts, 1), np.nan)


def _draw_band(axes: Axes, band: Band, style: OptionStyle, over: str) -> None:
    x = band.epochs if over == "epochs" else band.seconds
    crowded = len(x) > 15
    axes.fill_between(x, band.low, band.high, color=style.colour, alpha=0.16, linewidth=0)
    axes.plot(x, band.training, color=style.colour, linestyle=(0, (4, 2)), linewidth=1, alpha=0.75)
    axes.plot(
        x,
        band.mean,
        color=style.colour,
        marker=style.marker,
        markevery=max(1, len(x) // 8) if crowded else 1,
        linestyle=":" if band.diverged else "-",
    )


def _span(bands: Mapping[str, Band], metric: str) -> LimitedRange:
    """The range drawn: validation first; training curves widen it by a third at most, then leave it."""
    finals = {name: float(band.mean[-1]) for name, band in bands.items()}
    values = {name: [*band.low, *band.high] for name, band in bands.items()}
    span = limited_range(finals, values, "lower" if metric == "loss" else "higher")
    training = [value for name in set(bands) - span.outside for value in _finite(bands[name].training)]
    room = (span.high - span.low) / 3
    low = min([span.low, *(max(value, span.low - room) for value in training)])
    high = max([span.high, *(min(value, span.high + room) for value in training)])
    if metric == "accuracy":
        return dataclasses.replace(span, low=max(low, 0.0), high=min(high, 1.005))
    smallest = min(value for name in set(bands) - span.outside for value in values[name])
    return dataclasses.replace(span, low=max(low, 0.5 * smallest), high=high)


def _end_label(name: str, band: Band, span: LimitedRange, metric: str) -> str:
    """The option's name, with its value if it ends outside the figure."""
    end = float(band.mean[-1])
    label = shorten(name) + (" (diverged)" if band.diverged else "")
    if span.low <= end <= span.high:
        return label
    value = f"{100 * end:.0f} %" if metric == "accuracy" else f"{end:.2g}"
    return f"{label} {'↓' if end < span.low else '↑'} {value}"


def _end(band: Band, over: str) -> tuple[float, float]:
    return float((band.epochs if over == "epochs" else band.seconds)[-1]), float(band.mean[-1])


def _scale(axes: Axes, bands: Mapping[str, Band], span: LimitedRange, metric: str, over: str) -> None:
    """Limits for most options; a loss is logarithmic where it spans more than a factor of ten."""
    if metric == "loss" and span.low > 0 and span.high / span.low > 10:
        axes.set_yscale("log")
    axes.set_ylim(span.low, span.high)
    format_values(axes.yaxis, metric)
    if over == "epochs":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        longest = max(len(band.epochs) for band in bands.values())
        axes.set_xlim(1 - 0.04 * longest, longest + 0.04 * longest)
    else:
        set_time_scale(axes, [second for band in bands.values() for second in band.seconds])


def _finite(values: Floats) -> list[float]:
    return [float(value) for value in values if math.isfinite(value)]
