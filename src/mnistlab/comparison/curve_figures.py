"""Learning curves of all options in one figure, over epochs or over training seconds (Part 8 of the guide)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnistlab.comparison import layout
from mnistlab.comparison.records import RunRecord, group_by_option, outcome
from mnistlab.comparison.results import Comparison
from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import OptionStyle, option_styles, shown_options

TimeUnit = Literal["epochs", "seconds"]


@dataclass(frozen=True, eq=False)
class Band:
    """An option's curves over its seeds, one value per epoch: validation mean, minimum, maximum; training mean.

    times: the epochs from 1, or the training seconds at their ends.
    """

    times: Floats
    mean: Floats
    low: Floats
    high: Floats
    training: Floats
    diverged: bool


def curves_figure(
    comparison: Comparison, records: Sequence[RunRecord], metric: Literal["loss", "accuracy"], over: TimeUnit = "epochs"
) -> Figure | None:
    """A validation curve per option with its range over seeds; training curves are dashed.

    None if no run has the metric (or, over seconds, no epoch times). Options outside the axis are labelled with
    their final values. To be drawn within `style.drawing_settings`.
    """
    groups = group_by_option(records, comparison.axis)
    found = {name: option_band(groups[name], metric, over) for name in shown_options(comparison)}
    bands = {name: band for name, band in found.items() if band and np.isfinite(band.times).all()}
    if not bands:
        return None
    styles = option_styles(found)
    span = _span(bands, metric)
    ends = {name: (float(band.times[-1]), float(band.mean[-1])) for name, band in bands.items()}
    names = {name: layout.shorten(name) + (" (diverged)" if band.diverged else "") for name, band in bands.items()}
    labels = {name: layout.end_label(names[name], end, span, metric) for name, (_, end) in ends.items()}
    title = f"Validation {metric} {'per epoch' if over == 'epochs' else 'over training time'}"
    figure = layout.new_figure(3.5, title, "Line: mean; band: range over seeds; dashed: training")
    axes = layout.add_axes(figure, 0.62, 0.64, 0.42 + layout.text_inches(labels.values(), 8.5), 0.38)
    for name, band in bands.items():
        _draw_band(axes, band, styles[name])
    _scale(axes, bands, span, metric, over)
    layout.label_curves(axes, ends, labels, styles, connect=over == "epochs")
    axes.set_xlabel("Epoch" if over == "epochs" else "Training seconds")
    axes.grid(True)
    return figure


def learning_rates_figure(comparison: Comparison, records: Sequence[RunRecord]) -> Figure | None:
    """Each option's learning rate at the end of each epoch, the mean over its seeds; None if no option changes it.

    Where the options' highest rates differ by more than a factor of ten, the scale is logarithmic, over four decades.
    """
    groups = group_by_option(records, comparison.axis)
    found = {name: _rates(groups[name]) for name in shown_options(comparison)}
    rates = {name: values for name, values in found.items() if len(values)}
    if all(np.allclose(values, values[0], rtol=1e-9, atol=0) for values in rates.values()):
        return None
    styles = option_styles(found)
    highest = [float(values.max()) for values in rates.values()]
    figure = layout.new_figure(3.5, "Learning rate at the end of each epoch", "Mean over seeds")
    axes = layout.add_axes(figure, 0.75, 0.64, 0.42 + layout.text_inches(map(layout.shorten, rates), 8.5), 0.38)
    if max(highest) > 10 * min(highest) > 0:
        axes.set_yscale("log")
        axes.set_ylim(max(highest) / 1e4, 1.5 * max(highest))
    else:
        axes.set_ylim(0, 1.05 * max(highest))
    for name, values in rates.items():
        times = np.arange(1, len(values) + 1)
        every = max(1, len(values) // 8)
        axes.plot(times, values, color=styles[name].colour, marker=styles[name].marker, markevery=every)
    _epoch_scale(axes, max(map(len, rates.values())))
    ends = {name: (float(len(values)), float(values[-1])) for name, values in rates.items()}
    layout.label_curves(axes, ends, {name: layout.shorten(name) for name in rates}, styles, connect=True)
    axes.set_xlabel("Epoch")
    axes.grid(True)
    return figure


def _rates(group: Sequence[RunRecord]) -> Floats:
    """The mean learning rate of each epoch; empty if no run recorded it."""
    runs = [run for run in group if run.history.get("learning_rate")]
    means = _column_means(_stack(runs, "learning_rate")) if runs else np.empty(0)
    return means[np.isfinite(means)]


def option_band(group: Sequence[RunRecord], metric: str, over: TimeUnit = "epochs") -> Band | None:
    """Trained runs if there are any, else the diverged ones; epochs that half of the runs reached."""
    logged = [run for run in group if run.history.get(f"val_{metric}")]
    trained = [run for run in logged if outcome(run) == "trained"]
    runs = trained or [run for run in logged if outcome(run) == "diverged"]
    if not runs:
        return None
    validation = _stack(runs, f"val_{metric}")
    enough = np.isfinite(validation).sum(axis=0) * 2 >= len(runs)
    length = int(np.argmin(enough)) if not enough.all() else len(enough)
    if length == 0:
        return None
    validation = validation[:, :length]
    seconds = np.cumsum(_stack(runs, "epoch_seconds", length), axis=1)
    return Band(
        _column_means(seconds) if over == "seconds" else np.arange(1, length + 1, dtype=float),
        _column_means(validation),
        np.nanmin(validation, axis=0),
        np.nanmax(validation, axis=0),
        _column_means(_stack(runs, metric, length)),
        diverged=not trained,
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


def _draw_band(axes: Axes, band: Band, style: OptionStyle) -> None:
    num_epochs = len(band.times)
    axes.fill_between(band.times, band.low, band.high, color=style.colour, alpha=0.16, linewidth=0)
    axes.plot(band.times, band.training, color=style.colour, linestyle=(0, (4, 2)), linewidth=1, alpha=0.75)
    every = num_epochs // 8 if num_epochs > 15 else 1
    line = ":" if band.diverged else "-"
    axes.plot(band.times, band.mean, color=style.colour, marker=style.marker, markevery=every, linestyle=line)


def _span(bands: Mapping[str, Band], metric: str) -> layout.LimitedRange:
    """The range drawn: validation first; training curves widen it by a third at most, then leave it."""
    finals = {name: float(band.mean[-1]) for name, band in bands.items()}
    values = {name: [*band.low, *band.high] for name, band in bands.items()}
    span = layout.limited_range(finals, values, "lower" if metric == "loss" else "higher")
    training = [value for name in set(bands) - span.outside for value in bands[name].training if math.isfinite(value)]
    room = (span.high - span.low) / 3
    low = min([span.low, *(max(value, span.low - room) for value in training)])
    high = max([span.high, *(min(value, span.high + room) for value in training)])
    if metric == "accuracy":
        return dataclasses.replace(span, low=max(low, 0.0), high=min(high, 1.005))
    smallest = min(value for name in set(bands) - span.outside for value in values[name])
    return dataclasses.replace(span, low=max(low, 0.5 * smallest), high=high)


def _scale(axes: Axes, bands: Mapping[str, Band], span: layout.LimitedRange, metric: str, over: TimeUnit) -> None:
    """Limits for most options; a loss is logarithmic where it spans more than a factor of ten."""
    if metric == "loss" and span.low > 0 and span.high / span.low > 10:
        axes.set_yscale("log")
    axes.set_ylim(span.low, span.high)
    layout.format_values(axes.yaxis, metric)
    times = [time for band in bands.values() for time in band.times]
    if over == "epochs":
        _epoch_scale(axes, max(times))
    else:
        layout.set_time_scale(axes, times)


def _epoch_scale(axes: Axes, last: float) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(max(0.5, 1 - 0.04 * last), 1.04 * last)  # there is no epoch 0
