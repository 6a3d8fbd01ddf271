"""The answer to the question of a comparison: which option is best, which beat a baseline, which are equivalent."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mnistlab.comparison import statistics
from mnistlab.comparison.answer_wording import (
    describe_baseline,
    describe_equivalence,
    describe_open_race,
    describe_winner,
    margin_in_units,
)
from mnistlab.comparison.best import Search, find_best
from mnistlab.comparison.question import Question
from mnistlab.comparison.race import Race, find_pair, half_width, race_for_best, race_to_settle
from mnistlab.comparison.results import Answer, Decision, Direction, OptionSummary, Pair
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import Floats, PairTests, compare_pairs, finite_or_none
from mnistlab.comparison.trade import Trade, find_fastest
from mnistlab.comparison.wording import describe_pair, group_same_runs, verdict


@dataclass(frozen=True, eq=False)
class Scores:
    """What an answer is computed from.

    names: of the distinct options; values: shape (options, seeds), NaN where none trained, columns in the order of the
    seeds; looks: None unless the options were compared after every seed; seconds: of the trainings, as the values.
    """

    names: Sequence[str]
    values: Floats
    objective: str
    direction: Direction
    alpha: float = statistics.ALPHA
    resolution: float = 0.0
    looks: Looks | None = None
    seconds: Floats | None = None

    @property
    def signed(self) -> Floats:
        """The values, so that higher is better."""
        return self.values if self.direction == "higher" else -self.values


def distinct(
    options: Sequence[OptionSummary], names: Sequence[str], values: Floats, pairs: Sequence[Pair]
) -> tuple[list[str], Floats]:
    """The options without those that have the same runs as another one. names: of the rows of the values."""
    kept = [group[0] for group in group_same_runs([option.name for option in options], pairs)]
    return kept, values[[list(names).index(name) for name in kept]]


def answer(question: Question, scores: Scores, options: Sequence[OptionSummary], pairs: Sequence[Pair]) -> Answer:
    """The answer; options: best first; pairs: all of them, as compared with each other.

    Raises:
        ValueError: the baseline is not an option.
    """
    if question.kind == "better_than":
        return _compare_with_baseline(question, scores, options, pairs)
    if question.kind == "fastest_within":
        return _find_fastest(question, scores, options)
    if question.kind == "equivalent":
        return _find_equivalent(question, scores, options, pairs)
    return _search_best(question, scores, options, pairs)


def _search_best(question: Question, scores: Scores, options: Sequence[OptionSummary], pairs: Sequence[Pair]) -> Answer:
    """By Holm's tests of all pairs if they are enough, else by the search for the best, which needs fewer tests."""
    settings = (scores.alpha, scores.resolution)
    words = verdict(options, pairs, scores.objective)
    if len(scores.names) < 2:
        return Answer(str(question), words, [])
    race = race_for_best(scores.names, scores.signed, scores.looks, *settings) if scores.looks else Race()
    trained = np.flatnonzero(np.isfinite(scores.values).any(axis=1)).tolist()
    search = race.search or find_best(scores.signed, *settings, candidates=trained or None)
    search = dataclasses.replace(search, excluded=race.excluded or search.excluded)
    ranked = [option.name for option in options if option.name in scores.names and option.mean is not None]
    candidates = [scores.names[row] for row in search.candidates]
    leader = next((name for name in ranked if name in candidates), scores.names[0])
    found = _against(leader, ranked, scores, search)
    winner = leader if len(candidates) == 1 and len(ranked) > 1 else None
    is_direct = all(pair.first == leader and pair.decision == "better" for pair in found)
    is_won_by_pairs = len(ranked) > 1 and all(_beats(leader, name, pairs) for name in ranked if name != leader)
    by_search = bool(winner) and (is_direct or not is_won_by_pairs)
    if by_search:
        words = describe_winner(options, leader, found, pairs, scores.objective)
    elif race.rounds and not is_won_by_pairs:
        words, by_search = describe_open_race(options, race, pairs, scores.objective), True
    if is_won_by_pairs and not by_search:
        winner, found = leader, [_between(leader, name, pairs) for name in ranked if name != leader]
    return Answer(str(question), words, found, winner, by_search, race.rounds, race.stopped, race.why)


def _beats(leader: str, name: str, pairs: Sequence[Pair]) -> bool:
    pair = _between(leader, name, pairs)
    return pair.first == leader and pair.decision == "better"


def _between(one: str, other: str, pairs: Sequence[Pair]) -> Pair:
    return next(pair for pair in pairs if {pair.first, pair.second} == {one, other})


def _against(leader: str, ranked: Sequence[str], scores: Scores, search: Search) -> list[Pair]:
    """The leader against every other option, with the interval of the test that excluded it, or of the last one."""
    rows = {name: row for row, name in enumerate(scores.names)}
    excluded = {one.option: one for one in search.excluded}
    found = []
    for name in ranked:
        if name == leader:
            continue
        by = excluded.get(rows[name], search)
        index, sign = find_pair(by.tests, rows[leader], rows[name])
        found.append(_pair(leader, name, by.tests, index, sign, by.level, scores))
    return found


def _pair(first: str, second: str, tests: PairTests, index: int, sign: int, level: float, scores: Scores) -> Pair:
    """A pair with its interval at this level; the better option comes first."""
    difference = sign * float(tests.difference[index])
    if difference < 0:
        first, second, difference = second, first, -difference
    nominal = float(scores.looks.nominal(level)) if scores.looks else level
    margin = half_width(tests, index, nominal)
    p, num_seeds = finite_or_none(float(tests.p[index])), int(tests.num_seeds[index])
    decision: Decision = "better" if p is not None and p <= level and difference > 0 else "undecided"
    if p is None:
        decision = {0: "no shared seeds", 1: "one seed"}.get(num_seeds, "no spread")  # type: ignore[assignment]
    pair = Pair(
        first=first,
        second=second,
        num_seeds=num_seeds,
        advantage=finite_or_none(difference),
        low=finite_or_none(difference - margin),
        high=finite_or_none(difference + margin),
        confidence=1 - level,
        p=p,
        p_holm=None,
        decision=decision,
        more_seeds=None,
        words="",
    )
    return dataclasses.replace(pair, words=describe_pair(pair, scores.objective))


def _compare_with_baseline(
    question: Question, scores: Scores, options: Sequence[OptionSummary], pairs: Sequence[Pair]
) -> Answer:
    names = [option.name for option in options]
    if question.baseline not in names:
        raise ValueError(
            f"the question better_than needs one of the options. Received: {question.baseline}. "
            f"Choices: {', '.join(sorted(names))}"
        )
    same = {name: group[0] for group in group_same_runs(names, pairs) for name in group}
    baseline = list(scores.names).index(same.get(question.baseline, question.baseline))
    race = Race()
    if scores.looks:

        def settle(seen: Floats, rows: Sequence[int]) -> dict[int, str]:
            found = _baseline_pairs(baseline, dataclasses.replace(scores, values=seen, direction="higher"))
            decided = {row: pair for row, pair in found.items() if row in rows and pair.decision == "better"}
            settled = {row: pair.words for row, pair in decided.items()}
            left = set(rows) - {*settled, baseline}
            return settled if left else settled | {baseline: "the baseline"}

        race = race_to_settle(scores.names, scores.signed, scores.looks, scores.alpha, scores.resolution, settle)
    found = _baseline_pairs(baseline, scores)
    words = describe_baseline(question.baseline, list(found.values()), scores.objective)
    return Answer(str(question), words, list(found.values()), None, False, race.rounds, race.stopped, race.why)


def _baseline_pairs(baseline: int, scores: Scores) -> dict[int, Pair]:
    """Row -> its pair with the baseline, by Holm's procedure over these pairs."""
    tests = compare_pairs(scores.signed, scores.alpha, scores.resolution, scores.looks, moderated=False)
    rows = [row for row in range(len(scores.names)) if row != baseline]
    indices = np.array([find_pair(tests, row, baseline)[0] for row in rows], dtype=np.intp)
    adjusted = statistics.holm(tests.p[indices])
    levels = statistics.significance_levels(tests.p[indices], adjusted, scores.alpha, None)
    found = {}
    for row, index, p_holm, level in zip(rows, indices, adjusted, levels, strict=True):
        _, sign = find_pair(tests, row, baseline)
        level = scores.alpha / len(rows) if np.isnan(level) else float(level)
        pair = _pair(scores.names[row], scores.names[baseline], tests, int(index), sign, level, scores)
        if pair.p is not None:
            is_better = p_holm < scores.alpha
            pair = dataclasses.replace(pair, p_holm=float(p_holm), decision="better" if is_better else "undecided")
        found[row] = dataclasses.replace(pair, words=describe_pair(pair, scores.objective))
    return found


def _find_fastest(question: Question, scores: Scores, options: Sequence[OptionSummary]) -> Answer:
    trained = [option for option in options if option.name in scores.names and option.mean is not None]
    if len(trained) < 2 or scores.seconds is None:
        return Answer(str(question), "Fewer than two options trained: nothing to compare.", [])
    leader, margin = trained[0], margin_in_units(question.margin, scores.objective)
    names = list(scores.names)
    rest = (scores.objective, scores.alpha, scores.resolution)
    trade = Trade(names, names.index(leader.name), leader.mean or 0.0, scores.signed, scores.seconds, margin, *rest)
    words, found, winner = find_fastest(trade, question.margin)
    return Answer(str(question), words, found, winner)


def _find_equivalent(
    question: Question, scores: Scores, options: Sequence[OptionSummary], pairs: Sequence[Pair]
) -> Answer:
    margin = margin_in_units(question.margin, scores.objective)
    race = Race()
    if scores.looks:

        def settle(seen: Floats, rows: Sequence[int]) -> dict[int, str]:
            known = _equivalent_pairs(margin, dataclasses.replace(scores, values=seen, direction="higher"))
            in_doubt = {name for pair in known if pair.decision == "undecided" for name in (pair.first, pair.second)}
            return {row: "decided against every other option" for row in rows if scores.names[row] not in in_doubt}

        race = race_to_settle(scores.names, scores.signed, scores.looks, scores.alpha, scores.resolution, settle)
    found = _equivalent_pairs(margin, scores)
    words = describe_equivalence(question.margin, scores.names, found, scores.objective)
    return Answer(str(question), words, found, None, False, race.rounds, race.stopped, race.why)


def _equivalent_pairs(margin: float, scores: Scores) -> list[Pair]:
    """All pairs: two one-sided t tests (Schuirmann 1987) against the margin, and the t test of a difference, each with
    Holm's correction over all pairs. An interval has the confidence 1 - 2 * level, which matches the two tests."""
    tests = compare_pairs(scores.signed, scores.alpha, scores.resolution, scores.looks, moderated=False)
    testable = np.isfinite(tests.p)
    error = np.where(testable, tests.sd / np.sqrt(np.maximum(tests.num_seeds, 1)), 1.0)
    degrees = np.where(testable, tests.degrees_of_freedom, 1.0)
    p = np.where(testable, stats.t.sf((margin - np.abs(tests.difference)) / error, degrees), np.nan)
    p = scores.looks.overall(np.minimum(2 * p, 1)) / 2 if scores.looks else p
    p_holm = statistics.holm(p)
    levels = statistics.significance_levels(p, p_holm, scores.alpha, None)
    found = []
    for index, (first, second) in enumerate(zip(tests.first, tests.second, strict=True)):
        level = scores.alpha if np.isnan(levels[index]) else float(levels[index])
        pair = _pair(scores.names[first], scores.names[second], tests, index, 1, 2 * level, scores)
        decision = pair.decision
        if testable[index]:
            different: Decision = "better" if tests.significant[index] else "undecided"
            decision = "equivalent" if p_holm[index] < scores.alpha else different
            pair = dataclasses.replace(pair, p=float(p[index]), p_holm=float(p_holm[index]), decision=decision)
        if decision == "better":  # the numbers of the test that found it
            low, high = sorted((abs(float(tests.low[index])), abs(float(tests.high[index]))))
            confidence, numbers = 1 - float(tests.level[index]), (float(tests.p[index]), float(tests.p_holm[index]))
            pair = dataclasses.replace(pair, low=low, high=high, confidence=confidence, p=numbers[0], p_holm=numbers[1])
        found.append(dataclasses.replace(pair, words=describe_pair(pair, scores.objective)))
    return found
