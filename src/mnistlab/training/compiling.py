"""Compiles a model and checks loss, metrics and callbacks before the first epoch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mnistlab.config import ConfigError, suggest
from mnistlab.config.build import argument_names, build
from mnistlab.config.metric_names import metric_name, metric_names

LOSSES = {
    "one_hot": "categorical_crossentropy",
    "integer": "sparse_categorical_crossentropy",
    "binary": "binary_crossentropy",
}
NO_LOSS_OR_METRIC = ("get", "serialize", "deserialize")  # functions in Keras's modules that are something else

FIT_ALL_LABELS = ("accuracy", "acc")

Entry = str | Mapping[str, Any]


def compile_model(
    model: keras.Model, optimizer: keras.Optimizer, *, loss: Entry, metrics: Sequence[Entry], labels: str
) -> None:
    """Compile in place.

    Args:
        loss: a Keras loss by name, a mapping with `_target_` and arguments, or 'auto' for the cross-entropy that fits
            `labels`.
        metrics: Keras's metrics by name, or mappings with `_target_` and arguments.
        labels: 'one_hot', 'integer' or 'binary', as in `Dataset.labels`.

    Raises:
        ConfigError: Keras knows no such loss or metric, or it does not accept such labels and the model's outputs.
    """
    names = metric_names(metrics)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(
            f"fit.metrics must have different names. Received twice: {', '.join(repeated)}. "
            "Add `name: NAME` to the mapping with `_target_`."
        )
    built_loss = LOSSES[labels] if loss == "auto" else _loss(loss)
    built_metrics = [_metric(entry, f"fit.metrics.{index}") for index, entry in enumerate(metrics)]
    model.compile(optimizer=optimizer, loss=built_loss, metrics=built_metrics)
    if loss != "auto" or not set(names) <= set(FIT_ALL_LABELS):
        _check_shapes(model, labels, loss, names)


def check_loss_and_metrics(loss: Entry, metrics: Sequence[Entry]) -> None:
    """Build those of Keras that have arguments, before there is a model; raise ConfigError if one rejects them."""
    entries = {"fit.loss": loss, **{f"fit.metrics.{index}": entry for index, entry in enumerate(metrics)}}
    for setting, entry in entries.items():
        if isinstance(entry, Mapping) and str(entry.get("_target_")).startswith("keras."):
            _built(entry, setting)


def _loss(entry: Entry) -> Any:
    if isinstance(entry, str):
        return _known_to_keras(keras.losses, "fit.loss", entry, ["auto"])
    loss = _built(entry, "fit.loss")
    if not callable(loss):
        raise ConfigError(f"fit.loss must be a keras.losses.Loss or a function. Received: {loss!r}.")
    return loss


def _metric(entry: Entry, setting: str) -> Any:
    """What Keras takes for one entry of `fit.metrics`, with the name that `metric_name` gives."""
    if isinstance(entry, str):
        return _known_to_keras(keras.metrics, "fit.metrics", entry, ["accuracy", "acc", "crossentropy"])
    name = metric_name(entry)
    metric = _built(entry, setting)
    if isinstance(metric, keras.metrics.Metric):
        metric.name = name  # Keras counts: the second AUC of a process would be auc_1
        return metric
    if not callable(metric):
        raise ConfigError(f"{setting} must be a keras.metrics.Metric or a function. Received: {metric!r}.")
    named = getattr(metric, "__name__", "") == name
    return metric if named else keras.metrics.MeanMetricWrapper(metric, name=name)


def _built(entry: Any, setting: str) -> Any:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{setting} must be a name or a mapping with _target_. Received: {entry!r}.")
    target = entry.get("_target_")
    takes_no_name = isinstance(target, str) and "name" in entry and "name" not in (argument_names(target) or {"name"})
    return build({key: value for key, value in entry.items() if key != "name" or not takes_no_name}, setting)


def _known_to_keras(module: Any, setting: str, name: str, more: Sequence[str]) -> str:
    """The name itself.

    Raises:
        ConfigError: it is neither the name of a loss or metric in Keras's module nor one of `more`.
    """
    if name in more:
        return name
    try:
        module.get(name)
    except ValueError as error:
        public = {entry for entry in dir(module) if entry.islower() and callable(getattr(module, entry))}
        names = {entry for entry in public if not entry.startswith("_")} - set(NO_LOSS_OR_METRIC) | set(more)
        raise ConfigError(f"{setting}={name} is not known to Keras.{suggest(name, names)}") from error
    return name


def _check_shapes(model: keras.Model, labels: str, loss: Entry, names: Sequence[str]) -> None:
    """Compute loss and metrics of two made-up images, as the first step would."""
    if len(model.output_shape) != 2:
        return
    num_outputs = model.output_shape[-1]
    targets = {
        "one_hot": np.eye(2, num_outputs, dtype=np.float32),
        "integer": np.zeros(2, np.int32),
        "binary": np.zeros((2, 1), np.float32),
    }[labels]
    outputs = np.full((2, num_outputs), 1 / num_outputs, np.float32)
    shown = loss if isinstance(loss, str) else loss.get("_target_")
    _accepts(f"fit.loss={shown}", lambda: model.compute_loss(y=targets, y_pred=outputs), labels, num_outputs)
    setting = f"fit.metrics=[{','.join(names)}]"
    _accepts(setting, lambda: model.compute_metrics(None, targets, outputs), labels, num_outputs)
    model.reset_metrics()


def _accepts(setting: str, compute: Callable[[], Any], labels: str, num_outputs: int) -> None:
    try:
        compute()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"{setting} does not accept labels of data.labels={labels} and a network with {num_outputs} outputs: "
            f"{lines[0].rstrip('.')}."
        ) from error
