"""Figures of a comparison's numbers: final values, time-to-target, learning-rate sensitivity."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

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
    label_rows,
    limited_range,
    nan_if_none,
    set_time_scale,
    shorten,
    text_inches,
)
from mnistlab.comparison.results import Comparison, GridPoint, OptionSummary
from mnistlab.comparison.style import INK, RC_PARAMS, OptionStyle, new_figure, option_styles, shown_options
from mnistlab.comparison.wording import format_value, is_fraction


def final_values_figure(comparison: Comparison) -> Figure | None:
    """Each option's mean with its 95 % bootstrap interval; a small dot for every seed."""
    names = shown_options(comparison)
    options = [option for option in comparison.options if option.name in names and option.scores]
    if not options:
        return None
    styles = option_styles(names)
    values = {option.name: [*option.scores, *(option.interval or ())] for option in options}
    finals = {option.name: nan_if_none(option.mean) for option in options}
    span = limited_range(finals, values, comparison.direction)
    with mpl.rc_context(RC_PARAMS):
        figure = new_figure(0.95 + 0.34 * len(options))
        left = 0.2 + text_inches(_option_labels(options), 8.5)
        axes = add_axes(figure, left, 0.5, 0.75, 0.4)
        axes.set_xlim(span.low, span.high)
        for row, option in enumerate(options):
            if option.name in span.outside:
                _draw_edge_arrow(axes, row, styles[option.name], comparison.direction)
            else:
                _draw_final_value(axes, row, option, styles[option.name])
            text = format_value(comparison.objective, option.mean)
            axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
        label_rows(axes, _option_labels(options))
        format_values(axes.xaxis, comparison.objective)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        add_title(figure, _finals_title(comparison))
        add_footnote(figure, "Mean and 95 % bootstrap interval; small dots: seeds; arrow: outside the axis")
    return figure


def time_to_target_figure(comparison: Comparison) -> Figure | None:
    """Median training seconds (or epochs, without times) to each target; None if no option reached one."""
    names = shown_options(comparison)
    options = [option for option in comparison.options if option.name in names]
    unit: Literal["seconds", "epochs"] = "seconds"
    if not any(target.seconds is not None for option in options for target in option.targets):
        unit = "epochs"
    times = {option.name: _times(option, unit) for option in options}
    if not any(times.values()):
        return None
    styles = option_styles(names)
    missed = [_describe_missed_targets(option) for option in options]
    with mpl.rc_context(RC_PARAMS):
        figure = new_figure(0.95 + 0.4 * len(options))
        labels = [shorten(option.name) for option in options]
        axes = add_axes(figure, 0.2 + text_inches(labels, 8.5), 0.5, 0.15 + text_inches(missed, 8), 0.4)
        for row, option in enumerate(options):
            _draw_times(axes, row, times[option.name], styles[option.name])
            axes.text(1.03, row, missed[row], transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        label_rows(axes, labels)
        set_time_scale(axes, [time for option_times in times.values() for time in option_times])
        add_title(figure, "Time to target")
        add_footnote(figure, f"Training {unit} (median over seeds) to the validation accuracy above the marker, in %")
    return figure


def learning_rate_figure(comparison: Comparison) -> Figure | None:
    """The objective over the learning rate, a line per optimizer, its best rate circled; None without a grid."""
    grid = comparison.grid
    if grid is None:
        return None
    curves = {
        row.optimizer: [point for point in row.points if point.mean is not None]
        for row in grid.rows
        if row.best is not None
    }
    if not curves:
        return None
    styles = option_styles(row.optimizer for row in grid.rows)
    best = {row.optimizer: row.best for row in grid.rows}
    finals = {name: _best_mean(points, comparison.direction) for name, points in curves.items()}
    values = {name: [nan_if_none(point.mean) for point in points] for name, points in curves.items()}
    with mpl.rc_context(RC_PARAMS):
        figure = new_figure(3.5)
        right = 0.42 + text_inches((f"{shorten(name)} ↓ 00 %" for name in curves), 8.5)
        axes = add_axes(figure, 0.62, 0.64, right, 0.38)
        axes.set_xscale("log")
        for name, points in curves.items():
            _draw_rates(axes, points, styles[name], best[name])
        span = limited_range(finals, values, comparison.direction)
        axes.set_ylim(span.low, span.high)
        _mark_failures(axes, comparison, styles)
        ends = {name: points[-1] for name, points in curves.items()}
        label_curves(
            axes,
            {name: (point.learning_rate, nan_if_none(point.mean)) for name, point in ends.items()},
            {name: _rate_label(name, point, span, comparison.objective) for name, point in ends.items()},
            styles,
            connect=True,
        )
        format_values(axes.yaxis, comparison.objective)
        format_values(axes.xaxis, "rate")
        add_title(figure, f"{comparison.objective} by learning rate")
        axes.set_xlabel("Learning rate")
        add_footnote(figure, "Band: ± one standard deviation; circle: best; cross at the edge: every run failed")
        axes.grid(True)
    return figure


def _draw_final_value(axes: Axes, row: int, option: OptionSummary, style: OptionStyle) -> None:
    below = [row + 0.24] * len(option.scores)
    axes.plot(option.scores, below, ".", color=style.colour, alpha=0.6, markersize=4, markeredgewidth=0)
    if option.interval:
        axes.plot(option.interval, [row, row], color=style.colour, linewidth=1.6, marker="|", markersize=7)
    axes.plot([nan_if_none(option.mean)], [row], marker=style.marker, color=style.colour, markersize=5.5)


def _draw_edge_arrow(axes: Axes, row: int, style: OptionStyle, direction: str) -> None:
    """An arrow towards a value outside the axis."""
    ends = (0.12, 0.01) if direction == "higher" else (0.88, 0.99)
    axes.annotate(
        "",
        (ends[1], row),
        (ends[0], row),
        xycoords=axes.get_yaxis_transform(),
        arrowprops={"arrowstyle": "->", "color": style.colour, "linewidth": 1.6},
    )


def _option_labels(options: Sequence[OptionSummary]) -> list[str]:
    labels = []
    for option in options:
        num_failed = option.num_failed + option.num_diverged
        count = f"\n{num_failed} of {option.num_runs - option.num_unfinished} failed" if num_failed else ""
        labels.append(shorten(option.name) + count)
    return labels


def _finals_title(comparison: Comparison) -> str:
    better = "higher" if comparison.direction == "higher" else "lower"
    return f"{comparison.objective} ({better} is better)"


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
    missed = [target for target in option.targets if target.num_reached < target.num_runs]
    unreached = [f"{100 * target.target:g}" for target in missed if target.num_reached == 0]
    reached = [
        f"{100 * target.target:g} %: {target.num_reached} of {target.num_runs}"
        for target in missed
        if target.num_reached
    ]
    return "\n".join([*reached, *([f"not {', '.join(unreached)} %"] if unreached else [])])


def _draw_times(axes: Axes, row: int, times: Mapping[float, Sequence[str]], style: OptionStyle) -> None:
    axes.plot(list(times), [row] * len(times), color=style.colour, marker=style.marker, markersize=6)
    for time, targets in times.items():
        axes.annotate(", ".join(targets), (time, row), (0, 5), textcoords="offset points", ha="center", fontsize=7.5)


def _draw_rates(axes: Axes, points: Sequence[GridPoint], style: OptionStyle, best: float | None) -> None:
    rates = [point.learning_rate for point in points]
    means = np.array([nan_if_none(point.mean) for point in points])
    sds = np.array([point.sd or 0.0 for point in points])
    axes.fill_between(rates, means - sds, means + sds, color=style.colour, alpha=0.16, linewidth=0)
    axes.plot(rates, means, color=style.colour, marker=style.marker)
    if best is not None:
        value = means[rates.index(best)]
        axes.plot([best], [value], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)


def _rate_label(name: str, point: GridPoint, span: LimitedRange, objective: str) -> str:
    """The optimizer's name, with its value if the last rate is outside the axis."""
    mean = nan_if_none(point.mean)
    if span.low <= mean <= span.high:
        return shorten(name)
    value = f"{100 * mean:.0f} %" if is_fraction(objective) else f"{mean:.2g}"
    return f"{shorten(name)} {'↓' if mean < span.low else '↑'} {value}"


def _mark_failures(axes: Axes, comparison: Comparison, styles: Mapping[str, OptionStyle]) -> None:
    """A cross at the worst edge for every rate at which no run trained; crosses at one rate are stacked."""
    edge, step = (0.03, 0.055) if comparison.direction == "higher" else (0.97, -0.055)
    num_crosses: dict[float, int] = {}
    for row in comparison.grid.rows if comparison.grid else ():
        for point in row.points:
            if point.mean is None and row.optimizer in styles:
                height = edge + step * num_crosses.get(point.learning_rate, 0)
                num_crosses[point.learning_rate] = num_crosses.get(point.learning_rate, 0) + 1
                style: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": styles[row.optimizer].colour}
                axes.plot([point.learning_rate], [height], "x", markeredgewidth=2, **style)


def _best_mean(points: Sequence[GridPoint], direction: str) -> float:
    means = [nan_if_none(point.mean) for point in points]
    return max(means) if direction == "higher" else min(means)
