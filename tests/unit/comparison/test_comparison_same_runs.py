"""Options that are the same runs: one computation in the tests, rows of their own in the tables."""

import dataclasses

import pytest
from synthetic_runs import make_sweep, scores_as_runs

from mnistlab.comparison import RunRecord, compare, fairness, terminal_summary
from mnistlab.comparison.options import same_runs
from mnistlab.comparison.report import write_report
from mnistlab.comparison.tables import options_table, pairs_table


def under_another_name(records, name, of, **changes):
    """The runs of the option `of` once more, as the sweep's jobs for another option."""
    return [
        dataclasses.replace(run, name=f"{name}-{run.seed}", params={**run.params, "optimizer": name}, **changes)
        for run in records
        if run.params["optimizer"] == of
    ]


def twins(*options, seeds=3):
    """sgd and minibatch_gd are the same runs."""
    records = make_sweep(["sgd", *options], seeds)
    return records + under_another_name(records, "minibatch_gd", "sgd")


def test_both_are_rows_with_the_same_numbers():
    found = compare(twins("adam"))
    rows = {row[0]: row[1:] for row in options_table(found).rows}
    assert list(rows) == ["sgd", "minibatch_gd", "adam"] and rows["sgd"] == rows["minibatch_gd"]
    assert found.options[0].run_ids == ["sgd-0", "sgd-1", "sgd-2"]


def test_the_tests_count_them_once():
    """All numbers of a pair equal those of the sweep without the second name: the same family, the same variance."""
    alone = {(pair.first, pair.second): pair for pair in compare(make_sweep(["sgd", "adam", "momentum"], 3)).pairs}
    found = {(pair.first, pair.second): pair for pair in compare(twins("adam", "momentum")).pairs}
    assert len(alone) == 3 and len(found) == 6
    for names, pair in alone.items():
        assert found[names] == pair
        twin = tuple("minibatch_gd" if name == "sgd" else name for name in names)
        words = pair.words.replace("sgd", "minibatch_gd")
        assert found[twin] == dataclasses.replace(pair, first=twin[0], second=twin[1], words=words)


def test_moderation_counts_distinct_options():
    """Six options, five computations: no moderation, as in a sweep of five."""
    five = ["sgd", "adam", "momentum", "rmsprop", "adagrad"]
    alone = compare(make_sweep(five, 4))
    found = compare(twins(*five[1:], seeds=4))
    assert found.method == alone.method and "variance of that pair alone" in found.method
    assert [pair for pair in found.pairs if "minibatch_gd" not in (pair.first, pair.second)] == alone.pairs


def test_the_pair_of_them():
    (pair,) = [pair for pair in compare(twins("adam")).pairs if pair.decision == "same runs"]
    assert (pair.words, pair.num_seeds) == ("minibatch_gd and sgd are the same runs", 3)
    assert (pair.advantage, pair.p, pair.p_holm, pair.low, pair.more_seeds) == (None,) * 5


def test_the_note():
    notes = fairness(twins("adam"), "optimizer")
    text = "minibatch_gd and sgd are the same runs: one run per seed serves both; the tests count them once"
    assert notes[0].level == "note" and notes[0].text == text
    three = twins("adam") + under_another_name(make_sweep(["sgd"], 3), "plain", "sgd")
    expected = "minibatch_gd, plain and sgd are the same runs: one run per seed serves all 3; the tests count them once"
    assert fairness(three, "optimizer")[0].text == expected


def test_a_leader_is_named_with_its_twin():
    assert compare(twins("adam")).verdict == (
        "sgd (the same runs as minibatch_gd) beats adam by 1.1 points [0.9, 1.3] (sgd: 97.10 % "
        "best_epoch_val_accuracy; 3 seeds)."
    )
    assert compare(twins("adam", "adagrad")).verdict.startswith(
        "sgd (the same runs as minibatch_gd) is best with 97.10 % best_epoch_val_accuracy: it beats adam by "
    )
    assert " and the other option (3 seeds)." in compare(twins("adam", "adagrad")).verdict


def test_a_tie_of_twins_is_not_called_a_tie():
    scores = [[0.95, 0.96, 0.97], [0.951, 0.958, 0.971]]
    records = scores_as_runs(scores)
    records += under_another_name(records, "c", "a")
    verdict = compare(records).verdict
    assert verdict.startswith("No winner: a (the same runs as c) and b are not distinguishable (3 seeds)")
    assert "the 3 options" not in verdict


def test_one_seed_of_twins():
    found = compare(twins("adam", seeds=1))
    assert found.verdict.startswith("One seed: no claim; sgd (the same runs as minibatch_gd) has the best value, 97.")
    assert pairs_table(found) is None and "are the same runs" not in terminal_summary(found).split("\n\n")[1]


def test_nothing_but_twins():
    found = compare(twins())
    assert found.verdict == "minibatch_gd and sgd are the same runs: nothing to compare."
    assert len(found.options) == 2


def test_equal_numbers_of_other_runs_are_no_twins():
    found = compare(scores_as_runs([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7]]))
    assert found.pairs[0].decision == "no spread"
    assert not any("same runs" in note.text for note in found.notes)


def test_jobs_without_a_run_are_no_twins_but_may_fail_beside_shared_runs():
    lost = [RunRecord("", f"{name}-0", "FAILED", {"optimizer": name, "seed": 0}) for name in ("adam", "sgd")]
    assert same_runs({run.params["optimizer"]: [run] for run in lost}) == []
    lost = [RunRecord("", f"{name}-9", "FAILED", {"optimizer": name, "seed": 9}) for name in ("minibatch_gd", "sgd")]
    assert compare(twins() + lost).verdict == "minibatch_gd and sgd are the same runs: nothing to compare."


def test_one_shared_run_of_several_makes_no_twins():
    records = make_sweep(["adam", "sgd"], 3)
    shared = [run for run in under_another_name(records, "other", "sgd") if run.seed < 2]
    other = [
        dataclasses.replace(run, run_id=f"other-{run.seed}") for run in under_another_name(records, "other", "adam")
    ]
    found = compare([*records, *shared, other[2]])
    assert not any(pair.decision == "same runs" for pair in found.pairs)


def test_twins_of_a_learning_rate_grid_at_their_best_rates():
    rates = (0.001, 0.01, 0.1)
    records = [
        dataclasses.replace(run, run_id=f"{run.run_id}-{rate}", params={**run.params, "optimizer.learning_rate": rate})
        for rate in rates
        for run in make_sweep(["sgd", "adam"], 3)
    ]
    for index, run in enumerate(records):
        run.metrics["best_epoch_val_accuracy"] += 0.01 * (run.params["optimizer.learning_rate"] == 0.01) + 1e-5 * (
            index % 4
        )
    found = compare(
        records + under_another_name(records, "minibatch_gd", "sgd"), ("optimizer", "optimizer.learning_rate")
    )
    assert found.verdict.startswith("Each at its best learning rate: sgd (the same runs as minibatch_gd) beats adam by")
    assert {pair.decision for pair in found.grid.at_best} == {"same runs", "better"}


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_report_of_twins_shows_both(tmp_path, seeds):
    records = twins("adam", seeds=seeds)
    write_report(compare(records), records, tmp_path)
    table = (tmp_path / "table.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in table[1:]] == ["sgd", "minibatch_gd", "adam"]
    assert "minibatch_gd and sgd are the same runs" in (tmp_path / "pairs.csv").read_text()
