"""The sentences and formatted values of a comparison: numbers with units, pairs of options, the verdict."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from mnistlab.comparison.results import OptionSummary, Pair
from mnistlab.comparison.statistics import MAX_MORE_SEEDS

TWINS = " (the same runs as "
ROUNDING = 1e-12  # smaller differences of means are floating-point rounding


def is_fraction(objective: str) -> bool:
    """Whether the objective is a fraction: shown in per cent, its differences in percentage points."""
    return "accuracy" in objective


def format_value(objective: str, value: float | None) -> str:
    """A value with its unit: "97.11 %", "0.0951"; "-" for None."""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if is_fraction(objective) else f"{value:#.4g}".rstrip(".")


def format_difference(objective: str, value: float, low: float, high: float) -> str:
    """A difference with its interval: "0.4 points [0.2, 0.6]".

    Decimals are added until no number other than 0 is shown as 0: a significant difference must never appear
    with an interval that touches 0.
    """
    scale, unit = (100.0, " points") if is_fraction(objective) else (1.0, "")
    numbers = [scale * number for number in (value, low, high)]
    decimals = 1 if is_fraction(objective) else 3
    while decimals < 8 and any(number != 0 and float(f"{number:.{decimals}f}") == 0 for number in numbers):
        decimals += 1
    shown = [f"{number:.{decimals}f}" for number in numbers]
    return f"{shown[0]}{unit} [{shown[1]}, {shown[2]}]"


def describe_pair(pair: Pair, objective: str) -> str:
    """The result of one pair as a sentence without its full stop."""
    names = f"{pair.first} and {pair.second}"
    if pair.decision == "same runs":
        return describe_same_runs((pair.first, pair.second))
    if pair.decision == "no shared seeds":
        return f"{names} have no common seed on which both trained: no claim"
    if pair.decision == "one seed":
        return f"{names}: one seed: no claim"
    if pair.decision == "no spread":
        same = "the same score" if pair.advantage == 0 else "the same difference"
        return f"{names}: {same} for every seed: zero variance, no test, no claim"
    if pair.advantage is None or pair.low is None or pair.high is None:
        return f"{names}: no claim"
    if pair.decision == "equivalent":
        difference = format_difference(objective, pair.advantage, pair.low, pair.high)
        return f"{names} are equivalent: {pair.first} is ahead by {difference}"
    if pair.decision == "better":
        difference = format_difference(objective, pair.advantage, pair.low, pair.high)
        return f"{pair.first} beats {pair.second} by {difference}"
    return f"{names} are not distinguishable{_describe_more_seeds(pair.more_seeds)}"


def verdict(options: Sequence[OptionSummary], pairs: Sequence[Pair], objective: str) -> str:
    """The result in one sentence. options: best first; their test scores are not used."""
    groups = group_same_runs([option.name for option in options], pairs)
    if len(options) > 1 and len(groups) == 1:
        return f"{describe_same_runs(groups[0])}: nothing to compare."
    options, pairs = _without_repeats(options, pairs, groups)
    trained = [option for option in options if option.mean is not None]
    if not trained:
        return "No result: no run of any option trained to the end."
    leader = _leader(trained, pairs)
    value = f"{format_value(objective, leader.mean)} {objective}"
    if len(options) == 1:
        return f"Only one option, {leader.name} ({value}): nothing to compare."
    failures = describe_failures(leader)
    if len(trained) == 1:
        return f"Only {leader.name} trained ({value}){failures}: nothing to compare it with."
    against = {_other(pair, leader.name): pair for pair in pairs if leader.name in (pair.first, pair.second)}
    against = {option.name: against[option.name] for option in trained if option is not leader}
    tied = [name for name, pair in against.items() if pair.decision != "better" or pair.first != leader.name]
    if not tied:
        return f"{describe_beaten(leader.name, value, against, objective)}{failures}."
    if len(tied) == len(against):
        return f"{_describe_no_winner(leader.name, value, against)}{failures}."
    return f"{_describe_shared_lead(leader.name, value, against, tied)}{failures}."


def group_same_runs(names: Sequence[str], pairs: Iterable[Pair]) -> list[list[str]]:
    """The options in their order, those with the same runs together."""
    same = {(pair.first, pair.second) for pair in pairs if pair.decision == "same runs"}
    groups: list[list[str]] = []
    for name in names:
        twins = (group for group in groups if (group[0], name) in same or (name, group[0]) in same)
        group = next(twins, None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return groups


def describe_same_runs(names: Sequence[str]) -> str:
    """ "minibatch_gd and sgd are the same runs"."""
    return f"{join_names(sorted(names))} are the same runs"


def name_with_twins(group: Sequence[str]) -> str:
    """The first name, with those of the options that have the same runs: "sgd (the same runs as minibatch_gd)"."""
    return f"{group[0]}{TWINS}{join_names(group[1:])})" if len(group) > 1 else group[0]


def _without_repeats(
    options: Sequence[OptionSummary], pairs: Sequence[Pair], groups: Sequence[Sequence[str]]
) -> tuple[list[OptionSummary], list[Pair]]:
    """Options with the same runs as one, under a name that lists them all."""
    names = {group[0]: name_with_twins(group) for group in groups}
    kept = [pair for pair in pairs if pair.first in names and pair.second in names]
    return (
        [dataclasses.replace(option, name=names[option.name]) for option in options if option.name in names],
        [_named(pair, names[pair.first], names[pair.second]) for pair in kept],
    )


def _named(pair: Pair, first: str, second: str) -> Pair:
    if (pair.first, pair.second) == (first, second):
        return pair
    return dataclasses.replace(pair, first=first, second=second)


def describe_beaten(leader: str, value: str, beaten: Mapping[str, Pair], objective: str) -> str:
    """The leader beats every other option; the difference to the closest one is given."""
    closest, pair = next(iter(beaten.items()))
    sentence, seeds = describe_pair(pair, objective), describe_seeds(beaten.values())
    if len(beaten) == 1:
        return f"{sentence} ({leader.partition(TWINS)[0]}: {value}; {seeds})"
    difference = sentence.removeprefix(f"{leader} beats {closest} by ")
    others = {2: "the other option", 3: "both others"}.get(len(beaten), f"all {len(beaten) - 1} others")
    return f"{leader} is best with {value}: it beats {closest} by {difference} and {others} ({seeds})"


def _describe_no_winner(leader: str, value: str, against: Mapping[str, Pair]) -> str:
    """The leader beats no other option."""
    equal = [name for name, pair in against.items() if pair.advantage is not None and abs(pair.advantage) < ROUNDING]
    names = join_names([leader, *equal], limit=3)
    best = f"{names} share the best value, {value}" if equal else f"{leader} has the best value, {value}"
    if {pair.decision for pair in against.values()} <= {"one seed", "no shared seeds"}:
        return f"One seed: no claim; {best}; a test needs more seeds"
    undecided = {name: pair for name, pair in against.items() if pair.p is not None}
    seeds = describe_seeds(against.values())
    if not undecided:
        return f"No claim: no test is possible{_describe_untested(leader, against)} ({seeds}); {best}"
    closest, pair = next(iter(undecided.items()))
    compared = f"{leader} and {closest}" if len(undecided) == 1 else f"the {len(undecided) + 1} options"
    if 1 < len(undecided) < len(against):
        compared = f"{leader}, {join_names(list(undecided), limit=3)}"
    more = _describe_more_seeds(pair.more_seeds)
    more += f" (for {closest})" if more and len(against) > 1 else ""
    untested = _describe_untested(leader, against)
    untested = f"; no test is possible{untested}" if untested else ""
    best = best if equal else f"{leader} has the best mean, {value}"
    return f"No winner: {compared} are not distinguishable ({seeds}){more}{untested}; {best}"


def _describe_shared_lead(leader: str, value: str, against: Mapping[str, Pair], tied: Sequence[str]) -> str:
    """The leader beats some options, but not all."""
    num_beaten = len(against) - len(tied)
    rest = "the other option" if num_beaten == 1 else f"the other {num_beaten} options"
    undecided = [name for name in tied if against[name].p is not None]
    untested = _describe_untested(leader, against)
    more = _describe_more_seeds(max((against[name].more_seeds or 0 for name in undecided), default=0))
    others = [f"not distinguishable from {join_names(undecided, limit=3)}{more}"] if undecided else []
    others += [f"no test is possible{untested}"] if untested else []
    start = f"{leader} leads with {value}{',' if undecided else ';'} {'; '.join(others)}"
    return f"{start}; it beats {rest} ({describe_seeds(against.values())})"


def _describe_untested(leader: str, against: Mapping[str, Pair]) -> str:
    """ " between adam and momentum: the same difference for every seed, so zero variance"; "" if all were tested."""
    reasons = {
        "no spread": "the same difference for every seed, so zero variance",
        "one seed": "one common seed",
        "no shared seeds": "no common seed",
    }
    parts = []
    for decision, reason in reasons.items():
        names = [name for name, pair in against.items() if pair.decision == decision]
        if names:
            parts.append(f" between {leader} and {join_names(names, limit=3)}: {reason}")
    return ";".join(parts)


def _leader(ranked: Sequence[OptionSummary], pairs: Sequence[Pair]) -> OptionSummary:
    """The best mean that no other option beats. With unequal seeds that may not be the best mean of all."""
    beaten = {pair.second for pair in pairs if pair.decision == "better"}
    return next((option for option in ranked if option.name not in beaten), ranked[0])


def _other(pair: Pair, name: str) -> str:
    return pair.second if pair.first == name else pair.first


def _describe_more_seeds(count: int | None) -> str:
    if not count:
        return ""
    if count > MAX_MORE_SEEDS:
        return f"; more than {MAX_MORE_SEEDS} more seeds would be needed"
    return f"; about {count} more seed{'s' if count > 1 else ''} would be needed"


def describe_failures(option: OptionSummary) -> str:
    """ "; but 2 of its 5 runs failed or diverged", "" if all trained."""
    num_failed = option.num_failed + option.num_diverged
    if not num_failed:
        return ""
    return f"; but {num_failed} of its {option.num_runs - option.num_unfinished} runs failed or diverged"


def describe_seeds(pairs: Iterable[Pair]) -> str:
    """ "5 seeds", "3 to 5 seeds"."""
    counts = sorted({pair.num_seeds for pair in pairs})
    if counts == [1]:
        return "1 seed"
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def join_names(names: Sequence[str], limit: int | None = None) -> str:
    """ "adam, sgd and lion"; of more names than the limit, only the first two and the number of the others."""
    if limit and len(names) > limit:
        return f"{', '.join(names[:2])} and {len(names) - 2} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
