"""Time-to-target, diagnosis of curves, learning-rate grids."""

import math

from synthetic_runs import diverged, failed, make_run, make_sweep

from mnistlab.comparison import RunRecord, compare
from mnistlab.comparison.curves import (
    censored_median,
    describe_convergence,
    diagnose_curves,
    diagnose_option,
    diagnose_run,
    first_epoch,
    time_to_target,
)
from mnistlab.comparison.grid import learning_rate_grid


def run_with(seed=0, **history):
    return make_run("adam", seed, history={name: list(values) for name, values in history.items()})


def test_time_to_target_is_the_first_epoch_at_or_above_it():
    group = [
        run_with(0, val_accuracy=[0.9, 0.95, 0.97], epoch_seconds=[1.0, 2.0, 4.0]),
        run_with(1, val_accuracy=[0.96, 0.95, 0.97], epoch_seconds=[1.5, 2.0, 4.0]),
        run_with(2, val_accuracy=[0.9, 0.93, 0.951], epoch_seconds=[1.0, 2.0, 4.0]),
    ]
    found = time_to_target(group, 0.95)
    assert (found.num_reached, found.num_runs, found.epochs, found.seconds) == (3, 3, 2.0, 3.0)
    assert found.steps == 2 * math.ceil(54000 / 32)


def test_runs_that_miss_the_target_have_an_infinite_time():
    reached = run_with(0, val_accuracy=[0.96])
    missed = [run_with(seed, val_accuracy=[0.5]) for seed in (1, 2)]
    assert time_to_target([reached, missed[0]], 0.95).epochs is None
    found = time_to_target([reached, *missed], 0.95)
    assert (found.epochs, found.num_reached, found.num_runs) == (None, 1, 3)
    assert time_to_target([reached, failed("adam", 3)], 0.95).num_runs == 2
    assert time_to_target([reached, make_run("adam", 4, status="KILLED")], 0.95).num_runs == 1


def test_censored_median():
    assert censored_median([1.0, 3.0], 0) == 2.0
    assert censored_median([1.0, 3.0], 1) == 3.0
    assert censored_median([1.0, 3.0], 2) is None
    assert censored_median([], 0) is None


def test_first_epoch_of_a_loss():
    run = run_with(val_loss=[0.5, math.nan, 0.2])
    assert first_epoch(run, "val_loss", 0.3, "lower") == 3
    assert first_epoch(run, "val_loss", 0.1, "lower") is None


def test_the_diagnosis_of_a_run_is_the_reading_that_it_recorded():
    for reading in ("overfitting", "good fit", "too few epochs to tell"):
        assert diagnose_run(make_run("adam", 0, tags={"fit_reading": reading})) == reading
    assert diagnose_run(diverged("adam", 0)) == "diverged"
    assert diagnose_run(failed("adam", 0)) == "failed"
    assert diagnose_run(RunRecord("0", tags={"outcome": "trained"})) == "not read"


def test_diagnosis_of_an_option_counts_its_runs():
    group = [*make_sweep(["adam"], 3), diverged("adam", 3), failed("adam", 4)]
    assert diagnose_option(group) == "good fit in 3 of 5; diverged in 1 of 5; failed in 1 of 5"
    assert diagnose_option(make_sweep(["batch_gd"])) == "underfitting"


def test_which_option_converges_first_and_which_ends_best():
    slow = [run_with(seed, val_accuracy=[0.5, 0.9, 0.98], epoch_seconds=[1, 1, 1]) for seed in range(3)]
    fast = [run_with(seed, val_accuracy=[0.96, 0.975, 0.975], epoch_seconds=[9, 9, 9]) for seed in range(3)]
    diagnoses = {
        name: diagnose_curves(group, "val_accuracy", "higher", 0.98) for name, group in (("slow", slow), ("fast", fast))
    }
    assert (diagnoses["slow"].level_epoch, diagnoses["fast"].level_epoch) == (3.0, 2.0)
    sentence = describe_convergence(diagnoses, "val_accuracy", "slow", "higher")
    assert sentence == (
        "Within 1 % of the best final val_accuracy first: fast (median epoch 2); in seconds: slow (3 s); "
        "slow ends highest."
    )


RATES = (0.0001, 0.001, 0.01)


def grid_runs(means, option="adam", seeds=2):
    return [
        make_run(
            option,
            seed,
            run_id=f"{option}{rate}{seed}",
            params={"optimizer.learning_rate": rate},
            metrics={"best_epoch_val_accuracy": mean + 0.001 * seed},
        )
        for rate, mean in zip(RATES, means, strict=True)
        for seed in range(seeds)
    ]


def test_a_grid_ranks_optimizers_at_default_and_at_best():
    records = grid_runs((0.90, 0.95, 0.93)) + grid_runs((0.80, 0.94, 0.96), "momentum")
    grid = learning_rate_grid(records, "best_epoch_val_accuracy", defaults={"adam": 0.001, "momentum": 0.001})
    adam, momentum = grid.rows
    assert (adam.best, adam.rank_at_best, adam.rank_at_default) == (0.001, 2, 1)
    assert (momentum.best, momentum.rank_at_best, momentum.rank_at_default) == (0.01, 1, 2)
    assert grid.warnings == [
        "momentum: the best learning rate, 0.01, is the highest of the grid; the optimum may be outside: "
        "add larger values of optimizer.learning_rate"
    ]
    assert {grid.at_best[0].first, grid.at_best[0].second} == {"adam", "momentum"}


def test_a_rate_at_which_half_of_the_runs_fail_is_not_the_best():
    records = grid_runs((0.90, 0.95, 0.99))
    records[-1] = make_run(
        "adam", 1, run_id="x", params={"optimizer.learning_rate": 0.01}, tags={"outcome": "diverged"}
    )
    assert learning_rate_grid(records, "best_epoch_val_accuracy").rows[0].best == 0.001


def test_two_rates_are_no_grid_and_losses_are_minimised():
    records = grid_runs((0.90, 0.95, 0.93))
    assert learning_rate_grid(records[:4], "best_epoch_val_accuracy") is None
    assert learning_rate_grid(records, "best_epoch_val_accuracy", "lower").rows[0].best == 0.0001


def test_the_default_rate_can_come_from_a_tag_and_may_lie_off_the_grid():
    records = [
        make_run(
            run.params["optimizer"],
            run.params["seed"],
            run_id=run.run_id,
            params=dict(run.params),
            tags={"default.learning_rate": "0.001"},
        )
        for run in grid_runs((0.9, 0.95, 0.93))
    ]
    assert learning_rate_grid(records, "best_epoch_val_accuracy").rows[0].default == 0.001
    assert learning_rate_grid(records, "best_epoch_val_accuracy", defaults={"adam": 0.5}).rows[0].default is None


def test_the_verdict_on_a_grid_is_at_the_best_rates():
    records = grid_runs((0.90, 0.95, 0.93), seeds=3) + grid_runs((0.80, 0.94, 0.96), "momentum", seeds=3)
    for index, run in enumerate(records):
        run.metrics["best_epoch_val_accuracy"] += 0.0002 * (index % 5)
    found = compare(records, ("optimizer", "optimizer.learning_rate"))
    assert found.verdict.startswith("Each at its best learning rate: momentum beats adam by 1.0 points")
    assert any("highest of the grid" in note.text for note in found.notes if note.level == "warning")
