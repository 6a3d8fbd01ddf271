"""What a comparison is worth in a paper, and what more computing time would add to it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from mnistlab.comparison.results import Comparison, OptionSummary, Pair
from mnistlab.comparison.statistics import MODERATION_MIN_OPTIONS, rounding_variance
from mnistlab.comparison.wording import format_value, group_same_runs, is_fraction, join_names

HOUR = 3600.0
POWER = 0.8
MAX_LISTED = 12


def one_more_hour(comparison: Comparison) -> str:
    """How many seeds an hour of training would add to the options in doubt, and the difference that they would show.

    "" without a test, or without training times. The difference is the smallest one between the leader and its nearest
    rival that a paired t test at the pair's level would find with a power of 80 %, at the spread of the pair alone. Of
    a winner: half the width of the interval.
    """
    trained = {option.name: option for option in comparison.options if option.mean is not None}
    pair = _nearest(comparison, list(trained.values()))
    if pair is None or pair.confidence is None or pair.num_seeds < 2:
        return ""
    names = [pair.first, pair.second]
    seconds = [trained[name].train_seconds for name in names if trained[name].train_seconds]
    sd = _spread(pair, trained, comparison.resolution)
    if len(seconds) < len(names) or sd is None:
        return ""
    more = int(HOUR / math.fsum(second for second in seconds if second))
    if more < 1:
        return f"One more hour is not enough for another seed of {join_names(names)}."
    total, level = pair.num_seeds + more, 1 - pair.confidence
    if comparison.answer and comparison.answer.rounds:  # that of a single look, which the interval has
        level = 2 * float(stats.t.sf(_half_width(pair) / sd * math.sqrt(pair.num_seeds), pair.num_seeds - 1))
    critical = float(stats.t.isf(level / 2, total - 1))
    if pair.decision == "better":
        half = critical * sd / math.sqrt(total)
        return (
            f"One more hour of training gives {join_names(names)} about {more} more seeds each; the interval of their "
            f"difference would shrink to about ±{_amount(half, comparison.objective)}."
        )
    smallest = (critical + float(stats.t.isf(1 - POWER, total - 1))) * sd / math.sqrt(total)
    return (
        f"One more hour of training gives {join_names(names)} about {more} more seeds each; with them a true "
        f"difference of {_amount(smallest, comparison.objective)} would be found with a probability of "
        f"{100 * POWER:g} %."
    )


def _nearest(comparison: Comparison, trained: Sequence[OptionSummary]) -> Pair | None:
    """The pair of the leader with the best other option that was tested against it, as the verdict tests it."""
    if len(trained) < 2:
        return None
    answer = comparison.answer
    leader = answer.winner if answer and answer.winner else trained[0].name
    others = [option.name for option in trained if option.name != leader]
    pairs = answer.pairs if answer and answer.winner and answer.by_search else comparison.pairs
    found = {frozenset((pair.first, pair.second)): pair for pair in pairs if pair.p is not None}
    return next((found[key] for name in others if (key := frozenset((leader, name))) in found), None)


def _spread(pair: Pair, options: Mapping[str, OptionSummary], resolution: float) -> float | None:
    """The standard deviation of a pair's differences, on the first seeds that both have; at least that of rounding."""
    first, second = (
        dict(zip(options[name].seeds, options[name].scores, strict=True)) for name in (pair.first, pair.second)
    )
    shared = sorted({*first} & {*second})[: pair.num_seeds]
    variance = float(np.var([first[seed] - second[seed] for seed in shared], ddof=1))
    return math.sqrt(max(variance, 2 * rounding_variance(resolution))) or None


def _half_width(pair: Pair) -> float:
    return 0.0 if pair.low is None or pair.high is None else (pair.high - pair.low) / 2


def _amount(value: float, objective: str) -> str:
    return f"{100 * value:.2g} points" if is_fraction(objective) else f"{value:.2g}"


def paragraph(comparison: Comparison) -> str:
    """A paragraph for a paper: what was compared, the numbers, the test and its assumptions."""
    trained = [option for option in comparison.options if option.mean is not None]
    if not trained:
        return ""
    seeds = sorted({len(option.seeds) for option in trained})
    repeats = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    data = f" on {comparison.data}" if comparison.data else ""
    many = len(comparison.options)
    subject = f"We compared {many} option{'s' if many > 1 else ''} of {' and '.join(comparison.axis)}{data}, "
    how = f"each trained with {repeats} random seed{'' if repeats == '1' else 's'}"
    listed = "; ".join(_mean_and_sd(option, comparison.objective) for option in trained[:MAX_LISTED])
    more = f"; and {len(trained) - MAX_LISTED} more" if len(trained) > MAX_LISTED else ""
    sentences = [
        f"{subject}{how}; runs with the same seed share initial weights and the order of the batches.",
        f"{comparison.objective} on the validation set (mean ± standard deviation over seeds): {listed}{more}.",
        comparison.verdict,
    ]
    if any(pair.p is not None for pair in comparison.pairs):
        sentences.append(_assumptions(comparison))
    failed = sum(option.num_failed + option.num_diverged for option in comparison.options)
    if failed:
        runs = "1 run failed or diverged; it is" if failed == 1 else f"{failed} runs failed or diverged; they are"
        sentences.append(f"{runs} not in the means.")
    return " ".join(sentences)


def _mean_and_sd(option: OptionSummary, objective: str) -> str:
    scale = 100 if is_fraction(objective) else 1
    sd = "" if option.sd is None else f" ± {scale * option.sd:.2g}"
    return f"{option.name} {format_value(objective, option.mean).removesuffix(' %')}{sd}{' %' if scale == 100 else ''}"


def _assumptions(comparison: Comparison) -> str:
    looks = ""
    if comparison.answer and comparison.answer.rounds:
        first, last = comparison.answer.rounds[0].num_seeds, comparison.answer.rounds[-1].num_seeds
        looks = f" The options were compared after every seed from {first} to {last}, with levels that allow for it."
    return (
        f"{_tests(comparison)}, which assumes that the differences are about normal; each interval has the level of "
        f"its test.{looks} The claims are about new seeds on the same split of the data; the test set was not used."
    )


def _tests(comparison: Comparison) -> str:
    """What was tested, and how often it claims something false."""
    answer, level = comparison.answer, f"{100 * comparison.alpha:g} %"
    rate = f"(family-wise error rate {level})"
    kind, _, argument = answer.question.partition(":") if answer else ("best", "", "")
    paired = "paired t tests over seeds"
    if kind == "best" and not (answer and answer.rounds) and _num_distinct(comparison) >= MODERATION_MIN_OPTIONS:
        paired += " with variances shrunk towards the typical one (moderated t)"
    if kind == "better_than":
        return f"Differences from {argument} were tested by {paired} with Holm's correction {rate}"
    if kind == "equivalent":
        return (
            f"Pairs were tested for equivalence by two one-sided {paired}, and for a difference by {paired}, each with "
            f"Holm's correction over all pairs {rate}"
        )
    if kind == "fastest_within":
        return (
            f"Whether options are within {argument} of the best mean was tested by one-sided {paired} with Holm's "
            f"correction {rate}, and the fastest of them was searched for by {paired} of the logarithms of the seconds"
        )
    if answer and answer.by_search and comparison.verdict == answer.words:
        return (
            f"The best option was searched for by {paired}: an option is beaten if another one is better at the "
            f"one-sided level {level} / m, with m options that are not beaten yet (probability to call an option best "
            f"that is not: at most {level})"
        )
    return f"Differences were tested by {paired} with Holm's correction over all pairs {rate}"


def _num_distinct(comparison: Comparison) -> int:
    """Options without those that have the same runs as another one."""
    return len(group_same_runs([option.name for option in comparison.options], comparison.pairs))
