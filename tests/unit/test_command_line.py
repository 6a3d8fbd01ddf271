"""Flags and overrides may be mixed in any order; every job of a multirun is checked."""

from __future__ import annotations

import pytest

from mnistlab.config import ConfigError
from mnistlab.config.compose import check_command, parse_command_line
from mnistlab.runtime import exits


@pytest.mark.parametrize(
    ("words", "overrides", "flags", "rest"),
    [
        (
            ["optimizer=sgd", "--multirun", "seed=0,1", "--config-dir", "mine"],
            ["optimizer=sgd", "seed=0,1"],
            {"multirun": True, "config_dir": "mine"},
            ["--multirun", "--config-dir", "mine"],
        ),
        (["--config-dir=mine", "seed=1"], ["seed=1"], {"config_dir": "mine"}, ["--config-dir=mine"]),
        (["-m", "a=1", "-cd", "mine", "b=2"], ["a=1", "b=2"], {"multirun": True}, ["-m", "-cd", "mine"]),
        (["--cfg", "job", "seed=1"], ["seed=1"], {"cfg": "job"}, ["--cfg", "job"]),
        (["seed=1", "--info"], ["seed=1"], {"info": "all"}, ["--info"]),
        (["--info", "defaults", "seed=1"], ["seed=1"], {"info": "defaults"}, ["--info", "defaults"]),
        (["a=1", "--info", "config", "b=2"], ["a=1", "b=2"], {"info": "config"}, ["--info", "config"]),
        (["-cd", "x=y", "-m", "x=y"], ["x=y"], {"config_dir": "x=y"}, ["-cd", "x=y", "-m"]),
        (["--config-dir", "a=1", "a=1"], ["a=1"], {"config_dir": "a=1"}, ["--config-dir", "a=1"]),
        (["seed=1", "seed=1", "-m"], ["seed=1", "seed=1"], {"multirun": True}, ["-m"]),
        ([], [], {"multirun": False, "info": None, "config_dir": None}, []),
    ],
)
def test_flags_and_overrides_in_any_order(
    words: list[str], overrides: list[str], flags: dict[str, object], rest: list[str]
) -> None:
    arguments, found = parse_command_line(words)
    assert arguments.overrides == overrides
    assert {name: getattr(arguments, name) for name in flags} == flags
    assert found == rest


def test_a_value_that_info_does_not_have_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_command_line(["--info", "optimizer=sgd"])
    assert left.value.code == exits.USER_MISTAKE
    assert "invalid choice: 'optimizer=sgd'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--epochs", "5"], "Did you mean fit.epochs=5?"),
        (["--lr=0.1"], "Did you mean optimizer.learning_rate=0.1?"),
        (["optimizer=sgd", "--batch-size"], "Did you mean fit.batch_size=VALUE?"),
        (["-x"], "-x is not a flag; see --help. Settings are written without dashes: NAME=VALUE."),
    ],
)
def test_a_setting_written_as_a_flag_is_answered_with_the_setting(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_command_line(words)
    assert str(error.value).endswith(expected)


def test_a_multirun_with_flags_between_its_overrides() -> None:
    arguments, _ = parse_command_line(["optimizer=sgd,adam", "--multirun", "fit.epochs=1", "sweep.seeds=2"])
    command = check_command(arguments)
    assert command.multirun
    assert command.swept == ["optimizer", "seed"]
    assert command.extra == ["seed=range(0,2)"]
    assert [(config.choices["optimizer"], config.seed, config.fit.epochs) for config in command.configs] == [
        (optimizer, seed, 1) for optimizer in ("sgd", "adam") for seed in (0, 1)
    ]


def test_a_multirun_lists_the_problems_of_all_jobs_once() -> None:
    arguments, _ = parse_command_line(["--multirun", "fit.epochs=0,1", "optimizer=sgd,sgdd", "seed=0,1"])
    with pytest.raises(ConfigError) as error:
        check_command(arguments)
    assert len(error.value.problems) == 2
    assert "fit.epochs must satisfy value >= 1. Received: 0" in error.value.problems[0]
    assert "optimizer=sgdd is not an option" in error.value.problems[1]
