"""The same options on several data sets: who leads where, ranks (Demsar 2006), and what was not compared."""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.comparison.data_sets import data_difference
from mnistlab.comparison.interaction import group_same_options, interaction_with_data
from mnistlab.comparison.interaction_wording import describe_leads, describe_tests, is_one_option, is_one_seed
from mnistlab.comparison.options import compare_options
from mnistlab.comparison.results import AcrossData, Comparison, Interaction, OptionSummary, Pair
from mnistlab.comparison.statistics import ALPHA, Floats, finite_or_none, friedman
from mnistlab.comparison.wording import describe_same_runs, join_names, name_with_twins, verdict

MIN_DATA_SETS = 3  # with fewer, no difference of ranks can be significant
MAX_GROUPS = 3
REASONS = {
    "training images": "their training images differ (their validation images are the same)",
    "test images": "their test images differ (their training and validation images are the same)",
    "validation images": "their validation images differ",
    "source": "they are different data sets",
    "images": "their images differ",
    "unknown": "their runs did not record which images they used",
}


def across_data(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> AcrossData:
    """Compare the leaders of the data sets, and rank the options that have a mean on every one of them.

    Ranks: Friedman's test, then Holm's (Demsar 2006); a difference is significant if both p values are below alpha.
    With few data sets, the power is low. Options with the same runs have one rank. Data sets with the same images
    (other class weights, say) differ like options: the verdict compares their options with each other as well.
    """
    interaction = interaction_with_data(comparisons)
    ranked, incomplete = _ranked_options(comparisons)
    names = [group[0] for group in ranked]
    ranks, p, p_holm = friedman(_scores(comparisons, names))
    first, second = np.triu_indices(len(names), 1)
    pairs = [
        (*_better_first(names, ranks, int(i), int(j)), finite_or_none(value))
        for i, j, value in zip(first, second, p_holm, strict=True)
    ]
    mean_ranks = {names[index]: float(ranks[index]) for index in np.argsort(ranks, kind="stable")}
    significant = [pair[:2] for pair in pairs if pair[2] is not None and pair[2] < alpha] if p < alpha else []
    ranking = _ranking_sentence(mean_ranks, significant, comparisons)
    groups = {group[0]: group for group in ranked}
    return AcrossData(
        verdict=" ".join(
            [
                _verdict(interaction, ranking if _are_independent(comparisons) else ""),
                *(_compare_same_images(group, alpha) for group in _groups_with_same_images(comparisons)),
            ]
        ),
        data=[comparison.data for comparison in comparisons],
        mean_ranks={name: rank for first_name, rank in mean_ranks.items() for name in groups[first_name]},
        p=finite_or_none(p),
        pairs=pairs,
        ranking=ranking,
        interaction=interaction,
        not_compared=[*_not_compared(comparisons), *incomplete],
    )


def _ranked_options(comparisons: Sequence[Comparison]) -> tuple[list[list[str]], list[str]]:
    """The options with a mean on every data set, those with the same runs together, and sentences on the others."""
    columns = [comparison.data for comparison in comparisons]
    cells = {(option.name, one.data): option for one in comparisons for option in one.options}
    on: dict[str, list[str]] = defaultdict(list)
    for (name, column), option in cells.items():
        on[name] += [column] if option.mean is not None else []
    complete = sorted(name for name, found in on.items() if len(found) == len(columns))
    sentences: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(on) - set(complete)):
        where = f"on {join_names(on[name], 4)} only" if on[name] else "on no data set"
        sentences[where].append(name)
    incomplete = [
        f"{join_names(names, 4)} trained {where}, without a rank across the data sets"
        for where, names in sentences.items()
    ]
    if len(incomplete) > MAX_GROUPS:
        others = f"{len(incomplete) - MAX_GROUPS + 1} more groups of options did not train on every data set"
        incomplete = [*incomplete[: MAX_GROUPS - 1], f"{others}: see the table"]
    return group_same_options(complete, columns, cells), incomplete


def _scores(comparisons: Sequence[Comparison], names: Sequence[str]) -> Floats:
    """Means, higher is better, shape (options, data sets); data sets that are the same runs count once."""
    columns = list({_runs(comparison): comparison for comparison in comparisons}.values())
    scores = np.empty((len(names), len(columns)))
    for column, comparison in enumerate(columns):
        sign = 1 if comparison.direction == "higher" else -1
        means = {option.name: option.mean for option in comparison.options}
        scores[:, column] = [sign * (means[name] or 0.0) for name in names]
    return scores


def _better_first(names: Sequence[str], ranks: Floats, i: int, j: int) -> tuple[str, str]:
    return (names[i], names[j]) if ranks[i] <= ranks[j] else (names[j], names[i])


def _runs(comparison: Comparison) -> object:
    """The runs of every option, which identify the comparison; its name if they are not known."""
    runs = sorted((option.name, tuple(option.run_ids)) for option in comparison.options)
    return tuple(runs) if any(any(run_ids) for _, run_ids in runs) else comparison.data


def _are_independent(comparisons: Sequence[Comparison]) -> bool:
    """Whether every data set has another source, so that no images count more than once."""
    sources = [one.identity.source if one.identity else one.data for one in comparisons]
    return len(set(sources)) == len(sources)


def _ranking_sentence(
    mean_ranks: Mapping[str, float], significant: Sequence[tuple[str, str]], comparisons: Sequence[Comparison]
) -> str:
    if len(mean_ranks) < 2:
        return "Across the data sets: fewer than two options have results on all of them."
    best = next(iter(mean_ranks.values()))
    leaders = [name for name, rank in mean_ranks.items() if rank == best]
    leader, rank = leaders[0], f"mean rank {best:.2g} of {len(mean_ranks)}"
    ranks = f"{leader} ranks best" if len(leaders) == 1 else f"{join_names(leaders, 4)} share the best rank"
    start = f"Across {len(comparisons)} data sets {ranks} ({rank})"
    if not _are_independent(comparisons):
        return f"{start}; the data sets share images, and a test of the ranks would need independent ones."
    beaten = [second for first, second in significant if first == leader]
    return f"{start} and beats {', '.join(beaten)}." if beaten else f"{start}, but no difference is significant."


def _verdict(interaction: Interaction, ranking: str) -> str:
    """Who leads where, then what is significant. ranking: the sentence on the ranks, if they mean something."""
    if is_one_option(interaction):
        return f"{interaction.sentence}."
    if is_one_seed(interaction) and any(cell.mean is not None for row in interaction.cells for cell in row):
        return f"One seed: no claim; {describe_leads(interaction).replace(' leads ', ' has the best value ', 1)}."
    sentences = [interaction.sentence, describe_tests(interaction)]
    if len(interaction.columns) >= MIN_DATA_SETS:
        sentences.append(ranking.removesuffix("."))
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def _groups_with_same_images(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """The data sets with the same images, together; those that are the same runs are not among them."""
    pairs = [
        (one.data, other.data)
        for one, other in itertools.combinations(comparisons, 2)
        if one.identity and other.identity and data_difference(one.identity, other.identity) == "none"
        if _runs(one) != _runs(other)
    ]
    return [[one for one in comparisons if one.data in group] for group in _groups_of_pairs(pairs)]


def _compare_same_images(comparisons: Sequence[Comparison], alpha: float) -> str:
    """The verdict on every option with each of these data sets: "adam balanced beats adam default by ..."."""
    first, found = comparisons[0], _options_with_data(comparisons)
    seeds = sorted({seed for option in found for seed in option.seeds})
    scores = np.full((len(found), max(len(seeds), 1)), np.nan)
    for row, option in enumerate(found):
        scores[row, [seeds.index(seed) for seed in option.seeds]] = option.scores
    names_of_options, step = [option.name for option in found], max(one.resolution for one in comparisons)
    pairs = compare_options(names_of_options, scores, first.objective, first.direction, alpha, step)
    sign = -1.0 if first.direction == "higher" else 1.0
    ranked = sorted(found, key=lambda option: (option.mean is None, sign * (option.mean or 0.0), option.name))
    names = join_names([one.data for one in comparisons], 4)
    sentence = verdict(ranked, pairs, first.objective)
    start = f"{names} have the same images, so their options are compared with each other: {sentence}"
    return start + _describe_same_option(found, pairs)


def _options_with_data(comparisons: Sequence[Comparison]) -> list[OptionSummary]:
    """Every option of every data set, its name followed by that of the data set; those with the same runs are one."""
    named = [
        dataclasses.replace(option, name=f"{option.name} {one.data}") for one in comparisons for option in one.options
    ]
    groups: dict[object, list[OptionSummary]] = defaultdict(list)
    for option in named:
        groups[tuple(option.run_ids) if any(option.run_ids) else option.name].append(option)
    return [
        dataclasses.replace(group[0], name=name_with_twins([option.name for option in group]))
        for group in groups.values()
    ]


def _describe_same_option(options: Sequence[OptionSummary], pairs: Sequence[Pair]) -> str:
    """The tested pairs of one option with two data sets, those with a claim first; "" if these are all the pairs."""
    values = {option.name: option.values for option in options}
    found = [pair for pair in pairs if pair.p is not None and values[pair.first] == values[pair.second]]
    if len(found) == len(pairs) or not found:
        return ""
    found.sort(key=lambda pair: pair.decision != "better")
    num_hidden = len(found) - MAX_GROUPS
    more = f"; and {num_hidden} more such pairs" if num_hidden > 0 else ""
    return f" Of one option: {'; '.join(pair.words for pair in found[:MAX_GROUPS])}{more}."


def _not_compared(comparisons: Sequence[Comparison]) -> list[str]:
    """Why the data sets were not compared with each other: one sentence per reason."""
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for one, other in itertools.combinations(comparisons, 2):
        if one.identity is not None and other.identity is not None:
            same = _runs(one) == _runs(other)
            difference = data_difference(one.identity, other.identity)
            if same or difference != "none":
                pairs["same runs" if same else REASONS[difference]].append((one.data, other.data))
    sentences = [f"{describe_same_runs(pair)}" for pair in pairs.pop("same runs", [])[:MAX_GROUPS]]
    for reason, found in pairs.items():
        groups = _groups_of_pairs(found)
        named = [join_names(group, 6) for group in groups[:MAX_GROUPS]]
        more = f"; and {len(groups) - MAX_GROUPS} more" if len(groups) > MAX_GROUPS else ""
        sentences.append(f"{'; '.join(named)}{more} were not compared with each other: {reason}")
    return sentences


def _groups_of_pairs(pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Groups of data sets of which every two are one of the pairs; each pair is within a group."""
    known = {frozenset(pair) for pair in pairs}
    names = dict.fromkeys(name for pair in pairs for name in pair)
    groups: list[list[str]] = []
    for one, other in pairs:
        if any(one in group and other in group for group in groups):
            continue
        group = [one, other]
        for name in names:
            if name not in group and all(frozenset((name, member)) in known for member in group):
                group.append(name)
        groups.append(group)
    return groups
