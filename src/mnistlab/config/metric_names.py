"""The names under which Keras records the entries of `fit.metrics`, known without importing Keras."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mnistlab.config.trust import FUNCTION_GETTERS

# Keras's names of classes where its rule, CamelCase -> snake_case, does not hold.
OTHER_NAMES = {"FBetaScore": "fbeta_score", "LogCoshError": "logcosh"}


def metric_name(entry: Any) -> str:
    """The name of one entry of `fit.metrics`: the word itself; of a mapping its `name`, or Keras's name of the class
    (`keras.metrics.F1Score`: f1_score) or of the function (`hydra.utils.get_method` with `path: my_metrics.margin`:
    margin)."""
    if not isinstance(entry, Mapping):
        return str(entry)
    target = str(entry.get("_target_", ""))
    path = str(entry.get("path", "")) if target in FUNCTION_GETTERS else target
    last = path.rpartition(".")[2]
    return str(entry.get("name") or OTHER_NAMES.get(last) or _snake_case(last))


def metric_names(metrics: Iterable[Any]) -> list[str]:
    """The name of each entry, as it stands in the logs; with `val_` before it for the validation."""
    return [metric_name(entry) for entry in metrics]


def _snake_case(name: str) -> str:
    """As Keras names an object after its class: KLDivergence -> kl_divergence."""
    spaced = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", spaced).lower()
