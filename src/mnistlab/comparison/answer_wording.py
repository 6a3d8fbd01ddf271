"""The sentences of an answer."""

import dataclasses
from collections.abc import Sequence

from mnistlab.comparison.question import Question
from mnistlab.comparison.race import Race
from mnistlab.comparison.results import OptionSummary, Pair
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import MODERATION_MIN_OPTIONS
from mnistlab.comparison.wording import (
    describe_beaten,
    describe_failures,
    describe_seeds,
    format_difference,
    format_value,
    group_same_runs,
    is_fraction,
    join_names,
    name_with_twins,
)


def margin_in_units(margin: float, objective: str) -> float:
    """A margin in the objective's unit; of an accuracy it was given in points."""
    return margin / 100 if is_fraction(objective) else margin


def format_margin(margin: float, objective: str) -> str:
    """The margin of a question with its unit: "0.2 points"."""
    return f"{margin:g} point{'' if margin == 1 else 's'}" if is_fraction(objective) else f"{margin:g}"


def describe_method(num_options: int, alpha: float, resolution: float, question: Question, looks: Looks | None) -> str:
    """How the differences were tested, for the end of the report. resolution: the step between scores, 0 for none."""
    level = f"{100 * alpha:g} %"
    sentences = [
        "Options are ranked by their mean on validation data, never on test data. Pairs of options: t test of the "
        f"differences between runs with the same seed, {_describe_variance(num_options, looks)}; p values corrected by"
        f' Holm (1979) over all pairs, so the family-wise error rate is at most {level}. A claim, "beats", is a '
        "significant difference; it is about new seeds on the same validation images, unless it says new images."
    ]
    if resolution:
        sentences.append(
            f"The scores are shares of {1 / resolution:,.0f} images: no difference is taken to vary less than rounding "
            "to one image does."
        )
    sentences.append(_describe_question(question, level))
    if looks:
        sentences.append(
            f"The options were compared after every seed from {looks.first} to {looks.last} at most; p values, "
            "levels and intervals hold for all these looks together (constant nominal levels, Pocock 1977, exact for t "
            "tests)."
        )
    sentences.append(
        "Each interval has the level at which its pair was tested, so it excludes 0 exactly where a claim is made. The "
        "interval of a single option's mean is a 95 % bootstrap interval (BCa); no test uses it. Additional seeds: "
        "estimated for 80 % power from the observed difference and standard deviation. Failed and diverged runs are "
        "counted, but excluded from the means."
    )
    return " ".join(sentences)


def _describe_variance(num_options: int, looks: Looks | None) -> str:
    if num_options >= MODERATION_MIN_OPTIONS and not looks:
        return "each variance shrunk towards the sweep's typical one, by half at most (moderated t, Smyth 2004)"
    return "with the variance of that pair alone"


def _describe_question(question: Question, level: str) -> str:
    if question.kind == "better_than":
        return f"The question: which options differ from {question.baseline}; Holm's correction over these pairs only."
    if question.kind == "equivalent":
        return (
            "The question: which options are equivalent; two one-sided t tests against the margin (Schuirmann 1987), "
            "Holm-corrected over all pairs; the interval has the confidence that matches them."
        )
    if question.kind == "fastest_within":
        return (
            "The question: which option is the fastest of those within the margin of the best mean; one-sided t tests "
            "against the margin, Holm-corrected; then the search for the best by the logarithms of the seconds."
        )
    return (
        "The question: which option is best. An option is beaten if a candidate is better at the one-sided level "
        f"{level} / m, with m candidates left; beaten ones are excluded, and the only one left is best. The "
        f"probability to call an option best that is not is at most {level}."
    )


def _full_name(name: str, options: Sequence[OptionSummary], pairs: Sequence[Pair]) -> str:
    """The option's name with those of the options that have the same runs."""
    groups = group_same_runs([option.name for option in options], pairs)
    return next((name_with_twins(group) for group in groups if group[0] == name), name)


def describe_winner(
    options: Sequence[OptionSummary], winner: str, found: Sequence[Pair], pairs: Sequence[Pair], objective: str
) -> str:
    """The verdict on a winner of the search for the best. found: its pairs, that with the closest option first."""
    option = next(option for option in options if option.name == winner)
    value = f"{format_value(objective, option.mean)} {objective}"
    failures, name = describe_failures(option), _full_name(winner, options, pairs)
    others = [pair.second if pair.first == winner else pair.first for pair in found]
    if not all(pair.first == winner and pair.decision == "better" for pair in found):
        beaten = "both others" if len(others) == 2 else f"all {len(others)} others"
        by = "it or by options that were beaten in turn"
        return f"{name} is best with {value}: {beaten} were beaten by {by} ({describe_seeds(found)}){failures}."
    full = [_full_name(other, options, pairs) for other in others]
    renamed = [dataclasses.replace(pair, first=name, second=other) for pair, other in zip(found, full, strict=True)]
    return f"{describe_beaten(name, value, dict(zip(full, renamed, strict=True)), objective)}{failures}."


def describe_open_race(options: Sequence[OptionSummary], race: Race, pairs: Sequence[Pair], objective: str) -> str:
    """The verdict on a race without a winner."""
    last = race.rounds[-1]
    means = {option.name: option.mean for option in options}
    if not last.open:
        return "No winner: no option has two trained runs."
    left = [_full_name(name, options, pairs) for name in last.open]
    num_out = len(last.standings) - len(left)
    out = {0: "", 1: "; the other option is out of the race"}.get(
        num_out, f"; the other {num_out} options are out of the race"
    )
    best = f"{last.leader} has the best mean, {format_value(objective, means[last.leader])} {objective}"
    return f"No winner: {join_names(left, limit=4)} are not distinguishable ({last.num_seeds} seeds); {best}{out}."


def describe_baseline(baseline: str, found: Sequence[Pair], objective: str) -> str:
    """Which options beat the baseline, which are beaten by it, which cannot be told from it."""
    better = [pair for pair in found if pair.decision == "better" and pair.second == baseline]
    worse = [pair for pair in found if pair.decision == "better" and pair.first == baseline]
    rest = [pair for pair in found if pair.decision != "better"]
    parts = []
    if better:
        parts.append(f"Better than {baseline}: {'; '.join(_by(pair, pair.first, objective) for pair in better)}")
    else:
        parts.append(f"No option is shown to be better than {baseline}")
    if worse:
        parts.append(f"worse: {'; '.join(_by(pair, pair.second, objective) for pair in worse)}")
    if rest:
        names = [pair.second if pair.first == baseline else pair.first for pair in rest]
        parts.append(f"not distinguishable from it: {join_names(names, limit=6)}")
    return f"{'. '.join(_capital(part) for part in parts)} ({describe_seeds(found)})."


def describe_equivalence(margin: float, names: Sequence[str], found: Sequence[Pair], objective: str) -> str:
    """Which pairs are equivalent, different, undecided."""
    within = f"within {format_margin(margin, objective)}"
    equivalent = [pair for pair in found if pair.decision == "equivalent"]
    different = [pair for pair in found if pair.decision == "better"]
    num_open = len(found) - len(equivalent) - len(different)
    seeds = describe_seeds(found)
    if equivalent and len(equivalent) == len(found):
        largest = max(equivalent, key=lambda pair: pair.advantage or 0.0)
        between = f"{largest.first} is ahead of {largest.second} by {_difference(largest, objective)}"
        who = join_names(names, limit=4) if len(names) <= 4 else f"All {len(names)} options"
        most = "" if len(found) == 1 else "at most, "
        return f"{who} are equivalent {within}: {most}{between} ({seeds})."
    parts = [
        f"Equivalent {within}: {_pair_list(equivalent)}"
        if equivalent
        else f"No two options are shown equivalent {within}"
    ]
    parts += [f"Different: {_pair_list(different)}"] if different else []
    undecided = [pair for pair in found if pair.decision not in ("equivalent", "better")]
    parts += [f"Undecided: {_pair_list(undecided)}"] if num_open else []
    return f"{'. '.join(parts)} ({seeds})."


def _pair_list(pairs: Sequence[Pair]) -> str:
    shown = [f"{pair.first} and {pair.second}" for pair in pairs[:3]]
    return ", ".join([*shown, f"{len(pairs) - 3} more pairs"] if len(pairs) > 3 else shown)


def _by(pair: Pair, name: str, objective: str) -> str:
    return f"{name} by {_difference(pair, objective)}"


def _difference(pair: Pair, objective: str) -> str:
    if pair.advantage is None or pair.low is None or pair.high is None:
        return "an unknown difference"
    return format_difference(objective, pair.advantage, pair.low, pair.high)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith(("worse", "not ")) else text
