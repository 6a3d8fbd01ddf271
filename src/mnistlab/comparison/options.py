"""One option over its seeds, the ranking of the options, and all pairs of options with a sentence each."""

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.comparison import statistics
from mnistlab.comparison.curves import diagnose_curves, time_to_target
from mnistlab.comparison.metric_names import counterpart
from mnistlab.comparison.records import RunRecord, option_values, outcome
from mnistlab.comparison.results import CurveDiagnosis, Decision, Direction, OptionSummary, Pair
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import finite_or_none
from mnistlab.comparison.wording import describe_pair


def option_summary(
    name: str,
    group: Sequence[RunRecord],
    keys: Sequence[str],
    row: statistics.Floats,
    seeds: Sequence[int],
    objective: str,
    targets: Sequence[float],
    resamples: int,
) -> OptionSummary:
    """Summarize one option. row: its row of the score matrix, NaN for seeds without a trained run."""
    outcomes = [outcome(record, objective) for record in group]
    num_failed = outcomes.count("failed") + outcomes.count("diverged")
    num_finished = len(outcomes) - outcomes.count("unfinished")
    trained = [record for record, result in zip(group, outcomes, strict=True) if result == "trained"]
    present = np.isfinite(row)
    mean, sd = statistics.mean_and_sd(row)
    return OptionSummary(
        name=name,
        values=dict(zip(keys, option_values(group[0], keys), strict=True)),
        seeds=[seed for seed, has_score in zip(seeds, present, strict=True) if has_score],
        scores=row[present].tolist(),
        mean=mean,
        sd=sd,
        interval=statistics.bootstrap_interval(row[present], resamples),
        num_runs=len(outcomes),
        num_diverged=outcomes.count("diverged"),
        num_failed=outcomes.count("failed"),
        num_unfinished=outcomes.count("unfinished"),
        failure_rate=num_failed / num_finished if num_finished else 0.0,
        test_accuracy=_mean_metric(trained, "test_accuracy"),
        train_seconds=_mean_metric(trained, "train_seconds"),
        targets=[time_to_target(group, target) for target in targets],
        counterpart=_mean_metric(trained, counterpart(objective) or ""),
        reading=CurveDiagnosis(""),
        run_ids=[record.run_id for record in group],
    )


def _mean_metric(records: Sequence[RunRecord], name: str) -> float | None:
    return statistics.mean_and_sd([record.metrics.get(name, np.nan) for record in records])[0]


def rank_options(
    options: Sequence[OptionSummary], groups: Mapping[str, Sequence[RunRecord]], metric: str, direction: Direction
) -> list[OptionSummary]:
    """Sort by mean, best first, then by name, and diagnose the curves; options without a mean come last.

    Of options with the same runs, the one with the shortest name comes first.
    """
    sign = -1.0 if direction == "higher" else 1.0
    twins = {name: index for same in same_runs(groups) for index, name in enumerate(same)}
    leading = {name: same[0] for same in same_runs(groups) for name in same}

    def rank(option: OptionSummary) -> tuple[bool, float, str, int]:
        name = option.name
        return option.mean is None, sign * (option.mean or 0.0), leading.get(name, name), twins.get(name, 0)

    ranked = sorted(options, key=rank)
    return [
        dataclasses.replace(option, reading=diagnose_curves(groups[option.name], metric, direction, ranked[0].mean))
        for option in ranked
    ]


def same_runs(groups: Mapping[str, Sequence[RunRecord]]) -> list[list[str]]:
    """The options that have exactly the same runs, by seed and run id; of each such set, the shortest name first."""
    names_of: dict[frozenset[tuple[int, str]], list[str]] = defaultdict(list)
    for name, group in groups.items():
        names_of[frozenset((record.seed, record.run_id) for record in group)].append(name)
    shared = [names for runs, names in names_of.items() if len(names) > 1 and any(run_id for _, run_id in runs)]
    return [sorted(names, key=lambda name: (len(name), name)) for names in shared]


def compare_groups(
    groups: Mapping[str, Sequence[RunRecord]],
    scores: statistics.Floats,
    objective: str,
    direction: Direction,
    alpha: float = statistics.ALPHA,
    resolution: float = 0.0,
    looks: Looks | None = None,
) -> list[Pair]:
    """Compare every pair of options; those with the same runs are one in the tests, and share their results.

    scores: shape (options, seeds), rows in the order of the groups, NaN without a trained run with a seed.
    """
    names = list(groups)
    leading = {name: same[0] for same in same_runs(groups) for name in same}
    distinct = [name for name in names if leading.get(name, name) == name]
    rows = [names.index(name) for name in distinct]
    pairs = compare_options(distinct, scores[rows], objective, direction, alpha, resolution, looks)
    found = {frozenset((pair.first, pair.second)): pair for pair in pairs}
    num_seeds = dict(zip(names, np.isfinite(scores).sum(axis=1).tolist(), strict=True))
    result = []
    for one, other in itertools.combinations(names, 2):
        first, second = leading.get(one, one), leading.get(other, other)
        if first == second:
            result.append(_pair_of_same_runs(one, other, num_seeds[one], objective))
        else:
            result.append(_renamed(found[frozenset((first, second))], {first: one, second: other}, objective))
    return result


def _renamed(pair: Pair, names: Mapping[str, str], objective: str) -> Pair:
    if all(name == new for name, new in names.items()):
        return pair
    renamed = dataclasses.replace(pair, first=names[pair.first], second=names[pair.second])
    return _with_words(renamed, objective)


def _pair_of_same_runs(first: str, second: str, num_seeds: int, objective: str) -> Pair:
    pair = Pair(first, second, num_seeds, None, None, None, None, None, None, "same runs", None, "")
    return _with_words(pair, objective)


def compare_options(
    names: Sequence[str],
    scores: statistics.Floats,
    objective: str,
    direction: Direction,
    alpha: float = statistics.ALPHA,
    resolution: float = 0.0,
    looks: Looks | None = None,
) -> list[Pair]:
    """Compare every pair of options, paired by seed; pairs are in the order of the names.

    scores: shape (options, seeds), NaN where an option has no trained run with a seed. resolution: the step between
    scores, 0 for continuous ones. looks: if the options are compared again after every seed.
    """
    sign = 1.0 if direction == "higher" else -1.0
    tests = statistics.compare_pairs(sign * scores, alpha, resolution, looks)
    more_seeds = statistics.additional_seeds(tests, looks=looks)
    swapped = tests.difference < 0  # the better option comes first
    columns = (
        np.where(swapped, tests.second, tests.first),
        np.where(swapped, tests.first, tests.second),
        tests.num_seeds,
        np.abs(tests.difference),
        np.where(swapped, -tests.high, tests.low),
        np.where(swapped, -tests.low, tests.high),
        1 - tests.level,
        tests.p,
        tests.p_holm,
        tests.significant,
        more_seeds,
    )
    return [_pair(names, objective, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _pair(
    names: Sequence[str],
    objective: str,
    first: int,
    second: int,
    num_seeds: int,
    advantage: float,
    low: float,
    high: float,
    confidence: float,
    p: float,
    p_holm: float,
    significant: bool,
    more_seeds: int,
) -> Pair:
    """One pair of options in plain numbers; first, second: rows of the score matrix."""
    pair = Pair(
        first=names[first],
        second=names[second],
        num_seeds=num_seeds,
        advantage=finite_or_none(advantage),
        low=finite_or_none(low),
        high=finite_or_none(high),
        confidence=finite_or_none(confidence),
        p=finite_or_none(p),
        p_holm=finite_or_none(p_holm),
        decision=_decision(num_seeds, p, significant),
        more_seeds=more_seeds or None,
        words="",
    )
    return _with_words(pair, objective)


def _with_words(pair: Pair, objective: str) -> Pair:
    return Pair(**(vars(pair) | {"words": describe_pair(pair, objective)}))  # a tenth of a second for 20,000 pairs


def _decision(num_seeds: int, p: float, significant: bool) -> Decision:
    if num_seeds == 0:
        return "no shared seeds"
    if num_seeds == 1:
        return "one seed"
    if not math.isfinite(p):
        return "no spread"
    return "better" if significant else "undecided"
