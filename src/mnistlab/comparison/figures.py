"""Figures of a comparison's numbers, within `style.drawing_settings`: final values, time to target, learning rates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistlab.comparison import layout
from mnistlab.comparison.results import Comparison, LearningRateGrid, OptionSummary
from mnistlab.comparison.scales import (
    COMPRESSED_NOTE,
    Scale,
    choose_scale,
    epoch_scale,
    format_values,
    set_scale,
    time_scale,
)
from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import INK, OptionStyle, describe_hidden, option_styles, shown_options
from mnistlab.comparison.wording import format_value, is_fraction


def final_values_figure(comparison: Comparison) -> Figure | None:
    """Each option's mean with its 95 % bootstrap interval; a small dot for every seed."""
    names = shown_options(comparison)
    options = [option for option in comparison.options if option.name in names and option.scores]
    if not options:
        return None
    finals = {option.name: option.mean for option in options if option.mean is not None}
    styles = option_styles(names)
    values = {option.name: [*option.scores, *(option.interval or ())] for option in options}
    scale = choose_scale(finals, values, comparison.direction)
    title = f"{comparison.objective} ({comparison.direction} is better)"
    note = "mean and 95 % bootstrap interval; small dots: seeds" if any(o.interval for o in options) else ""
    missing = [name for name in names if name not in finals]
    notes = [
        note or "one seed",
        COMPRESSED_NOTE if scale.edge is not None else "",
        f"without a result: {layout.list_names(missing)}" if missing else "",
        describe_hidden(comparison),
    ]
    labels = _option_labels(options, layout.short_names(names))
    inches = layout.text_inches(labels, 8.5)
    figure = layout.new_figure(0.95 + 0.34 * len(options), title, notes, inches)
    axes = layout.add_axes(figure, 0.2 + inches, 0.5, 0.75, 0.4)
    layout.label_rows(axes, labels)
    set_scale(axes, scale, comparison.objective, "x")
    for row, option in enumerate(options):
        _draw_final_value(axes, row, option, finals[option.name], styles[option.name])
        text = format_value(comparison.objective, option.mean)
        axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    return figure


def time_to_target_figure(comparison: Comparison) -> Figure | None:
    """Median training seconds (or epochs, without times) to each target; None if no option reached one."""
    names = shown_options(comparison)
    options = [option for option in comparison.options if option.name in names]
    timed = any(target.seconds is not None for option in options for target in option.targets)
    unit: Literal["seconds", "epochs"] = "seconds" if timed else "epochs"
    times = {option.name: _times(option, unit) for option in options}
    if not any(times.values()):
        return None
    styles = option_styles(names)
    labels = list(layout.short_names(names).values())
    missed = [_describe_missed_targets(option) for option in options]
    several = any(target.num_runs > 1 for option in options for target in option.targets)
    median = " (median over seeds)" if several else ""
    without = "without compilation" if timed else ""
    note = f"training {unit}{median} to the validation accuracy above the marker, in %"
    scale = time_scale({name: max(option_times) for name, option_times in times.items() if option_times})
    row_height = max(0.4, 0.1 + 0.14 * max(text.count("\n") + 1 for text in missed))
    left, right = 0.2 + layout.text_inches(labels, 8.5), 0.15 + layout.text_inches(missed, 8)
    notes = [note, without, COMPRESSED_NOTE if scale.edge is not None else "", describe_hidden(comparison)]
    figure = layout.new_figure(0.95 + row_height * len(options), "Time to target", notes, left + right - 0.8)
    axes = layout.add_axes(figure, left, 0.5, right, 0.4)
    layout.label_rows(axes, labels)
    if unit == "epochs":
        epoch_scale(axes, max(map(max, filter(None, times.values()))))
    else:
        set_scale(axes, scale, unit, "x")
    for row, option in enumerate(options):
        _draw_times(axes, row, times[option.name], styles[option.name])
        axes.text(1.03, row, missed[row], transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    return figure


def learning_rate_figure(comparison: Comparison) -> Figure | None:
    """The objective over the learning rate, a line per optimizer, its best and its default rate marked; None without a
    grid."""
    grid, objective, direction = comparison.grid, comparison.objective, comparison.direction
    best = {row.optimizer: row.best for row in grid.rows if row.best is not None} if grid else {}
    default = {row.optimizer: row.default for row in grid.rows} if grid else {}
    if grid is None or not best:
        return None
    curves = {
        row.optimizer: np.array([(p.learning_rate, p.mean, p.sd or 0.0) for p in row.points if p.mean is not None]).T
        for row in grid.rows
        if row.optimizer in best
    }
    styles = option_styles(row.optimizer for row in grid.rows)
    drawn = {name: _with_deviations(curve, objective) for name, curve in curves.items()}
    pick = np.max if direction == "higher" else np.min
    finals = {name: float(pick(curve[1])) for name, curve in curves.items()}
    scale = choose_scale(finals, {name: values.ravel() for name, values in drawn.items()}, direction)
    labels = layout.short_names(curves)
    inches = layout.text_inches(labels.values(), 8.5)
    notes = _rates_notes(grid, scale)
    figure = layout.new_figure(layout.curves_height(len(curves)), f"{objective} by learning rate", notes, inches)
    axes = layout.add_axes(figure, 0.62, 0.64, 0.42 + inches, 0.38)
    axes.set(xscale="log", xlabel="Learning rate")
    set_scale(axes, scale, objective)
    for name, curve in curves.items():
        axes.fill_between(curve[0], drawn[name][0], drawn[name][2], color=styles[name].colour, alpha=0.16, linewidth=0)
        _draw_rates(axes, curve, styles[name], best[name], default[name])
    _mark_failures(axes, grid, styles, direction)
    ends = {name: (float(curve[0, -1]), float(curve[1, -1])) for name, curve in curves.items()}
    axes.set_xlim(*axes.get_xlim())
    layout.label_curves(axes, ends, labels, styles)
    format_values(axes.xaxis, "rate")
    axes.grid(True)
    return figure


def _with_deviations(curve: Floats, objective: str) -> Floats:
    """Means less a standard deviation, means, and means plus one, shape (3, rates); fractions stay within 0 and 1."""
    _, means, sds = curve
    values = np.stack([means - sds, means, means + sds])
    return np.clip(values, 0.0, 1.0) if is_fraction(objective) else values


def _rates_notes(grid: LearningRateGrid, scale: Scale) -> list[str]:
    points = [point for row in grid.rows for point in row.points]
    return [
        "band: ± one standard deviation" if any(point.sd is not None for point in points) else "",
        "circle: best",
        "tick: default" if any(row.default is not None for row in grid.rows) else "",
        "cross at the edge: every run failed" if any(point.mean is None for point in points) else "",
        COMPRESSED_NOTE if scale.edge is not None else "",
    ]


def _draw_final_value(axes: Axes, row: int, option: OptionSummary, mean: float, style: OptionStyle) -> None:
    below = [row + 0.24] * len(option.scores)
    if len(option.scores) > 1:
        axes.plot(option.scores, below, ".", color=style.colour, alpha=0.6, markersize=4, markeredgewidth=0)
    if option.interval:
        axes.plot(option.interval, [row, row], color=style.colour, linewidth=1.6, marker="|", markersize=7)
    axes.plot([mean], [row], marker=style.marker, color=style.colour, markersize=5.5)


def _option_labels(options: Sequence[OptionSummary], short: Mapping[str, str]) -> list[str]:
    labels = []
    for option in options:
        num_failed = option.num_failed + option.num_diverged
        count = f"\n{num_failed} of {option.num_runs - option.num_unfinished} failed" if num_failed else ""
        labels.append(short[option.name] + count)
    return labels


def _times(option: OptionSummary, unit: str) -> dict[float, list[str]]:
    """Targets in per cent by the time to reach them, ascending."""
    times: dict[float, list[str]] = {}
    for target in option.targets:
        time = target.seconds if unit == "seconds" else target.epochs
        if time is not None:
            times.setdefault(time, []).append(f"{100 * target.target:g}")
    return dict(sorted(times.items()))


def _describe_missed_targets(option: OptionSummary) -> str:
    """Targets that not all runs reached: "97 %: 2 of 5" (the number that did), "not 98, 99 %" (no run did)."""
    lines, unreached = [], []
    for target in option.targets:
        if 0 < target.num_reached < target.num_runs:
            lines.append(f"{100 * target.target:g} %: {target.num_reached} of {target.num_runs}")
        elif target.num_reached < target.num_runs:
            unreached.append(f"{100 * target.target:g}")
    return "\n".join([*lines, f"not {', '.join(unreached)} %"] if unreached else lines)


def _draw_times(axes: Axes, row: int, times: Mapping[float, Sequence[str]], style: OptionStyle) -> None:
    """A marker per time; above it the targets, those of near ones in one label, so that none overlap."""
    axes.plot(list(times), [row] * len(times), color=style.colour, marker=style.marker, markersize=6)
    labels: list[tuple[float, float, list[str]]] = []  # centre and half of the width in inches, targets
    for time, targets in times.items():
        centre, listed = axes.transData.transform((time, row))[0] / axes.figure.dpi, list(targets)
        while labels and labels[-1][0] + labels[-1][1] > centre - _half_width(listed):
            previous, _, earlier = labels.pop()
            centre, listed = (previous * len(earlier) + centre * len(listed)) / len(earlier + listed), earlier + listed
        labels.append((centre, _half_width(listed), listed))
    for centre, _, targets in labels:
        x = axes.transAxes.inverted().transform((centre * axes.figure.dpi, 0))[0]
        where = axes.get_yaxis_transform()
        above: Any = {"xytext": (0, 5), "textcoords": "offset points"}
        axes.annotate(", ".join(targets), (x, row), xycoords=where, ha="center", fontsize=7.5, **above)


def _half_width(targets: Sequence[str]) -> float:
    return layout.text_inches([", ".join(targets)], 7.5) / 2 + 0.03


def _draw_rates(axes: Axes, curve: Floats, style: OptionStyle, best: float, default: float | None) -> None:
    """One optimizer. curve: learning rates, means and standard deviations, shape (3, rates). A default that was not
    tried is marked on the line between its neighbours."""
    rates, means, _ = curve
    axes.plot(rates, means, color=style.colour, marker=style.marker, linestyle=style.line)
    axes.plot([best], means[rates == best], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)
    if default is not None and rates[0] <= default <= rates[-1]:
        height = np.interp(np.log(default), np.log(rates), means)
        axes.plot([default], [height], "|", markersize=18, markeredgewidth=2.5, color=style.colour)


def _mark_failures(axes: Axes, grid: LearningRateGrid, styles: Mapping[str, OptionStyle], direction: str) -> None:
    """A cross at the worst edge for every rate at which no run trained; crosses at one rate are stacked."""
    edge, step = (0.03, 0.055) if direction == "higher" else (0.97, -0.055)
    transform = axes.get_xaxis_transform()
    num_crosses: Counter[float] = Counter()
    for row in grid.rows:
        colour = styles[row.optimizer].colour
        for rate in (point.learning_rate for point in row.points if point.mean is None):
            height = edge + step * num_crosses[rate]
            axes.plot([rate], [height], "x", color=colour, markeredgewidth=2, transform=transform)
            num_crosses[rate] += 1
