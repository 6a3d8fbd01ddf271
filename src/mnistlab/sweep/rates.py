"""The learning rates of a tuned sweep: which are tried, and which is chosen. All follows from settings and scores, so
a sweep that was interrupted comes to the same rates again."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mnistlab.config import Config
from mnistlab.config.compose import Command, compose_config

LEARNING_RATE = "optimizer.learning_rate"
LABELS = ("optimizer", LEARNING_RATE, "seed")  # what tells the jobs of a tuned sweep apart
NUM_FURTHER = 2  # of the rates of an option, those that are chosen after the others
SEED_DISTANCE = 1000  # of the tuning's first seed from the comparison's
WITHOUT_RANGE = 30  # an optimizer without a range is tried from its rate / 30 to its rate * 30


@dataclass(frozen=True)
class TunedOption:
    """An optimizer. default: the learning rate of its file; low, high: of the rates that are tried first; has_range:
    whether a setting says so; best: the chosen rate, None as long as there is none, and then `why`."""

    name: str
    default: float
    low: float
    high: float
    has_range: bool
    best: float | None = None
    why: str = "its tuning has not ended"


@dataclass(frozen=True)
class Tuning:
    """How a sweep tunes. num_rates: learning rates per option; seeds: of each rate, none of the comparison's."""

    num_rates: int
    seeds: list[int]
    options: list[TunedOption]


def plan_tuning(configs: Sequence[Config]) -> Tuning:
    """The tuning of these jobs' optimizers, before anything has run. configs: of the comparison at the default rates,
    whose learning rates are positive numbers."""
    first, taken = configs[0], {config.seed for config in configs}
    seeds = (seed for seed in itertools.count(first.seed + SEED_DISTANCE) if seed not in taken)
    options = {config.choices["optimizer"]: _option(config) for config in configs}
    num_rates = first.sweep.tune or 0
    return Tuning(num_rates, list(itertools.islice(seeds, first.sweep.tune_seeds)), list(options.values()))


def _option(config: Config) -> TunedOption:
    default = float(config.optimizer["learning_rate"])
    low, high = config.sweep.tune_range or (default / WITHOUT_RANGE, default * WITHOUT_RANGE)
    return TunedOption(config.choices["optimizer"], default, low, high, bool(config.sweep.tune_range))


def first_rates(option: TunedOption, num_rates: int) -> list[float]:
    """The rates that are tried first: all but two, with equal factors between them from the lowest to the highest."""
    count = num_rates - NUM_FURTHER
    factor = (option.high / option.low) ** (1 / (count - 1))
    return _different([option.low * factor**index for index in range(count)], ())


def further_rates(scores: Mapping[float, float | None], higher: bool) -> list[float]:
    """The two rates to try last: beyond an edge of the grid if the best rate is there, otherwise on both sides of it.

    scores: rate -> mean objective; None where a run failed or diverged. If all did, the rates are too high: two below.
    """
    rates, best = sorted(scores), best_rate(scores, higher)
    factor = (rates[-1] / rates[0]) ** (1 / (len(rates) - 1))
    if best is None or best == rates[0]:
        wanted = [rates[0] / factor, rates[0] / factor**2]
    elif best == rates[-1]:
        wanted = [best * factor, best * factor**2]
    else:
        place = rates.index(best)
        wanted = [math.sqrt(best * rates[place - 1]), math.sqrt(best * rates[place + 1])]
    return _different(wanted, rates)


def best_rate(scores: Mapping[float, float | None], higher: bool) -> float | None:
    """The rate with the best score, of equal ones the lowest; None if no rate has a score."""
    scored = {rate: score if higher else -score for rate, score in sorted(scores.items()) if score is not None}
    return max(scored, key=lambda rate: scored[rate]) if scored else None


def choose(option: TunedOption, scores: Mapping[float, float | None], higher: bool) -> TunedOption:
    """The option with its best rate; scores: as for `further_rates`, of all rates."""
    best = best_rate(scores, higher)
    why = "" if best is not None else f"at each of its {len(scores)} learning rates a run failed or diverged"
    return replace(option, best=best, why=why)


def with_rate(command: Command, config: Config, rate: float, seed: int) -> Config:
    """A job of the comparison at a default rate, with this rate and seed instead."""
    kept = [entry for entry in config.overrides if not entry.startswith("seed=")]
    overrides = [*kept, f"{LEARNING_RATE}={rate!r}", f"seed={seed}"]
    return compose_config(overrides, command.config_name, command.config_dir, typed=False)


def _different(rates: Sequence[float], taken: Sequence[float]) -> list[float]:
    """The rates with two digits, or with as many as they need to differ from each other and from those taken."""
    for digits in range(2, 17):
        rounded = [float(f"{rate:.{digits}g}") for rate in rates]
        if len({*rounded, *taken}) == len(rates) + len(taken):
            return rounded
    return list(rates)
