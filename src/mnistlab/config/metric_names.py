"""The names under which Keras records the entries of `fit.metrics`, known without importing Keras, and whether a higher
or a lower value of a metric is better."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from mnistlab.config.trust import FUNCTION_GETTERS

# Keras's names of classes where its rule, CamelCase -> snake_case, does not hold.
OTHER_NAMES = {"FBetaScore": "fbeta_score", "LogCoshError": "logcosh"}

# As in comparison/metric_names.py, which imports nothing of mnistlab; a test keeps the two together.
PREFIXES = ("best_epoch_", "best_", "max_", "min_", "val_", "test_", "train_")
IGNORED_ENDINGS = re.compile(r"_(\d+|score|rate|mean)$")  # auc_1, r2_score, true_positive_rate
TIME_TO_TARGET = re.compile(r"(seconds|steps|epochs)_to_(0?\.\d+|1|1\.0)")  # seconds_to_0.97: a validation accuracy
LOWER = re.compile(
    r"(^|_)(loss|errors?|r?mse|mae|mape|msle|cross_?entropy|bce|kld|divergence|hinge|poisson|log_?cosh|huber|"
    r"perplexity|log_likelihood|nll|seconds|false_(positive|negative|discovery)s?)$"
)
HIGHER = re.compile(
    r"(^|_)(acc|accuracy|auc|precision|recall|sensitivity|specificity|f\d+|f_?beta|iou|io_u|top_(k|\d+)|top|"
    r"true_(positive|negative)s?|cosine_similarity|r2|precision_at_recall|recall_at_precision|"
    r"(pearson|concordance)_correlation|mcc|kappa)$"
)


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


def metric_direction(metric: str) -> Literal["higher", "lower"] | None:
    """Whether a "higher" or a "lower" value is better, by Keras's names of metrics and of their classes, with any of
    `PREFIXES`; None if the name does not tell."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", metric).lower()  # KLDivergence
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    if TIME_TO_TARGET.fullmatch(name):
        return "lower"
    if re.match(r"neg(ated)?_", name):  # scikit-learn's neg_mean_squared_error: higher is better, but ask
        return None
    while not (LOWER.search(name) or HIGHER.search(name)):
        shorter = IGNORED_ENDINGS.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return "lower" if LOWER.search(name) else "higher"
