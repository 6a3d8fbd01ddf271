"""`build` calls what a configuration names; its errors name the real cause."""

from __future__ import annotations

import sys

import pytest

from mnistlab.config import ConfigError
from mnistlab.config.build import build


def error_of(node: dict, name: str = "optimizer") -> str:
    with pytest.raises(ConfigError) as error:
        build(node, name)
    return str(error.value)


def test_an_unknown_argument_is_named_with_the_choices() -> None:
    message = error_of({"_target_": "keras.optimizers.SGD", "momentun": 0.9})
    assert "optimizer.momentun is not an argument of keras.optimizers.SGD" in message
    assert "Did you mean momentum?" in message
    assert "clipnorm" in message  # arguments of the base class count too


def test_a_wrong_value_has_keras_s_message() -> None:
    message = error_of({"_target_": "keras.optimizers.SGD", "momentum": 3})
    assert "optimizer: keras.optimizers.SGD rejected its arguments" in message
    assert "momentum" in message


def test_a_misspelt_class_is_not_a_missing_package() -> None:
    message = error_of({"_target_": "keras.optimizers.Adamm"})
    assert "keras.optimizers has no 'Adamm'" in message
    assert "Did you mean Adam" in message
    assert "there is no module 'kears'" in error_of({"_target_": "kears.optimizers.Adam"})


def test_a_failing_import_is_not_a_wrong_class(tmp_path, monkeypatch) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_package_here\n\nclass Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = error_of({"_target_": "needs_more.Mine"})
    assert "importing needs_more failed" in message
    assert "no_such_package_here" in message
    sys.modules.pop("needs_more", None)


def test_nested_nodes_are_built_and_their_errors_located() -> None:
    schedule = {"_target_": "keras.optimizers.schedules.ExponentialDecay", "initial_learning_rate": 0.5}
    whole = {**schedule, "decay_steps": 10, "decay_rate": 0.9}
    optimizer = build({"_target_": "keras.optimizers.SGD", "learning_rate": whole}, "optimizer")
    assert float(optimizer.learning_rate) == pytest.approx(0.5)
    message = error_of({"_target_": "keras.optimizers.SGD", "learning_rate": schedule})
    assert "ExponentialDecay" in message
    assert "decay_steps" in message


def test_a_node_without_a_target() -> None:
    assert "optimizer._target_" in error_of({"learning_rate": 1})
