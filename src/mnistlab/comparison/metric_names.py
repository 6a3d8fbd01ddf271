"""What an objective's name says: the metric of the epochs that it is a value of, and whether a higher or a lower value
is better, by Keras's metric names.

best_epoch_val_accuracy is the val_accuracy of the run's saved epoch, max_val_accuracy the highest of all epochs.
"""

import re

from mnistlab.comparison.results import Direction

BEST_EPOCH = "best_epoch_"
PREFIXES = ("best_epoch_", "best_", "max_", "min_", "val_", "test_", "train_")
OF_EPOCHS = re.compile(r"(?:best_epoch_|(?:max|min)_(?=val_)|best_(?!epoch$))(.+)")  # best_: of earlier versions
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


def metric_direction(objective: str) -> Direction | None:
    """Whether a "higher" or a "lower" value of the metric is better; None if its name does not tell.

    objective: a Keras metric name, also with prefixes ("best_epoch_val_accuracy") and numbered by Keras ("auc_1"), or
    "train_seconds". Names of classes count as well ("MeanSquaredError").
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", objective).lower()
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


def curve_metric(objective: str) -> str:
    """The metric of the epochs that the objective is a value of: "val_accuracy" of "best_epoch_val_accuracy" and of
    "max_val_accuracy"; the name itself if it is of no epoch, such as "train_seconds"."""
    found = OF_EPOCHS.fullmatch(objective)
    return found[1] if found else objective


def counterpart(objective: str) -> str | None:
    """The other way to get one number of the same curve: "max_val_accuracy" for "best_epoch_val_accuracy" and the other
    way round; None for other metrics than those of the validation, and if the direction is not known."""
    metric = curve_metric(objective)
    direction = metric_direction(metric)
    if metric == objective or not metric.startswith("val_") or direction is None:
        return None
    extreme = f"{'max' if direction == 'higher' else 'min'}_{metric}"
    return f"{BEST_EPOCH}{metric}" if objective == extreme else extreme
