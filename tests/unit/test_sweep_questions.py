"""What a sweep asks is checked against what its runs will record, before the first job."""

from __future__ import annotations

import pytest

from mnistlab.config.compose import Command, compose_config
from mnistlab.sweep.questions import direction, question_problems


def problems(
    *common: str, swept: tuple[str, ...] = ("optimizer",), jobs: tuple[str, ...] = ("sgd", "adam")
) -> list[str]:
    configs = [compose_config([*common, f"{swept[0]}={value}"]) for value in jobs]
    sweeper = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
    return list(question_problems(Command(True, configs, list(swept), [], sweeper=sweeper), swept))


@pytest.mark.parametrize("question", ["best", "better_than:adam", "equivalent:0.2"])
def test_the_questions_that_a_sweep_can_answer(question: str) -> None:
    assert problems(f"sweep.question={question}", "sweep.until=verdict") == []


def test_a_sweep_until_a_verdict_needs_hydras_basic_sweeper_and_room_for_its_first_round() -> None:
    configs = [
        compose_config([f"optimizer={name}", f"seed={seed}", "sweep.until=verdict", "sweep.max_seeds=3"])
        for name in ("sgd", "adam")
        for seed in range(5)
    ]
    command = Command(True, configs, ["optimizer", "seed"], [], sweeper="hydra_plugins.optuna_sweeper.OptunaSweeper")
    few, sweeper = question_problems(command, ["optimizer", "seed"])
    assert few.startswith("sweep.max_seeds must be at least the seeds of the first round, 5")
    assert sweeper.endswith("it needs hydra/sweeper=basic. Received: OptunaSweeper.")


def test_the_usual_question_has_no_problems() -> None:
    assert problems() == []
    assert problems("sweep.axes=[optimizer]", "sweep.objective=best_val_loss", "sweep.targets=[0.5]") == []
    assert problems("sweep.axes=[fit.batch_size]") == []  # the optimizers set it: it varies


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "sweep.objective=val_acc",
            "a metric that the runs record. Received: val_acc. Did you mean best_val_accuracy?",
        ),
        ("sweep.objective=test_accuracy", "options that are chosen by the test set have seen it"),
        ("sweep.objective=test_loss", "Received: test_loss. Did you mean best_val_loss?"),
        ("sweep.objective=best_val_auc", "Received: best_val_auc."),
        ("sweep.axes=[optimzer]", "must list settings. Received: optimzer. Did you mean optimizer?"),
        ("sweep.axes=[optimizer,seed]", "must not list the seed: runs with other seeds are repetitions"),
        ("sweep.axes=[model]", "Received: model, which is mlp in every job. This sweep varies: optimizer."),
        ("sweep.axes=[optimizer,optimizer]", "each setting once. Received twice: optimizer."),
        ("sweep.axes=[paths.root]", "must list settings. Received: paths.root."),
        ("sweep.question=fastest", "must be best, better_than:OPTION (better_than:adam) or equivalent:MARGIN"),
        ("sweep.question=better_than:adma", "Did you mean adam? Choices: adam, sgd."),
        ("sweep.question=equivalent:-1", "a number above 0, for accuracies in points (equivalent:0.2)"),
        ("sweep.max_seconds=60", "the limit of a job is sweep.job_max_seconds. Received: 60."),
        ("sweep.job_max_seconds=60", "limits a job in a process of its own: add sweep.isolate=true. Received: 60."),
    ],
)
def test_questions_that_cannot_be_answered(setting: str, message: str) -> None:
    (problem,) = problems(setting)
    assert message in problem


def test_a_metric_must_be_recorded_by_every_job() -> None:
    (problem,) = problems("sweep.objective=best_val_mae", swept=("fit.metrics",), jobs=("[mae]", "[accuracy]"))
    assert "a metric that every job records. Received: best_val_mae." in problem


def test_targets_need_the_accuracy_only_if_they_were_given() -> None:
    assert problems("fit.metrics=[AUC]", "sweep.objective=best_val_AUC") == []
    (problem,) = problems("fit.metrics=[AUC]", "sweep.objective=best_val_AUC", "sweep.targets=[0.9]")
    assert "sweep.targets are validation accuracies, which not every job records" in problem


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("best_val_accuracy", "higher"),
        ("best_val_loss", "lower"),
        ("best_val_mae", "lower"),
        ("train_seconds", "lower"),
    ],
)
def test_the_direction_follows_from_the_metric(objective: str, expected: str) -> None:
    assert direction(compose_config([f"sweep.objective={objective}"])) == expected


def test_the_direction_of_an_unknown_metric_must_be_given() -> None:
    unknown = ("fit.metrics=[accuracy,mine]", "sweep.objective=best_val_mine")
    (problem,) = problems(*unknown)
    assert problem == (
        "sweep.direction must be given: whether a higher or a lower best_val_mine is better is not known. "
        "Choices: higher, lower."
    )
    assert problems(*unknown, "sweep.direction=lower") == []
    assert direction(compose_config([*unknown, "sweep.direction=lower"])) == "lower"
