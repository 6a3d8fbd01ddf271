"""A verdict calculated anew, from scores alone, with NumPy and SciPy: nothing of mnistlab is imported.

It follows the descriptions in the report's section "Method" and in docs/how-it-works/verdict.md. Scores are a mapping
option -> seed -> score; `sign` is 1 where higher is better, -1 where lower is; pairs are in alphabetical order.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

ALPHA = 0.05


@dataclass
class Test:
    """A paired t test of one option against another. p: two-sided, NaN without a test."""

    difference: float
    num: int
    variance: float
    degrees: float
    p: float

    def half_width(self, level: float) -> float:
        return stats.t.ppf(1 - level / 2, self.degrees) * math.sqrt(self.variance / self.num)


class Series:
    """p values and levels of t tests that are repeated after n = first, ..., last differences, by a simulation of its
    own: the smallest p value of each of many series of differences without an effect."""

    def __init__(self, first: int, last: int, draws: int = 300_000) -> None:
        generator, smallest = np.random.default_rng(4321), []
        for _ in range(10):
            x = generator.standard_normal((draws // 10, last))
            lowest = np.ones(len(x))
            for count in range(first, last + 1):
                seen = x[:, :count]
                t = seen.mean(axis=1) / seen.std(axis=1, ddof=1) * math.sqrt(count)
                lowest = np.minimum(lowest, 2 * special.stdtr(count - 1, -np.abs(t)))
            smallest.append(lowest)
        self.first, self.last = first, last
        self.smallest = np.sort(np.concatenate(smallest))

    def overall(self, p: float) -> float:
        return float(np.mean(self.smallest <= p))

    def nominal(self, level: float) -> float:
        return float(np.quantile(self.smallest, level))


def differences(scores: dict, one: str, other: str, sign: float) -> list[float]:
    """On the seeds that both have."""
    return [sign * (scores[one][seed] - scores[other][seed]) for seed in sorted({*scores[one]} & {*scores[other]})]


def paired_test(values: list[float], step: float) -> Test:
    """step: between two possible scores; rounding to it has the variance step**2 / 12, of two scores twice that."""
    num = len(values)
    if num < 2:
        return Test(values[0] if values else math.nan, num, math.nan, max(num - 1, 0), math.nan)
    variance = np.var(values, ddof=1)
    if np.ptp(values) < 1e-14:  # equal differences, but for rounding of the last digit
        variance = 0.0
    variance = max(float(variance), 2 * step**2 / 12)
    if variance == 0:
        return Test(float(np.mean(values)), num, variance, num - 1, math.nan)
    t = np.mean(values) / math.sqrt(variance / num)
    return Test(float(np.mean(values)), num, variance, num - 1, float(2 * stats.t.sf(abs(t), num - 1)))


def all_tests(scores: dict, sign: float, step: float) -> dict[tuple[str, str], Test]:
    pairs = itertools.combinations(sorted(scores), 2)
    return {(one, other): paired_test(differences(scores, one, other, sign), step) for one, other in pairs}


def moderated(tests: dict, only_if_not_noisy: bool = False) -> dict:
    """Smyth's (2004) variances: prior degrees d0 and variance s0^2 from mean and variance of the log variances, with
    d0 at most a pair's own degrees. only_if_not_noisy: pairs with more than 2 s0^2, or on two seeds, keep theirs."""
    usable = {pair: test for pair, test in tests.items() if test.num > 1}
    d = np.array([test.degrees for test in usable.values()])
    s2 = np.array([test.variance for test in usable.values()])
    s2 = np.maximum(s2, 1e-5 * np.median(s2))
    z = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    excess = np.var(z, ddof=1) - np.mean(special.polygamma(1, d / 2))
    d0_all = math.inf
    if excess > 0:
        d0_all = 2 * optimize.brentq(lambda y: special.polygamma(1, y) - excess, 1e-6, 1e8)
    found = dict(tests)
    for pair, test in usable.items():
        d0 = min(d0_all, test.degrees)
        s02 = math.exp(np.mean(z) + special.digamma(d0 / 2) - math.log(d0 / 2))
        if only_if_not_noisy and (test.variance > 2 * s02 or test.num < 3):
            continue
        degrees = d0 + test.degrees
        variance = (d0 * s02 + test.degrees * test.variance) / degrees
        t = test.difference / math.sqrt(variance / test.num)
        found[pair] = Test(test.difference, test.num, variance, degrees, float(2 * stats.t.sf(abs(t), degrees)))
    return found


def in_series(tests: dict, series: Series | None) -> dict:
    """The p values of the whole series of looks."""
    if series is None:
        return tests
    return {
        pair: Test(
            test.difference,
            test.num,
            test.variance,
            test.degrees,
            test.p if math.isnan(test.p) else max(test.p, series.overall(test.p)),
        )
        for pair, test in tests.items()
    }


def holm(p: dict) -> tuple[dict, dict]:
    """Adjusted p values, and the level at which each was tested; NaN where there is no p value."""
    tested = sorted((value, key) for key, value in p.items() if not math.isnan(value))
    count, largest, rejecting = len(tested), 0.0, True
    adjusted, levels = dict.fromkeys(p, math.nan), dict.fromkeys(p, math.nan)
    level = math.nan
    for index, (value, key) in enumerate(tested):
        if rejecting:
            level = ALPHA / (count - index)
            rejecting = value < level
        largest = max(largest, min(1.0, (count - index) * value))
        adjusted[key], levels[key] = largest, level
    return adjusted, levels


def test_of(tests: dict, one: str, other: str) -> Test:
    """Positive where the first is better."""
    if (one, other) in tests:
        return tests[one, other]
    found = tests[other, one]
    return Test(-found.difference, found.num, found.variance, found.degrees, found.p)


def search(scores: dict, sign: float, step: float, series: Series | None, candidates: list[str]) -> tuple[list, dict]:
    """Those left, and option -> (number of candidates at its exclusion, tests, who beats it with the smallest p)."""
    own = in_series(all_tests(scores, sign, step), series)
    left, out = list(candidates), {}
    while True:
        tests = moderated(own, only_if_not_noisy=True) if len(left) >= 6 and series is None else own
        level = 2 * ALPHA / max(len(left), 2)
        beaten = {}
        for option in left:
            against = {other: test_of(tests, other, option) for other in left if other != option}
            better = {name: test.p for name, test in against.items() if test.difference > 0 and test.p <= level}
            if better:
                beaten[option] = min(better, key=better.get)
        if not beaten or len(beaten) == len(left):
            return left, {**out, None: (level, tests)}
        out |= {option: (level, tests, by) for option, by in beaten.items()}
        left = [option for option in left if option not in beaten]


@dataclass
class Race:
    """What a sweep until a verdict comes to. seen: the scores that it has got; rounds: (seeds, runs, leader, open)."""

    seen: dict
    rounds: list
    left: list
    out: dict


def race(scores: dict, sign: float, step: float, series: Series) -> Race:
    """Options get seeds 0, 1, ... while they are in doubt. scores: of all seeds, those missing of runs that fail."""
    left, out, rounds = sorted(scores), {}, []
    seen, runs = {name: {} for name in scores}, 0
    for count in range(series.first, series.last + 1):
        new = range(count) if count == series.first else (count - 1,)
        for name in left:
            runs += len(new)
            seen[name] |= {seed: scores[name][seed] for seed in new if seed in scores[name]}
        left = [name for name in left if len(seen[name]) >= 2]
        left, found = search(seen, sign, step, series, left)
        out |= found
        means = {name: sign * np.mean([*seen[name].values()]) for name in left}
        rounds.append((count, runs, max(means, key=means.get), sorted(left)))
        if len(left) < 2:
            break
    return Race(seen, rounds, left, out)


def shown_difference(value: float, low: float, high: float, is_accuracy: bool) -> str:
    """One decimal for points, three for others, and more if a number would look like 0."""
    numbers = [(100 if is_accuracy else 1) * number for number in (value, low, high)]
    for decimals in range(1 if is_accuracy else 3, 9):
        texts = [f"{number:.{decimals}f}" for number in numbers]
        if all(float(text) != 0 or number == 0 for text, number in zip(texts, numbers, strict=True)):
            break
    return f"{texts[0]}{' points' if is_accuracy else ''} [{texts[1]}, {texts[2]}]"


def shown_value(value: float, is_accuracy: bool) -> str:
    return f"{100 * value:.2f} %" if is_accuracy else f"{value:#.4g}".rstrip(".")


def shown_seeds(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low} seed{'s' if low > 1 else ''}" if low == high else f"{low} to {high} seeds"


def shown_names(names: list[str], limit: int = 99) -> str:
    if len(names) > limit:
        return f"{', '.join(names[:2])} and {len(names) - 2} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def more_seeds(test: Test, level: float) -> int:
    """The smallest number that gives a power of 80 % at the observed difference and spread; 101: more than 100."""
    effect = abs(test.difference) / math.sqrt(test.variance)
    for extra in range(1, 101):
        degrees = test.degrees + extra
        critical = stats.t.ppf(1 - level / 2, degrees)
        if stats.nct.sf(critical, degrees, effect * math.sqrt(test.num + extra)) >= 0.8:
            return extra
    return 101


def shown_more(extra: int) -> str:
    if extra > 100:
        return "; more than 100 more seeds would be needed"
    return f"; about {extra} more seed{'s' if extra > 1 else ''} would be needed" if extra else ""


@dataclass
class Sweep:
    """The scores of a sweep's options, how many of their runs did not train, and how the scores are read."""

    scores: dict[str, dict[int, float]]
    failed: dict[str, int]
    objective: str
    step: float = 0.0
    data: str = ""

    @property
    def sign(self) -> float:
        return -1.0 if "loss" in self.objective else 1.0

    @property
    def is_accuracy(self) -> bool:
        return "accuracy" in self.objective

    def mean(self, name: str) -> float:
        return float(np.mean([*self.scores[name].values()]))

    def ranked(self) -> list[str]:
        """The trained options, the best mean first."""
        trained = [name for name in self.scores if self.scores[name]]
        return sorted(trained, key=lambda name: (-self.sign * self.mean(name), name))

    def value(self, name: str) -> str:
        return f"{shown_value(self.mean(name), self.is_accuracy)} {self.objective}"

    def failures(self, name: str) -> str:
        count = self.failed.get(name, 0)
        runs = count + len(self.scores[name])
        return f"; but {count} of its {runs} runs failed or diverged" if count else ""

    def pairs(self, series: Series | None = None) -> tuple[dict, dict, dict]:
        """The tests of all pairs, Holm's adjusted p values, and levels."""
        tests = in_series(all_tests(self.scores, self.sign, self.step), series)
        tests = moderated(tests) if len(self.scores) >= 6 and series is None else tests
        return (tests, *holm({pair: test.p for pair, test in tests.items()}))

    def difference(self, test: Test, level: float) -> str:
        """level: of the t test."""
        half = test.half_width(level)
        return shown_difference(test.difference, test.difference - half, test.difference + half, self.is_accuracy)


def beats(pairs: tuple[dict, dict, dict], one: str, other: str) -> bool:
    tests, adjusted, _ = pairs
    key = (one, other) if (one, other) in tests else (other, one)
    return adjusted[key] < ALPHA and test_of(tests, one, other).difference > 0


def sentence_of_a_winner(sweep: Sweep, winner: str, found: dict[str, tuple[Test, float]]) -> str:
    """found: other option -> test and level, the best first."""
    closest, (test, level) = next(iter(found.items()))
    difference, seeds = sweep.difference(test, level), shown_seeds([one.num for one, _ in found.values()])
    if len(found) == 1:
        said = f"{winner} beats {closest} by {difference} ({winner}: {sweep.value(winner)}; {seeds})"
    else:
        rest = {2: "the other option", 3: "both others"}.get(len(found), f"all {len(found) - 1} others")
        said = f"{winner} is best with {sweep.value(winner)}: it beats {closest} by {difference} and {rest} ({seeds})"
    return f"{said}{sweep.failures(winner)}."


def sentence_of_an_indirect_winner(sweep: Sweep, winner: str, found: dict[str, tuple[Test, float]]) -> str:
    """The search has excluded all others, but the winner itself does not beat each at the level of its exclusion."""
    beaten = "both others" if len(found) == 2 else f"all {len(found)} others"
    seeds = shown_seeds([test.num for test, _ in found.values()])
    words = f"{winner} is best with {sweep.value(winner)}: {beaten} were beaten by it or by options that were beaten"
    return f"{words} in turn ({seeds}){sweep.failures(winner)}."


def sentence_of_all_pairs(sweep: Sweep) -> str:
    """Without a winner: what the leader cannot be told from, and what it beats."""
    pairs = sweep.pairs()
    tests, _, levels = pairs
    ranked = sweep.ranked()
    leader = next(name for name in ranked if not any(beats(pairs, other, name) for other in ranked if other != name))
    others = [name for name in ranked if name != leader]
    against = {name: test_of(tests, leader, name) for name in others}
    keys = {name: (leader, name) if (leader, name) in tests else (name, leader) for name in others}
    undecided = [name for name in others if not math.isnan(against[name].p) and not beats(pairs, leader, name)]
    untested = [name for name in others if math.isnan(against[name].p)]
    beaten = [name for name in others if beats(pairs, leader, name)]
    extra = {name: more_seeds(against[name], levels[keys[name]]) for name in undecided}
    seeds = shown_seeds([test.num for test in against.values()])
    why = {"no spread": [], "one seed": [], "no seed": []}
    for name in untested:
        why[{0: "no seed", 1: "one seed"}.get(against[name].num, "no spread")].append(name)
    texts = {"no spread": "the same difference for every seed, so zero variance", "one seed": "one common seed"}
    texts["no seed"] = "no common seed"
    no_test = ";".join(f" between {leader} and {shown_names(n, 3)}: {texts[k]}" for k, n in why.items() if n)
    if beaten:
        rest = "the other option" if len(beaten) == 1 else f"the other {len(beaten)} options"
        parts = []
        if undecided:
            more = shown_more(max(extra.values()))
            parts.append(f"not distinguishable from {shown_names(undecided, 3)}{more}")
        parts += [f"no test is possible{no_test}"] if untested else []
        start = f"{leader} leads with {sweep.value(leader)}{',' if undecided else ';'} {'; '.join(parts)}"
        return f"{start}; it beats {rest} ({seeds}){sweep.failures(leader)}."
    equal = [name for name in others if abs(against[name].difference) < 1e-12]
    best = f"{leader} has the best mean, {sweep.value(leader)}"
    if equal:
        best = f"{shown_names([leader, *equal], 3)} share the best value, {sweep.value(leader)}"
    elif not undecided:
        best = best.replace("best mean", "best value")
    if all(test.num < 2 for test in against.values()):
        return f"One seed: no claim; {best.replace('best mean', 'best value')}; a test needs more seeds."
    if not undecided:
        return f"No claim: no test is possible{no_test} ({seeds}); {best}{sweep.failures(leader)}."
    compared = f"{leader} and {undecided[0]}" if len(undecided) == 1 else f"the {len(undecided) + 1} options"
    if 1 < len(undecided) < len(others):
        compared = f"{leader}, {shown_names(undecided, 3)}"
    more = shown_more(extra[undecided[0]])
    more += f" (for {undecided[0]})" if more and len(others) > 1 else ""
    more += f"; no test is possible{no_test}" if untested else ""
    return f"No winner: {compared} are not distinguishable ({seeds}){more}; {best}{sweep.failures(leader)}."


@dataclass
class Verdict:
    """The sentence, the option called best, and whether the sentence is that of the search for the best."""

    words: str
    winner: str | None
    by_search: bool


def best_of_all(sweep: Sweep) -> Verdict:
    """The verdict of a complete sweep on the question which option is best."""
    ranked = sweep.ranked()
    if len(ranked) == 1:
        only = ranked[0]
        return Verdict(f"Only {only} trained ({sweep.value(only)}): nothing to compare it with.", None, False)
    left, out = search(sweep.scores, sweep.sign, sweep.step, None, ranked)
    leader = next(name for name in ranked if name in left)
    others, pairs = [name for name in ranked if name != leader], sweep.pairs()
    found = {name: (test_of(out.get(name, out[None])[1], leader, name), out.get(name, out[None])[0]) for name in others}
    is_direct = all(test.difference > 0 and test.p <= level for test, level in found.values())
    by_pairs = all(beats(pairs, leader, name) for name in others)
    if len(left) == 1 and is_direct:
        return Verdict(sentence_of_a_winner(sweep, leader, found), leader, True)
    if by_pairs:
        tests, _, levels = pairs
        found = {
            name: (test_of(tests, leader, name), levels[(leader, name) if (leader, name) in tests else (name, leader)])
            for name in others
        }
        return Verdict(sentence_of_a_winner(sweep, leader, found), leader, False)
    if len(left) == 1:
        return Verdict(sentence_of_an_indirect_winner(sweep, leader, found), leader, True)
    return Verdict(sentence_of_all_pairs(sweep), None, False)


def best_of_race(sweep: Sweep, found: Race, series: Series) -> Verdict:
    """The verdict of a sweep that had a look after every seed. sweep: with the scores that it has got."""
    ranked = sweep.ranked()
    if len(found.left) == 1:
        leader = found.left[0]
        against, is_direct = {}, True
        for name in ranked:
            if name != leader:
                level, tests = found.out.get(name, found.out[None])[:2]
                test = test_of(tests, leader, name)
                against[name] = (test, series.nominal(level))
                is_direct &= test.difference > 0 and test.p <= level
        if not is_direct:
            return Verdict(sentence_of_an_indirect_winner(sweep, leader, against), leader, True)
        return Verdict(sentence_of_a_winner(sweep, leader, against), leader, True)
    seeds, _, leader, _ = found.rounds[-1]
    names = shown_names(sorted(found.left, key=lambda name: -sweep.sign * sweep.mean(name)), 4)
    gone = len(sweep.scores) - len(found.left)
    out = {0: "", 1: "; the other option is out of the race"}.get(
        gone, f"; the other {gone} options are out of the race"
    )
    best = f"{leader} has the best mean, {sweep.value(leader)}"
    return Verdict(f"No winner: {names} are not distinguishable ({seeds} seeds); {best}{out}.", None, True)


def better_than(sweep: Sweep, baseline: str) -> str:
    """Each option against the baseline, Holm over these pairs; in alphabetical order."""
    others = [name for name in sorted(sweep.scores) if name != baseline]
    tests = {name: paired_test(differences(sweep.scores, name, baseline, sweep.sign), sweep.step) for name in others}
    adjusted, levels = holm({name: test.p for name, test in tests.items()})

    def listed(names: list[str]) -> str:
        shown = []
        for name in names:
            one = tests[name]
            test = Test(abs(one.difference), one.num, one.variance, one.degrees, one.p)
            shown.append(f"{name} by {sweep.difference(test, levels[name])}")
        return "; ".join(shown)

    better = [name for name in others if adjusted[name] < ALPHA and tests[name].difference > 0]
    worse = [name for name in others if adjusted[name] < ALPHA and tests[name].difference < 0]
    rest = [name for name in others if name not in [*better, *worse]]
    parts = [
        f"Better than {baseline}: {listed(better)}" if better else f"No option is shown to be better than {baseline}"
    ]
    parts += [f"Worse: {listed(worse)}"] if worse else []
    parts += [f"Not distinguishable from it: {shown_names(rest, 6)}"] if rest else []
    return f"{'. '.join(parts)} ({shown_seeds([test.num for test in tests.values()])})."


def equivalent(sweep: Sweep, margin: float) -> tuple[dict, dict]:
    """The decision on each pair, and the Holm-adjusted p values of the two one-sided tests. margin: in the unit."""
    tests, p = all_tests(sweep.scores, sweep.sign, sweep.step), {}
    for pair, test in tests.items():
        error = math.sqrt(test.variance / test.num)
        lower = stats.t.sf((test.difference + margin) / error, test.degrees)
        upper = stats.t.cdf((test.difference - margin) / error, test.degrees)
        p[pair] = float(max(lower, upper))
    within, _ = holm(p)
    different, _ = holm({pair: test.p for pair, test in tests.items()})
    decisions = {}
    for pair in tests:
        decisions[pair] = "better" if different[pair] < ALPHA else "undecided"
        decisions[pair] = "equivalent" if within[pair] < ALPHA else decisions[pair]
    return decisions, within
