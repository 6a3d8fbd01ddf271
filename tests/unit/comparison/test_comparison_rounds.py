"""Sweeps until a verdict: levels that allow for repeated looks, options that leave the race, when it ends."""

import math

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import make_run, scores_as_runs

from mnistlab.comparison import compare
from mnistlab.comparison.best import find_best
from mnistlab.comparison.race import race_for_best
from mnistlab.comparison.report import write_report
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import compare_pairs

LOOKS = Looks(3, 20)


def test_one_look_is_the_t_test():
    levels = np.array([0.05, 0.01, math.nan])
    np.testing.assert_array_equal(Looks(5, 5).nominal(levels), levels)
    np.testing.assert_array_equal(Looks(5, 5).overall(levels), levels)


def test_looks_are_counted_from_two_seeds_on():
    for first, last in ((1, 5), (6, 5)):
        with pytest.raises(ValueError, match=f"Received: first={first}, last={last}"):
            Looks(first, last)


def test_nominal_levels_of_two_looks_are_those_of_a_direct_integration():
    """Two looks, after 3 and 4 differences: the share of samples with a p value below the level, counted anew."""
    looks = Looks(3, 4)
    nominal = float(looks.nominal(0.05))
    values = np.random.default_rng(99).normal(size=(200_000, 4))
    found = np.zeros(len(values), dtype=bool)
    for count in (3, 4):
        t = values[:, :count].mean(axis=1) / (values[:, :count].std(axis=1, ddof=1) / math.sqrt(count))
        found |= 2 * stats.t.sf(np.abs(t), count - 1) <= nominal
    assert found.mean() == pytest.approx(0.05, abs=0.002)
    assert 0.025 < nominal < 0.05  # between Bonferroni's and one look's
    assert float(looks.overall(nominal)) == pytest.approx(0.05, rel=0.01)


def test_levels_and_p_values_are_each_others_inverse_and_grow():
    levels = np.array([1e-5, 1e-4, 0.001, 0.005, 0.01, 0.05, 0.2])
    nominal = LOOKS.nominal(levels)
    assert np.all(np.diff(nominal) > 0) and np.all(nominal < levels)
    np.testing.assert_allclose(LOOKS.overall(nominal)[3:], levels[3:], rtol=0.02)
    assert np.all(np.diff(LOOKS.overall(np.geomspace(1e-8, 1, 200))) >= 0)


@pytest.mark.long
def test_peeking_after_every_seed_claims_as_rarely_as_one_look():
    """Two equal options, 1,000 sweeps: at most 5 % and three standard errors; plain t tests claim far more."""
    generator, claims, plain = np.random.default_rng(0), 0, 0
    critical = stats.t.isf(0.025, np.arange(2, 20))
    for _ in range(1000):
        scores = generator.normal(size=(2, 20))
        race = race_for_best(["a", "b"], scores, LOOKS, 0.05, 0.0)
        claims += race.stopped == "clear"
        differences = scores[0] - scores[1]
        t = [differences[:count].mean() / stats.sem(differences[:count]) for count in range(3, 21)]
        plain += any(np.abs(t) > critical)
    assert claims / 1000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert plain / 1000 > 0.15


def test_beaten_options_leave_and_the_best_is_found():
    generator = np.random.default_rng(1)
    scores = np.array([[0.97], [0.965], [0.90], [0.11]]) + 0.001 * generator.normal(size=(4, 20))
    race = race_for_best(["adam", "sgd", "adagrad", "batch_gd"], scores, LOOKS, 0.05, 0.0)
    assert (race.stopped, race.open, race.why) == ("clear", [0], "adam is best")
    first, last = race.rounds[0], race.rounds[-1]
    assert first.num_seeds == 3 and first.num_runs == 12 and first.leader == "adam"
    gone = {one.option: one.words for one in first.standings if not one.open}
    assert {"adagrad", "batch_gd"} <= {*gone}
    assert gone["batch_gd"].startswith("out: behind ")
    assert last.num_runs < 4 * last.num_seeds
    means = {one.option: one.mean for one in last.standings}
    assert means["adam"] == pytest.approx(scores[0, : last.num_seeds].mean())


def test_the_interval_of_a_round_is_that_of_the_tests_level():
    scores = np.array([[0.97, 0.972, 0.969, 0.971], [0.968, 0.969, 0.968, 0.970]])
    found = race_for_best(["a", "b"], scores, Looks(3, 10), 0.05, 0.0).rounds[-1]
    behind = next(one for one in found.standings if one.option == "b")
    differences = scores[0] - scores[1]
    half = stats.t.isf(float(Looks(3, 10).nominal(0.05)) / 2, 3) * differences.std(ddof=1) / 2
    assert behind.difference == pytest.approx(differences.mean())
    assert (behind.low, behind.high) == pytest.approx((differences.mean() - half, differences.mean() + half))


def test_the_race_ends_at_the_last_seed():
    scores = np.random.default_rng(3).normal(size=(2, 6))
    race = race_for_best(["a", "b"], scores, Looks(3, 6), 0.05, 0.0)
    assert (race.stopped, race.why) == ("max_seeds", "6 seeds are the limit (sweep.max_seeds)")


def test_the_race_ends_before_if_more_seeds_can_hardly_help():
    """Equal means at a large spread."""
    differences = np.array([1.0, -1.0, 1.02, -1.0, 1.0, -1.02, 1.0, -1.0, 1.0, -1.0] * 2)
    scores = np.array([differences, np.zeros(20)])
    seen = [race_for_best(["a", "b"], scores[:, :count], LOOKS, 0.05, 0.0) for count in range(3, 20)]
    assert seen[0].stopped == seen[1].stopped == ""  # fewer than five seeds
    (first,) = [one for one in seen if one.stopped][:1]
    assert first.stopped == "hopeless"
    assert first.why.startswith("even with 20 seeds, the probability to tell a from b is below 10 %")


def test_options_without_trained_runs_leave():
    scores = np.random.default_rng(4).normal(size=(3, 5))
    scores[2] = np.nan
    race = race_for_best(["a", "b", "broken"], scores, LOOKS, 0.05, 0.0)
    broken = next(one for one in race.rounds[0].standings if one.option == "broken")
    assert (broken.open, broken.words) == (False, "fewer than 2 of its 3 runs trained")


def test_the_search_for_the_best_uses_its_level():
    """Three options: each is tested at 2 alpha / 3, then the last two at alpha."""
    noise = np.array([-1.0, -0.5, 0.0, 0.5, 1.0, 0.0])
    scores = np.array([0.6 + noise, np.roll(noise, 2), -5 + np.roll(noise, 1)])
    p = stats.ttest_rel(scores[0], scores[1]).pvalue
    for alpha in (1.001 * p, 0.999 * p):
        search = find_best(scores, alpha)
        assert search.excluded[0].option == 2
        assert search.excluded[0].level == pytest.approx(2 * alpha / 3)
        assert search.candidates == ([0] if p <= alpha else [0, 1])
    assert compare_pairs(scores).p[0] == pytest.approx(p)


def runs_until_verdict(options, looks, **question):
    """Run records as a sweep until a verdict leaves them: seeds only for the options in doubt."""
    records = [make_run(option, seed) for option in options for seed in range(looks.first)]
    while not (found := compare(records, looks=looks, resamples=0, **question)).answer.why:
        seed = found.answer.rounds[-1].num_seeds
        records += [make_run(option, seed) for option in found.answer.rounds[-1].open]
    return records, found


def test_a_report_comes_to_the_rounds_that_the_sweep_went_through(tmp_path):
    records, found = runs_until_verdict(["sgd", "momentum", "adagrad", "batch_gd"], Looks(3, 12))
    assert found.answer.winner == "sgd"
    assert found.verdict.startswith("sgd is best with 97.")
    assert [one.num_runs for one in found.answer.rounds][-1] == len(records) < 4 * found.answer.rounds[-1].num_seeds
    write_report(found, records, tmp_path)
    text = (tmp_path / "report.md").read_text().replace("\\_", "_")
    assert "### How the verdict came about: it ended because sgd is best" in text
    assert "| 3 | 12 | sgd (97.1" in text and "out: behind " in text
    assert "One more hour of training gives sgd and momentum about" in text
    assert "compared after every seed from 3 to" in text
    assert (tmp_path / "figures" / "rounds.png").stat().st_size > 5000


def test_a_race_without_a_winner_names_those_in_doubt():
    scores = 0.95 + 0.01 * np.random.default_rng(0).normal(size=(3, 6))
    scores[2] -= 0.5
    found = compare(scores_as_runs(scores), looks=Looks(3, 6), resamples=0)
    assert found.answer.winner is None and found.answer.stopped == "max_seeds"
    assert "are not distinguishable (6 seeds)" in found.verdict
    assert found.verdict.endswith("the other option is out of the race.")
