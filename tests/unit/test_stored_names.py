"""The names of a run's entries in the tracking store, and which settings are parameters there."""

from __future__ import annotations

import json

import pytest

from mnistlab.config import parameters
from mnistlab.config.compose import compose_config
from mnistlab.tracking import stored_names

METRICS = {
    "loss": "epoch/loss",
    "val_accuracy": "epoch/val_accuracy",
    "learning_rate": "epoch/learning_rate",
    "best_epoch_val_accuracy": "summary/best_epoch_val_accuracy",
    "max_val_accuracy": "summary/max_val_accuracy",
    "min_val_loss": "summary/min_val_loss",
    "best_epoch": "summary/best_epoch",
    "best_child_best_epoch_val_loss": "summary/best_child_best_epoch_val_loss",
    "best_mean_max_val_accuracy": "summary/best_mean_max_val_accuracy",
    "best_margin": "epoch/best_margin",  # a metric of the user's, of every epoch
    "test_loss": "test/loss",
    "train_accuracy": "train/accuracy",
    "train_seconds": "time/train_seconds",
    "epoch_seconds": "time/epoch_seconds",
    "test_f1.macro": "test/f1.macro",
    "test_f1.7": "test_f1/7",
    "test_recall.cats/dogs": "test_recall/cats/dogs",
    "all_precision.macro": "all/precision.macro",
    "validation_recall.3": "validation_recall/3",
    "my/metric": "my/metric",
    "top_5": "epoch/top_5",
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_one_value_are_in_sections(name: str) -> None:
    assert stored_names.stored_metric(name) == METRICS[name]
    assert stored_names.metric_name(METRICS[name]) == name
    assert name.startswith("best_m") or stored_names.metric_name(name) == name  # of an earlier version


EARLIER = {
    "summary/best_val_accuracy": "best_epoch_val_accuracy",
    "best_val_loss": "best_epoch_val_loss",  # before there were sections
    "summary/best_loss": "best_epoch_loss",
    "summary/best_mean_squared_error": "best_epoch_mean_squared_error",
    "summary/best_mean_best_val_accuracy": "best_mean_best_val_accuracy",
    "summary/best_child_train_seconds": "best_child_train_seconds",
    "summary/best_epoch": "best_epoch",
    "best_mean_best_val_accuracy/imbalanced": "best_mean_best_val_accuracy/imbalanced",
}


@pytest.mark.parametrize("stored", EARLIER)
def test_metrics_of_earlier_versions_have_their_present_names(stored: str) -> None:
    assert stored_names.metric_name(stored) == EARLIER[stored]


def test_provenance_has_one_prefix() -> None:
    tags = {"fingerprint": "1", "fingerprint.code": "2", "fingerprint.request": "3", "default.learning_rate": "0.01"}
    families = {
        "hash.test": "3",
        "hash.train": "4",
        "git.commit": "4",
        "git.mnistlab.commit": "5",
        "version.keras": "5",
    }
    parts = {"fingerprint.settings": "6", "fingerprint.data": '{"classes": "7"}'}
    others = {"outcome": "trained", "run.uid": "8", "mlflow.source.git.commit": "9", "hashes": "10"}
    stored = stored_names.stored_tags({**tags, **families, **parts, **others})
    assert stored == {
        **{f"record.{name}": value for name, value in tags.items()},
        "record.hash": '{"test": "3", "train": "4"}',
        "record.git": '{"commit": "4", "mnistlab.commit": "5"}',
        "record.version": '{"keras": "5"}',
        "record.fingerprint.parts": json.dumps({"settings": "6", "data": '{"classes": "7"}'}),
        **others,
    }
    assert stored_names.tags_of(stored) == {**tags, **families, **parts, **others}
    assert {stored_names.stored_tag(name) for name in (*tags, *families, *parts, *others)} == set(stored)


def test_tags_of_an_earlier_version_are_read() -> None:
    stored = {"record.hash.test": "3", "record.version.keras": "5", "record.fingerprint.settings": "6"}
    assert stored_names.tags_of(stored) == {"hash.test": "3", "version.keras": "5", "fingerprint.settings": "6"}
    assert stored_names.tags_of({"record.hash": "{torn"}) == {}


def split(*words: str) -> tuple[set[str], dict[str, str]]:
    shown, others = stored_names.split_parameters(parameters(compose_config(list(words))))
    return set(shown), others


def test_the_settings_that_describe_the_experiment_are_parameters() -> None:
    shown, others = split()
    assert shown == {
        *("seed", "source", "data", "model", "optimizer", "schedule", "callbacks", "fit.epochs", "fit.batch_size"),
        *("model.units", "model.activation", "model.dropout", "optimizer.learning_rate", "source.offline"),
    }
    assert others["data.labels"] == "one_hot" and others["model._target_"] == "mnistlab.training.models.mlp"
    more, _ = split("data.labels=integer", "fit.engine=keras", "sweep.seeds=1", "run.name=mine", "save.which=last")
    assert more - shown == {"data.labels", "fit.engine", "save.which"}
    more, _ = split("data=augmented", "callbacks=early_stopping", "data.validation_fraction=0.2")
    assert {"data.augmentation.rotation_range", "callbacks.early_stopping.patience", "data.validation_fraction"} <= more
    assert "data.validation_split" not in more


def test_no_setting_is_lost() -> None:
    settings = parameters(compose_config(["data.keep={3: 0.5}", "fit.epochs=7"]))
    shown, others = stored_names.split_parameters(settings)
    tags = {stored_names.SETTINGS_TAG: stored_names.json_tag(others)}
    read = stored_names.parameters_of({name: str(value) for name, value in shown.items()}, tags)
    assert read == {name: str(value) for name, value in settings.items()}
    assert stored_names.tags_of(tags) == tags


def test_a_text_too_long_for_a_tag_loses_its_longest_settings() -> None:
    text = stored_names.json_tag({"long": "x" * 9000, "short": "y"})
    assert json.loads(text) == {"short": "y"}
    assert stored_names.parameters_of({"a": "1"}, {stored_names.SETTINGS_TAG: text[:-2]}) == {"a": "1"}
