"""Figures of a comparison's numbers, within `style.drawing_settings`: final values, time to target, learning rates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnistlab.comparison import layout
from mnistlab.comparison.results import Comparison, LearningRateGrid, OptionSummary
from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import INK, OptionStyle, option_styles, shown_options
from mnistlab.comparison.wording import format_value


def final_values_figure(comparison: Comparison) -> Figure | None:
    """Each option's mean with its 95 % bootstrap interval; a small dot for every seed."""
    names = shown_options(comparison)
    options = [option for option in comparison.options if option.name in names and option.scores]
    if not options:
        return None
    finals = {option.name: option.mean for option in options if option.mean is not None}
    styles = option_styles(names)
    values = {option.name: [*option.scores, *(option.interval or ())] for option in options}
    span = layout.limited_range(finals, values, comparison.direction)
    title = f"{comparison.objective} ({comparison.direction} is better)"
    note = "Mean and 95 % bootstrap interval; small dots: seeds; arrow: outside the axis"
    figure = layout.new_figure(0.95 + 0.34 * len(options), title, note)
    labels = _option_labels(options)
    axes = layout.add_axes(figure, 0.2 + layout.text_inches(labels, 8.5), 0.5, 0.75, 0.4)
    axes.set_xlim(span.low, span.high)
    for row, option in enumerate(options):
        if option.name in span.outside:
            layout.draw_edge_arrow(axes, row, styles[option.name].colour, comparison.direction)
        else:
            _draw_final_value(axes, row, option, finals[option.name], styles[option.name])
        text = format_value(comparison.objective, option.mean)
        axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    layout.label_rows(axes, labels)
    layout.format_values(axes.xaxis, comparison.objective)
    axes.xaxis.set_major_locator(MaxNLocator(5))
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
    labels = [layout.shorten(option.name) for option in options]
    missed = [_describe_missed_targets(option) for option in options]
    note = f"Training {unit} (median over seeds) to the validation accuracy above the marker, in %"
    figure = layout.new_figure(0.95 + 0.4 * len(options), "Time to target", note)
    left, right = 0.2 + layout.text_inches(labels, 8.5), 0.15 + layout.text_inches(missed, 8)
    axes = layout.add_axes(figure, left, 0.5, right, 0.4)
    for row, option in enumerate(options):
        _draw_times(axes, row, times[option.name], styles[option.name])
        axes.text(1.03, row, missed[row], transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    layout.label_rows(axes, labels)
    layout.set_time_scale(axes, [time for option_times in times.values() for time in option_times])
    return figure


def learning_rate_figure(comparison: Comparison) -> Figure | None:
    """The objective over the learning rate, a line per optimizer, its best rate circled; None without a grid."""
    grid, objective, direction = comparison.grid, comparison.objective, comparison.direction
    best = {row.optimizer: row.best for row in grid.rows if row.best is not None} if grid else {}
    if grid is None or not best:
        return None
    curves = {
        row.optimizer: np.array([(p.learning_rate, p.mean, p.sd or 0.0) for p in row.points if p.mean is not None]).T
        for row in grid.rows
        if row.optimizer in best
    }
    styles = option_styles(row.optimizer for row in grid.rows)
    means = {name: curve[1] for name, curve in curves.items()}
    finals = {name: float(values.max() if direction == "higher" else values.min()) for name, values in means.items()}
    span = layout.limited_range(finals, means, direction)
    note = "Band: ± one standard deviation; circle: best; cross at the edge: every run failed"
    figure = layout.new_figure(3.5, f"{objective} by learning rate", note)
    right = 0.42 + layout.text_inches((f"{layout.shorten(name)} ↓ 00 %" for name in curves), 8.5)
    axes = layout.add_axes(figure, 0.62, 0.64, right, 0.38)
    axes.set(xscale="log", xlabel="Learning rate")
    for name, curve in curves.items():
        _draw_rates(axes, curve, styles[name], best[name])
    axes.set_ylim(span.low, span.high)
    _mark_failures(axes, grid, styles, direction)
    ends = {name: (curve[0, -1], curve[1, -1]) for name, curve in curves.items()}
    labels = {name: layout.end_label(layout.shorten(name), end, span, objective) for name, (_, end) in ends.items()}
    layout.label_curves(axes, ends, labels, styles, connect=True)
    layout.format_values(axes.yaxis, objective)
    layout.format_values(axes.xaxis, "rate")
    axes.grid(True)
    return figure


def _draw_final_value(axes: Axes, row: int, option: OptionSummary, mean: float, style: OptionStyle) -> None:
    below = [row + 0.24] * len(option.scores)
    axes.plot(option.scores, below, ".", color=style.colour, alpha=0.6, markersize=4, markeredgewidth=0)
    if option.interval:
        axes.plot(option.interval, [row, row], color=style.colour, linewidth=1.6, marker="|", markersize=7)
    axes.plot([mean], [row], marker=style.marker, color=style.colour, markersize=5.5)


def _option_labels(options: Sequence[OptionSummary]) -> list[str]:
    labels = []
    for option in options:
        num_failed = option.num_failed + option.num_diverged
        count = f"\n{num_failed} of {option.num_runs - option.num_unfinished} failed" if num_failed else ""
        labels.append(layout.shorten(option.name) + count)
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
    axes.plot(list(times), [row] * len(times), color=style.colour, marker=style.marker, markersize=6)
    for time, targets in times.items():
        axes.annotate(", ".join(targets), (time, row), (0, 5), textcoords="offset points", ha="center", fontsize=7.5)


def _draw_rates(axes: Axes, curve: Floats, style: OptionStyle, best: float) -> None:
    """One optimizer. curve: learning rates, means and standard deviations, shape (3, rates)."""
    rates, means, sds = curve
    axes.fill_between(rates, means - sds, means + sds, color=style.colour, alpha=0.16, linewidth=0)
    axes.plot(rates, means, color=style.colour, marker=style.marker)
    axes.plot([best], means[rates == best], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)


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
