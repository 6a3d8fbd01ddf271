"""From records to the verdict: grouping, failures, sentences."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import diverged, failed, flagship, make_run, make_sweep, scores_as_runs

from mnistlab.comparison import RunRecord, compare, to_json
from mnistlab.comparison.records import option_name, outcome
from mnistlab.comparison.results import Pair
from mnistlab.comparison.wording import describe_pair, format_difference

GAPS = np.array([[0.004, 0.0041, 0.0042, 0.0038, 0.0039], [0.0] * 5])
SEED_EFFECT = np.array([0.95, 0.951, 0.949, 0.9505, 0.9492])


def test_a_winner_of_two():
    found = compare(scores_as_runs(SEED_EFFECT + GAPS))
    assert found.verdict == "a beats b by 0.4 points [0.4, 0.4] (a: 95.39 % best_epoch_val_accuracy; 5 seeds)."
    assert found.pairs[0].advantage == pytest.approx(0.004)


def test_the_sentence_of_a_winner_with_its_interval():
    """0.4 points with a spread that gives the interval [0.2, 0.6]."""
    noise = np.array([-1, -0.5, 0, 0.5, 1]) * 0.00205
    found = compare(scores_as_runs(np.array([0.95 + 0.004 + noise, np.full(5, 0.95)])))
    assert found.pairs[0].words == "a beats b by 0.4 points [0.2, 0.6]"


def test_not_distinguishable_estimates_the_seeds_needed():
    noise = np.array([-1, -0.5, 0, 0.5, 1]) * 0.006
    pair = compare(scores_as_runs(np.array([0.954 + noise, np.full(5, 0.95)]))).pairs[0]
    assert pair.decision == "undecided" and pair.more_seeds and pair.low < 0 < pair.high
    assert pair.words == f"a and b are not distinguishable; about {pair.more_seeds} more seeds would be needed"


def test_one_seed_no_claim():
    found = compare(make_sweep(num_seeds=1))
    assert found.verdict.startswith("One seed: no claim; sgd has the best value, 97.")
    assert {pair.decision for pair in found.pairs} == {"one seed"}
    assert found.pairs[0].words.endswith("one seed: no claim")
    assert all(option.interval is None and option.sd is None for option in found.options)


def test_the_flagship_sweep():
    found = compare(flagship())
    assert [option.name for option in found.options][:2] == ["sgd", "momentum"]
    assert found.options[-1].name == "batch_gd"
    assert found.verdict.startswith("sgd is best with 97.07 % best_epoch_val_accuracy: it beats momentum by 0.2 points")
    assert found.verdict.endswith("and all 5 others (4 to 5 seeds).")
    assert len(found.pairs) == 21


def test_failures_are_counted_and_not_averaged_in():
    options = {option.name: option for option in compare(flagship()).options}
    rmsprop, adam = options["rmsprop"], options["adam"]
    assert (rmsprop.num_diverged, rmsprop.num_failed, rmsprop.failure_rate) == (1, 0, 0.2)
    assert (adam.num_diverged, adam.num_failed, adam.failure_rate) == (0, 1, 0.2)
    assert rmsprop.seeds == [0, 1, 2, 4] and adam.seeds == [0, 1, 2, 3]
    values = [make_run("rmsprop", seed).metrics["best_epoch_val_accuracy"] for seed in (0, 1, 2, 4)]
    assert rmsprop.mean == pytest.approx(np.mean(values))
    assert rmsprop.sd == pytest.approx(np.std(values, ddof=1))
    assert rmsprop.test_accuracy == pytest.approx(
        np.mean([make_run("rmsprop", seed).metrics["test_accuracy"] for seed in (0, 1, 2, 4)])
    )


def test_the_verdict_mentions_failed_runs_of_the_winner():
    records = [run for run in make_sweep(["sgd", "adam"]) if run.run_id != "sgd-4"] + [diverged("sgd", 4)]
    assert compare(records).verdict.endswith("; but 1 of its 5 runs failed or diverged.")


def test_interrupted_runs_are_neither_failures_nor_scores():
    stopped = [make_run("sgd", 9, status="KILLED"), make_run("sgd", 8, status="RUNNING")]
    sgd = compare([*make_sweep(["sgd", "adam"]), *stopped, failed("sgd", 7)]).options[0]
    assert (sgd.num_runs, sgd.num_unfinished, sgd.num_failed, len(sgd.scores)) == (8, 2, 1, 5)
    assert sgd.failure_rate == pytest.approx(1 / 6)


def test_nothing_trained():
    found = compare([failed("adam", 0), failed("sgd", 0)])
    assert found.verdict == "No result: no run of any option trained to the end."
    assert compare([make_run("adam", 0), failed("sgd", 0)]).verdict.startswith("Only adam trained (95.")
    assert compare(make_sweep(["adam"])).verdict.startswith("Only one option, adam (95.")


def test_a_nan_objective_is_a_divergence():
    assert outcome(make_run("adam", 0, metrics={"best_epoch_val_loss": math.nan}), "best_epoch_val_loss") == "diverged"
    assert outcome(make_run("adam", 0), "not_logged") == "unfinished"


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_records_changes_nothing(random):
    records = flagship()
    shuffled = list(records)
    random.shuffle(shuffled)
    assert compare(shuffled) == compare(records)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(2, 6))
def test_lower_is_better_mirrors_higher_is_better(seed, options, seeds):
    scores = np.random.default_rng(seed).normal(0.5, 0.01, (options, seeds))
    higher = compare(scores_as_runs(scores, "val_auc"), objective="val_auc", resamples=0)
    lower = compare(scores_as_runs(1 - scores, "val_loss"), objective="val_loss", resamples=0)
    assert (higher.direction, lower.direction) == ("higher", "lower")
    for mine, other in zip(higher.pairs, lower.pairs, strict=True):
        assert (mine.first, mine.second, mine.decision) == (other.first, other.second, other.decision)
        assert mine.advantage == pytest.approx(other.advantage)
        assert mine.low == pytest.approx(other.low)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(1, 5), st.floats(1e-5, 0.05))
def test_sentences_numbers_and_decisions_agree(seed, options, seeds, spread):
    rng = np.random.default_rng(seed)
    scores = 0.9 + spread * rng.normal(size=(options, seeds)) + 0.01 * rng.normal(size=(options, 1))
    found = compare(scores_as_runs(scores), resamples=0)
    for pair in found.pairs:
        assert (pair.decision == "better") == (pair.low is not None and pair.low > 0) == (" beats " in pair.words)
        if pair.decision == "better":
            assert pair.p_holm < 0.05
            low, high = map(float, pair.words.split("[")[1].rstrip("]").split(", "))
            assert 0 < low <= high
    leader = found.options[0].name
    if " is best " in found.verdict:
        assert found.answer.winner == leader
        beaten = {pair.second for pair in found.answer.pairs if pair.first == leader and pair.decision == "better"}
        assert beaten == {option.name for option in found.options[1:]} or "beaten by it or by" in found.verdict
        assert all((pair.decision == "better") == (pair.low > 0) for pair in found.answer.pairs)


def test_a_claim_never_shows_a_bound_of_zero():
    assert format_difference("val_accuracy", 0.004, 0.0004, 0.0076) == "0.40 points [0.04, 0.76]"
    assert format_difference("val_loss", 0.004, 0.00004, 0.0076) == "0.00400 [0.00004, 0.00760]"


def test_the_sentence_of_a_pair_without_variance():
    same = Pair("a", "b", 3, 0.0, None, None, None, None, None, "no spread", None, "")
    sentence = "a and b: the same score for every seed: zero variance, no test, no claim"
    assert describe_pair(same, "val_accuracy") == sentence
    assert "the same difference" in describe_pair(dataclasses.replace(same, advantage=0.1), "val_accuracy")


def test_no_variance_makes_no_claim():
    found = compare(scores_as_runs([[0.755, 0.755], [0.5475, 0.5475]]))
    assert found.verdict == (
        "No claim: no test is possible between a and b: the same difference for every seed, so zero variance "
        "(2 seeds); a has the best value, 75.50 % best_epoch_val_accuracy."
    )
    equal = compare(scores_as_runs([[0.755, 0.755], [0.755, 0.755]])).verdict
    assert equal.endswith("(2 seeds); a and b share the best value, 75.50 % best_epoch_val_accuracy.")
    one_seed = compare(scores_as_runs([[0.755], [0.755], [0.5]])).verdict
    assert one_seed.startswith("One seed: no claim; a and b share the best value, 75.50 %")


def test_pairs_without_variance_beside_tested_ones():
    # not the shares of any number of images, for which zero variance is not believed
    a, b = np.array([0.950, 0.951, 0.952, 0.953]) + 3e-5, np.array([0.940, 0.941, 0.942, 0.943]) + 3e-5
    beaten, close = [0.900, 0.902, 0.901, 0.904], [0.9495, 0.9515, 0.953, 0.9515]
    assert compare(scores_as_runs([a, b, beaten])).verdict == (
        "a leads with 95.15 % best_epoch_val_accuracy; no test is possible between a and b: the same difference for "
        "every seed, so zero variance; it beats the other option (4 seeds)."
    )
    verdict = compare(scores_as_runs([a, b, close])).verdict
    assert verdict.startswith("No winner: a and c are not distinguishable (4 seeds); ")
    assert "; no test is possible between a and b: the same difference" in verdict
    assert verdict.endswith("; a has the best mean, 95.15 % best_epoch_val_accuracy.")


def test_with_unequal_seeds_the_leader_is_an_option_that_no_other_beats():
    """b's mean is best only because it lacks the hard seeds; on the seeds both have, a is better."""
    easy, hard = 0.97, 0.90
    a = [easy + 0.0101, easy + 0.0100, easy + 0.0099, hard, hard]
    b = [easy, easy, easy, math.nan, math.nan]
    found = compare(scores_as_runs(np.array([a, b])))
    assert found.options[0].name == "b"
    assert found.verdict.startswith("a beats b by 1.0 points")


def test_axis_of_several_settings_and_names():
    records = [
        make_run("adam", seed, run_id=f"{rate}-{seed}", params={"optimizer.learning_rate": rate})
        for rate, seed in itertools.product((0.01, 0.001), range(2))
    ]
    found = compare(records, ("optimizer", "optimizer.learning_rate"))
    assert sorted(option.name for option in found.options) == ["adam lr=0.001", "adam lr=0.01"]
    assert option_name(("optimizer.learning_rate",), (0.01,)) == "lr=0.01"
    assert option_name(("optimizer", "model"), ("adam", "cnn")) == "adam cnn"
    assert option_name(("a.rate", "b.rate"), (1, 2)) == "a.rate=1 b.rate=2"
    assert option_name(("optimizer", "data"), ("adam", "none")) == "adam data=none"


def test_several_runs_of_one_seed_are_one_replicate():
    records = [*make_sweep(["adam", "sgd"], 1), make_run("adam", 0, run_id="again")]
    found = compare(records)
    assert found.pairs[0].decision == "one seed"
    assert any("were averaged" in note.text for note in found.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "test_accuracy"}, "never ranked on"),
        (
            {"objective": "best_epoch_test_accuracy"},
            "selected on the test set would be optimistic.*'best_epoch_test_accuracy'",
        ),
        (
            {"objective": "val_acuracy"},
            "Received: 'val_acuracy'. Choices: best_epoch_val_accuracy, best_epoch_val_loss, train_seconds$",
        ),
        ({"axis": "optimiser"}, "no run has a setting 'optimiser'"),
        ({"axis": "seed"}, "seeds are replicates"),
        ({"axis": ()}, "name one or more settings"),
    ],
)
def test_invalid_arguments_raise_with_the_choices(arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(make_sweep(["adam", "sgd"]), **arguments)


def test_no_records():
    with pytest.raises(ValueError, match="nothing to compare"):
        compare([])


def test_the_comparison_is_plain_data():
    import json

    found = compare([*flagship(), RunRecord("x", status="FAILED", params={"optimizer": "adam", "seed": 11})])
    text = to_json(found)
    assert json.loads(text)["options"][0]["name"] == "sgd"
    assert "NaN" not in text and "Infinity" not in text
