"""Which learning rates a tuned sweep tries and chooses: ranges, extension, refinement, diverged rates, equal budget."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mnistlab.config import conf_folder
from mnistlab.config.compose import compose_config
from mnistlab.sweep.rates import TunedOption, Tuning, best_rate, choose, first_rates, further_rates, plan_tuning
from mnistlab.sweep.results import JobResult, SweepResults, read_results, write_results
from mnistlab.sweep.tuned import describe_choice, tuning_scores

OBJECTIVE = "best_epoch_val_accuracy"
ADAM = TunedOption("adam", 0.01, 0.0001, 1.0, True)
RATES = [0.0001, 0.001, 0.01, 0.1, 1.0]


def scores(*values: float | None) -> dict[float, float | None]:
    return dict(zip(RATES, values, strict=True))


def test_the_first_rates_are_all_but_two_with_equal_factors_between_them() -> None:
    assert first_rates(ADAM, 7) == RATES
    assert first_rates(ADAM, 5) == [0.0001, 0.01, 1.0]
    narrow = first_rates(dataclasses.replace(ADAM, low=0.01, high=0.0101), 7)
    assert narrow == sorted(set(narrow)) and len(narrow) == 5  # with more digits, where two would make them equal


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.5, 0.8, 0.9, 0.7, 0.1), [0.0032, 0.032]),  # inside: on both sides of the best
        ((0.9, 0.8, 0.7, 0.6, 0.1), [1e-05, 1e-06]),  # at an edge: beyond it, by the grid's own factor
        ((0.1, 0.2, 0.7, 0.8, 0.9), [10.0, 100.0]),
        ((0.5, 0.8, 0.9, 0.95, None), [0.032, 0.32]),  # the highest that trained is no edge: the next one diverged
        ((None, None, None, None, None), [1e-05, 1e-06]),  # all diverged: the rates are too high
    ],
)
def test_two_further_rates(values: tuple[float | None, ...], expected: list[float]) -> None:
    assert further_rates(scores(*values), higher=True) == expected


def test_a_lower_loss_is_better_and_of_equal_rates_the_lowest_is_chosen() -> None:
    losses = scores(0.5, 0.2, 0.2, 0.7, None)
    assert best_rate(losses, higher=False) == 0.001
    assert best_rate(losses, higher=True) == 0.1
    assert further_rates(losses, higher=False) == [0.00032, 0.0032]


def test_every_option_gets_the_same_number_of_rates() -> None:
    for values in ((0.1, 0.2, 0.3, 0.4, 0.5), (0.5, 0.9, 0.3, 0.2, 0.1), (None,) * 5):
        tried = {*first_rates(ADAM, 7), *further_rates(scores(*values), higher=True)}
        assert len(tried) == 7


def test_an_option_without_a_score_is_not_given_a_rate() -> None:
    lost = choose(ADAM, scores(*[None] * 5), higher=True)
    assert (lost.best, lost.why) == (None, "at each of its 5 learning rates a run failed or diverged")
    assert describe_choice(lost, scores(*[None] * 5), OBJECTIVE).startswith("adam: at each of its 5")
    found = choose(ADAM, scores(0.1, 0.2, 0.9451, 0.3, 0.1), higher=True)
    assert (found.best, found.why) == (0.01, "")
    assert describe_choice(found, scores(0.1, 0.2, 0.9451, 0.3, 0.1), OBJECTIVE) == (
        "adam: 0.01, 94.51 % in the tuning; its default"
    )


@pytest.mark.long
def test_the_plan_takes_ranges_from_the_files_and_seeds_that_the_comparison_does_not_use(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("_target_: keras.optimizers.SGD\nlearning_rate: 0.06\n")
    words = ["sweep.tune=7", "sweep.tune_seeds=3"]
    configs = [
        compose_config([*words, f"optimizer={name}", f"seed={seed}"], config_dir=str(tmp_path))
        for name in ("adam", "mine")
        for seed in (3, 1004)
    ]
    tuning = plan_tuning(configs)
    assert (tuning.num_rates, tuning.seeds) == (7, [1003, 1005, 1006])
    adam, mine = tuning.options
    assert (adam.name, adam.default, adam.low, adam.high, adam.has_range) == ("adam", 0.01, 0.0001, 0.03, True)
    assert (mine.default, mine.low, mine.high, mine.has_range) == (
        0.06,
        pytest.approx(0.002),
        pytest.approx(1.8),
        False,
    )


@pytest.mark.parametrize("name", sorted(file.stem for file in (conf_folder() / "optimizer").glob("*.yaml")))
def test_every_optimizer_has_a_range_around_its_rate_that_is_as_wide_as_the_others(name: str) -> None:
    config = compose_config([f"optimizer={name}"])
    low, high = config.sweep.tune_range
    assert low <= config.optimizer["learning_rate"] < high
    assert 299 <= high / low <= 334


def a_job(rate: float, seed: int, value: float | None, error: str = "") -> JobResult:
    values = {"optimizer": "adam", "optimizer.learning_rate": rate, "seed": seed}
    metrics = {} if value is None else {OBJECTIVE: value}
    return JobResult(f"adam-lr{rate:g}-seed{seed}", f"{rate}{seed}", values, {}, metrics=metrics, error=error)


def test_scores_are_means_over_the_tunings_seeds_and_a_rate_with_a_diverged_run_has_none(tmp_path: Path) -> None:
    tuning = Tuning(7, [1000, 1001], [ADAM])
    jobs = [
        *(a_job(0.01, 1000, 0.9), a_job(0.01, 1001, 0.8), a_job(0.01, 0, 0.1)),  # seed 0: of the comparison
        *(a_job(0.1, 1000, 0.9), a_job(0.1, 1001, 0.9, error="diverged at epoch 2")),
        *(a_job(1.0, 1000, None, error="did not run"), a_job(1.0, 1001, 0.9)),
    ]
    results = SweepResults("0" * 12, ["optimizer"], OBJECTIVE, "higher", None, jobs, tuning=tuning)
    assert tuning_scores(results, tuning) == {"adam": {0.01: pytest.approx(0.85), 0.1: None, 1.0: None}}
    write_results(results, tmp_path)
    assert read_results(tmp_path / "sweep.json").tuning == tuning
