"""The space of a search in Hydra's notation: dimensions, conditions, what is checked, and what is refused."""

from __future__ import annotations

import re

import pytest

from mnistlab.config import ConfigError
from mnistlab.config.compose import Command, check_command, parse_command_line

SPACE = ("--multirun", "sweep.trials=5")
CONDITION = "sweep.only_with={optimizer: {momentum: {optimizer.momentum: 'interval(0.5,0.99)'}}}"


def command(*words: str) -> Command:
    return check_command(parse_command_line([*SPACE, *words])[0])


def described(*words: str) -> list[str]:
    space = command(*words).space
    assert space is not None
    return space.describe()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optimizer=sgd,adam", "optimizer: sgd, adam"),
        ("optimizer=choice(sgd,adam)", "optimizer: sgd, adam"),
        ("model.dropout=interval(0,0.5)", "model.dropout: 0 to 0.5"),
        ("optimizer.learning_rate=tag(log,interval(1e-4,0.1))", "optimizer.learning_rate: 0.0001 to 0.1, logarithmic"),
        ("fit.epochs=interval(1,4)", "fit.epochs: 1 to 4"),
        ("fit.epochs=int(interval(1,4))", "fit.epochs: 1 to 4"),
        ("fit.batch_size=range(16,129,16)", "fit.batch_size: 16 to 128, in steps of 16"),
        ("fit.batch_size=range(1,1000000000)", "fit.batch_size: 1 to 1e+09"),
        ("fit.batch_size=range(9,1,-3)", "fit.batch_size: 3 to 9, in steps of 3"),
        ("model.units=choice([32],[64,32])", "model.units: [32], [64,32]"),
    ],
)
def test_hydra_s_notation_of_a_sweep_is_a_dimension(word: str, expected: str) -> None:
    assert described(word) == [expected]


def test_whole_numbers_stay_whole_and_others_have_four_digits() -> None:
    space = command("fit.epochs=interval(1,4)", "model.dropout=interval(0.12347,0.5)").space
    assert space is not None
    epochs, dropout = space.dimensions
    assert [epochs.number(2.6), dropout.number(0.123471), dropout.number(0.2345678)] == [3, 0.1235, 0.2346]


def test_the_trials_that_are_checked_have_every_choice_and_both_ends() -> None:
    checked = command("optimizer=sgd,adam", "model.dropout=interval(0,0.5)", "fit.epochs=interval(1,2)")
    defaults, *trials = checked.configs
    assert defaults.choices["optimizer"] == "adam"
    assert {trial.choices["optimizer"] for trial in trials} == {"sgd", "adam"}
    assert {trial.model["dropout"] for trial in trials} == {0.0, 0.5}
    assert {trial.fit.epochs for trial in trials} == {1, 2}


def test_a_conditional_setting_belongs_to_its_choice_only() -> None:
    space = command("optimizer=adam,momentum", CONDITION).space
    assert space is not None
    momentum = "optimizer.momentum (optimizer=momentum)"
    assert [one.name for one in space.active({"optimizer": "momentum"})] == ["optimizer", momentum]
    assert [one.name for one in space.active({"optimizer": "adam"})] == ["optimizer"]
    assert space.overrides({"optimizer": "momentum", momentum: 0.7})[-2:] == [
        "optimizer=momentum",
        "optimizer.momentum=0.7",
    ]


def test_a_fixed_choice_decides_its_conditions() -> None:
    assert described("optimizer=momentum", CONDITION) == ["optimizer.momentum (optimizer=momentum): 0.5 to 0.99"]
    assert described("model.dropout=interval(0,0.5)", CONDITION) == ["model.dropout: 0 to 0.5"]


def test_a_value_on_the_command_line_varies_no_more() -> None:
    lines = described("sweep=search", "optimizer=adam", "optimizer.learning_rate=0.01", "model.dropout=0.1")
    assert [line.partition(":")[0] for line in lines] == ["fit.batch_size", "model.units"]


def test_a_setting_that_varies_anyway_is_not_conditional() -> None:
    words = ["optimizer=adam,sgd", "fit.epochs=1,2", "sweep.only_with={optimizer: {sgd: {fit.epochs: '3,4'}}}"]
    assert described(*words) == ["optimizer: adam, sgd", "fit.epochs: 1, 2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer=adam"], "A search needs settings that vary"),
        (["seed=1,2"], "A search cannot vary seed"),
        (["fit.batch_size=range(1,9,0)"], "must be range(START,STOP,STEP) with finite numbers and a step except 0"),
        (["fit.batch_size=range(9,1)"], "fit.batch_size needs at least one value"),
        (["model.dropout=interval(0.5,0.1)"], "model.dropout needs a lower and a higher end. Received: 0.5 and 0.1."),
        (["model.dropout=tag(log,interval(0,0.5))"], "its lower end must be above 0. Received: 0."),
        (["model.dropout=interval(0,2)"], "model.dropout"),
        (["optimizer=adam,momentun"], "Did you mean momentum?"),
        (["optimizer=adam,sgd", "sweep.only_with={optimizer: 3}"], "sweep.only_with must name groups"),
        (["optimizer=adam,sgd", "sweep.only_with={optimiser: {sgd: {fit.epochs: '1,2'}}}"], "optimiser is no setting"),
    ],
)
def test_what_is_no_space_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        command(*words)
