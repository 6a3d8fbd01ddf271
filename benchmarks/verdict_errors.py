"""How often a sweep of equal options claims a winner, and how often it finds a true difference: a simulation.

    python -m benchmarks.verdict_errors                    # every shape, 2,000 sweeps each: some minutes
    python -m benchmarks.verdict_errors --sweeps 300

Accuracies are counts of right images. `binomial`: each image is right with the same probability. `normal`: seeds vary
by 0.5 points whatever the number of images, and the count is rounded.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np

from mnistlab.comparison.statistics import compare_pairs

IMAGES = (50, 100, 400, 6_000, 0)  # 0: infinitely many
OPTIONS, SEEDS = (2, 3, 6, 10), (2, 3, 5, 10)
NOISE = ("binomial 0.90", "binomial 0.99", "normal")
SPREAD, GAP = 0.005, 0.02


def scores_of(
    generator: np.random.Generator, noise: str, images: int, options: int, seeds: int, gap: float = 0.0
) -> np.ndarray:
    """Accuracies, shape (options, seeds); the first option is better by `gap`."""
    means = np.zeros((options, 1))
    means[0] = gap
    kind, _, share = noise.partition(" ")
    if kind == "binomial":
        share_right = np.clip(float(share) + means, 0, 1)
        if images:
            return generator.binomial(images, share_right, (options, seeds)) / images
        return share_right + SPREAD * generator.normal(size=(options, seeds))
    values = np.clip(0.95 + means + SPREAD * generator.normal(size=(options, seeds)), 0, 1)
    return np.rint(values * images) / images if images else values


def rates(noise: str, images: int, options: int, seeds: int, sweeps: int, knows: bool = True) -> tuple[float, float]:
    """The share of sweeps of equal options with a claim, and of the pairs of a better option that are found.

    knows: whether the comparison is told the number of images.
    """
    generator = np.random.default_rng([images, options, seeds, len(noise)])
    step = 1 / images if images and knows else 0.0
    false = found = 0.0
    for _ in range(sweeps):
        false += compare_pairs(scores_of(generator, noise, images, options, seeds), resolution=step).significant.any()
        tests = compare_pairs(scores_of(generator, noise, images, options, seeds, GAP), resolution=step)
        found += (tests.significant & (tests.first == 0) & (tests.difference > 0)).sum() / (options - 1)
    return false / sweeps, found / sweeps


def shapes() -> Iterator[tuple[str, int, int, int]]:
    """Noise, images, options, seeds."""
    yield from product(NOISE, IMAGES, OPTIONS, SEEDS)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sweeps", type=int, default=2000, help="for each shape")
    sweeps = parser.parse_args().sweeps
    print("| noise | images | options | seeds | false winners before | now | power before | now |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for shape in shapes():
        (before, power_before), (now, power) = (rates(*shape, sweeps, knows) for knows in (False, True))
        noise, images, options, seeds = shape
        numbers = " | ".join(f"{100 * value:.1f} %" for value in (before, now, power_before, power))
        print(f"| {noise} | {images or 'infinite'} | {options} | {seeds} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
