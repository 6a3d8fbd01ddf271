"""The same options on several data sets: Friedman's test of their ranks (Demsar 2006)."""

from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.comparison.results import AcrossData, Comparison, finite_or_none
from mnistlab.comparison.statistics import ALPHA, Floats, friedman


def across_data(comparisons: Sequence[Comparison], alpha: float = ALPHA) -> AcrossData:
    """Rank the options that have a mean on every data set: Friedman's test, then Holm's (Demsar 2006).

    A difference is significant if both p values are below alpha. With few data sets, the power is low.
    """
    means = [{option.name: option.mean for option in comparison.options} for comparison in comparisons]
    names = sorted(name for name in means[0] if all(by_name.get(name) is not None for by_name in means))
    signs = [1 if comparison.direction == "higher" else -1 for comparison in comparisons]
    rows = [[sign * by_name[name] for sign, by_name in zip(signs, means, strict=True)] for name in names]  # type: ignore[operator]
    scores: Floats = np.array(rows, dtype=float).reshape(len(names), len(comparisons))
    ranks, p, p_holm = friedman(scores)
    first, second = np.triu_indices(len(names), 1)
    pairs = [
        (*_better_first(names, ranks, int(i), int(j)), finite_or_none(value))
        for i, j, value in zip(first, second, p_holm, strict=True)
    ]
    mean_ranks = {names[index]: float(ranks[index]) for index in np.argsort(ranks, kind="stable")}
    significant = [pair[:2] for pair in pairs if pair[2] is not None and pair[2] < alpha] if p < alpha else []
    verdict = _verdict_sentence(mean_ranks, significant, len(comparisons))
    data = [comparison.data for comparison in comparisons]
    return AcrossData(verdict, data, mean_ranks, finite_or_none(p), pairs)


def _better_first(names: Sequence[str], ranks: Floats, i: int, j: int) -> tuple[str, str]:
    return (names[i], names[j]) if ranks[i] <= ranks[j] else (names[j], names[i])


def _verdict_sentence(
    mean_ranks: Mapping[str, float], significant: Sequence[tuple[str, str]], num_data_sets: int
) -> str:
    if len(mean_ranks) < 2:
        return "Across the data sets: fewer than two options have results on all of them."
    leader = next(iter(mean_ranks))
    beaten = [second for first, second in significant if first == leader]
    rank = f"mean rank {mean_ranks[leader]:.2g} of {len(mean_ranks)}"
    if not beaten:
        return f"Across {num_data_sets} data sets {leader} ranks best ({rank}), but no difference is significant."
    return f"Across {num_data_sets} data sets {leader} ranks best ({rank}) and beats {', '.join(beaten)}."
