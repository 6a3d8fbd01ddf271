"""Axes on which every value has its place: even for most options, compressed beyond them, so that none is cropped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from mnistlab.comparison import layout
from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import INK
from mnistlab.comparison.wording import is_fraction

COMPRESSED = 0.2  # the share of an axis beyond its edge
CLOSE = 0.25  # options that span at most this share of the range of all are set apart from the others
GAP = 4  # times the span of a group of fewer than half of the options: then the next option is behind a gap
REACH = 2.0  # the even part goes this many times the spread of the final values beyond the worst of them
WORTHWHILE = 2.5  # times the even part: the least range that is compressed
LONGER = 4  # times as long as most options: then the time axis is compressed
LOG_FACTOR = 4
COMPRESSED_NOTE = "grey: compressed scale"
STEPS = (1, 2, 2.5, 5, 10)
EPOCH_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
DECADES = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9))


@dataclass(frozen=True)
class Scale:
    """The range of an axis. edge: where the compressed part begins, below it (side "low") or above it; None without.

    logarithmic: equal distances are equal factors; low is positive then.
    """

    low: float
    high: float
    edge: float | None = None
    side: Literal["low", "high"] = "low"
    logarithmic: bool = False

    def position(self, values: Any) -> Floats:
        """Where values are on the axis, from 0 to 1; those outside the range are at its ends."""
        knots, positions = self._knots()
        return np.asarray(np.interp(self._even(values), knots, positions))

    def value(self, positions: Any) -> Floats:
        """The values at these positions: the inverse of `position`."""
        knots, at = self._knots()
        found = np.interp(positions, at, knots)
        return np.asarray(10**found if self.logarithmic else found)

    def ticks(self, spacing: float) -> list[float]:
        """Round values at least `spacing`, a share of the axis, apart; in the compressed part as well."""
        parts = [(self.low, self.high)]
        if self.edge is not None:
            parts = [(self.edge, self.high), (self.low, self.edge)]
            parts = parts if self.side == "low" else [(self.low, self.edge), (self.edge, self.high)]
        found: list[float] = []
        for low, high in parts:
            fitting = [ticks for ticks in self._rounds(low, high) if self._are_apart([*found, *ticks], spacing)]
            found += fitting[int(np.argmax([len(ticks) for ticks in fitting]))] if fitting else []
        return sorted(found)

    def _knots(self) -> tuple[Floats, Floats]:
        if self.edge is None:
            return self._even([self.low, self.high]), np.array([0.0, 1.0])
        at_edge = COMPRESSED if self.side == "low" else 1 - COMPRESSED
        return self._even([self.low, self.edge, self.high]), np.array([0.0, at_edge, 1.0])

    def _even(self, values: Any) -> Floats:
        given = np.asarray(values, dtype=float)
        return np.log10(np.maximum(given, self.low)) if self.logarithmic else given

    def _rounds(self, low: float, high: float) -> Iterator[list[float]]:
        """Lists of round values in a range, with ever more of them, and single ones."""
        found: list[list[float]] = []
        if self.logarithmic:
            powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
            found += [[10.0**power for power in powers if power % every == 0] for every in (4, 2)]
            found += [[digit * 10.0**power for power in powers for digit in digits] for digits in DECADES]
        if not self.logarithmic or high < 10 * low:
            locators = [MaxNLocator(bins, steps=STEPS) for bins in range(1, 12)]
            found += [[float(value) for value in locator.tick_values(low, high)] for locator in locators]
        for values in found:
            inside = [value for value in values if low <= value <= high]
            yield from (inside, inside[:1], inside[-1:])

    def _are_apart(self, values: Sequence[float], spacing: float) -> bool:
        positions = np.sort(self.position(values))
        return bool(np.all(np.diff(positions) >= spacing))


def choose_scale(
    finals: Mapping[str, float], values: Mapping[str, Iterable[float]], direction: str, logarithmic: bool = False
) -> Scale:
    """A range of all values in which the best options are distinguishable.

    Where most options are close together and the others are far off on the worse side, or where curves come from
    far off, the worse side is compressed. finals: each option's final value. values: all
    values drawn for it. logarithmic: if the values are positive and span more than a factor of four.
    """
    everything = np.array([value for drawn in values.values() for value in drawn], dtype=float)
    everything = everything[np.isfinite(everything)]
    logarithmic = logarithmic and everything.min() > 0 and everything.max() > LOG_FACTOR * everything.min()
    sign = 1.0 if direction == "higher" else -1.0

    def goodness(given: Any) -> Floats:
        return sign * (np.log10(given) if logarithmic else np.asarray(given, dtype=float))

    close = _close_together({name: float(goodness(value)) for name, value in finals.items()})
    ends = goodness([finals[name] for name in close])
    drawn = goodness([value for name in close for value in values[name] if np.isfinite(value)])
    worst, best = float(goodness(everything).min()), float(goodness(everything).max())
    edge = max(drawn.min(), min(ends.min() - REACH * np.ptp(ends), float(np.quantile(drawn, 0.25))))
    edge -= 0.04 * (best - edge)
    compressed = edge - worst > WORTHWHILE * (best - edge) > 0
    margin = 0.05 * (best - (edge if compressed else worst)) or 0.05 * abs(best) or 0.05
    limits = [worst - (0.35 * (edge - worst) if compressed else margin), best + margin, edge]
    low, high, at = (float(10 ** (sign * limit)) if logarithmic else sign * float(limit) for limit in limits)
    side: Literal["low", "high"] = "low" if sign > 0 else "high"
    return Scale(min(low, high), max(low, high), at if compressed else None, side, logarithmic)


def common_scale(scales: Sequence[Scale]) -> Scale:
    """One linear scale for several panels; compressed where no panel has its even part. All have the same side."""
    low, high, side = min(one.low for one in scales), max(one.high for one in scales), scales[0].side
    if side == "low":
        edge = min(one.low if one.edge is None else one.edge for one in scales)
        return Scale(low, high, edge if edge - low > WORTHWHILE * (high - edge) else None, side)
    edge = max(one.high if one.edge is None else one.edge for one in scales)
    return Scale(low, high, edge if high - edge > WORTHWHILE * (edge - low) else None, side)


def time_scale(ends: Mapping[str, float]) -> Scale:
    """From zero to the last of the options' ends; compressed beyond most of them if others take far longer."""
    found = choose_scale(ends, {name: [0.0, end] for name, end in ends.items()}, "lower")
    last = max(ends.values())
    if found.edge is None or last < LONGER * found.edge:
        return Scale(0.0, 1.05 * last)
    return Scale(0.0, found.high, found.edge, "high")


def set_scale(
    axes: Axes, scale: Scale, objective: str, which: Literal["x", "y"] = "y", *, inset: float = 0.0, size: float = 8.5
) -> None:
    """Give an axis the scale, with as many ticks as fit, and shade its compressed part.

    inset: inches at both ends without a tick, so that the labels do not reach into the next panel. size: of the
    labels, in points.
    """
    axis = axes.yaxis if which == "y" else axes.xaxis
    set_limits, set_ticks = (axes.set_ylim, axes.set_yticks) if which == "y" else (axes.set_xlim, axes.set_xticks)
    if scale.edge is not None:
        functions = {"functions": (scale.position, scale.value)}
        (axes.set_yscale if which == "y" else axes.set_xscale)("function", **functions)
    elif scale.logarithmic:
        (axes.set_yscale if which == "y" else axes.set_xscale)("log")
    set_limits(scale.low, scale.high)
    axis.set_minor_locator(NullLocator())
    format_values(axis, objective)
    inches = (axes.bbox.height if which == "y" else axes.bbox.width) / axes.figure.dpi
    for spacing in (0.18,) if which == "y" else (0.3, 0.4, 0.5, 0.6, 0.8):
        ticks = [tick for tick in scale.ticks(spacing / inches) if not is_fraction(objective) or 0 <= tick <= 1]
        ticks = [tick for tick in ticks if inset <= scale.position(tick) * inches <= inches - inset]
        texts = [axis.get_major_formatter()(tick) for tick in ticks]
        if which == "y" or layout.text_inches(texts, size) + 0.1 <= spacing:
            break
    set_ticks(ticks)
    axes.tick_params(axis=which, labelsize=size)
    if scale.edge is not None:
        shade = axes.axhspan if which == "y" else axes.axvspan
        outer = scale.low if scale.side == "low" else scale.high
        shade(outer, scale.edge, color=INK, alpha=0.09, linewidth=0, zorder=0)


def epoch_scale(axes: Axes, last: float) -> None:
    """A horizontal axis of whole epochs from 1: there is no epoch 0."""
    margin = min(0.5, max(0.04 * last, 0.15))
    axes.set_xlim(1 - margin, last + margin)
    spacing = 0.32 * axes.figure.dpi / axes.bbox.width * (last - 1 + 2 * margin)  # epochs that a label takes
    step = next(step for step in EPOCH_STEPS if step >= min(spacing, EPOCH_STEPS[-1]))
    first = 1 + step if step < 5 else step
    further = [epoch for epoch in range(first, int(last) + 1, step) if epoch - 1 >= spacing]
    axes.set_xticks([1, *further], [f"{epoch}" for epoch in [1, *further]])


def format_values(axis: Any, objective: str) -> None:
    """Per cent for accuracies, plain numbers otherwise; powers of ten only for huge ones; no offsets."""
    if is_fraction(objective):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    else:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}".replace("e+0", "e")))
        axis.set_minor_formatter(NullFormatter())


def _close_together(goodness: Mapping[str, float]) -> list[str]:
    """The most options that are close to the best: half of all, or fewer with a gap behind them; otherwise all."""
    ordered = sorted(goodness, key=lambda name: -goodness[name])
    behind = [goodness[ordered[0]] - goodness[name] for name in ordered]
    for count in range(len(ordered) - 1, 1, -1):
        span, following = behind[count - 1], behind[count]
        if span <= CLOSE * behind[-1] and (2 * count >= len(ordered) or following > max(GAP * span, behind[-1] / 2)):
            return ordered[:count]
    return ordered
