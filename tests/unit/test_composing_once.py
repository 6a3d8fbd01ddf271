"""The jobs of a sweep are composed of files once per choice, with the configurations that Hydra itself composes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf, open_dict

from mnistlab.config import ConfigError, hydra_internals
from mnistlab.config.compose import check_command, compose_config, compose_settings, parse_command_line
from mnistlab.sweep import job, outcomes
from mnistlab.sweep.results import job_key

pytestmark = pytest.mark.hydra_itself
LINES = (
    [],
    ["optimizer=sgd"],
    ["optimizer=sgd", "seed=3"],
    ["seed=4", "optimizer=sgd", "optimizer.learning_rate=0.5"],
    ["optimizer=adam", "fit.epochs=7", "+optimizer.clipnorm=1.0"],
    ["callbacks=[early_stopping,reduce_lr]", "callbacks.early_stopping.patience=2"],
    ["callbacks=early_stopping"],
    ["data.keep={3: 0.5}", "schedule=cosine"],
    ["model=cnn", "~model.units"],
    ["hydra.verbose=true", "optimizer=sgd"],
)

PUT_TOGETHER = "_compose_config_from_defaults_list"


@pytest.fixture
def calls_of(monkeypatch: pytest.MonkeyPatch):
    """`calls_of(name)`: a list that grows by one with each call of this method of Hydra's loader from now on."""

    def calls(name: str) -> list[tuple]:
        counted: list[tuple] = []
        original = getattr(ConfigLoaderImpl, name)

        def count(self, *arguments, **named):
            counted.append(arguments)
            return original(self, *arguments, **named)

        monkeypatch.setattr(ConfigLoaderImpl, name, count)
        return counted

    return calls


def composed(overrides: list[str]) -> dict | str:
    """A job's complete configuration, Hydra's node too, or the message that it has none."""
    try:
        return OmegaConf.to_container(compose_settings(list(overrides), "train", None), resolve=False)
    except ConfigError as error:
        return str(error)


def test_each_job_is_what_hydra_composes_whatever_came_before() -> None:
    expected = [composed(line) for line in LINES]
    with hydra_internals.composing_files_once():
        assert [composed(line) for line in LINES] == expected
        assert [composed(line) for line in reversed(LINES)] == expected[::-1]
    assert [composed(line) for line in LINES] == expected


def test_a_job_that_is_changed_does_not_change_the_next() -> None:
    with hydra_internals.composing_files_once():
        first = compose_settings(["optimizer=sgd"], "train", None)
        with open_dict(first):
            first.optimizer.learning_rate = 9.0
            first.optimizer.added = [1]
            del first["fit"]
        second = compose_settings(["optimizer=sgd"], "train", None)
    assert second.optimizer.learning_rate != 9.0
    assert "added" not in second.optimizer
    assert second.fit.epochs == 3


def test_mistakes_are_found_as_before() -> None:
    lines = (["optimizer=sgdd"], ["fit.epoch=3"], ["optimizer=sgd", "optimizer.lr=1"], ["seed=-1"])

    def found(line: list[str]) -> str:
        with pytest.raises(ConfigError) as error:
            compose_config(line)
        return str(error.value)

    expected = [found(line) for line in lines]
    with hydra_internals.composing_files_once():
        assert [found(line) for line in lines] == expected


def test_seeds_and_values_are_composed_from_files_once_per_option(calls_of) -> None:
    put_together = calls_of(PUT_TOGETHER)
    words = ["--multirun", "optimizer=sgd,adam", "sweep.seeds=4", "fit.epochs=1,2"]
    with hydra_internals.composing_files_once():
        command = check_command(parse_command_line(words)[0])
        assert len(command.configs) == 16
        assert len(put_together) == 3  # the command without its swept values, sgd, adam
    assert [(one.choices["optimizer"], one.fit.epochs, one.seed) for one in command.configs] == [
        (optimizer, epochs, seed) for optimizer in ("sgd", "adam") for epochs in (1, 2) for seed in range(4)
    ]


def test_a_file_that_is_edited_meanwhile_changes_no_job(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    file = tmp_path / "optimizer" / "mine.yaml"
    file.write_text("_target_: keras.optimizers.SGD\nlearning_rate: 0.25\n")

    def rate(*more: str) -> float:
        return compose_config(["optimizer=mine", *more], config_dir=str(tmp_path)).optimizer["learning_rate"]

    with hydra_internals.composing_files_once():
        assert rate() == 0.25
        file.write_text("_target_: keras.optimizers.SGD\nlearning_rate: 0.75\n")
        assert rate("seed=3") == 0.25
    assert rate() == 0.75


def test_two_folders_of_options_are_not_mixed_up(tmp_path: Path) -> None:
    for name, rate in (("one", 0.25), ("two", 0.75)):
        (tmp_path / name / "optimizer").mkdir(parents=True)
        (tmp_path / name / "optimizer" / "mine.yaml").write_text(
            f"_target_: keras.optimizers.SGD\nlearning_rate: {rate}\n"
        )
    with hydra_internals.composing_files_once():
        rates = [
            compose_config(["optimizer=mine"], config_dir=str(tmp_path / name)).optimizer["learning_rate"]
            for name in ("one", "two", "one")
        ]
    assert rates == [0.25, 0.75, 0.25]


def test_the_value_of_a_job_that_need_not_run_is_known_from_the_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan-1.json"
    entries = {
        "optimizer=sgd": {"runs": False, "objective": 0.5},
        "optimizer=adam": {"runs": True, "objective": None},
        "optimizer=momentum": {"runs": False, "objective": None},
    }
    plan.write_text(json.dumps({"jobs": {job_key([word]): entry for word, entry in entries.items()}}))
    assert job.known_value(["optimizer=sgd", f"sweep.plan={plan}"]) == 0.5
    assert job.known_value(["optimizer=adam", f"sweep.plan={plan}"]) is None
    assert math.isnan(job.known_value(["optimizer=momentum", f"sweep.plan={plan}"]) or 0.0)
    assert job.known_value(["optimizer=other", f"sweep.plan={plan}"]) is None
    assert job.known_value(["optimizer=sgd"]) is None
    assert job.known_value(["optimizer=sgd", f"sweep.plan={tmp_path / 'none.json'}"]) is None
    outcomes.leave(tmp_path, "done", job_key(["optimizer=adam"]), outcomes.Outcome())
    assert math.isnan(job.known_value(["optimizer=adam", f"sweep.plan={plan}"]) or 0.0)


@pytest.mark.long
@pytest.mark.slow
def test_hydra_neither_composes_nor_starts_a_job_that_is_done(train_here, tmp_path: Path, calls_of) -> None:
    put_together = calls_of(PUT_TOGETHER)
    words = ["--multirun", "source=mnist_5k", "data.limit=400", "fit.epochs=1", "optimizer=momentum,adam"]
    assert train_here(*words).code == 0
    assert len(put_together) == 4  # without the swept values, for the check and for Hydra; momentum, adam
    (first,) = (tmp_path / "runs").glob("*/*-sweep")
    read = calls_of("load_sweep_config")
    again = train_here(*words, "sweep.seeds=2")
    assert again.code == 0, again.err
    assert len(read) == 2
    assert "4 jobs, 2 of them done" in again.out
    (second,) = set((tmp_path / "runs").glob("*/*-sweep")) - {first}
    assert {folder.name for folder in second.iterdir() if folder.is_dir()} == {"1", "3"}  # as Hydra numbers them
