"""Whether a higher or a lower value of a metric is better, by Keras's metric names."""

import re

from mnistlab.comparison.results import Direction

PREFIXES = ("best_", "val_", "test_", "train_")
IGNORED_ENDINGS = re.compile(r"_(\d+|score|rate|mean)$")  # auc_1, r2_score, true_positive_rate
LOWER = re.compile(
    r"(^|_)(loss|errors?|r?mse|mae|mape|msle|cross_?entropy|bce|kld|divergence|hinge|poisson|log_?cosh|huber|"
    r"perplexity|log_likelihood|nll|seconds|false_(positive|negative|discovery)s?)$"
)
HIGHER = re.compile(
    r"(^|_)(acc|accuracy|auc|precision|recall|sensitivity|specificity|f\d+|f_?beta|iou|io_u|top_(k|\d+)|top|"
    r"true_(positive|negative)s?|cosine_similarity|r2|precision_at_recall|recall_at_precision|"
    r"(pearson|concordance)_correlation|mcc|kappa)$"
)


def metric_direction(objective: str) -> Direction | None:
    """Whether a "higher" or a "lower" value of the metric is better; None if its name does not tell.

    objective: a Keras metric name, also with prefixes ("best_val_accuracy") and numbered by Keras ("auc_1"), or
    "train_seconds". Names of classes count as well ("MeanSquaredError").
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", objective).lower()
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    if re.match(r"neg(ated)?_", name):  # scikit-learn's neg_mean_squared_error: higher is better, but ask
        return None
    while not (LOWER.search(name) or HIGHER.search(name)):
        shorter = IGNORED_ENDINGS.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return "lower" if LOWER.search(name) else "higher"
