"""The names of a run's validation results: at its saved epoch and over all epochs; which one a sweep ranks by.

`best_epoch_val_accuracy` is the value at the epoch `best_epoch`: the best one by `save.monitor`, or the last one with
`save.which=last`. `max_val_accuracy` and `min_val_loss` are the best values of any epoch.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from mnistlab.config.metric_names import metric_direction, metric_names
from mnistlab.config.schema import Config

BEST_EPOCH = "best_epoch_"
EXTREMES = ("max_val_", "min_val_")
AUTO = "auto"
USUAL_OBJECTIVE = f"{BEST_EPOCH}val_accuracy"
USUAL_MONITOR = "val_loss"
# 'best_val_accuracy', as earlier versions said; not the parent runs' 'best_mean_best_epoch_val_accuracy'.
OLD_NAME = re.compile(r"best_(?!epoch$|epoch_|(?:mean|child)_(?:best_|max_val_|min_val_|train_seconds))(.+)")


def current_name(name: str) -> str:
    """The present name of a final metric: 'best_val_accuracy' -> 'best_epoch_val_accuracy'; other names stay."""
    old = OLD_NAME.fullmatch(name)
    return f"{BEST_EPOCH}{old[1]}" if old else name


def extreme_name(metric: str) -> str | None:
    """'val_accuracy' -> 'max_val_accuracy', 'val_loss' -> 'min_val_loss'; None for other metrics than those of the
    validation, and if it is not known whether a higher value is better."""
    direction = metric_direction(metric) if metric.startswith("val_") else None
    return f"{'max' if direction == 'higher' else 'min'}_{metric}" if direction else None


def extremes(history: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The best value of any epoch of each validation metric whose direction is known: {'max_val_accuracy': 0.95}.

    history: metric -> a value per epoch. Values that are not finite do not count.
    """
    found = {}
    for metric, values in history.items():
        finite = [value for value in values if math.isfinite(value)]
        if finite and (name := extreme_name(metric)):
            found[name] = max(finite) if name.startswith("max_") else min(finite)
    return found


def usual_objective(monitor: str, metrics: Iterable[str]) -> str:
    """What `sweep.objective=auto` stands for: the monitored metric, if it is another than the default; else the
    accuracy; the loss if the accuracy is not recorded.

    monitor: `save.monitor`; metrics: the names of `fit.metrics`, as they are recorded.
    """
    names = list(metrics)
    if monitor != USUAL_MONITOR and monitor.removeprefix("val_") in ("loss", *names):
        return f"{BEST_EPOCH}{monitor}"
    return USUAL_OBJECTIVE if "accuracy" in names else f"{BEST_EPOCH}val_loss"


def resolve_objective(config: Config) -> None:
    """Replace `auto`, and a name of an earlier version, by the name of a recorded metric."""
    given = config.sweep.objective
    usual = usual_objective(config.save.monitor, metric_names(config.fit.metrics))
    config.sweep.objective = usual if given == AUTO else current_name(given)
