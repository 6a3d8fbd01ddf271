"""The space of a search: which settings vary and how, in Hydra's notation for sweeps.

`a,b` and `choice(a,b)` are choices; `interval(1e-4,0.1)` is a range of numbers; `int(interval(1,9))` is one of whole
numbers, and so is `interval(1,9)` for a setting that is a whole number; `tag(log,interval(1e-4,0.1))` is one on a
logarithmic scale; `range(16,129,16)` has steps. Settings that only one choice has stand in `sweep.only_with`:
`optimizer: {momentum: {optimizer.momentum: "interval(0.5,0.99)"}}`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from mnistlab.config.schema import Config, ConfigError, parameters
from mnistlab.config.sweep_size import count_values

DIGITS = 4  # of a real number that a search chooses
NOT_SEARCHED = ("seed", "sweep", "launch", "hydra", "paths", "tracking", "run", "explain", "deterministic")
Value = str | int | float


@dataclass(frozen=True)
class Dimension:
    """One setting of a space.

    condition: the choice that it belongs to, 'optimizer=momentum', or ''; choices: as on the command line, none for
    numbers; low, high: both included; step: between them, None for any number; whole: only whole numbers; log: on a
    logarithmic scale.
    """

    setting: str
    condition: str = ""
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    whole: bool = False
    log: bool = False

    @property
    def name(self) -> str:
        """The setting, with its condition if there is one."""
        return f"{self.setting} ({self.condition})" if self.condition else self.setting

    @property
    def ends(self) -> tuple[Value, ...]:
        """All choices, or the lowest and the highest number."""
        return self.choices or (self.number(self.low), self.number(self.high))

    def number(self, value: float) -> Value:
        """A number of this range as the jobs get it: with four digits, within the range."""
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def override(self, value: Value) -> str:
        """The override that gives a job this value."""
        return f"{self.setting}={value}"

    def describe(self) -> str:
        """The dimension in words: 'optimizer.learning_rate: 0.0001 to 0.1, logarithmic'."""
        if self.choices:
            return f"{self.name}: {', '.join(self.choices)}"
        steps = f", in steps of {self.step:g}" if self.step and not (self.whole and self.step == 1) else ""
        return f"{self.name}: {self.low:g} to {self.high:g}{steps}{', logarithmic' if self.log else ''}"


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions of a search, conditional ones after those that they depend on.

    fixed: the overrides of all trials; choices: setting -> value without a trial, for conditions on what does not vary.
    """

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]
    choices: Mapping[str, str]

    @property
    def settings(self) -> list[str]:
        """The settings that vary."""
        return list(dict.fromkeys(dimension.setting for dimension in self.dimensions))

    def describe(self) -> list[str]:
        """A line for each dimension."""
        return [dimension.describe() for dimension in self.dimensions]

    def active(self, values: Mapping[str, Value]) -> Iterator[Dimension]:
        """The dimensions that a trial has. values: of the dimensions before, by name; it may grow meanwhile."""
        for dimension in self.dimensions:
            setting, _, wanted = dimension.condition.partition("=")
            if not setting or str(values.get(setting, self.choices.get(setting))) == wanted:
                yield dimension

    def overrides(self, values: Mapping[str, Value]) -> list[str]:
        """The overrides of the trial with these values, by the dimensions' names."""
        return [*self.fixed, *(one.override(values[one.name]) for one in self.dimensions if one.name in values)]

    def edges(self) -> list[dict[str, Value]]:
        """Trials that between them have every choice and both ends of every range: to check what can be checked."""
        first = self._completed({})
        found = [first]
        for dimension in self.dimensions:
            setting, _, wanted = dimension.condition.partition("=")
            needed = {setting: wanted} if any(one.setting == setting for one in self.dimensions) else {}
            for end in dimension.ends:
                trial = self._completed({**needed, dimension.name: end})
                if dimension.name in trial and trial not in found:
                    found.append(trial)
        return found

    def _completed(self, given: Mapping[str, Value]) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for dimension in self.active(values):
            values[dimension.name] = given.get(dimension.name, dimension.ends[0])
        return values


def read_space(given: Sequence[Override], first: Config, parse: Callable[[list[str]], list[Override]]) -> SearchSpace:
    """The space that the overrides and `sweep.only_with` describe.

    given: of the sweep's file and the command line, the later ones first in rank; first: the configuration without what
    varies; parse: Hydra's parser of overrides.

    Raises:
        ConfigError: all that is wrong with the space.
    """
    last = {one.get_key_element().lstrip("+"): one for one in given if not one.is_hydra_override()}
    fixed = [one.input_line or "" for one in last.values() if not one.is_sweep_override()]
    varied = {key: one for key, one in last.items() if one.is_sweep_override()}
    settings_now = parameters(first)
    dimensions = [_dimension(key, one, "", settings_now.get(key)) for key, one in varied.items()]
    for condition, settings in _conditions(first).items():
        conditional = {key: text for key, text in settings.items() if key not in last}
        parsed = zip(conditional, parse([f"{key}={_text(text)}" for key, text in conditional.items()]), strict=True)
        dimensions += [_dimension(key, one, condition, settings_now.get(key)) for key, one in parsed]
    known = {name: str(value) for name, value in settings_now.items()}
    space = SearchSpace(tuple(dimensions), tuple(fixed), known)
    if problems := list(_problems(space)):
        raise ConfigError(problems)
    reachable = tuple(one for one in dimensions if not one.condition or _can_hold(one.condition, space))
    return SearchSpace(reachable, tuple(fixed), known)


def _can_hold(condition: str, space: SearchSpace) -> bool:
    setting, _, wanted = condition.partition("=")
    varied = [one.choices for one in space.dimensions if one.setting == setting]
    return any(wanted in choices for choices in varied) if varied else space.choices.get(setting) == wanted


def _conditions(first: Config) -> dict[str, Mapping[str, Any]]:
    """Condition, as 'optimizer=momentum' -> settings and their values."""
    groups = first.sweep.only_with or {}
    found = {}
    for group, choices in groups.items() if isinstance(groups, Mapping) else [("", groups)]:
        for choice, settings in choices.items() if isinstance(choices, Mapping) else [("", choices)]:
            if not isinstance(settings, Mapping):
                raise ConfigError(
                    "sweep.only_with must name groups, their choices, and the settings that a choice alone has: "
                    f"optimizer: {{momentum: {{optimizer.momentum: 'interval(0.5,0.99)'}}}}. Received: {groups}."
                )
            found[f"{group}={choice}"] = settings
    return found


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _dimension(setting: str, override: Override, condition: str, default: Any) -> Dimension:
    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high = float(value.start or 0), float(value.end or 0)
        if not math.isfinite(low) or not math.isfinite(high):
            raise ConfigError(f"{override.input_line} must have finite ends.")
        are_integers = isinstance(value.start, int) and isinstance(value.end, int)
        whole = are_integers or (type(default) is int and low.is_integer() and high.is_integer())
        return Dimension(setting, condition, (), low, high, None, whole, "log" in value.tags)
    if isinstance(value, RangeSweep):
        return _steps(setting, condition, value, count_values(override), override.input_line)
    if override.is_sweep_override():
        return Dimension(setting, condition, tuple(dict.fromkeys(override.sweep_string_iterator())))
    return Dimension(setting, condition, (str(override.get_value_element_as_str()),))


def _steps(setting: str, condition: str, value: RangeSweep, count: float, given: str | None) -> Dimension:
    """A range of this many values, which may be too many to list."""
    if math.isinf(count):
        raise ConfigError(f"{given} must have finite ends.")
    start, step = value.start or 0, value.step or 1
    ends = (float(start), float(start + step * (count - 1)))
    whole = isinstance(start, int) and isinstance(step, int)
    return Dimension(setting, condition, (), min(ends), max(ends), float(abs(step)), whole)


def _problems(space: SearchSpace) -> Iterator[str]:
    if not space.dimensions:
        yield (
            "A search needs settings that vary: optimizer=sgd,adam, "
            "'optimizer.learning_rate=tag(log,interval(0.0001,0.1))'. Received: none."
        )
    varied = {one.setting for one in space.dimensions if not one.condition}
    for dimension in space.dimensions:
        group = dimension.setting.split(".")[0]
        if group in NOT_SEARCHED:
            yield f"A search cannot vary {dimension.setting}: it has no effect on what is searched for, or on one run."
        if not dimension.choices and not dimension.low < dimension.high:
            received = f"{dimension.low:g} and {dimension.high:g}"
            yield f"{dimension.name} needs a lower and a higher end. Received: {received}."
        if dimension.log and dimension.low <= 0:
            yield f"{dimension.name} is logarithmic, so its lower end must be above 0. Received: {dimension.low:g}."
        setting = dimension.condition.partition("=")[0]
        if setting and setting not in varied and setting not in space.choices:
            yield f"sweep.only_with: {setting} is no setting of this search. Received: {dimension.condition}."
