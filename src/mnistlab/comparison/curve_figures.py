"""Learning curves of all options in one figure, over epochs or over training seconds (Part 8 of the guide)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistlab.comparison import layout
from mnistlab.comparison.curves import training_seconds
from mnistlab.comparison.records import RunRecord, group_by_option, outcome
from mnistlab.comparison.results import Comparison
from mnistlab.comparison.scales import COMPRESSED_NOTE, Scale, choose_scale, epoch_scale, set_scale, time_scale
from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import OptionStyle, describe_hidden, option_styles, shown_options

TimeUnit = Literal["epochs", "seconds"]
Metric = Literal["loss", "accuracy"]

MAX_BANDS = 8  # options whose ranges over seeds can be told apart in one figure
DECADES = 6  # of learning rates


@dataclass(frozen=True, eq=False)
class Band:
    """An option's curves over its seeds, one value per epoch: validation mean, minimum, maximum; training mean.

    times: the epochs from 1, or the training seconds at their ends. with_compilation: whether a run had one epoch, of
    which compilation cannot be told apart.
    """

    times: Floats
    mean: Floats
    low: Floats
    high: Floats
    training: Floats
    diverged: bool
    num_runs: int
    with_compilation: bool


def curves_figure(
    comparison: Comparison, records: Sequence[RunRecord], metric: Metric, over: TimeUnit = "epochs"
) -> Figure | None:
    """A validation curve per option, with its range over seeds if the options are few.

    None if no run has the metric (or, over seconds, no epoch times). To be drawn within `style.drawing_settings`.
    """
    bands = option_bands(comparison, records, metric, over)
    if not bands:
        return None
    names = shown_options(comparison)
    styles = option_styles(names)
    with_ranges = len(bands) <= MAX_BANDS and any(band.num_runs > 1 for band in bands.values())
    scale = bands_scale(bands, metric, with_ranges=with_ranges)
    times = _time_scale(bands) if over == "seconds" else None
    labels = curve_labels(names, bands)
    inches = layout.text_inches(labels.values(), 8.5)
    title = f"Validation {metric} {'per epoch' if over == 'epochs' else 'over training time'}"
    compressed = COMPRESSED_NOTE if scale.edge is not None or (times and times.edge is not None) else ""
    notes = [_seeds_note(bands, with_ranges), compressed, missing_note(names, bands), describe_hidden(comparison)]
    notes += [_compilation_note(bands)] if over == "seconds" else []
    figure = layout.new_figure(layout.curves_height(len(bands)), title, notes, inches)
    axes = layout.add_axes(figure, 0.62, 0.64, 0.42 + inches, 0.38)
    set_scale(axes, scale, metric)
    if times:
        set_scale(axes, times, "seconds", "x")
    else:
        epoch_scale(axes, last_epoch(bands))
    for name, band in bands.items():
        if with_ranges:
            draw_range(axes, band, styles[name].colour)
        line = _line(styles[name], len(band.times), ":" if band.diverged else None)
        axes.plot(band.times, band.mean, **line)
    ends = {name: (float(band.times[-1]), float(band.mean[-1])) for name, band in bands.items()}
    layout.label_curves(axes, ends, labels, styles)
    axes.set_xlabel("Epoch" if over == "epochs" else "Training seconds")
    axes.grid(True)
    return figure


def learning_rates_figure(comparison: Comparison, records: Sequence[RunRecord]) -> Figure | None:
    """Each option's learning rate at the end of each epoch, the mean over its seeds; None if no option changes it.

    Where rates differ by more than a factor of ten, the scale is logarithmic, over at most six decades.
    """
    groups = group_by_option(records, comparison.axis)
    names = shown_options(comparison)
    found = {name: _rates(groups[name]) for name in names}
    rates = {name: values for name, values in found.items() if len(values)}
    if all(np.allclose(values, values[0], rtol=1e-9, atol=0) for values in rates.values()):
        return None
    styles = option_styles(names)
    highest = max(float(values.max()) for values in rates.values())
    positive = [value for values in rates.values() for value in values if value > 0]
    lowest = max(min(positive), highest / 10**DECADES) if positive else 0.0
    drawn = {name: np.maximum(values, lowest) for name, values in rates.items()}
    below = f"below {lowest:.2g} at the lower edge" if any(np.any(drawn[n] > rates[n]) for n in rates) else ""
    logarithmic = highest > 10 * lowest > 0
    notes = ["mean over seeds" if any(len(groups[n]) > 1 for n in rates) else "", below, describe_hidden(comparison)]
    labels = layout.short_names(names)
    inches = layout.text_inches([labels[name] for name in rates], 8.5)
    title = "Learning rate at the end of each epoch"
    figure = layout.new_figure(layout.curves_height(len(rates)), title, notes, inches)
    axes = layout.add_axes(figure, 0.75, 0.64, 0.42 + inches, 0.38)
    low, high = (lowest / 1.3, highest * 1.3) if logarithmic else (0.0, 1.05 * highest)
    set_scale(axes, Scale(low, high, logarithmic=logarithmic), "rate")
    for name, values in drawn.items():
        axes.plot(np.arange(1, len(values) + 1), values, **_line(styles[name], len(values)))
    epoch_scale(axes, max(map(len, rates.values())))
    ends = {name: (float(len(values)), float(values[-1])) for name, values in drawn.items()}
    layout.label_curves(axes, ends, labels, styles)
    axes.set_xlabel("Epoch")
    axes.grid(True)
    return figure


def _rates(group: Sequence[RunRecord]) -> Floats:
    """The mean learning rate of each epoch; empty if no run recorded it."""
    runs = [run for run in group if run.history.get("learning_rate")]
    means = _column_means(_stack([run.history["learning_rate"] for run in runs])) if runs else np.empty(0)
    return means[np.isfinite(means)]


def option_bands(
    comparison: Comparison, records: Sequence[RunRecord], metric: Metric, over: TimeUnit = "epochs"
) -> dict[str, Band]:
    """The curves of the shown options, the best option first; without those that have no finite value or no time."""
    groups = group_by_option(records, comparison.axis)
    found = {name: option_band(groups[name], metric, over) for name in shown_options(comparison)}
    return {name: band for name, band in found.items() if band and np.isfinite(band.times).all()}


def option_band(group: Sequence[RunRecord], metric: str, over: TimeUnit = "epochs") -> Band | None:
    """Trained runs if there are any, else the diverged ones; epochs that half of the runs reached."""
    logged = [run for run in group if run.history.get(f"val_{metric}")]
    trained = [run for run in logged if outcome(run) == "trained"]
    runs = trained or [run for run in logged if outcome(run) == "diverged"]
    if not runs:
        return None
    validation = _stack([run.history[f"val_{metric}"] for run in runs])
    enough = np.isfinite(validation).sum(axis=0) * 2 >= len(runs)
    length = int(np.argmin(enough)) if not enough.all() else len(enough)
    if length == 0:
        return None
    validation = validation[:, :length]
    seconds = np.cumsum(_stack([training_seconds(run) for run in runs], length), axis=1)
    return Band(
        _column_means(seconds) if over == "seconds" else np.arange(1, length + 1, dtype=float),
        _column_means(validation),
        np.nanmin(validation, axis=0),
        np.nanmax(validation, axis=0),
        _column_means(_stack([run.history.get(metric, ()) for run in runs], length)),
        diverged=not trained,
        num_runs=len(runs),
        with_compilation=any(len(run.history.get("epoch_seconds", ())) == 1 for run in runs),
    )


def _stack(curves: Sequence[Sequence[float]], length: int | None = None) -> Floats:
    """The curves of several runs, shape (runs, epochs); NaN after a run's end and for infinities."""
    length = length or max(map(len, curves))
    stacked = np.full((len(curves), length), np.nan)
    for row, curve in enumerate(curves):
        values = np.asarray(curve[:length], dtype=float)
        stacked[row, : len(values)] = np.where(np.isfinite(values), values, np.nan)
    return stacked


def _column_means(stacked: Floats) -> Floats:
    """Means over runs without the NaN; NaN where every run is."""
    counts = np.isfinite(stacked).sum(axis=0)
    return np.where(counts > 0, np.nansum(stacked, axis=0) / np.maximum(counts, 1), np.nan)


def bands_scale(
    bands: Mapping[str, Band], metric: Metric, with_ranges: bool = True, with_training: bool = False
) -> Scale:
    """A scale with all that is drawn of the curves; of a loss logarithmic where it spans more than a factor of four."""
    values = {
        name: [
            *band.mean,
            *([*band.low, *band.high] if with_ranges else ()),
            *(band.training[np.isfinite(band.training)] if with_training else ()),
        ]
        for name, band in bands.items()
    }
    finals = {name: float(band.mean[-1]) for name, band in bands.items()}
    is_loss = metric == "loss"
    return choose_scale(finals, values, "lower" if is_loss else "higher", logarithmic=is_loss)


def curve_labels(names: Sequence[str], bands: Mapping[str, Band]) -> dict[str, str]:
    """The names of the options with a curve, shortened where they are long, and whether all their runs diverged."""
    short = layout.short_names(names)
    return {name: short[name] + (" (diverged)" if band.diverged else "") for name, band in bands.items()}


def missing_note(names: Sequence[str], bands: Mapping[str, Band]) -> str:
    """Names the options without a curve."""
    missing = [name for name in names if name not in bands]
    return f"no curve: {layout.list_names(missing)}" if missing else ""


def last_epoch(bands: Mapping[str, Band]) -> int:
    """The number of epochs of the longest curve."""
    return max(len(band.times) for band in bands.values())


def _time_scale(bands: Mapping[str, Band]) -> Scale:
    ends = {name: float(band.times[-1]) for name, band in bands.items()}
    return time_scale(ends)


def _seeds_note(bands: Mapping[str, Band], with_ranges: bool) -> str:
    if all(band.num_runs == 1 for band in bands.values()):
        return ""
    return "line: mean over seeds; band: range over seeds" if with_ranges else "line: mean over seeds"


def _compilation_note(bands: Mapping[str, Band]) -> str:
    """How far the times exclude compilation."""
    single = [name for name, band in bands.items() if band.with_compilation]
    note = "without compilation: the first epoch counts at most as the median of the later ones"
    if len(single) == len(bands):
        return "one epoch: includes compilation"
    return f"{note}; {layout.list_names(single)}: one epoch, includes compilation" if single else note


def draw_range(axes: Axes, band: Band, colour: str) -> None:
    """The range over seeds: a band, or a vertical line where there is one epoch."""
    if len(band.times) > 1:
        axes.fill_between(band.times, band.low, band.high, color=colour, alpha=0.16, linewidth=0)
    else:
        axes.vlines(band.times, band.low, band.high, color=colour, alpha=0.4, linewidth=3)


def _line(style: OptionStyle, num_epochs: int, line: str | None = None) -> dict[str, Any]:
    """How a curve is drawn; on long ones not every epoch has a marker."""
    every = num_epochs // 8 if num_epochs > 15 else 1
    return {"color": style.colour, "marker": style.marker, "markevery": every, "linestyle": line or style.line}
