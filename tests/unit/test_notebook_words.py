"""Python values as words of the command line, read back by Hydra's own parser."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from mnistlab.config import ConfigError, conf_folder, hydra_internals
from mnistlab.notebook import words


def read_back(word: str):
    with hydra_internals.composing(str(conf_folder())):
        (override,) = hydra_internals.parse_overrides([word])
    return override.value()


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("adam", "adam"),
        (3, "3"),
        (0.001, "0.001"),
        (1e-05, "1e-05"),
        (True, "true"),
        (None, "null"),
        (np.float32(0.5), "0.5"),
        (np.int64(7), "7"),
        (np.bool_(False), "false"),
        ([128, 64], "[128,64]"),
        (("a b", None), "['a b',null]"),
        (range(2), "[0,1]"),
        (np.array([1, 2]), "[1,2]"),
        (Path("a/b.npz"), "a/b.npz"),
        ("two words", "'two words'"),
        ("it's", r"'it\'s'"),
        ("", "''"),
        ([{"_target_": "keras.metrics.F1Score"}], "[{_target_:keras.metrics.F1Score}]"),
    ],
    ids=repr,
)
def test_a_value_is_written_as_hydra_reads_it(value, word: str) -> None:
    assert words.text(value) == word
    read = read_back(f"run.name={word}")
    plain = value.item() if isinstance(value, np.generic) else value
    plain = list(plain) if isinstance(plain, tuple | range | np.ndarray) else plain
    assert read == (str(plain) if isinstance(plain, Path) else plain)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30))
def test_any_text_survives_hydras_parser(value: str) -> None:
    hypothesis.assume("$" not in value)  # an interpolation
    read = read_back(f"run.name={words.text(value)}")
    if words.UNQUOTED.fullmatch(value):  # as on the command line: 3 is a number, true a boolean
        return
    assert str(read) == value


def test_mappings_hold_the_settings_of_their_group() -> None:
    asked = words.of_run(["source=mnist_5k"], {"optimizer": "adam", "fit": {"epochs": 5}, "fit.batch_size": 64})
    assert asked == ["source=mnist_5k", "optimizer=adam", "fit.epochs=5", "fit.batch_size=64"]


def test_a_list_is_the_options_of_a_sweep_and_one_value_of_a_run() -> None:
    settings = {"optimizer": ["sgd", "adam"], "seed": range(3), "model": {"units": [[128], [64, 64]]}, "fit.epochs": 2}
    assert words.of_sweep(["--multirun", "source=mnist_5k"], settings) == [
        *("--multirun", "source=mnist_5k", "optimizer=sgd,adam", "seed=0,1,2"),
        *("model.units=[128],[64,64]", "fit.epochs=2"),
    ]
    assert words.of_run([], {"model": {"units": [64, 64]}}) == ["model.units=[64,64]"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: words.of_run([{"fit": 3}], {}), "Each word must be a text.*Received: {'fit': 3}"),
        (lambda: words.of_run(["-m", "seed=1,2"], {}), "train runs one experiment.*import sweep"),
        (
            lambda: words.of_run([], {"optimizer": object}),
            "optimizer must be a text, a number.*Received: <class 'object'>",
        ),
        (
            lambda: words.of_sweep([], {"fit": {"epochs": []}}),
            r"fit.epochs must have at least one option. Received: \[\]",
        ),
    ],
    ids=["no text", "multirun", "an object", "no option"],
)
def test_what_cannot_be_written_is_refused_with_the_reason(ask, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ask()
