"""Data sets with the same images, such as other class weights: their options are compared with each other."""

import dataclasses

from prepared_data import across, cells, hashes, sweep

MEANS = {
    "default": {"adam": 0.95, "momentum": 0.94},
    "balanced": {"adam": 0.96, "momentum": 0.94},
    "imbalanced": {"adam": 0.90, "momentum": 0.89},
}
START = "balanced and default have the same images, so their options are compared with each other: "


def test_values_with_the_same_images_are_compared_as_options():
    found = across(cells(MEANS, seeds=4))
    assert found.data == ["balanced", "default", "imbalanced"]
    before, _, after = found.verdict.partition(START)
    assert before.startswith("adam leads on all 3 data sets (balanced, default, imbalanced); ")
    assert after == (
        "adam balanced is best with 96.04 % best_epoch_val_accuracy: it beats adam default by 1.1 points [0.6, 1.6] "
        "and both others (4 seeds). Of one option: adam balanced beats adam default by 1.1 points [0.6, 1.6]; momentum "
        "default and momentum balanced are not distinguishable; more than 100 more seeds would be needed."
    )
    assert found.not_compared == [
        "balanced and imbalanced; default and imbalanced were not compared with each other: their training images "
        "differ (their validation images are the same)"
    ]


def test_one_seed_of_values_with_the_same_images():
    records = cells(MEANS, seeds=1, noise=0.0)
    assert across(records).verdict.endswith(
        f"{START}One seed: no claim; adam balanced has the best value, 96.00 % best_epoch_val_accuracy; a test needs "
        "more seeds."
    )


def test_a_loss_is_better_if_lower():
    records = cells(MEANS, seeds=4)
    for run in records:
        run.metrics["best_epoch_val_loss"] = 1 - run.metrics["best_epoch_val_accuracy"]
    assert (
        f"{START}adam balanced is best with 0.03964 best_epoch_val_loss: "
        in across(records, objective="best_epoch_val_loss").verdict
    )


def test_an_option_that_is_the_same_runs_with_both_values_counts_once():
    """momentum has one run per seed for both values."""
    records = [
        dataclasses.replace(run, run_id=f"momentum-{run.seed}")
        if run.params["optimizer"] == "momentum" and run.params["data"] != "imbalanced"
        else run
        for run in cells(MEANS, seeds=4, noise=0.0)
    ]
    for run in records:
        run.metrics["best_epoch_val_accuracy"] += 0.001 * (
            (run.seed * len(run.params["data"] + run.params["optimizer"])) % 5
        )
        if run.run_id.startswith("momentum-") and run.params["data"] != "imbalanced":
            run.metrics["best_epoch_val_accuracy"] = 0.94
    verdict = across(records).verdict.partition(START)[2]
    assert verdict.startswith("adam balanced is best with ") and " and the other option (4 seeds)." in verdict
    assert "momentum" not in verdict.partition(" Of one option: ")[2]


def test_other_images_are_not_compared():
    assert "same images" not in across(sweep(("default", "imbalanced"))).verdict
    assert hashes("default") == hashes("balanced")


def test_data_sets_without_a_trained_run_make_no_claim():
    records = cells(MEANS, seeds=3)
    for run in records:
        if run.params["data"] == "balanced":
            run.metrics["best_epoch_val_accuracy"] = float("nan")
    found = across(records)
    assert f"{START}adam default " in found.verdict and "beats adam balanced" not in found.verdict
