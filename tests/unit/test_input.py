"""All mistakes at once, in the user's own YAML files as on the command line; values that no run can use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mnistlab.config import ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.data import Images, Split
from mnistlab.data.dataset import prepare


def problems(*overrides: str, config_dir: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as error:
        compose_config(list(overrides), config_dir=str(config_dir) if config_dir else None)
    return error.value.problems


def test_names_types_and_ranges_are_reported_together() -> None:
    found = problems("fit.epoch=5", "optimizer=sgdd", "seed=-1", "fit.resident_gigabytes=many", "data.labels=x")
    starts = (
        "optimizer=sgdd is not",
        "fit.epoch is not",
        "fit.resident_gigabytes=many does",
        "seed must",
        "data.labels",
    )
    assert [start for start in starts if not any(problem.startswith(start) for problem in found)] == []
    assert len(found) == len(starts)


def test_a_wrong_option_does_not_make_its_settings_wrong() -> None:
    found = problems("optimizer=momentun", "optimizer.momentum=0.8", "fit.epochs=0")
    assert len(found) == 2
    assert found[0].startswith("optimizer=momentun is not an option. Did you mean momentum?")
    assert found[1] == "fit.epochs must satisfy value >= 1. Received: 0."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"# @package _global_\nfit: {epoch: 5}", ["fit.epoch is not a setting. Did you mean fit.epochs?"]),
        (b"# @package _global_\nfit: {epochs: five}", ["fit.epochs does not fit: Value 'five'"]),
        (b"fit: {epochs: 5}", ["Its first line must be `# @package _global_`"]),
        (b"# @package global\nfit: {epochs: 5}", ["global is not a package"]),
        (b"a: 1\na: 2", ["line 2, column 1: found duplicate key a"]),
        (b"a: [1\nb: 2", ["line 2", "expected ',' or ']'"]),
        (b"fit:\n\tepochs: 2", ["line 2, column 1", "YAML takes no tabs"]),
        (b"\xff\xfea: 1", ["must be text in UTF-8", "at byte 0"]),
        (b"- 1\n- 2", []),
    ],
)
def test_a_mistake_in_a_file_names_the_file(content: bytes, expected: list[str], tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    (message, *others) = problems("experiment=mine", config_dir=tmp_path)
    assert others == []
    assert [text for text in [str(file), *expected] if text not in message] == []


def test_an_optimizer_without_a_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "empty.yaml").touch()
    assert problems("optimizer=empty", config_dir=tmp_path)[0].startswith("optimizer._target_ must name a callable")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.learning_rate=true"],
            "optimizer.learning_rate must be a number >= 0, or a schedule. Received: true",
        ),
        (["fit.epochs=1000000"], "fit.epochs counts passes through all training images"),
        (["fit.resident_gigabytes=inf"], "fit.resident_gigabytes must be a finite number. Received: inf."),
        (
            ["optimizer=momentum", "optimizer.momentum=nan"],
            "optimizer.momentum must be a finite number. Received: nan.",
        ),
        (["data.class_weight={0: .inf}"], "data.class_weight"),
        (["fit.metrics=[accuracy,accuracy]"], "fit.metrics lists accuracy more than once. Write it once."),
        (["sweep.seeds=100000"], "sweep.seeds must satisfy value <= 10,000. Received: 100000."),
        (["run.name=''"], "run.name must not be empty. Leave it out for its default. Received: ''."),
        (['run.name="a\nb"'], "run.name must be one line of printable characters. Received: 'a\\nb'."),
        (["source=npz", 'source.path="a\0b"'], "source.path must not contain a NUL character. Received: 'a\\x00b'."),
        (
            ["source=directory", "source.path=x", "data.image_size=[100000,8]"],
            "data.image_size must satisfy height and width <= 16,384. Received: [100000, 8].",
        ),
    ],
)
def test_a_value_that_no_run_can_use_is_refused(overrides: list[str], message: str) -> None:
    (found,) = problems(*overrides)
    assert found.startswith(message)


def images(per_class: int) -> Images:
    labels = np.repeat(np.arange(10), per_class)
    split = Split(np.zeros((len(labels), 4, 4, 1), np.uint8), labels)
    return Images("own", split, split, tuple("0123456789"), "here")


def test_a_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.limit must be at least the number of classes, 10.* Received: 9\."):
        prepare(images(20), limit=9)
    assert len(prepare(images(20), limit=10).train) == 10


def test_a_validation_fraction_that_leaves_too_few_training_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must leave images of every class to train on. Received: 0.999 of 1,000"):
        prepare(images(100), validation_fraction=0.999)
    assert len(prepare(images(100), validation_fraction=0.99).train) == 10
