"""`fit.loss` and `fit.metrics` with arguments; metrics whose result is an array."""

from __future__ import annotations

import inspect
import json
import logging
import math
import re
from typing import Any

import keras
import numpy as np
import pytest
from small_data import few_digits

from mnistlab import experiment, training
from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.config.metric_names import metric_name, metric_names
from mnistlab.sweep.questions import recorded_metrics
from mnistlab.tracking import fingerprint
from mnistlab.training import models
from mnistlab.training.array_metrics import metrics_of, scalar_metrics

METRICS = "keras.metrics"


def nothing() -> dict[str, Any]:
    """Neither a loss nor a metric."""
    return {}


def margin(y_true: Any, y_pred: Any) -> Any:
    """A metric as users write it: a function."""
    return keras.ops.max(y_pred, axis=-1)


class PerClassRecall(keras.metrics.Metric):
    """The recall of each class, shape (10,)."""

    def __init__(self, name: str = "class_recall", **arguments: Any) -> None:
        super().__init__(name=name, **arguments)
        self.hits = self.add_weight(shape=(10,), initializer="zeros")
        self.counts = self.add_weight(shape=(10,), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        predicted = keras.ops.one_hot(keras.ops.argmax(y_pred, -1), 10)
        self.hits.assign(self.hits + keras.ops.sum(y_true * predicted, 0))
        self.counts.assign(self.counts + keras.ops.sum(y_true, 0))

    def result(self) -> Any:
        return self.hits / keras.ops.maximum(self.counts, 1.0)


def compiled(*metrics: Any, loss: Any = "auto", labels: str = "one_hot") -> keras.Model:
    training.start_job(0, deterministic=False)
    num_outputs = 1 if labels == "binary" else 10
    network = models.mlp((28, 28, 1), num_outputs, "sigmoid" if labels == "binary" else "softmax", units=[8])
    model = models.with_preprocessing(network, (28, 28, 1), "unit")
    training.compile_model(model, keras.optimizers.Adam(0.01), loss=loss, metrics=metrics, labels=labels)
    return model


def history(model: keras.Model, engine: str, callbacks: Any = ()) -> list[dict[str, float]]:
    plan = training.plan_fit(model, few_digits(), epochs=2, batch_size=32, seed=0, engine=engine)
    assert plan.engine == engine
    return training.fit(model, few_digits(), plan, keep="last", callbacks=callbacks).history


def keras_classes() -> list[str]:
    classes = inspect.getmembers(keras.metrics, inspect.isclass)
    return [name for name, found in classes if name not in ("Metric", "MeanMetricWrapper")]


NEEDED = {
    "MeanIoU": {"num_classes": 2},
    "OneHotMeanIoU": {"num_classes": 2},
    "IoU": {"num_classes": 2, "target_class_ids": [0]},
    "OneHotIoU": {"num_classes": 2, "target_class_ids": [0]},
}
for _name, _argument in (
    ("PrecisionAtRecall", "recall"),
    ("RecallAtPrecision", "precision"),
    ("SensitivityAtSpecificity", "specificity"),
    ("SpecificityAtSensitivity", "sensitivity"),
):
    NEEDED[_name] = {_argument: 0.5}


@pytest.mark.parametrize("name", keras_classes())
def test_the_names_of_all_metrics_are_those_of_keras(name) -> None:
    keras.utils.clear_session(free_memory=False)
    expected = getattr(keras.metrics, name)(**NEEDED.get(name, {})).name
    assert metric_name({"_target_": f"{METRICS}.{name}", **NEEDED.get(name, {})}) == expected
    assert metric_name({"_target_": f"{METRICS}.{name}", "name": "mine"}) == "mine"


def test_the_names_of_words_and_functions() -> None:
    function = {"_target_": "hydra.utils.get_method", "path": f"{__name__}.margin"}
    assert metric_names(["accuracy", "AUC", function]) == ["accuracy", "AUC", "margin"]


MAPPINGS = [
    "accuracy",
    {"_target_": f"{METRICS}.AUC", "num_thresholds": 50},
    {"_target_": f"{METRICS}.AUC", "curve": "PR", "name": "area"},
    {"_target_": f"{METRICS}.F1Score", "average": "macro"},
    {"_target_": f"{METRICS}.TopKCategoricalAccuracy", "k": 3},
    {"_target_": "hydra.utils.get_method", "path": f"{__name__}.margin"},
    {"_target_": "hydra.utils.get_method", "path": f"{__name__}.margin", "name": "confidence"},
    {"_target_": f"{METRICS}.Recall", "class_id": 3},
]


@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_metrics_with_arguments_are_recorded_under_their_names(engine) -> None:
    names = metric_names(MAPPINGS)
    compiled(*MAPPINGS)  # an earlier job of the process: Keras would count on, auc_1
    model = compiled(*MAPPINGS)
    rows = history(model, engine)
    expected = {f"{prefix}{name}" for prefix in ("", "val_") for name in ("loss", *names)}
    assert set(rows[0]) == expected | {"learning_rate", "epoch_seconds"}
    assert rows[1]["val_confidence"] == rows[1]["val_margin"]
    _, probabilities = training.predict(model, few_digits(), "validation", engine)
    labels = few_digits().validation.labels
    assert rows[1]["val_margin"] == pytest.approx(probabilities.max(1).mean(), rel=1e-5)
    order = np.argsort(-probabilities, axis=1)[:, :3]
    top = (order == labels[:, None]).any(1).mean()
    assert rows[1]["val_top_k_categorical_accuracy"] == pytest.approx(top, abs=1e-6)
    recall = (probabilities[labels == 3].argmax(1) == 3).mean()
    assert rows[1]["val_recall"] <= recall + 1e-6  # Keras's Recall counts probabilities above one half


@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_a_loss_with_arguments_is_computed_with_them(engine) -> None:
    loss = {"_target_": "keras.losses.CategoricalCrossentropy", "label_smoothing": 0.1}
    model = compiled("accuracy", loss=loss)
    rows = history(model, engine)
    _, probabilities = training.predict(model, few_digits(), "validation", engine)
    smoothed = 0.9 * few_digits().targets(few_digits().validation.labels) + 0.01
    assert rows[-1]["val_loss"] == pytest.approx(-(smoothed * np.log(probabilities)).sum(1).mean(), rel=1e-5)


@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_an_array_is_recorded_per_class_and_as_its_mean(engine) -> None:
    model = compiled("accuracy", {"_target_": f"{__name__}.PerClassRecall"}, {"_target_": f"{METRICS}.F1Score"})
    stop = keras.callbacks.EarlyStopping(monitor="val_f1_score", mode="max", patience=9)
    rows = history(model, engine, [stop])
    metrics, probabilities = training.predict(model, few_digits(), "validation", engine)
    labels, predicted = few_digits().validation.labels, probabilities.argmax(1)
    recalls = [(predicted[labels == digit] == digit).mean() for digit in range(10)]
    for digit, recall in enumerate(recalls):
        assert rows[1][f"val_per_class_recall.{digit}"] == pytest.approx(recall, abs=1e-6)
        assert metrics[f"per_class_recall.{digit}"] == pytest.approx(recall, abs=1e-6)
    assert rows[1]["val_per_class_recall"] == pytest.approx(np.mean(recalls), abs=1e-6)
    f1 = [rows[1][f"val_f1_score.{digit}"] for digit in range(10)]
    assert rows[1]["val_f1_score"] == pytest.approx(np.mean(f1), abs=1e-6)
    assert stop.best == pytest.approx(max(row["val_f1_score"] for row in rows), abs=1e-6)
    assert all(isinstance(value, float) for row in rows for value in row.values())


def test_the_line_of_an_epoch_has_the_mean_but_not_each_class(caplog) -> None:
    with caplog.at_level(logging.INFO):
        history(compiled({"_target_": f"{METRICS}.F1Score"}), "fused")
    (line,) = [message for message in caplog.messages if message.startswith("epoch 1/2")]
    assert re.findall(r"([a-z0-9_.]+) [\d.]+(?=  |$)", line)[-4:] == ["loss", "val_loss", "f1_score", "val_f1_score"]


def test_both_engines_record_the_same_arrays() -> None:
    ours, theirs = (history(compiled({"_target_": f"{METRICS}.F1Score"}), engine) for engine in ("fused", "keras"))
    for our_row, their_row in zip(ours, theirs, strict=True):
        assert list(our_row) == list(their_row)
        for name in set(our_row) - {"epoch_seconds"}:
            assert our_row[name] == pytest.approx(their_row[name], rel=1e-3, abs=1e-5), name


def test_entries_are_named_by_class_or_index() -> None:
    model = compiled({"_target_": f"{METRICS}.Recall", "thresholds": [0.25, 0.75]}, "accuracy")
    assert [metric.name for metric in metrics_of(model)] == ["loss", "recall", "accuracy"]
    values = {
        "val_recall": np.array([1.0, 0.5]),
        "f1_score": np.array([0.25, 0.75]),
        "three": np.arange(3.0),
        "matrix": np.eye(2),
        "loss": 0.5,
        "empty": np.zeros(0),
    }
    scalars = scalar_metrics(values, ("cat", "dog"), model)
    assert math.isnan(scalars.pop("empty"))
    assert scalars == {
        "val_recall": 0.75,
        "val_recall.0": 1.0,
        "val_recall.1": 0.5,
        "f1_score": 0.5,
        "f1_score.cat": 0.25,
        "f1_score.dog": 0.75,
        "three": 1.0,
        **{f"three.{index}": float(index) for index in range(3)},
        "matrix": 0.5,
        "matrix.0.0": 1.0,
        "matrix.0.1": 0.0,
        "matrix.1.0": 0.0,
        "matrix.1.1": 1.0,
        "loss": 0.5,
    }


REFUSED = {
    "twice": (
        {"metrics": [{"_target_": f"{METRICS}.AUC"}, {"_target_": f"{METRICS}.AUC", "curve": "PR"}]},
        "fit.metrics must have different names. Received twice: auc. Add `name: NAME` to the mapping with `_target_`.",
    ),
    "no target": ({"metrics": [{"average": "macro"}]}, "fit.metrics.0 must name a callable in fit.metrics.0._target_."),
    "number": ({"metrics": [3]}, "fit.metrics.0 must be a name or a mapping with _target_. Received: 3."),
    "no loss": ({"loss": None}, "fit.loss must be a name or a mapping with _target_. Received: None."),
    "misspelt argument": (
        {"loss": {"_target_": "keras.losses.CategoricalCrossentropy", "label_smothing": 0.1}},
        "fit.loss.label_smothing is not an argument of keras.losses.CategoricalCrossentropy. "
        "Did you mean label_smoothing?",
    ),
    "misspelt class": (
        {"metrics": [{"_target_": f"{METRICS}.F1Scor"}]},
        "fit.metrics.0._target_=keras.metrics.F1Scor: keras.metrics has no 'F1Scor'. Did you mean F1Score?",
    ),
    "not a metric": (
        {"metrics": [{"_target_": f"{__name__}.nothing"}]},
        "fit.metrics.0 must be a keras.metrics.Metric or a function. Received: {}.",
    ),
    "not a loss": (
        {"loss": {"_target_": f"{__name__}.nothing"}},
        "fit.loss must be a keras.losses.Loss or a function. Received: {}.",
    ),
    "misspelt metric": ({"metrics": ["acuracy"]}, "fit.metrics=acuracy is not known to Keras. Did you mean accuracy?"),
    "loss": (
        {"loss": "crossentropy"},
        "fit.loss=crossentropy is not known to Keras. Did you mean binary_crossentropy? Choices: auto, ",
    ),
    "loss of other labels": (
        {"loss": "sparse_categorical_crossentropy"},
        "fit.loss=sparse_categorical_crossentropy does not accept labels of data.labels=one_hot and a network with 10 "
        "outputs: ",
    ),
    "metric of other labels": (
        {"metrics": [{"_target_": f"{METRICS}.F1Score"}], "labels": "integer"},
        "fit.metrics=[f1_score] does not accept labels of data.labels=integer and a network with 10 outputs: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_losses_and_metrics_that_can_only_fail_are_refused_before_the_training(name) -> None:
    given, message = REFUSED[name]
    with pytest.raises(ConfigError) as error:
        compiled(*given.get("metrics", ()), loss=given.get("loss", "auto"), labels=given.get("labels", "one_hot"))
    assert str(error.value).startswith(message)
    assert "serialize" not in str(error.value)


SMOOTHED = "fit.loss={_target_: keras.losses.CategoricalCrossentropy, label_smoothing: 0.1}"
F1 = "fit.metrics=[accuracy,{_target_: keras.metrics.F1Score}]"


@pytest.mark.long
def test_a_run_records_arrays_of_training_validation_and_test(tmp_path) -> None:
    small = ["source=mnist_5k", "data.limit=300", "fit.epochs=1", "tracking=none", "save.monitor=val_f1_score"]
    config = compose_config([*small, SMOOTHED, F1, f"paths.run={tmp_path / 'run'}"])
    assert recorded_metrics(config)[:3] == ["best_epoch_val_loss", "best_epoch_val_accuracy", "best_epoch_val_f1_score"]
    result = experiment.run(config)
    for name in ("best_epoch_f1_score", "best_epoch_val_f1_score", "test_f1_score"):
        classes = [result.metrics[f"{name}.{digit}"] for digit in range(10)]
        assert result.metrics[name] == pytest.approx(np.mean(classes), abs=1e-6)
    sklearn = [result.metrics[f"test_f1.{digit}"] for digit in range(10)]
    assert [result.metrics[f"test_f1_score.{digit}"] for digit in range(10)] == pytest.approx(sklearn, abs=1e-6)
    tags = experiment.identity(config, experiment.load_dataset(config))
    other = compose_config([*small, SMOOTHED.replace("0.1", "0.2"), F1])
    changed = experiment.identity(other, experiment.load_dataset(other))
    assert tags["fingerprint.settings"] != changed["fingerprint.settings"]


def test_the_user_s_modules_behind_loss_and_metrics_are_in_the_fingerprint(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_losses.py").write_text("def focal(y_true, y_pred): ...\n")
    (tmp_path / "my_metrics.py").write_text("class Margin: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = compose_config(
        [
            "fit.loss={_target_: hydra.utils.get_method, path: my_losses.focal}",
            "fit.metrics=[accuracy,{_target_: my_metrics.Margin}]",
        ]
    )
    modules = json.loads(fingerprint.fingerprint(config, {}, {}, {})["fingerprint.modules"])
    assert {"my_losses.py", "my_metrics.py"} <= set(modules)
