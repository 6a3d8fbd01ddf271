"""What a comparison is worth in a paper, and what more computing time would add to it."""

import math
from collections.abc import Sequence

from scipy import stats

from mnistlab.comparison.results import Comparison, OptionSummary, Pair
from mnistlab.comparison.wording import format_value, is_fraction, join_names

HOUR = 3600.0
POWER = 0.8
MAX_LISTED = 12


def one_more_hour(comparison: Comparison) -> str:
    """How many seeds an hour of training would add to the options in doubt, and the difference that they would show.

    "" without a test, or without training times. The difference is the smallest one between the leader and its nearest
    rival that a paired t test at the pair's level would find with a power of 80 %, at the observed spread.
    """
    trained = {option.name: option for option in comparison.options if option.mean is not None}
    pair = _nearest(comparison, list(trained.values()))
    if pair is None or pair.confidence is None or pair.num_seeds < 2:
        return ""
    names = [pair.first, pair.second]
    seconds = [trained[name].train_seconds for name in names if trained[name].train_seconds]
    sd = _spread(pair)
    if len(seconds) < len(names) or sd is None:
        return ""
    more = int(HOUR / math.fsum(second for second in seconds if second))
    if more < 1:
        return f"One more hour is not enough for another seed of {join_names(names)}."
    total = pair.num_seeds + more
    critical = float(stats.t.isf((1 - pair.confidence) / 2, total - 1) + stats.t.isf(1 - POWER, total - 1))
    smallest = critical * sd / math.sqrt(total)
    if pair.decision == "better":
        half = float(stats.t.isf((1 - pair.confidence) / 2, total - 1)) * sd / math.sqrt(total)
        return (
            f"One more hour of training gives {join_names(names)} about {more} more seeds each; the interval of their "
            f"difference would shrink to about ±{_amount(half, comparison.objective)}."
        )
    return (
        f"One more hour of training gives {join_names(names)} about {more} more seeds each; with them a true "
        f"difference of {_amount(smallest, comparison.objective)} would be found with a probability of "
        f"{100 * POWER:g} %."
    )


def _nearest(comparison: Comparison, trained: Sequence[OptionSummary]) -> Pair | None:
    """The pair of the leader with the best other option that was tested against it."""
    if len(trained) < 2:
        return None
    answer = comparison.answer
    winner = answer.winner if answer is not None and answer.question == "best" else None
    leader = winner or trained[0].name
    others = [option.name for option in trained if option.name != leader]
    pairs = answer.pairs if answer is not None and winner else comparison.pairs
    found = {frozenset((pair.first, pair.second)): pair for pair in pairs if pair.p is not None}
    return next((found[key] for name in others if (key := frozenset((leader, name))) in found), None)


def _spread(pair: Pair) -> float | None:
    """The standard deviation of a pair's differences, from its interval."""
    if pair.low is None or pair.high is None or pair.confidence is None:
        return None
    quantile = float(stats.t.isf((1 - pair.confidence) / 2, pair.num_seeds - 1))
    return (pair.high - pair.low) / 2 / quantile * math.sqrt(pair.num_seeds)


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
        sentences.append(f"{failed} runs failed or diverged; they are not in the means.")
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
        f"Differences were tested by paired t tests over seeds with Holm's correction (family-wise error rate "
        f"{100 * comparison.alpha:g} %), which assumes that the differences are about normal; intervals are "
        f"simultaneous.{looks} The claims are about new seeds on the same split of the data; the test set was not used."
    )
