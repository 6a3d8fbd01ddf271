"""A comparison in words: values with their units, what a pair of options shows, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mnistlab.comparison.results import OptionSummary, Pair
from mnistlab.comparison.statistics import MAX_MORE_SEEDS, MODERATION_MIN_OPTIONS


def is_fraction(objective: str) -> bool:
    """Whether the objective is a fraction shown in per cent, its differences in points."""
    return "accuracy" in objective


def format_value(objective: str, value: float | None, spread: float | None = None) -> str:
    """A value with its unit: "97.11 %", "0.0951"; a dash for None. spread sets the decimals shown."""
    if value is None:
        return "-"
    if is_fraction(objective):
        decimals = 2 if spread is None or spread < 0.01 else 1
        return f"{100 * value:.{decimals}f} %"
    return f"{value:#.4g}".rstrip(".")


def format_difference(objective: str, value: float, low: float, high: float) -> str:
    """A difference with its interval: "0.4 points [0.2, 0.6]".

    With as many decimals as it takes not to show a bound, or the difference, as zero when it is not: a
    claim must never look as if its interval touched 0.
    """
    scale, unit = (100.0, " points") if is_fraction(objective) else (1.0, "")
    numbers = [scale * number for number in (value, low, high)]
    decimals = 1 if is_fraction(objective) else 3
    while decimals < 8 and any(number != 0 and float(f"{number:.{decimals}f}") == 0 for number in numbers):
        decimals += 1
    shown = [f"{number:.{decimals}f}" for number in numbers]
    return f"{shown[0]}{unit} [{shown[1]}, {shown[2]}]"


def describe_pair(pair: Pair, objective: str) -> str:
    """What a pair of options shows, as one sentence without a full stop."""
    names = f"{pair.first} and {pair.second}"
    if pair.decision == "no shared seeds":
        return f"{names} share no seed on which both trained: no claim"
    if pair.decision == "one seed":
        return f"{names}: one seed: no claim"
    if pair.decision == "no spread":
        same = "the same score" if pair.advantage == 0 else "the same difference"
        return f"{names}: {same} in every seed: no spread to judge by, no claim"
    if pair.advantage is None or pair.low is None or pair.high is None:
        return f"{names}: no claim"
    if pair.decision == "better":
        words = format_difference(objective, pair.advantage, pair.low, pair.high)
        return f"{pair.first} beats {pair.second} by {words}"
    return f"{names} are not distinguishable{_describe_more_seeds(pair.more_seeds)}"


def _describe_more_seeds(more: int | None) -> str:
    if not more:
        return ""
    if more > MAX_MORE_SEEDS:
        return f"; more than {MAX_MORE_SEEDS} more seeds would be needed"
    return f"; about {more} more seed{'s' if more > 1 else ''} would tell"


def verdict(options: Sequence[OptionSummary], pairs: Sequence[Pair], objective: str) -> str:
    """The answer in one sentence. options: best first; test scores are never looked at."""
    ranked = [option for option in options if option.mean is not None]
    if not ranked:
        return f"No answer: none of the {_count(len(options), 'option')} has a run that trained."
    leader = _leader(ranked, pairs)
    value = f"{format_value(objective, leader.mean)} {objective}"
    if len(options) == 1:
        return f"Only one option, {leader.name} ({value}): nothing to compare."
    if len(ranked) == 1:
        return f"Only {leader.name} trained ({value}){_describe_failures(leader)}: nothing to compare it with."
    against = {_other(pair, leader.name): pair for pair in pairs if leader.name in (pair.first, pair.second)}
    others = [option.name for option in ranked if option is not leader]
    beaten = [name for name in others if _beats(against[name], leader.name)]
    tied = [name for name in others if name not in beaten]
    return _sentence(leader, value, beaten, tied, against, objective) + _describe_failures(leader) + "."


def describe_method(num_options: int, alpha: float) -> str:
    """How the claims were made, for the report's foot; one sentence per choice."""
    shrunk = (
        "its spread shrunk towards the sweep's typical one, by half at most (moderated t, Smyth 2004)"
        if num_options >= MODERATION_MIN_OPTIONS
        else "on the pair's own spread"
    )
    return (
        "Options are ranked on validation, never on test. Pairs: t test of the differences between runs of "
        f"the same seed, {shrunk}; p values Holm-corrected (1979) over all pairs, so the chance of any false "
        f"claim is at most {100 * alpha:g} %. Each interval is drawn at the level its pair was tested with, "
        "so it leaves out 0 exactly where a claim is made. The interval of a single option's mean is a 95 % "
        "bootstrap interval (BCa) and decides nothing. Seeds still needed: for 80 % power, if difference "
        "and spread stay as seen. Failed and diverged runs are counted, never averaged in."
    )


def _sentence(
    leader: OptionSummary,
    value: str,
    beaten: Sequence[str],
    tied: Sequence[str],
    against: dict[str, Pair],
    objective: str,
) -> str:
    """The verdict without its end: a winner, a leader who shares the top, or no claim."""
    seeds = _describe_seeds(against[name] for name in [*beaten, *tied])
    if not tied:
        closest = against[beaten[0]]
        words = describe_pair(closest, objective)
        others = f" and all {len(beaten) - 1} others" if len(beaten) > 2 else ""
        others = " and the other option" if len(beaten) == 2 else others
        if len(beaten) == 1:
            return f"{words} ({leader.name}: {value}; {seeds})"
        gap = words.removeprefix(f"{leader.name} beats ").replace(f"{closest.second} by ", "", 1)
        return f"{leader.name} is best with {value}: it beats {closest.second} by {gap}{others} ({seeds})"
    decisions = {against[name].decision for name in tied}
    if not beaten and decisions <= {"one seed", "no shared seeds"}:
        return f"One seed: no claim; {leader.name} has the best value, {value}; more seeds would tell"
    if not beaten:
        names = f"{leader.name} and {tied[0]}" if len(tied) == 1 else f"the {len(tied) + 1} options"
        more = _describe_more_seeds(against[tied[0]].more_seeds)
        whom = "" if len(tied) == 1 or not more else f" (for {tied[0]})"
        return (
            f"No winner: {names} are not distinguishable ({seeds}){more}{whom}; "
            f"{leader.name} has the best mean, {value}"
        )
    rest = "the other option" if len(beaten) == 1 else f"the other {len(beaten)} options"
    more = _describe_more_seeds(max(against[name].more_seeds or 0 for name in tied))
    tied_words = f"not distinguishable from {_join_names(tied)}{more}"
    return f"{leader.name} leads with {value}, {tied_words}; it beats {rest} ({seeds})"


def _leader(ranked: Sequence[OptionSummary], pairs: Sequence[Pair]) -> OptionSummary:
    """The best mean that no other option beats; with unequal seeds that need not be the best mean."""
    losers = {pair.second for pair in pairs if pair.decision == "better"}
    return next((option for option in ranked if option.name not in losers), ranked[0])


def _beats(pair: Pair, name: str) -> bool:
    return pair.decision == "better" and pair.first == name


def _other(pair: Pair, name: str) -> str:
    return pair.second if pair.first == name else pair.first


def _describe_failures(option: OptionSummary) -> str:
    lost = option.num_failed + option.num_diverged
    if not lost:
        return ""
    return f"; but {lost} of its {option.num_runs - option.num_unfinished} runs failed or diverged"


def _describe_seeds(pairs: Iterable[Pair]) -> str:
    counts = sorted({pair.num_seeds for pair in pairs})
    if counts == [1]:
        return "1 seed"
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _join_names(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
