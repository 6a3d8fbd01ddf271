"""Interactions: contrasts by hand, sentences, same runs, error rate."""

import itertools
import math

import numpy as np
import pytest
from prepared_data import CROSSED, MODELS, across, by_model, cells
from scipy import stats
from synthetic_runs import make_run

from mnistlab.comparison import across_data, compare, compare_by_data
from mnistlab.comparison.statistics import compare_contrasts
from mnistlab.comparison.tables import interaction_table

AXES = ("optimizer", "data")


def test_a_contrast_is_a_t_test_of_the_differences_of_differences():
    scores = np.random.default_rng(0).normal(size=(3, 2, 5))
    pairs = list(itertools.combinations(range(3), 2))
    found = compare_contrasts(scores, np.array([(i, j, 0, 1) for i, j in pairs]), 0.05, None)
    for index, (i, j) in enumerate(pairs):
        differences = (scores[i, 0] - scores[j, 0]) - (scores[i, 1] - scores[j, 1])
        expected = stats.ttest_1samp(differences, 0)
        assert found.p[index] == pytest.approx(expected.pvalue)
        assert found.difference[index] == pytest.approx(differences.mean())
    ordered = np.sort(found.p)
    assert np.sort(found.p_holm)[0] == pytest.approx(min(3 * ordered[0], 1))


def test_a_larger_family_widens_the_interval_and_raises_p():
    scores = np.random.default_rng(0).normal(size=(2, 2, 5))
    contrast = np.array([(0, 1, 0, 1)])
    one, many = compare_contrasts(scores, contrast, 0.05, None), compare_contrasts(scores, contrast, 0.05, 40)
    assert many.p_holm[0] == pytest.approx(min(40 * one.p[0], 1)) and many.p[0] == one.p[0]
    assert many.level[0] == pytest.approx(0.05 / 40)
    margin = stats.t.isf(0.05 / 80, 4) * one.sd[0] / math.sqrt(5)
    assert many.high[0] == pytest.approx(one.difference[0] + margin)


def test_the_order_depends_on_the_data():
    found = across(cells(CROSSED))
    assert found.verdict == (
        "The order depends on data: adam leads on default, momentum on imbalanced (difference of differences 2.4 "
        "points [2.0, 2.8]). On default adam beats momentum; on imbalanced momentum beats adam."
    )
    (contrast,) = found.interaction.contrasts
    assert (contrast.first, contrast.second, contrast.column, contrast.other_column) == (
        "adam",
        "momentum",
        "default",
        "imbalanced",
    )
    assert contrast.words.startswith("the advantage of adam over momentum is 2.4 points [2.0, 2.8] larger on default")
    assert contrast.significant and contrast.low > 0 and contrast.num_seeds == 3


def test_an_effect_of_the_seed_on_all_runs_cancels():
    records = cells(CROSSED)
    before = across(records).interaction.contrasts[0]
    for run in records:
        run.metrics["best_epoch_val_accuracy"] -= 0.05 * run.seed**2
    after = across(records).interaction.contrasts[0]
    assert (after.low, after.high, after.p) == pytest.approx((before.low, before.high, before.p))


def test_losses_mirror_accuracies():
    records = cells(CROSSED)
    for run in records:
        run.metrics["best_epoch_val_loss"] = 1 - run.metrics["best_epoch_val_accuracy"]
    loss = across_data(compare_by_data(records, AXES, "best_epoch_val_loss", resamples=0)).interaction
    accuracy = across(records).interaction
    assert [leader.leader for leader in loss.leaders] == [leader.leader for leader in accuracy.leaders]
    assert loss.contrasts[0].p == pytest.approx(accuracy.contrasts[0].p)
    assert loss.contrasts[0].difference == pytest.approx(accuracy.contrasts[0].difference)


def test_chance_is_called_chance():
    means = {"default": {"adam": 0.96, "momentum": 0.9597}, "imbalanced": {"adam": 0.95, "momentum": 0.9503}}
    found = across(cells(means, noise=0.002, seeds=4))
    leaders = {leader.column: leader.leader for leader in found.interaction.leaders}
    assert leaders == {"default": "momentum", "imbalanced": "adam"}
    assert found.interaction.sentence == (
        "momentum leads on default, adam on imbalanced; that the order depends on data is not distinguishable from "
        "chance with 4 seeds"
    )
    assert found.verdict.endswith("on imbalanced adam is not distinguishable from momentum.")


def test_a_difference_that_shrinks_is_not_called_another_order():
    """adam is far ahead on one data set; on the other they are equal and momentum leads by chance."""
    means = {"default": {"adam": 0.99, "momentum": 0.95}, "imbalanced": {"adam": 0.95, "momentum": 0.9508}}
    found = across(cells(means))
    assert found.interaction.sentence.startswith(
        "How far the options are apart depends on data: adam leads on default, momentum on imbalanced (difference of "
        "differences 4."
    )
    assert found.interaction.sentence.endswith("whether their order changes is not certain with 3 seeds")


def test_the_same_leader_everywhere():
    means = {"default": {"adam": 0.97, "momentum": 0.96}, "imbalanced": {"adam": 0.95, "momentum": 0.94}}
    found = across(cells(means))
    assert found.verdict == (
        "adam leads on both data sets (default, imbalanced). On each data set adam beats momentum."
    )


def test_one_seed_makes_no_claim():
    found = across(cells(CROSSED, seeds=1))
    assert found.verdict == "One seed: no claim; adam has the best value on default, momentum on imbalanced."
    assert found.interaction.sentence == "adam leads on default, momentum on imbalanced (one seed: no claim)"
    assert not any(contrast.significant for contrast in found.interaction.contrasts)
    assert found.interaction.contrasts[0].words.endswith("one seed: no claim")


THREE_AXES = ("optimizer", "model", "fit.batch_size")


def test_two_axes_of_options_on_one_data_set():
    found = compare(by_model(MODELS), ("optimizer", "model")).interaction
    assert (found.row_axis, found.rows) == (["optimizer"], ["adam", "momentum", "sgd"])
    assert (found.column_axis, found.columns) == (["model"], ["cnn", "mlp"])
    assert found.num_contrasts == 3 == len(found.contrasts)
    assert found.sentence.startswith("The order depends on model: adam leads with cnn, momentum with mlp (difference")


def test_the_columns_of_three_axes_are_combinations_in_the_order_of_their_values():
    records = [
        make_run("adam", seed, run_id=f"{values}{seed}", params=dict(zip(THREE_AXES, values, strict=True)))
        for values in itertools.product(("adam", "sgd"), ("cnn", "mlp"), (128, 16))
        for seed in range(2)
    ]
    found = compare(records, THREE_AXES).interaction
    assert found.columns == ["cnn batch=16", "cnn batch=128", "mlp batch=16", "mlp batch=128"]


def test_one_axis_and_a_learning_rate_grid_have_no_interaction():
    assert compare(by_model(MODELS), "optimizer").interaction is None
    records = [
        make_run("adam", seed, run_id=f"{o}{r}{seed}", params={"optimizer": o, "optimizer.learning_rate": r})
        for o, r, seed in itertools.product(("adam", "sgd"), (0.1, 0.01, 0.001), range(2))
    ]
    found = compare(records, ("optimizer", "optimizer.learning_rate"))
    assert found.grid is not None and found.interaction is None
    two_rates = [run for run in records if run.params["optimizer.learning_rate"] < 0.1]
    assert compare(two_rates, ("optimizer", "optimizer.learning_rate")).interaction.columns == ["lr=0.001", "lr=0.01"]


def test_a_third_axis_beside_a_learning_rate_grid_is_not_averaged_over():
    records = [
        make_run(
            "adam", seed, run_id=f"{o}{r}{m}{seed}", params={"optimizer": o, "optimizer.learning_rate": r, "model": m}
        )
        for o, r, m, seed in itertools.product(("adam", "sgd"), (0.1, 0.01, 0.001), ("cnn", "mlp"), range(2))
    ]
    found = compare(records, ("optimizer", "optimizer.learning_rate", "model"))
    assert found.grid is None and len(found.interaction.columns) == 6


def test_beyond_300_contrasts_only_those_of_the_leaders_are_tested():
    rng = np.random.default_rng(0)
    options = [f"o{index:02}" for index in range(12)]
    means = {model: {option: 0.9 + 0.01 * rng.random() for option in options} for model in "abcd"}
    found = compare(by_model(means), ("optimizer", "model"), resamples=0).interaction
    assert found.num_contrasts == 66 * 6
    leaders = {leader.column: leader.leader for leader in found.leaders}
    assert 0 < len(found.contrasts) <= 6
    for contrast in found.contrasts:
        assert {contrast.first, contrast.second} == {leaders[contrast.column], leaders[contrast.other_column]}
    smallest = found.contrasts[0]
    assert smallest.p_holm == pytest.approx(min(smallest.p * 396, 1))


def test_options_with_the_same_runs_count_once():
    records = cells(CROSSED)
    twins = [
        type(run)(**{**vars(run), "params": {**run.params, "optimizer": "nesterov"}})
        for run in records
        if run.params["optimizer"] == "momentum"
    ]
    alone, found = across(records), across(records + twins)
    assert found.interaction.contrasts == alone.interaction.contrasts and found.interaction.num_contrasts == 1
    assert found.interaction.same_runs == [["momentum", "nesterov"]]
    assert found.interaction.sentence.startswith(
        "The order depends on data: adam leads on default, momentum (the same runs as nesterov) on imbalanced"
    )
    assert found.mean_ranks == {"adam": 1.5, "momentum": 1.5, "nesterov": 1.5}
    rows = {row[0]: row[2] for row in interaction_table(found.interaction).rows}
    assert rows["momentum"] == rows["nesterov"] and rows["nesterov"].endswith("(best)")
    only = across([run for run in records + twins if run.params["optimizer"] != "adam"])
    assert only.verdict == "momentum and nesterov are the same runs: nothing to compare."


def test_an_interaction_is_claimed_without_one_at_most_once_in_twenty():
    rng = np.random.default_rng(8)
    draws = 1000
    chosen = np.array(
        [(i, j, c, d) for i, j in itertools.combinations(range(3), 2) for c, d in itertools.combinations(range(3), 2)]
    )
    found = sum(
        compare_contrasts(rng.normal(size=(3, 3, 4)), chosen, 0.05, None).significant.any() for _ in range(draws)
    )
    assert found / draws <= 0.05 + 2.33 * (0.05 * 0.95 / draws) ** 0.5
