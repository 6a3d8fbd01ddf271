"""The same options on several data sets: ranks across them (Demsar 2006)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mnistlab.comparison.results import AcrossData, Comparison
from mnistlab.comparison.statistics import Floats, friedman


def across_data(comparisons: Sequence[Comparison], alpha: float = 0.05) -> AcrossData:
    """Rank the options that every data set has: Friedman's test, then Holm (Demsar 2006).

    A claim needs both p values below alpha; few data sets seldom give that, whatever the differences.
    """
    means = [{option.name: option.mean for option in found.options} for found in comparisons]
    names = sorted(name for name in means[0] if all(each.get(name) is not None for each in means))
    signs = [1 if found.direction == "higher" else -1 for found in comparisons]
    rows = [[sign * each[name] for sign, each in zip(signs, means, strict=True)] for name in names]  # type: ignore[operator]
    scores: Floats = np.array(rows, dtype=float).reshape(len(names), len(comparisons))
    ranks, p, p_holm = friedman(scores)
    first, second = np.triu_indices(len(names), 1)
    pairs = [
        (*_better_first(names, ranks, int(i), int(j)), float(value) if np.isfinite(value) else None)
        for i, j, value in zip(first, second, p_holm, strict=True)
    ]
    mean_ranks = {names[index]: float(ranks[index]) for index in np.argsort(ranks, kind="stable")}
    claims = [pair for pair in pairs if pair[2] is not None and pair[2] < alpha] if p < alpha else []
    words = _verdict_sentence(mean_ranks, claims, len(comparisons))
    data = [found.data for found in comparisons]
    return AcrossData(words, data, mean_ranks, p if np.isfinite(p) else None, pairs)


def _better_first(names: Sequence[str], ranks: Floats, i: int, j: int) -> tuple[str, str]:
    return (names[i], names[j]) if ranks[i] <= ranks[j] else (names[j], names[i])


def _verdict_sentence(
    mean_ranks: Mapping[str, float], claims: Sequence[tuple[str, str, float | None]], num_sets: int
) -> str:
    if len(mean_ranks) < 2:
        return "Across the data sets: fewer than two options trained on all of them."
    leader = next(iter(mean_ranks))
    beaten = [second for first, second, _ in claims if first == leader]
    rank = f"mean rank {mean_ranks[leader]:.2g} of {len(mean_ranks)}"
    if not beaten:
        return f"Across {num_sets} data sets {leader} ranks best ({rank}), but no difference is certain."
    return f"Across {num_sets} data sets {leader} ranks best ({rank}) and beats {', '.join(beaten)}."
