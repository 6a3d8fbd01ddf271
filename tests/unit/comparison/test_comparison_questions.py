"""The questions a sweep can be asked: best of all, better than one, equivalent within a margin."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import make_sweep, scores_as_runs

from mnistlab.comparison import compare, terminal_summary
from mnistlab.comparison.curves import training_seconds
from mnistlab.comparison.outlook import paragraph
from mnistlab.comparison.question import Question, parse_question
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import holm
from mnistlab.comparison.tables import pairs_table

SEEDS = 8
GENERATOR = np.random.default_rng(5)
SCORES = np.array([[0.960], [0.955], [0.9602], [0.93]]) + 0.001 * GENERATOR.normal(size=(4, SEEDS))  # a, b, c, d


@pytest.mark.parametrize("text", ["best", "better_than:adam lr=0.01", "equivalent:0.2", "fastest_within:1"])
def test_a_question_is_written_as_it_is_read(text):
    assert str(parse_question(text)) == text


@pytest.mark.parametrize(
    "text", ["", "Best", "best:adam", "better_than", "better_than:", "equivalent", "equivalent:0", "equivalent:nan"]
)
def test_other_questions_are_refused(text):
    with pytest.raises(ValueError, match="the question must be best, better_than:OPTION"):
        parse_question(text)


def test_better_than_tests_only_the_pairs_with_the_baseline():
    found = compare(scores_as_runs(SCORES), question="better_than:b", resamples=0)
    p = holm(np.array([stats.ttest_rel(SCORES[row], SCORES[1]).pvalue for row in (0, 2, 3)]))
    measured = {frozenset((pair.first, pair.second)): pair.p_holm for pair in found.answer.pairs}
    assert measured == pytest.approx({frozenset((name, "b")): value for name, value in zip("acd", p, strict=True)})
    assert found.verdict.startswith("Better than b: c by 0.")
    assert "a by 0." in found.verdict and "Worse: d by 2." in found.verdict
    assert found.verdict.endswith("(8 seeds).")
    assert all(pair.low > 0 for pair in found.answer.pairs)


def test_better_than_finds_nothing_where_nothing_is():
    scores = np.tile(0.95 + 0.01 * np.random.default_rng(0).normal(size=(1, 5)), (2, 1))
    scores[1] += [0.001, -0.001, 0.002, -0.0015, 0.0001]
    found = compare(scores_as_runs(scores), question="better_than:a", resamples=0)
    assert found.verdict == ("No option is shown to be better than a. Not distinguishable from it: b (5 seeds).")


def test_the_baseline_must_be_an_option():
    with pytest.raises(ValueError, match="needs one of the options. Received: z. Choices: a, b, c, d"):
        compare(scores_as_runs(SCORES), question="better_than:z")


def test_equivalence_is_two_one_sided_tests():
    found = compare(scores_as_runs(SCORES[[0, 2]]), question="equivalent:0.2", resamples=0)
    (pair,) = found.answer.pairs
    differences = SCORES[0] - SCORES[2]
    expected = max(
        stats.ttest_1samp(differences, -0.002, alternative="greater").pvalue,
        stats.ttest_1samp(differences, 0.002, alternative="less").pvalue,
    )
    assert pair.p == pytest.approx(expected)
    assert pair.decision == "equivalent" and expected < 0.05
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.9)
    assert sorted(map(abs, (pair.low, pair.high))) == pytest.approx(sorted(map(abs, interval)))
    assert found.verdict.startswith("b and a are equivalent within 0.2 points: b is ahead of a by 0.01 ")


def test_equivalent_different_and_undecided_pairs_are_told_apart():
    found = compare(scores_as_runs(SCORES), question="equivalent:0.2", resamples=0)
    decisions = {frozenset((pair.first, pair.second)): pair.decision for pair in found.answer.pairs}
    assert decisions[frozenset("ac")] == "equivalent"
    assert decisions[frozenset("ad")] == decisions[frozenset("bd")] == "better"
    assert "Equivalent within 0.2 points: " in found.verdict and "Different: " in found.verdict
    assert all(pair.low > 0 for pair in found.answer.pairs if pair.decision == "better")


def test_a_margin_of_a_loss_has_its_unit():
    losses = np.array([[0.100, 0.101, 0.099, 0.1005], [0.1001, 0.1012, 0.0988, 0.1006]])
    asked = {"objective": "val_loss", "question": "equivalent:0.01"}
    found = compare(scores_as_runs(losses, "val_loss"), **asked, resamples=0)
    assert found.verdict.startswith("a and b are equivalent within 0.01: a is ahead of b by 0.00005 [")


def test_the_terminal_shows_the_pairs_of_the_question():
    lines = terminal_summary(compare(scores_as_runs(SCORES), question="better_than:b", resamples=0)).splitlines()
    assert sum("beats" in line for line in lines) == 3


@pytest.mark.parametrize("question", ["better_than:momentum", "equivalent:3"])
def test_every_question_has_rounds(question):
    records = make_sweep(["sgd", "momentum", "adagrad", "batch_gd"], 8)
    found = compare(records, question=question, looks=Looks(3, 8), resamples=0)
    assert found.answer.rounds[0].num_seeds == 3
    assert found.answer.stopped in ("clear", "max_seeds")
    assert found.answer.question == question
    settled = {one.option for one in found.answer.rounds[-1].standings if not one.open}
    assert "batch_gd" in settled
    assert len(found.answer.rounds) <= 6


def timed_runs(scores, seconds):
    """Runs with these scores and training seconds, both of shape (options, seeds)."""
    runs = scores_as_runs(scores)
    flat = np.asarray(seconds).ravel()
    return [
        dataclasses.replace(run, metrics={**run.metrics, "train_seconds": float(value)})
        for run, value in zip(runs, flat, strict=True)
    ]


def test_the_fastest_within_a_margin_of_the_best():
    """b is fast and 0.5 points behind, d is faster and too far behind, c is as good as a and as slow."""
    seconds = np.array([[10.0], [4.0], [10.2], [1.0]]) * np.exp(0.02 * np.random.default_rng(1).normal(size=(4, SEEDS)))
    records = timed_runs(SCORES, seconds)
    found = compare(records, question="fastest_within:0.8", resamples=0)
    behind = SCORES[2] - SCORES[1]
    p = stats.ttest_1samp(behind, 0.008, alternative="less").pvalue
    pair = next(pair for pair in found.answer.pairs if pair.second == "b")
    assert pair.p == pytest.approx(p) and pair.decision == "equivalent"
    assert found.answer.winner == "b"
    ratio = np.exp(np.log(seconds[1] / seconds[2]).mean())
    assert found.verdict.startswith(
        "b is the fastest of the 3 options within 0.8 points of c, which has the best mean (95.98 %"
    )
    assert f"and takes {ratio:.2g} [" in found.verdict
    assert "within 0.8 of the best mean was tested by one-sided paired t tests" in paragraph(found)
    assert pairs_table(found).title == "All pairs of options"
    narrow = compare(records, question="fastest_within:0.2", resamples=0)
    assert "The fastest of the 2 options within 0.2 points of c" in narrow.verdict
    assert compare(records, question="fastest_within:0.01", resamples=0).verdict.startswith("No other option is shown")


def test_a_time_to_target_is_an_objective():
    records = make_sweep(["sgd", "momentum", "adagrad"], 5)
    found = compare(records, objective="seconds_to_0.95", resamples=0)
    assert found.direction == "lower"
    assert found.options[0].name == "momentum"
    reached = [
        sum(training_seconds(run)[: next(i for i, value in enumerate(run.history["val_accuracy"], 1) if value >= 0.95)])
        for run in records
        if run.params["optimizer"] == "momentum"
    ]
    assert found.options[0].scores == pytest.approx(reached)
    (warning,) = [note.text for note in found.notes if "did not reach" in note.text]
    assert warning.startswith("5 of 5 runs of adagrad did not reach 95 %: they count as diverged")
    epochs = compare(records, objective="epochs_to_0.95", resamples=0)
    assert {score for option in epochs.options for score in option.scores} <= {1.0, 2.0, 3.0}


def test_the_question_best_is_the_default():
    assert compare(scores_as_runs(SCORES), resamples=0).answer.question == str(Question())
