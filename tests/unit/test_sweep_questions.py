"""What a sweep asks is checked against what its runs will record, before the first job."""

from __future__ import annotations

import pytest

from mnistlab.config.compose import Command, compose_config
from mnistlab.sweep.questions import direction, question_problems

OTHER = {"_target_": "hydra_plugins.two_batches.TwoBatches"}


def problems(
    *common: str, swept: tuple[str, ...] = ("optimizer",), jobs: tuple[str, ...] = ("sgd", "adam")
) -> list[str]:
    configs = [compose_config([*common, f"{swept[0]}={value}"]) for value in jobs]
    sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    return list(question_problems(Command(True, configs, list(swept), [], sweeper=sweeper), swept))


def test_a_time_to_target_needs_the_accuracy_and_has_a_direction() -> None:
    assert problems("sweep.objective=seconds_to_0.97") == []
    assert direction(compose_config(["sweep.objective=seconds_to_0.97"])) == "lower"
    (problem,) = problems("sweep.objective=seconds_to_0.97", "fit.metrics=[]", "sweep.targets=[]")
    assert "must be a metric that the runs record. Received: seconds_to_0.97" in problem


def test_rounds_do_not_answer_which_option_is_the_fastest() -> None:
    assert problems("sweep.question=fastest_within:0.5") == []
    (problem,) = problems("sweep.question=fastest_within:0.5", "sweep.until=verdict")
    assert problem.endswith("Received: sweep.question=fastest_within:0.5; give sweep.seeds instead.")


@pytest.mark.parametrize("question", ["best", "better_than:adam", "equivalent:0.2"])
def test_the_questions_that_a_sweep_can_answer(question: str) -> None:
    assert problems(f"sweep.question={question}", "sweep.until=verdict") == []


def test_a_sweep_until_a_verdict_needs_hydras_basic_sweeper_and_room_for_its_first_round() -> None:
    configs = [
        compose_config([f"optimizer={name}", f"seed={seed}", "sweep.until=verdict", "sweep.max_seeds=3"])
        for name in ("sgd", "adam")
        for seed in range(5)
    ]
    command = Command(True, configs, ["optimizer", "seed"], [], sweeper=OTHER)
    few, sweeper = question_problems(command, ["optimizer", "seed"])
    assert few.startswith("sweep.max_seeds must be at least the seeds of the first round, 5")
    assert sweeper.endswith("it needs hydra/sweeper=basic. Received: TwoBatches.")


def test_a_tuned_sweep_has_no_problems_if_only_optimizers_vary() -> None:
    assert problems("sweep.tune=5") == []
    assert problems("sweep=tuned", "sweep.axes=[optimizer]", "sweep.question=better_than:adam") == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("sweep.until=verdict",), "sweep.tune has a fixed number of runs, so it cannot be combined with sweep.until."),
        (("optimizer.learning_rate=0.1",), "only optimizer and seed may vary. Received: optimizer.learning_rate."),
        (("sweep.tune_range=[0.1,0.01]",), "sweep.tune_range of sgd must be [lowest,highest]"),
        (("sweep.tune_range=[0,0.01]",), "0 < lowest < highest. Received: [0.0, 0.01]."),
        (("sweep.tune_range=0.1",), "0 < lowest < highest. Received: [0.1]."),
        (("sweep.axes=[fit.batch_size]",), "sweep.axes must be [optimizer] with sweep.tune."),
    ],
)
def test_tuned_sweeps_that_cannot_work(settings: tuple[str, ...], message: str) -> None:
    found = problems("sweep.tune=7", *settings)
    assert message in found[0]
    assert len(found) <= 2  # one for each of the two optimizers at most


def test_a_tuned_sweep_varies_optimizers_only_and_needs_hydras_basic_sweeper() -> None:
    (others,) = problems("sweep.tune=7", swept=("model",), jobs=("mlp", "cnn"))
    assert others.endswith("only optimizer and seed may vary. Received: model.")
    configs = [compose_config(["sweep.tune=7", f"optimizer={name}"]) for name in ("sgd", "adam")]
    command = Command(True, configs, ["optimizer"], [], sweeper=OTHER)
    (sweeper,) = question_problems(command, ["optimizer"])
    assert sweeper.endswith("it needs hydra/sweeper=basic. Received: TwoBatches.")
    (unused,) = problems("sweep.tune_range=[0.001,0.1]")
    assert unused.endswith("add sweep.tune=7, or sweep=tuned.")


def test_the_usual_question_has_no_problems() -> None:
    assert problems() == []
    assert problems("sweep.axes=[optimizer]", "sweep.objective=best_epoch_val_loss", "sweep.targets=[0.5]") == []
    assert problems("sweep.axes=[fit.batch_size]") == []  # the optimizers set it: it varies


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "sweep.objective=val_acc",
            "a metric that the runs record. Received: val_acc. Did you mean best_epoch_val_accuracy?",
        ),
        ("sweep.objective=test_accuracy", "options that are chosen by the test set have seen it"),
        ("sweep.objective=test_loss", "Received: test_loss. Did you mean best_epoch_val_loss?"),
        ("sweep.objective=best_test_loss", "Received: best_epoch_test_loss. Did you mean best_epoch_val_loss?"),
        ("sweep.objective=best_epoch_val_auc", "Received: best_epoch_val_auc."),
        ("sweep.objective=min_val_accuracy", "Received: min_val_accuracy. Did you mean max_val_accuracy?"),
        ("sweep.objective=max_val_acuracy", "Received: max_val_acuracy. Did you mean max_val_accuracy?"),
        ("sweep.axes=[optimzer]", "must list settings. Received: optimzer. Did you mean optimizer?"),
        ("sweep.axes=[optimizer,seed]", "must not list the seed: runs with other seeds are repetitions"),
        ("sweep.axes=[model]", "Received: model, which is mlp in every job. This sweep varies: optimizer."),
        ("sweep.axes=[optimizer,optimizer]", "each setting once. Received twice: optimizer."),
        ("sweep.axes=[paths.root]", "must list settings. Received: paths.root."),
        ("sweep.question=fastest", "must be best, better_than:OPTION (better_than:adam), equivalent:MARGIN or"),
        ("sweep.question=better_than:adma", "Did you mean adam? Choices: adam, sgd."),
        ("sweep.question=equivalent:-1", "a number above 0, for accuracies in points (equivalent:0.2)"),
        ("sweep.max_seconds=60", "the limit of a job is sweep.job_max_seconds. Received: 60."),
        ("sweep.job_max_seconds=60", "limits a job in a process of its own: add sweep.isolate=true. Received: 60."),
    ],
)
def test_questions_that_cannot_be_answered(setting: str, message: str) -> None:
    (problem,) = problems(setting)
    assert message in problem


@pytest.mark.parametrize(
    ("words", "objective"),
    [
        ((), "best_epoch_val_accuracy"),
        (("save.monitor=val_accuracy",), "best_epoch_val_accuracy"),
        (("save.monitor=loss",), "best_epoch_loss"),
        (("fit.metrics=[accuracy,auc]", "save.monitor=val_auc"), "best_epoch_val_auc"),
        (("fit.metrics=[mae]",), "best_epoch_val_loss"),
        (("fit.metrics=[]",), "best_epoch_val_loss"),
        (("save.monitor=val_auc",), "best_epoch_val_accuracy"),  # there is none: save.monitor itself is refused
        (("save.monitor=val_accuracy", "sweep.objective=min_val_loss"), "min_val_loss"),
        (("sweep.objective=best_val_loss",), "best_epoch_val_loss"),  # of an earlier version
        (("sweep.objective=best_accuracy",), "best_epoch_accuracy"),
        (("sweep.objective=train_seconds",), "train_seconds"),
    ],
)
def test_what_a_sweep_ranks_by(words: tuple[str, ...], objective: str) -> None:
    assert compose_config(list(words)).sweep.objective == objective


def test_all_jobs_are_ranked_by_one_metric() -> None:
    assert problems(swept=("save.monitor",), jobs=("val_loss", "val_accuracy")) == []  # both: the accuracy
    (problem,) = problems(swept=("save.monitor",), jobs=("loss", "val_loss"))
    assert problem == (
        "sweep.objective must be the same in all jobs, and auto is not: by save.monitor and fit.metrics it is "
        "best_epoch_loss or best_epoch_val_accuracy. Give one: sweep.objective=best_epoch_val_loss."
    )
    chosen = "sweep.objective=max_val_accuracy"
    assert problems(chosen, swept=("save.monitor",), jobs=("loss", "val_loss")) == []


def test_a_metric_must_be_recorded_by_every_job() -> None:
    (problem,) = problems("sweep.objective=best_epoch_val_mae", swept=("fit.metrics",), jobs=("[mae]", "[accuracy]"))
    assert "a metric that every job records. Received: best_epoch_val_mae." in problem


def test_targets_need_the_accuracy_only_if_they_were_given() -> None:
    assert problems("fit.metrics=[AUC]", "sweep.objective=best_epoch_val_AUC") == []
    (problem,) = problems("fit.metrics=[AUC]", "sweep.objective=best_epoch_val_AUC", "sweep.targets=[0.9]")
    assert "sweep.targets are validation accuracies, which not every job records" in problem


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("best_epoch_val_accuracy", "higher"),
        ("best_epoch_val_loss", "lower"),
        ("max_val_accuracy", "higher"),
        ("min_val_loss", "lower"),
        ("best_epoch_val_mae", "lower"),
        ("train_seconds", "lower"),
    ],
)
def test_the_direction_follows_from_the_metric(objective: str, expected: str) -> None:
    assert direction(compose_config([f"sweep.objective={objective}"])) == expected


def test_the_direction_of_an_unknown_metric_must_be_given() -> None:
    unknown = ("fit.metrics=[accuracy,mine]", "sweep.objective=best_epoch_val_mine")
    (problem,) = problems(*unknown)
    assert problem == (
        "sweep.direction must be given: whether a higher or a lower best_epoch_val_mine is better is not known. "
        "Choices: higher, lower."
    )
    assert problems(*unknown, "sweep.direction=lower") == []
    assert direction(compose_config([*unknown, "sweep.direction=lower"])) == "lower"
