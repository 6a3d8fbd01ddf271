"""Sweepers of Hydra's plugins: which of their settings are trusted, which would search in the wrong direction, and what
a plugin that fails leads to."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from conftest import run_command
from hydra.core.config_store import ConfigStore

from mnistlab.config.compose import Command, compose_config
from mnistlab.config.hydra_trust import hydra_problems
from mnistlab.sweep.questions import question_problems

# The settings as the plugins have them by default: hydra-optuna-sweeper 1.3.0, hydra-nevergrad-sweeper 1.4.0rc3 and
# hydra-ax-sweeper 1.4.0rc3.
OPTUNA = {"_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper", "direction": "minimize"}
NEVERGRAD = {
    "_target_": "hydra_plugins.hydra_nevergrad_sweeper.nevergrad_sweeper.NevergradSweeper",
    "optim": {"maximize": False},
}
AX = {
    "_target_": "hydra_plugins.hydra_ax_sweeper.ax_sweeper.AxSweeper",
    "ax_config": {"experiment": {"minimize": True}, "early_stop": {"minimize": True}},
}
MAXIMIZING = [
    OPTUNA | {"direction": "maximize"},
    NEVERGRAD | {"optim": {"maximize": True}},
    AX | {"ax_config": {"experiment": {"minimize": False}, "early_stop": {"minimize": False}}},
]


def problems(sweeper: dict[str, Any], *settings: str) -> list[str]:
    configs = [compose_config(list(settings))]
    return list(question_problems(Command(True, configs, ["optimizer"], [], sweeper=sweeper), ["optimizer"]))


@pytest.mark.parametrize("sweeper", MAXIMIZING, ids=lambda sweeper: sweeper["_target_"].rpartition(".")[2])
def test_a_sweeper_looks_for_the_highest_accuracy(sweeper: dict[str, Any]) -> None:
    assert problems(sweeper, "sweep.objective=best_epoch_val_accuracy") == []
    assert problems(sweeper, "sweep.objective=best_epoch_val_loss")
    assert problems(sweeper, "sweep.objective=best_epoch_val_loss", "sweep.direction=higher") == []


@pytest.mark.parametrize(
    ("sweeper", "mends"),
    [
        (OPTUNA, ["hydra.sweeper.direction=maximize"]),
        (NEVERGRAD, ["hydra.sweeper.optim.maximize=true"]),
        (AX, [f"hydra.sweeper.ax_config.{part}.minimize=false" for part in ("experiment", "early_stop")]),
    ],
)
def test_a_sweeper_that_looks_for_the_lowest_accuracy_is_refused(sweeper: dict[str, Any], mends: list[str]) -> None:
    found = problems(sweeper, "sweep.objective=best_epoch_val_accuracy")
    assert [problem.rpartition("Add ")[2] for problem in found] == [f"{mend}." for mend in mends]
    assert all("of best_epoch_val_accuracy, higher is better. Received: " in problem for problem in found)
    assert problems(sweeper, "sweep.objective=best_epoch_val_loss") == []


def test_an_enumeration_counts_by_its_name() -> None:
    directions = Enum("Direction", ["minimize", "maximize"])
    assert problems(OPTUNA | {"direction": directions["maximize"]}) == []
    (problem,) = problems(OPTUNA | {"direction": directions["minimize"]})
    assert "Received: minimize." in problem


def test_the_code_in_a_plugin_s_own_settings_is_trusted() -> None:
    sampler = {"sweeper": {"sampler": {"_target_": "somebodys.TPESampler"}}}
    assert len(list(hydra_problems(sampler, ()))) == 1
    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="of_this_test", node={"sampler": {"_target_": "somebodys.TPESampler"}})
    try:
        assert list(hydra_problems(sampler, ())) == []
        (problem,) = hydra_problems({"sweeper": {"sampler": {"_target_": "somebodys.Other"}}}, ())
        assert "hydra.sweeper.sampler._target_ names code that is neither Hydra's nor mnistlab's" in problem
    finally:
        del store.repo["hydra"]["sweeper"]["of_this_test.yaml"]


@pytest.mark.parametrize("words", [("--help",), ("optimizer=adam", "source=mnist_5k")])
def test_a_plugin_that_cannot_be_imported_is_named(words: tuple[str, ...], tmp_path: Path) -> None:
    plugin = tmp_path / "plugins" / "hydra_plugins" / "broken_sweeper"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text("")
    (plugin / "config.py").write_text("raise ValueError('mutable default is not allowed')\n")
    done = run_command(tmp_path, *words, PYTHONPATH=str(plugin.parents[1]))
    assert done.code == 2
    assert done.err.startswith("Error: broken_sweeper, a plugin of Hydra, cannot be imported")
    assert "ValueError: mutable default is not allowed. Install another version of it, or remove it: pip" in done.err
    assert not (tmp_path / "runs").exists()
