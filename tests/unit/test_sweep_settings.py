"""The jobs of a multirun: seeds as an axis, as a setting, or both; values listed twice; settings that are not swept."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnistlab.config import ConfigError
from mnistlab.config.compose import Command, check_command, expand, parse_command_line


def command(*words: str) -> Command:
    return check_command(parse_command_line(words)[0])


def test_a_value_that_is_listed_twice_is_one_job() -> None:
    jobs, swept = expand(["optimizer=adam,sgd,adam", "seed=0,0"])
    assert (jobs, swept) == ([["optimizer=adam", "seed=0"], ["optimizer=sgd", "seed=0"]], ["optimizer", "seed"])
    checked = command("--multirun", "optimizer=adam,adam", "fit.epochs=1,2")
    assert [(config.choices["optimizer"], config.fit.epochs) for config in checked.configs] == [
        ("adam", 1),
        ("adam", 2),
    ]


@pytest.mark.parametrize(
    ("words", "seeds", "extra"),
    [
        (["sweep.seeds=3"], [0, 1, 2], ["seed=range(0,3)"]),
        (["seed=3", "sweep.seeds=2"], [3, 4], ["seed=range(3,5)"]),
        (["seed=3", "sweep.seeds=1"], [3], []),
        (["seed=1,2,3"], [1, 2, 3], []),
        (["seed=range(5,8)", "sweep.seeds=3"], [5, 6, 7], []),
        (["seed=4,2,9", "sweep.seeds=3"], [4, 2, 9], []),
        (["seed=1,2,2", "sweep.seeds=2"], [1, 2], []),
        (["sweep.seeds=2", "experiment=cnn_99"], [0, 1], ["seed=range(0,2)"]),
    ],
)
def test_seeds_may_be_an_axis_a_setting_or_both(words: list[str], seeds: list[int], extra: list[str]) -> None:
    checked = command("--multirun", *words)
    assert [config.seed for config in checked.configs] == seeds
    assert checked.extra == extra
    assert checked.swept == (["seed"] if len(seeds) > 1 else [])


def write_sweep(folder: Path, params: str, seeds: str = "") -> list[str]:
    """The words that choose a sweep preset with these hydra.sweeper.params."""
    (folder / "sweep").mkdir()
    text = f"# @package _global_\n{seeds}hydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      {params}\n"
    (folder / "sweep" / "mine.yaml").write_text(text)
    return ["--config-dir", str(folder), "sweep=mine"]


@pytest.mark.parametrize(
    ("params", "more", "seeds"),
    [
        ("seed: 1,2,3", [], [1, 2, 3]),
        ("seed: 1,2,3", ["sweep.seeds=3"], [1, 2, 3]),
        ("seed: 1,2,3", ["seed=8"], [8]),
        ("seed: 1,2,3", ["seed=8", "sweep.seeds=2"], [8, 9]),
        ("seed: 1,2,3", ["seed=5,6"], [5, 6]),
        ("seed: 7", [], [7]),
        ("seed: 7", ["sweep.seeds=2"], [7, 8]),
        ("sweep.seeds: 2", [], [0, 1]),
        ("sweep.seeds: 2", ["seed=4"], [4, 5]),
    ],
)
def test_seeds_of_a_sweep_preset(tmp_path, params: str, more: list[str], seeds: list[int]) -> None:
    assert [config.seed for config in command(*write_sweep(tmp_path, params), *more).configs] == seeds


def test_seeds_of_a_preset_repeat_from_the_seed_of_the_command_line(tmp_path) -> None:
    words = write_sweep(tmp_path, "optimizer: sgd,adam", seeds="sweep:\n  seeds: 2\n")
    found = [(config.choices["optimizer"], config.seed) for config in command(*words, "seed=5").configs]
    assert found == [("sgd", 5), ("sgd", 6), ("adam", 5), ("adam", 6)]


def command_problems(*words: str) -> str:
    with pytest.raises(ConfigError) as error:
        command(*words)
    return str(error.value)


def test_seeds_that_contradict_each_other_are_a_mistake(tmp_path) -> None:
    for seeds in (5, 1):
        assert command_problems("--multirun", "seed=1,2", f"sweep.seeds={seeds}") == (
            f"seed=1,2 lists 2 seeds, and sweep.seeds is {seeds}: the two must agree. "
            "Write sweep.seeds=2, or leave one of them out."
        )
    message = command_problems(*write_sweep(tmp_path, "seed: 1,2,3"), "sweep.seeds=2")
    assert "seed=1,2,3 lists 3 seeds, and sweep.seeds is 2" in message


def test_a_setting_of_the_sweep_is_not_swept_and_seeds_need_a_multirun() -> None:
    message = command_problems(
        "--multirun", "sweep.seeds=1,2", "sweep.objective=best_epoch_val_loss,best_epoch_val_accuracy"
    )
    assert "sweep.seeds applies to the whole sweep and takes one value. Received: sweep.seeds=1,2." in message
    assert "sweep.objective applies to the whole sweep" in message
    assert command_problems("sweep.seeds=3") == (
        "sweep.seeds repeats the jobs of a multirun: add --multirun. Received: sweep.seeds=3."
    )
