"""Learning-rate schedules that know the number of steps; `conf/schedule/` names them.

Each function takes the peak (`optimizer.learning_rate`) and the steps of the training from the run, and returns one of
Keras's own schedules: a saved model is loaded without mnistlab. Steps count from 0.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from mnistlab.config import ConfigError


def cosine(
    learning_rate: float, total_steps: int, steps_per_epoch: int, *, alpha: float = 0.0, warmup_epochs: float = 0.0
) -> LearningRateSchedule:
    """Linear from 0 to the learning rate in the first epochs, then down half a cosine until the end.

    Args:
        alpha: the rate after the last step, as a share of the learning rate: 0 <= alpha <= 1.
        warmup_epochs: how long the rate rises; may be a fraction of an epoch.
    """
    _check_number("alpha", alpha, "0 <= value <= 1", lambda value: 0 <= value <= 1)
    epochs = total_steps / steps_per_epoch
    _check_number(
        "warmup_epochs", warmup_epochs, f"0 <= value < fit.epochs, here {epochs:g}", lambda value: 0 <= value < epochs
    )
    warmup_steps = min(round(warmup_epochs * steps_per_epoch), total_steps - 1)
    return _warmup_and_cosine(0.0, learning_rate, alpha, warmup_steps, total_steps - warmup_steps)


def exponential(
    learning_rate: float, steps_per_epoch: int, *, decay_rate: float = 0.9, staircase: bool = False
) -> LearningRateSchedule:
    """The learning rate times `decay_rate` after each epoch.

    Args:
        decay_rate: of one epoch: 0 < decay_rate <= 1.
        staircase: one rate in an epoch; otherwise it falls at each step.
    """
    _check_number("decay_rate", decay_rate, "0 < value <= 1", lambda value: 0 < value <= 1)
    _check("staircase", staircase, isinstance(staircase, bool), "true or false")
    return keras.optimizers.schedules.ExponentialDecay(learning_rate, steps_per_epoch, decay_rate, staircase=staircase)


def piecewise(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    boundaries: Sequence[float],
    factors: Sequence[float],
) -> LearningRateSchedule:
    """The learning rate, and from each boundary on the learning rate times a factor.

    Args:
        boundaries: increasing; shares of all steps (0.5: half of them), or epochs (2: the third epoch has the next
            rate, 2.5: its second half), if one of them is 1 or more.
        factors: one for each boundary, all of the learning rate, not of the rate before.
    """
    boundaries, factors = _numbers("boundaries", boundaries), _numbers("factors", factors)
    increasing = all(low < high for low, high in itertools.pairwise([0.0, *boundaries]))
    _check("boundaries", boundaries, bool(boundaries) and increasing, "0 < first < next")
    epochs = total_steps / steps_per_epoch
    unit = total_steps if boundaries[-1] < 1 else steps_per_epoch
    _check("boundaries", boundaries, boundaries[-1] * unit < total_steps, f"last < fit.epochs, here {epochs:g}")
    if len(factors) != len(boundaries):
        raise ConfigError(
            "schedule.factors and schedule.boundaries must be equally many. "
            f"Received: {len(factors)} factors, {len(boundaries)} boundaries."
        )
    _check("factors", factors, all(factor >= 0 for factor in factors), "value >= 0")
    # Keras's boundary is the last step with the rate before.
    last_steps = [math.ceil(round(boundary * unit, 6)) - 1 for boundary in boundaries]
    rates = [learning_rate, *(learning_rate * factor for factor in factors)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(last_steps, rates)


def one_cycle(
    learning_rate: float,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> LearningRateSchedule:
    """Up to the learning rate in a line, then down half a cosine to almost 0 at the last step.

    Arguments, defaults and steps as in PyTorch's `OneCycleLR`, whose rise is half a cosine too. The linear rise is that
    of Smith and Topin (2018, arXiv:1708.07120).

    Args:
        pct_start: the share of the steps in which the rate rises: 0 <= pct_start < 1.
        div_factor: the first rate is the learning rate divided by this: >= 1.
        final_div_factor: the last rate is the first rate divided by this: >= 1.
    """
    _check_number("pct_start", pct_start, "0 <= value < 1", lambda value: 0 <= value < 1)
    _check_number("div_factor", div_factor, "value >= 1", lambda value: value >= 1)
    _check_number("final_div_factor", final_div_factor, "value >= 1", lambda value: value >= 1)
    warmup_steps = max(pct_start * total_steps - 1, 0.0)
    first, last = learning_rate / div_factor, 1 / (div_factor * final_div_factor)
    return _warmup_and_cosine(first, learning_rate, last, warmup_steps, max(total_steps - 1 - warmup_steps, 1.0))


def _warmup_and_cosine(
    first: float, peak: float, alpha: float, warmup_steps: float, decay_steps: float
) -> LearningRateSchedule:
    """From the first rate in a line to the peak, then half a cosine to alpha times the peak."""
    if warmup_steps <= 0:
        return keras.optimizers.schedules.CosineDecay(peak, decay_steps, alpha)
    return keras.optimizers.schedules.CosineDecay(
        first, decay_steps, alpha, warmup_target=peak, warmup_steps=warmup_steps
    )


def _numbers(name: str, values: Sequence[float]) -> list[float]:
    """The values as a list; one number is a list of one."""
    listed: list[Any] = list(values) if isinstance(values, list | tuple) else [values]
    if not all(_is_number(value) for value in listed):
        raise ConfigError(f"schedule.{name} must be a list of numbers. Received: {values}.")
    return [float(value) for value in listed]


def _check_number(name: str, value: float, rule: str, holds: Callable[[float], bool]) -> None:
    _check(name, value, _is_number(value) and holds(value), rule)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(name: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise ConfigError(f"schedule.{name} must satisfy {rule}. Received: {value}.")
