"""Keras's names of losses, metrics and activations, to find misspelt ones before Keras and the data are loaded."""

import difflib
from collections.abc import Iterator, Sequence

from mnistlab.config.schema import Config

CROSSENTROPIES = {
    "one_hot": "categorical_crossentropy",
    "integer": "sparse_categorical_crossentropy",
    "binary": "binary_crossentropy",
}
LABELS = {"categorical": "one_hot", "sparse": "integer", "binary": "binary"}  # of data.class_mode
_names = str.split
LOSS_CLASSES = _names("""
    BinaryCrossentropy BinaryFocalCrossentropy CategoricalCrossentropy CategoricalFocalCrossentropy CategoricalHinge
    Circle CosineSimilarity CTC Dice Hinge Huber KLDivergence LogCosh Loss LossFunctionWrapper MeanAbsoluteError
    MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson SparseCategoricalCrossentropy
    SquaredHinge Tversky BCE KLD MAE MAPE MSE MSLE
""")
LOSSES = _names("""
    auto binary_crossentropy binary_focal_crossentropy categorical_crossentropy categorical_focal_crossentropy
    categorical_hinge circle cosine_similarity ctc dice hinge huber kl_divergence log_cosh mean_absolute_error
    mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error poisson
    sparse_categorical_crossentropy squared_hinge tversky bce kld mae mape mse msle
""")
METRIC_CLASSES = _names("""
    Accuracy AUC BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy CategoricalCrossentropy
    CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score FBetaScore FalseNegatives FalsePositives Hinge
    IoU KLDivergence LogCoshError Mean MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanMetricWrapper
    MeanSquaredError MeanSquaredLogarithmicError Metric OneHotIoU OneHotMeanIoU PearsonCorrelation Poisson Precision
    PrecisionAtRecall R2Score Recall RecallAtPrecision RootMeanSquaredError SensitivityAtSpecificity
    SparseCategoricalAccuracy SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy SpecificityAtSensitivity
    SquaredHinge Sum TopKCategoricalAccuracy TrueNegatives TruePositives BCE MAE MAPE MSE MSLE
""")
METRICS = _names("""
    acc accuracy auc binary_accuracy binary_crossentropy binary_io_u categorical_accuracy crossentropy
    categorical_crossentropy categorical_hinge concordance_correlation cosine_similarity f1_score f_beta_score
    false_negatives false_positives hinge io_u kl_divergence log_cosh_error mae mape mean mean_absolute_error
    mean_absolute_percentage_error mean_io_u mean_metric_wrapper mean_squared_error mean_squared_logarithmic_error
    metric mse msle one_hot_io_u one_hot_mean_io_u pearson_correlation poisson precision precision_at_recall
    r2_score recall recall_at_precision root_mean_squared_error sensitivity_at_specificity
    sparse_categorical_accuracy sparse_categorical_crossentropy sparse_top_k_categorical_accuracy
    specificity_at_sensitivity squared_hinge sum top_k_categorical_accuracy true_negatives true_positives bce
""")
USUAL_METRICS = (
    *("accuracy", "auc", "f1_score", "precision", "recall", "categorical_accuracy", "sparse_categorical_accuracy"),
    *("top_k_categorical_accuracy", "binary_accuracy", *CROSSENTROPIES.values(), "mean_squared_error"),
)
ACTIVATIONS = (
    *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish"),
    *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid"),
    *("silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax"),
    *("squareplus", "swish", "tanh", "tanh_shrink", "threshold"),
)
OTHER_NAMES = {"f1": "f1_score", "top_k": "top_k_categorical_accuracy", "l2": "mean_squared_error"}
CROSSENTROPY_WORDS = ("crossentropy", "ce", "nll", "logloss", "softmax", "softmaxcrossentropy", "xent")


def name_problems(config: Config) -> Iterator[str]:
    """Misspelt names of losses, metrics and activations. Names that resemble none may be the user's: Keras decides."""
    loss, metrics = config.fit.loss, config.fit.metrics
    if isinstance(loss, str) and loss not in LOSS_CLASSES and (near := _meant(loss, LOSSES, config)):
        choices = ", ".join(name for name in LOSSES if len(name) > 4 or name == "auto")
        yield (
            f"fit.loss={loss} is not known to Keras. Did you mean {near}? "
            f"auto is the cross-entropy that fits data.labels. Choices: {choices}."
        )
    for metric in metrics if isinstance(metrics, list) else ():
        if isinstance(metric, str) and metric not in METRIC_CLASSES and (near := _meant(metric, METRICS, config)):
            yield (
                f"fit.metrics=[{metric}] is not known to Keras. Did you mean {near}? "
                f"Usual choices: {', '.join(USUAL_METRICS)}."
            )
    activation = config.model.get("activation")
    of_mnistlab = str(config.model.get("_target_")).startswith("mnistlab.")
    if of_mnistlab and isinstance(activation, str) and ">" not in activation and activation not in ACTIVATIONS:
        near = _nearest(activation, ACTIVATIONS)
        hint = f" Did you mean {near}?" if near else ""
        yield (f"model.activation={activation} is not an activation of Keras.{hint} Choices: {', '.join(ACTIVATIONS)}.")


def _meant(word: str, names: Sequence[str], config: Config) -> str:
    """The name that a misspelt word stands for; empty if it is a name, or resembles none."""
    if word in names:
        return ""
    spelt = word.lower().replace("-", "_").replace(" ", "_")
    if spelt.replace("_", "") in CROSSENTROPY_WORDS:
        return CROSSENTROPIES[LABELS.get(config.data.class_mode or "", config.data.labels)]
    return OTHER_NAMES.get(spelt) or _nearest(spelt, names)


def _nearest(word: str, names: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[near[0]] if near else ""
