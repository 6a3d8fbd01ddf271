"""Directions by Keras's metric names."""

import pytest
from synthetic_runs import scores_as_runs

from mnistlab.comparison import compare, metric_direction
from mnistlab.comparison.metric_names import counterpart, curve_metric
from mnistlab.config import metric_names as known_to_a_training
from mnistlab.config.objectives import extreme_name

LOWER_NAMES = """loss val_loss best_epoch_val_loss best_val_loss min_val_loss best_epoch_loss train_seconds
    epoch_seconds mse mae mape msle rmse error error_rate
    mean_squared_error mean_absolute_error mean_absolute_percentage_error mean_squared_logarithmic_error
    root_mean_squared_error binary_crossentropy categorical_crossentropy sparse_categorical_crossentropy cross_entropy
    kl_divergence KLDivergence hinge squared_hinge categorical_hinge poisson logcosh log_cosh log_cosh_error huber
    false_positives false_negatives false_positives_1 false_positive_rate MeanSquaredError accuracy_loss"""
HIGHER_NAMES = """accuracy acc val_accuracy best_epoch_val_accuracy best_val_accuracy max_val_accuracy binary_accuracy
    sparse_categorical_accuracy auc AUC auc_2 precision recall precision_at_recall recall_at_precision
    sensitivity_at_specificity f1_score fbeta_score
    f_beta_score f1 iou mean_iou io_u mean_io_u one_hot_mean_io_u MeanIoU top_k top_5 top_k_categorical_accuracy
    sparse_top_k_categorical_accuracy true_positives true_negatives cosine_similarity r2_score r2"""
LOWER, HIGHER = LOWER_NAMES.split(), HIGHER_NAMES.split()
UNKNOWN = ["mean", "sum", "score", "best_epoch", "learning_rate", "my_metric", "neg_mean_squared_error", "lossless"]


@pytest.mark.parametrize("name", [*LOWER, *HIGHER, *UNKNOWN])
def test_a_training_knows_the_same_directions(name):
    """Two copies: a comparison imports nothing of mnistlab, and a training must not import the comparison."""
    for prefix in ("", "val_", "best_epoch_val_"):
        assert known_to_a_training.metric_direction(prefix + name) == metric_direction(prefix + name)
    assert extreme_name(f"val_{name}") == counterpart(f"best_epoch_val_{name}")


@pytest.mark.parametrize("prefix", ["", "val_", "best_epoch_val_"])
def test_directions_of_keras_metrics(prefix):
    assert {name: metric_direction(prefix + name) for name in LOWER} == dict.fromkeys(LOWER, "lower")
    assert {name: metric_direction(prefix + name) for name in HIGHER} == dict.fromkeys(HIGHER, "higher")


@pytest.mark.parametrize(
    ("objective", "metric", "other"),
    [
        ("best_epoch_val_accuracy", "val_accuracy", "max_val_accuracy"),
        ("max_val_accuracy", "val_accuracy", "best_epoch_val_accuracy"),
        ("best_epoch_val_loss", "val_loss", "min_val_loss"),
        ("min_val_loss", "val_loss", "best_epoch_val_loss"),
        ("best_val_accuracy", "val_accuracy", "max_val_accuracy"),  # of an earlier version
        ("best_epoch_loss", "loss", None),
        ("best_epoch_val_mine", "val_mine", None),
        ("best_epoch_val_max_error", "val_max_error", "min_val_max_error"),
        ("max_error", "max_error", None),
        ("train_seconds", "train_seconds", None),
        ("best_epoch", "best_epoch", None),
    ],
)
def test_an_objective_is_a_value_of_a_curve(objective, metric, other):
    assert (curve_metric(objective), counterpart(objective)) == (metric, other)


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_names_have_no_direction(name):
    assert metric_direction(name) is None


def test_an_unknown_direction_must_be_given():
    records = scores_as_runs([[0.1, 0.2], [0.3, 0.5]], "val_score")
    with pytest.raises(
        ValueError, match=r"^direction: whether a higher or a lower val_score is better does not follow"
    ):
        compare(records, objective="val_score")
    assert compare(records, objective="val_score", direction="lower").options[0].name == "a"
    assert compare(records, objective="val_score", direction="higher").options[0].name == "b"
