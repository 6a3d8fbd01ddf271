"""A trial of a search is stopped when it is far behind the others, with both engines; its run says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from small_data import few_digits
from test_training import train

from mnistlab.config import SweepJobInfo
from mnistlab.config.compose import compose_config
from mnistlab.runtime import studies
from mnistlab.sweep.study import Study, Trial
from mnistlab.training import pruning

EPOCHS = 4
FINGERPRINT = {"fingerprint": "abc", "fingerprint.request": "def"}


def trial_after(folder: Path, scores: list[float], pruner: str | None = "median") -> dict[str, Any]:
    """A new trial of a study in which other trials have had these scores after every epoch."""
    storage = str(folder / "study.log")
    study = optuna.create_study(study_name="one", storage=studies.open_storage(storage), direction="maximize")
    for score in scores:
        asked = study.ask()
        for epoch in range(1, EPOCHS + 1):
            asked.report(score, epoch)
        study.tell(asked, score)
    metric = {"metric": "val_accuracy", "pruner": pruner, "epochs": EPOCHS}
    return {"storage": storage, "study": "one", "number": study.ask().number, **metric}


def trained_with(trial: dict[str, Any], engine: str) -> tuple[int, dict[str, Any]]:
    """How many epochs a training of this trial has, and the tags of its run."""
    callbacks = pruning.pruning_callbacks(trial)
    _, result = train(few_digits(), epochs=EPOCHS, engine=engine, callbacks=callbacks)
    return len(result.history), pruning.tags_if_pruned(callbacks, FINGERPRINT)


@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_a_hopeless_trial_is_stopped_after_its_first_epoch(tmp_path: Path, engine: str) -> None:
    trial = trial_after(tmp_path, [0.999] * 6)
    epochs, tags = trained_with(trial, engine)
    assert epochs == 1
    assert tags == {"pruned_after_epoch": 1, "fingerprint": "pruned-abc", "fingerprint.request": "pruned-def"}
    stored = optuna.load_study(study_name="one", storage=studies.open_storage(trial["storage"])).trials[-1]
    assert stored.user_attrs == {"pruned_after_epoch": 1}
    assert [*stored.intermediate_values] == [1]


@pytest.mark.parametrize("engine", ["fused", "keras"])
def test_a_good_trial_is_trained_to_its_end_and_has_reported_each_epoch(tmp_path: Path, engine: str) -> None:
    trial = trial_after(tmp_path, [0.0] * 6)
    assert trained_with(trial, engine) == (EPOCHS, {})
    stored = optuna.load_study(study_name="one", storage=studies.open_storage(trial["storage"])).trials[-1]
    assert [*stored.intermediate_values] == [1, 2, 3, 4]


def test_without_a_pruner_or_its_study_no_trial_is_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert pruning.pruning_callbacks({}) == []
    assert pruning.pruning_callbacks(trial_after(tmp_path, [0.999] * 6, pruner=None)) == []
    elsewhere = {"storage": str(tmp_path / "none" / "study.log"), "pruner": "median"}
    assert pruning.pruning_callbacks(elsewhere) == []
    assert "No early stop" in caplog.text
    assert not (tmp_path / "none").exists()


def test_a_line_that_was_cut_off_costs_no_trial(tmp_path: Path) -> None:
    trial = trial_after(tmp_path, [0.5, 0.6])
    file = Path(trial["storage"])
    with file.open("ab") as journal:
        journal.write(b'{"op_code": 5, "wor')
    study = optuna.load_study(study_name="one", storage=studies.open_storage(str(file), mend=True))
    study.ask()
    assert [one.value for one in study.trials] == [0.5, 0.6, None, None]


def space_of(*words: str) -> tuple[Any, Any]:
    from mnistlab.config.compose import check_command, parse_command_line

    command = check_command(parse_command_line(["--multirun", "sweep.trials=9", *words])[0])
    return command.space, command.configs[0]


def asked(folder: Path, scores: list[float], restart: bool) -> list[Trial]:
    """The trials of a study that gets these scores; restart: it is opened anew for each."""
    space, config = space_of("optimizer=sgd,adam", "model.dropout=interval(0,0.5)", "sweep.sampler=tpe")
    study = Study(space, folder, "one", "higher", config)
    found = []
    for score in scores:
        study = Study(space, folder, "one", "higher", config) if restart else study
        found.append(study.ask())
        study.tell(found[-1].number, score)
    return found


def test_an_interrupted_study_asks_for_the_same_trials(tmp_path: Path) -> None:
    scores = [0.1, 0.9, 0.4, 0.8, 0.2, 0.7, 0.6, 0.3, 0.5, 0.95, 0.85, 0.75, 0.65]  # ten are random, then TPE
    once = asked(tmp_path / "once", scores, restart=False)
    assert asked(tmp_path / "often", scores, restart=True) == once
    assert len({trial.values["model.dropout"] for trial in once}) == len(scores)
    assert all(0 <= float(trial.values["model.dropout"]) <= 0.5 for trial in once)


def test_a_score_that_is_not_finite_is_a_bad_trial_not_a_failed_one(tmp_path: Path) -> None:
    space, config = space_of("optimizer=sgd,adam")
    study = Study(space, tmp_path, "one", "higher", config)
    for score in (float("nan"), None, 0.5):
        study.tell(study.ask().number, score)
    assert [(trial.state, trial.score) for trial in study.trials()] == [
        ("diverged", None),
        ("diverged", None),
        ("complete", 0.5),
    ]


def test_a_job_outside_a_search_has_no_trial() -> None:
    assert SweepJobInfo().trial == {}
    assert compose_config([]).sweep_job.trial == {}
