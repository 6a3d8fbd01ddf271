"""Which test finds the best option, and how often it errs: methods compared by simulation, and sweeps until a verdict.

    python -m benchmarks.verdict_methods                   # both tables: about half an hour
    python -m benchmarks.verdict_methods --sweeps 200 --only rounds

Methods: the options of complete sweeps, each on the same seeds. False winner: an option is called best although another
one is as good; the larger of two cases, all options equal, and two best ones with the others three standard deviations
below. Power: an option that is better by two standard deviations is called best.

Rounds: seeds are added to the options in doubt, with a look after each (sweep.until=verdict), at most 20. Compared with
the complete sweep that finds the best as often.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from scipy import stats

from mnistlab.comparison.best import find_best
from mnistlab.comparison.race import Race, race_for_best
from mnistlab.comparison.sequential import Looks
from mnistlab.comparison.statistics import ALPHA, compare_pairs

SHAPES = [(options, seeds) for options in (3, 7, 10) for seeds in (3, 5, 10)]
NOISE = ("normal", "heavy tails", "skewed", "one noisy", "counts of 400")
NUM_PERMUTATIONS = 400
MAX_SEEDS = 20
# Validation accuracy in points and its standard deviation: about those of the guide's seven strategies after three
# epochs of MNIST, and of seven learning rates of adam.
SWEEPS = {
    "seven strategies": ((97.2, 96.8, 96.2, 95.8, 94.6, 92.7, 11.7), (0.15, 0.15, 0.3, 0.35, 0.1, 0.1, 2.5)),
    "learning rates": ((97.5, 97.2, 96.4, 95.5, 92.4, 89.0, 15.0), (0.15, 0.15, 0.2, 0.4, 0.3, 0.3, 3.0)),
    "two equal ones": ((97.2, 97.2, 96.2, 95.8, 94.6, 92.7, 11.7), (0.15, 0.15, 0.3, 0.35, 0.1, 0.1, 2.5)),
    "all equal": ((97.0,) * 7, (0.2,) * 7),
}


def draw(generator: np.random.Generator, kind: str, options: int, seeds: int) -> np.ndarray:
    """Noise with a standard deviation of 1, shape (options, seeds)."""
    if kind == "heavy tails":
        return generator.standard_t(3, size=(options, seeds)) / np.sqrt(3)
    if kind == "skewed":
        return generator.exponential(size=(options, seeds)) - 1
    noise = generator.normal(size=(options, seeds))
    if kind == "one noisy":
        noise[0] *= 10
    if kind == "counts of 400":  # of a standard deviation of 0.5 points: two images
        return np.rint(2 * noise) / 2
    return noise


def by_pairs(scores: np.ndarray, step: float) -> int:
    """t tests of all pairs with Holm's correction, variances shrunk from six options on: today's table of pairs."""
    tests = compare_pairs(scores, resolution=step)
    better = np.where(tests.difference > 0, tests.first, tests.second)[tests.significant]
    wins = np.bincount(better, minlength=len(scores))
    return int(wins.argmax()) if wins.max() == len(scores) - 1 else -1


def by_search(scores: np.ndarray, step: float) -> int:
    """Beaten options are excluded step by step: the verdict."""
    left = find_best(scores, resolution=step).candidates
    return left[0] if len(left) == 1 else -1


def _blocks(scores: np.ndarray) -> tuple[float, float]:
    """The gap between the two best means, and the error variance of the analysis with seeds as blocks."""
    options, seeds = scores.shape
    residuals = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    ordered = np.sort(scores.mean(axis=1))
    return float(ordered[-1] - ordered[-2]), float((residuals**2).sum() / ((options - 1) * (seeds - 1)))


def by_tukey(scores: np.ndarray, step: float) -> int:
    """Randomized blocks, one variance for all, Tukey's range. For complete sweeps also the mixed model with a random
    effect of the seed: the estimates are the same."""
    options, seeds = scores.shape
    gap, variance = _blocks(scores)
    least = _range_quantile(options, (options - 1) * (seeds - 1)) * np.sqrt(max(variance, step**2 / 12) / seeds)
    return int(scores.mean(axis=1).argmax()) if gap > least else -1


def by_dunnett(scores: np.ndarray, step: float) -> int:
    """Randomized blocks, one variance for all, Dunnett's test of the best mean against all others."""
    options, seeds = scores.shape
    gap, variance = _blocks(scores)
    quantile = _dunnett_quantile(options, (options - 1) * (seeds - 1))
    least = quantile * np.sqrt(2 * max(variance, step**2 / 12) / seeds)
    return int(scores.mean(axis=1).argmax()) if gap > least else -1


def by_permutation(scores: np.ndarray, step: float) -> int:
    """The gap between the two best means against the range of all means when the options are shuffled within seeds."""
    generator = np.random.default_rng(0)
    shuffled = generator.permuted(np.repeat(scores[None], NUM_PERMUTATIONS, axis=0), axis=1)
    ranges = np.ptp(shuffled.mean(axis=2), axis=1)
    gap, _ = _blocks(scores)
    return int(scores.mean(axis=1).argmax()) if (1 + (ranges >= gap).sum()) / (1 + len(ranges)) <= ALPHA else -1


METHODS: dict[str, Callable[[np.ndarray, float], int]] = {
    "all pairs, Holm": by_pairs,
    "search for the best": by_search,
    "blocks, Tukey": by_tukey,
    "blocks, Dunnett": by_dunnett,
    "permutation": by_permutation,
}


@lru_cache
def _range_quantile(options: int, degrees: int) -> float:
    return float(stats.studentized_range.ppf(1 - ALPHA, options, degrees))


@lru_cache
def _dunnett_quantile(options: int, degrees: int) -> float:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(200_000, options))
    largest = (values[:, 1:] - values[:, :1]).max(axis=1) / np.sqrt(2)
    return float(np.quantile(largest / np.sqrt(generator.chisquare(degrees, 200_000) / degrees), 1 - ALPHA))


def method_rows(sweeps: int) -> Iterator[str]:
    """A row per shape of sweep, with false winners and power of each method."""
    for kind in NOISE:
        step = 0.5 if kind == "counts of 400" else 0.0
        for options, seeds in SHAPES:
            generator = np.random.default_rng([options, seeds, NOISE.index(kind)])
            counts = {name: np.zeros(3) for name in METHODS}
            for _ in range(sweeps):
                for case, means in enumerate(_means(options)):
                    scores = means[:, None] + draw(generator, kind, options, seeds)
                    for name, method in METHODS.items():
                        found = method(scores, step)
                        counts[name][case] += found == options - 1 if case == 2 else found >= 0
            cells = [f"{100 * max(c[:2]) / sweeps:.1f} % / {100 * c[2] / sweeps:.0f} %" for c in counts.values()]
            yield f"| {kind} | {options} | {seeds} | {' | '.join(cells)} |"


def _means(options: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All equal; the first two best; the last one best by two standard deviations."""
    tied, better = np.full(options, -3.0), np.zeros(options)
    tied[:2], better[-1] = 0.0, 2.0
    return np.zeros(options), tied, better


def round_rows(sweeps: int) -> Iterator[str]:
    """A row per sweep until a verdict: claims, runs, and the runs of a complete sweep that claims as often."""
    looks = Looks(3, MAX_SEEDS)
    for name, (means, spreads) in SWEEPS.items():
        generator = np.random.default_rng(len(name))
        claims = right = runs = 0
        for _ in range(sweeps):
            scores = np.array(means)[:, None] + np.array(spreads)[:, None] * generator.normal(size=(7, MAX_SEEDS))
            race = run_until_verdict(scores, looks)
            claims += race.stopped == "clear"
            right += race.stopped == "clear" and race.open == [0]
            runs += race.rounds[-1].num_runs
        best_is_known = means[0] > means[1]
        fixed = _runs_of_equal_power(means, spreads, right / sweeps, sweeps) if best_is_known else None
        share = f"{fixed} | {runs / sweeps / fixed:.2f}" if fixed else "- | -"
        false = claims - right if best_is_known else claims
        found = f"{100 * right / sweeps:.0f} %" if best_is_known else "-"
        yield f"| {name} | {100 * false / sweeps:.1f} % | {found} | {runs / sweeps:.0f} | {share} |"


def run_until_verdict(scores: np.ndarray, looks: Looks) -> Race:
    """The race on the first seeds, one more at a time, until it stops, as a sweep runs it."""
    names = [str(row) for row in range(len(scores))]
    for num_seeds in range(looks.first, looks.last + 1):
        race = race_for_best(names, scores[:, :num_seeds], looks, ALPHA, 0.0)
        if race.why:
            return race
    return race


def _runs_of_equal_power(means: tuple[float, ...], spreads: tuple[float, ...], power: float, sweeps: int) -> int | None:
    """The runs of the smallest complete sweep that finds the best at least as often, by the table of all pairs (the
    method of before) or by the search, whichever needs fewer."""
    generator = np.random.default_rng(1)
    for seeds in range(2, 61):
        found = np.zeros(2)
        for _ in range(sweeps):
            scores = np.array(means)[:, None] + np.array(spreads)[:, None] * generator.normal(size=(len(means), seeds))
            found += [by_pairs(scores, 0.0) == 0, by_search(scores, 0.0) == 0]
        if found.max() / sweeps >= power:
            return seeds * len(means)
    return None


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sweeps", type=int, default=1000, help="for each row and case")
    parser.add_argument("--only", choices=("methods", "rounds"))
    arguments = parser.parse_args()
    if arguments.only != "rounds":
        print("False winners / power\n")
        print(f"| noise | options | seeds | {' | '.join(METHODS)} |\n|---|---:|---:|{'---:|' * len(METHODS)}")
        for row in method_rows(arguments.sweeps):
            print(row, flush=True)
    if arguments.only != "methods":
        print("\n| sweep | false winners | best found | runs | runs of a complete sweep | share |")
        print("|---|---:|---:|---:|---:|---:|")
        for row in round_rows(arguments.sweeps):
            print(row, flush=True)


if __name__ == "__main__":
    main()
