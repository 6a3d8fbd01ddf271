"""How often a sweep of equal options claims a winner, and how often it finds a true difference: a simulation.

    python -m benchmarks.verdict_errors                    # every shape, 2,000 sweeps each: some minutes
    python -m benchmarks.verdict_errors --sweeps 300

Accuracies are counts of right images. `binomial`: each image is right with the same probability. `normal`: seeds vary
by 0.5 points whatever the number of images, and the count is rounded. `wild`: the same, but those of one option vary by
5 points.

`before`: all pairs of options are compared, without the number of images; an option wins that beats every other one.
`now`: as a verdict comes about, with the number of images and the search for the best option.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from mnistlab.comparison.best import find_best
from mnistlab.comparison.statistics import PairTests, compare_pairs

IMAGES = (50, 100, 400, 6_000, 0)  # 0: infinitely many
OPTIONS, SEEDS = (2, 3, 6, 10), (2, 3, 5, 10)
NOISE = ("binomial 0.90", "binomial 0.99", "normal")
WILD = "wild"
SPREAD, GAP = 0.005, 0.02
FAR = 0.3  # how far the others are behind two tied options


def scores_of(
    generator: np.random.Generator, noise: str, images: int, options: int, seeds: int, gap: float = 0.0, behind: int = 0
) -> np.ndarray:
    """Accuracies, shape (options, seeds); the first option is better by `gap`, the last `behind` ones are far worse."""
    means = np.zeros((options, 1))
    means[0] = gap
    means[options - behind :] -= FAR
    kind, _, share = noise.partition(" ")
    if kind == "binomial":
        share_right = np.clip(float(share) + means, 0, 1)
        if images:
            return generator.binomial(images, share_right, (options, seeds)) / images
        return share_right + SPREAD * generator.normal(size=(options, seeds))
    spread = np.full((options, 1), SPREAD)
    spread[0] *= 10 if kind == WILD else 1
    centre = 0.7 if kind == WILD else 0.95
    values = np.clip(centre + means + spread * generator.normal(size=(options, seeds)), 0, 1)
    return np.rint(values * images) / images if images else values


def winner_by_pairs(tests: PairTests, options: int) -> int | None:
    """The option that beats every other one in the comparison of all pairs."""
    winners = np.where(tests.difference > 0, tests.first, tests.second)[tests.significant]
    beaten = np.bincount(winners, minlength=options)
    return int(beaten.argmax()) if beaten.max() == options - 1 else None


def winner(scores: np.ndarray, tests: PairTests, resolution: float) -> int | None:
    """The option that a verdict calls best: the search's, or the one that beats every other one."""
    left = find_best(scores, resolution=resolution).candidates
    return left[0] if len(left) == 1 else winner_by_pairs(tests, len(scores))


@dataclass(frozen=True)
class Rates:
    """Shares of simulated sweeps, of one shape, with equal options, two tied ones, and a better one.

    claims: equal options, with a significant pair. winners, tied_winners: with an option called best, although all or
    the two best are equal. found: of the pairs of a better option, those found. won: with the better option called
    best; wrong: with another one.
    """

    claims: float
    winners: float
    tied_winners: float
    found: float
    won: float
    wrong: float


def rates(noise: str, images: int, options: int, seeds: int, sweeps: int) -> tuple[Rates, Rates]:
    """The rates before and now, of the same sweeps."""
    generator = np.random.default_rng([images, options, seeds, len(noise)])
    step = 1 / images if images else 0.0
    counts = np.zeros((2, 6))
    for _ in range(sweeps):
        shape = (generator, noise, images, options, seeds)
        equal, better = scores_of(*shape), scores_of(*shape, gap=GAP)
        tied = scores_of(*shape, behind=options - 2) if options > 2 else equal
        for row, knows in enumerate((False, True)):
            found = [compare_pairs(scores, resolution=step * knows) for scores in (equal, tied, better)]
            if knows:
                won = [winner(scores, tests, step) for scores, tests in zip((equal, tied, better), found, strict=True)]
            else:
                won = [winner_by_pairs(tests, options) for tests in found]
            of_best = found[2].significant & (found[2].first == 0) & (found[2].difference > 0)
            counts[row] += [
                found[0].significant.any(),
                won[0] is not None,
                won[1] is not None,
                of_best.sum() / (options - 1),
                won[2] == 0,
                won[2] not in (None, 0),
            ]
    before, now = counts / sweeps
    return Rates(*before), Rates(*now)


def shapes() -> Iterator[tuple[str, int, int, int]]:
    """Noise, images, options, seeds."""
    yield from product((*NOISE, WILD), IMAGES, OPTIONS, SEEDS)


COLUMNS = {"claims": "false claims", "winners": "false winners", "tied_winners": "of two tied", "found": "pairs found"}
COLUMNS |= {"won": "winner found"}


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sweeps", type=int, default=2000, help="for each shape")
    sweeps = parser.parse_args().sweeps
    heads = " | ".join(f"{title} before | now" for title in COLUMNS.values())
    print(f"| noise | images | options | seeds | {heads} |")
    print(f"|---|---:|---:|---:|{'---:|---:|' * len(COLUMNS)}")
    for shape in shapes():
        before, now = rates(*shape, sweeps)
        noise, images, options, seeds = shape
        pairs = ((getattr(before, name), getattr(now, name)) for name in COLUMNS)
        numbers = " | ".join(f"{100 * value:.1f} %" for pair in pairs for value in pair)
        print(f"| {noise} | {images or 'infinite'} | {options} | {seeds} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
