"""A `_target_` of an older configuration is answered with its new path; its fingerprint is the same."""

from __future__ import annotations

import dataclasses

import pytest

from mnistlab.config import ConfigError
from mnistlab.config.build import MOVED, PACKAGE, build, refuse_moved
from mnistlab.config.compose import compose_config
from mnistlab.tracking.fingerprint import request_hash


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_the_error_for_an_old_path_names_a_module_that_exists(old: str, new: str) -> None:
    assert (PACKAGE.parent / f"{new.rstrip('.').replace('.', '/')}.py").is_file()  # importing `models` loads TensorFlow
    with pytest.raises(ConfigError, match=f"source._target_={old}f has moved. Write source._target_={new}f."):
        refuse_moved(f"{old}f", "source")
    refuse_moved(f"{new}f", "source")


@pytest.mark.parametrize(
    ("override", "new"),
    [
        ("source._target_=mnistlab.sources.mnist_5k", "source._target_=mnistlab.data.sources.mnist_5k"),
        ("source._target_=mnistlab.directory.directory", "source._target_=mnistlab.data.folders.source.directory"),
        ("model._target_=mnistlab.models.mlp", "model._target_=mnistlab.training.models.mlp"),
    ],
)
def test_source_and_model_are_answered_before_anything_is_loaded(override: str, new: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config([override])
    assert str(error.value) == f"{override} has moved. Write {new}."


def test_a_nested_target_is_answered_with_its_place() -> None:
    node = {"_target_": "builtins.dict", "layers": [{"_target_": "mnistlab.models.logistic"}]}
    with pytest.raises(ConfigError) as error:
        build(node, "model")
    assert str(error.value) == (
        "model.layers.0._target_=mnistlab.models.logistic has moved. "
        "Write model.layers.0._target_=mnistlab.training.models.logistic."
    )


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_the_hash_of_the_request_is_the_same_for_the_old_and_the_new_path(old: str, new: str) -> None:
    config = compose_config([])
    group = "model" if "models" in old else "source"
    hashes = [
        request_hash(dataclasses.replace(config, **{group: {"_target_": f"{path}f", "arguments": [1, 2]}}))
        for path in (old, new, "elsewhere.")
    ]
    assert hashes[0] == hashes[1]
    assert hashes[1] != hashes[2]


def test_the_hash_of_a_nested_path_is_the_same_too() -> None:
    config = compose_config([])
    layers = [[{"_target_": f"mnistlab.{package}models.mlp"}] for package in ("", "training.")]
    hashes = [request_hash(dataclasses.replace(config, model={"_target_": "f", "layers": one})) for one in layers]
    assert hashes[0] == hashes[1]
