"""Every number and word of a report equals a calculation of its own from the report's scores.csv and table.csv.

`independent_verdict` has that calculation, with NumPy and SciPy only.
"""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import independent_verdict as own
import numpy as np
import pytest
from scipy import stats
from synthetic_runs import make_sweep
from test_comparison_fairness import on_data

from mnistlab.comparison import compare, compare_by_data
from mnistlab.comparison.records import RunRecord
from mnistlab.comparison.report import write_report
from mnistlab.comparison.sequential import Looks

ACCURACY, LOSS = "best_epoch_val_accuracy", "best_epoch_val_loss"
SECONDS = 7.5  # of training, of each run
DATA = {"hash.data": "d0d0"}
LOOKS = Looks(3, 12)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def drawn(means: list[float], spread: float, seeds: int, number: int) -> np.ndarray:
    """Scores, shape (options, seeds)."""
    generator = np.random.default_rng(number)
    return np.array(means)[:, None] + spread * generator.normal(size=(len(means), seeds))


def records_of(scores: np.ndarray, objective: str, images: int = 0, failing: str = "failed") -> list[RunRecord]:
    """Runs of the options "ann", "bob", ...; of a NaN one that failed or diverged, or none ("missing")."""
    names = ("ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal")
    records = []
    for name, row in zip(names, scores, strict=False):
        for seed, value in enumerate(row):
            params = {"optimizer": name, "seed": seed, "source": "mnist_5k"}
            if math.isnan(value):
                if failing != "missing":
                    status, tags = ("FAILED", {}) if failing == "failed" else ("FINISHED", {"outcome": "diverged"})
                    records.append(RunRecord(f"{name}{seed}", params=params, status=status, tags={**tags, **DATA}))
                continue
            metrics = {objective: float(value), "train_seconds": SECONDS}
            metrics |= {"num_validation_images": float(images)} if images else {}
            records.append(RunRecord(f"{name}{seed}", params=params, metrics=metrics, tags=DATA))
    return records


def without(scores: np.ndarray, *cells: tuple[int, int]) -> np.ndarray:
    for cell in cells:
        scores[cell] = np.nan
    return scores


def counts(scores: np.ndarray, images: int) -> np.ndarray:
    return np.rint(scores * images) / images


TIED = np.array([[0.31, 0.30, 0.33], [0.31, 0.30, 0.33], [0.52, 0.55, 0.50]])
SEVEN = [0.971, 0.968, 0.9585, 0.958, 0.946, 0.927, 0.12]
SWEEPS = {
    "two options": (drawn([0.96, 0.95], 0.003, 5, 1), ACCURACY, 0, "failed"),
    "two options, no winner": (drawn([0.951, 0.95], 0.003, 5, 2), ACCURACY, 0, "failed"),
    "five options": (drawn([0.97, 0.96, 0.955, 0.95, 0.93], 0.002, 5, 3), ACCURACY, 0, "failed"),
    "five options, close ones": (drawn([0.97, 0.964, 0.963, 0.95, 0.93], 0.002, 5, 3), ACCURACY, 0, "failed"),
    "five options, a shared lead": (drawn([0.97, 0.9695, 0.955, 0.95, 0.93], 0.002, 5, 4), ACCURACY, 0, "failed"),
    "seven options on five seeds": (drawn(SEVEN, 0.001, 5, 5), ACCURACY, 0, "failed"),
    "seven options, no winner": (drawn([0.95] * 7, 0.003, 5, 6), ACCURACY, 0, "failed"),
    "seven options, one noisy": (
        drawn([0.95] * 7, 0.002, 5, 7) + np.eye(7)[:, :1] * drawn([0.02], 0.03, 5, 8),
        ACCURACY,
        0,
        "failed",
    ),
    "seven options, failed runs": (without(drawn(SEVEN, 0.002, 5, 9), (0, 1), (3, 3), (3, 4)), ACCURACY, 0, "failed"),
    "diverged runs": (without(drawn([0.96, 0.95, 0.94], 0.002, 5, 10), (0, 1), (0, 2)), ACCURACY, 0, "diverged"),
    "six options on two seeds": (drawn([0.97, 0.96, 0.955, 0.95, 0.94, 0.93], 0.0005, 2, 11), ACCURACY, 0, "failed"),
    "an option without a trained run": (
        without(drawn([0.97, 0.966, 0.95], 0.002, 5, 3), *((2, seed) for seed in range(5))),
        ACCURACY,
        0,
        "diverged",
    ),
    "unequal seeds": (
        without(
            drawn([0.97, 0.96, 0.955, 0.96], 0.003, 8, 12),
            (0, 7),
            (1, 6),
            (1, 7),
            (2, 0),
            *((3, s) for s in range(1, 8)),
        ),
        ACCURACY,
        0,
        "missing",
    ),
    "losses": (drawn([0.31, 0.325, 0.34], 0.004, 5, 13), LOSS, 0, "failed"),
    "losses, undecided": (drawn([0.0301, 0.0302, 0.0303], 0.0004, 4, 14), LOSS, 0, "failed"),
    "counts of 50 images": (counts(drawn([0.96, 0.95, 0.90, 0.7], 0.01, 3, 15), 50), ACCURACY, 50, "failed"),
    "counts of 400 images": (counts(drawn(SEVEN, 0.002, 5, 16), 400), ACCURACY, 400, "failed"),
    "ties": (TIED, LOSS, 0, "failed"),
    "one seed": (drawn([0.96, 0.95, 0.94], 0.003, 1, 17), ACCURACY, 0, "failed"),
}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sweep_of(folder: Path) -> own.Sweep:
    """From the two files alone."""
    table = read(folder / "table.csv")
    scores: dict[str, dict[int, float]] = {row["option"]: {} for row in table}
    for row in read(folder / "scores.csv"):
        scores[row["option"]][int(row["seed"])] = float(row["score"])
    failed = {row["option"]: int(row["num_failed"]) + int(row["num_diverged"]) for row in table}
    return own.Sweep(
        dict(sorted(scores.items())), failed, table[0]["objective"], float(table[0]["resolution"]), table[0]["data"]
    )


def write(folder: Path, records: list[RunRecord], objective: str, **asked: object) -> own.Sweep:
    found = compare(records, objective=objective, **asked)
    write_report(found, records, folder)
    return sweep_of(folder)


def markdown(folder: Path) -> str:
    return (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")


def cells(folder: Path, title: str) -> list[list[str]]:
    """The rows of the table below a title."""
    text = markdown(folder).split(f"### {title}", 1)[1].split("###", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


@pytest.fixture(scope="module", params=SWEEPS)
def reported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[own.Sweep, Path]:
    scores, objective, images, failing = SWEEPS[request.param]
    folder = tmp_path_factory.mktemp("report")
    return write(folder, records_of(scores, objective, images, failing), objective), folder


def test_the_scores_are_those_of_the_runs(tmp_path: Path) -> None:
    scores, objective, images, failing = SWEEPS["seven options, failed runs"]
    sweep = write(tmp_path, records_of(scores, objective, images, failing), objective)
    for name, row in zip(("ann", "bob", "cat", "dan", "eve", "fay", "gus"), scores, strict=True):
        assert sweep.scores[name] == {seed: value for seed, value in enumerate(row) if not math.isnan(value)}
    assert (sweep.failed["ann"], sweep.failed["dan"], sweep.failed["bob"]) == (1, 2, 0)


def test_the_verdict(reported: tuple[own.Sweep, Path]) -> None:
    sweep, folder = reported
    expected = own.best_of_all(sweep)
    answer = json.loads((folder / "comparison.json").read_text())["answer"]
    assert markdown(folder).splitlines()[0] == f"**{expected.words}**"
    assert (answer["winner"], answer["by_search"]) == (expected.winner, expected.by_search)


def test_the_ranking(reported: tuple[own.Sweep, Path]) -> None:
    sweep, folder = reported
    rows = {row["option"]: row for row in read(folder / "table.csv")}
    shown = {row[0]: row for row in cells(folder, "Ranking")}
    assert [name for name, row in rows.items() if row["mean"]] == sweep.ranked()
    assert [*rows] == [*shown]
    unit = 100 if sweep.is_accuracy else 1
    for name, row in rows.items():
        values = np.array([*sweep.scores[name].values()])
        assert int(row["num_seeds"]) == len(values)
        if len(values) == 0:
            assert (row["mean"], row["sd"], shown[name][1]) == ("", "", "-")
            continue
        assert float(row["mean"]) == pytest.approx(values.mean(), rel=1e-13)
        assert shown[name][1] == own.shown_value(values.mean(), sweep.is_accuracy)
        assert shown[name][4] == str(len(values))
        failed = sweep.failed[name]
        assert shown[name][5] == (f"{failed} of {len(values) + failed}" if failed else "0")
        if len(values) == 1:
            assert (row["sd"], row["interval_low"], shown[name][3]) == ("", "", "-")
            continue
        sd = stats.tstd(values)
        assert float(row["sd"]) == pytest.approx(sd, rel=1e-12)
        assert float(shown[name][3].removesuffix(" points")) == pytest.approx(unit * sd, rel=0.05)
        low, high = values.min(), values.max()
        if len(values) > 2 and high > low:
            settings = {"method": "BCa", "n_resamples": 2000, "rng": np.random.default_rng(0)}
            low, high = stats.bootstrap((np.sort(values),), np.mean, **settings).confidence_interval
        assert (float(row["interval_low"]), float(row["interval_high"])) == pytest.approx((low, high), rel=1e-12)
        ends = [own.shown_value(value, sweep.is_accuracy) for value in (low, high)]
        assert shown[name][2] == f"{ends[0].removesuffix(' %')} to {ends[1]}"


def test_all_pairs(reported: tuple[own.Sweep, Path]) -> None:
    sweep, folder = reported
    tests, adjusted, levels = pairs = sweep.pairs()
    rows = read(folder / "pairs.csv")
    assert len(rows) == len(tests)
    for row in rows:
        first, second = row["first"], row["second"]
        key = tuple(sorted((first, second)))
        test = own.test_of(tests, first, second)
        assert int(row["num_seeds"]) == test.num
        if math.isnan(test.p):
            expected = {0: "no shared seeds", 1: "one seed"}.get(test.num, "no spread")
            assert (row["p"], row["p_holm"], row["low"], row["decision"]) == ("", "", "", expected)
            continue
        half = test.half_width(levels[key])
        numbers = [test.difference, test.difference - half, test.difference + half, 1 - levels[key], test.p]
        measured = [float(row[name]) for name in ("advantage", "low", "high", "confidence", "p")]
        assert measured == pytest.approx(numbers, rel=1e-6, abs=1e-12)
        assert float(row["p_holm"]) == pytest.approx(adjusted[key], rel=1e-6)
        assert row["decision"] == ("better" if own.beats(pairs, first, second) else "undecided")
        if row["decision"] == "better":
            assert row["words"] == f"{first} beats {second} by {sweep.difference(test, levels[key])}"
            assert float(row["low"]) > 0
        else:
            more = own.shown_more(own.more_seeds(test, levels[key]))
            assert row["words"] == f"{first} and {second} are not distinguishable{more}"
            assert float(row["low"]) <= 0 <= float(row["high"])


def test_the_cells_of_all_pairs(reported: tuple[own.Sweep, Path]) -> None:
    sweep, folder = reported
    if "### All pairs" not in markdown(folder):
        assert all(test.num < 2 for test in sweep.pairs()[0].values())
        return
    tests, adjusted, levels = sweep.pairs()
    shown = cells(folder, "All pairs")
    assert len(shown) == len(tests)
    unit, points = (100, " points") if sweep.is_accuracy else (1, "")
    for row, (_, interval, p) in zip(read(folder / "pairs.csv"), shown, strict=True):
        key = tuple(sorted((row["first"], row["second"])))
        test = own.test_of(tests, row["first"], row["second"])
        if math.isnan(test.p):
            assert (interval, p) == ("-", "-")
            continue
        half = test.half_width(levels[key])
        ends = [unit * (test.difference - half), unit * (test.difference + half)]
        percent = f"{100 * (1 - levels[key]):.3g}"
        assert interval == f"{unit * test.difference:.3g}{points} [{ends[0]:.3g}, {ends[1]:.3g}] at {percent} %"
        assert p == (f"{adjusted[key]:.3f}" if adjusted[key] >= 0.001 else "< 0.001")


def test_the_table_of_the_question(reported: tuple[own.Sweep, Path]) -> None:
    """The pairs that a winner of the search rests on, each at the level at which it was tested."""
    sweep, folder = reported
    expected = own.best_of_all(sweep)
    if expected.winner is None:
        assert "### The question" not in markdown(folder)
        return
    _, out = own.search(sweep.scores, sweep.sign, sweep.step, None, sweep.ranked())
    all_pairs, _, levels = sweep.pairs()
    for _, _, p, level in cells(folder, "The question: which option is best"):
        assert p == "< 0.001" or float(p) <= float(level.removesuffix(" %")) / 100 + 0.0005
    pairs = json.loads((folder / "comparison.json").read_text())["answer"]["pairs"]
    assert [pair["second"] if pair["first"] == expected.winner else pair["first"] for pair in pairs] == [
        name for name in sweep.ranked() if name != expected.winner
    ]
    for pair in pairs:
        level, tests = out.get(pair["second"], out[None])[:2]
        if not expected.by_search:
            level, tests = levels[tuple(sorted((pair["first"], pair["second"])))], all_pairs
        test = own.test_of(tests, pair["first"], pair["second"])
        assert pair["p"] == pytest.approx(test.p, rel=1e-6)
        half = test.half_width(level)
        assert (pair["low"], pair["high"]) == pytest.approx((test.difference - half, test.difference + half), rel=1e-6)
        assert pair["confidence"] == pytest.approx(1 - level)


def paragraph_of(sweep: own.Sweep, verdict: own.Verdict, tests: str, looks: str = "") -> str:
    """For a paper: its sentences, from the scores."""
    numbers = sorted({len(sweep.scores[name]) for name in sweep.ranked()})
    repeats = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    unit, sign = (100, " %") if sweep.is_accuracy else (1, "")
    listed = []
    for name in sweep.ranked():
        values = [*sweep.scores[name].values()]
        sd = f" ± {unit * np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
        listed.append(f"{name} {own.shown_value(np.mean(values), sweep.is_accuracy).removesuffix(' %')}{sd}{sign}")
    text = (
        f"We compared {len(sweep.scores)} options of optimizer on {sweep.data}, each trained with {repeats} random "
        f"seed{'' if repeats == '1' else 's'}; runs with the same seed share initial weights and the order of the "
        f"batches. "
        f"{sweep.objective} on the validation set (mean ± standard deviation over seeds): {'; '.join(listed)}. "
        f"{verdict.words}"
    )
    if tests:
        text += (
            f" {tests}, which assumes that the differences are about normal; each interval has the level of its test."
            f"{looks} The claims are about new seeds on the same split of the data; the test set was not used."
        )
    failed = sum(sweep.failed.values())
    if failed:
        text += f" {failed} runs failed or diverged; they are not in the means."
    return text


SEARCHED = (
    "The best option was searched for by {}: an option is beaten if another one is better at the one-sided level "
    "5 % / m, with m options that are not beaten yet (probability to call an option best that is not: at most 5 %)"
)
PAIRED = "Differences were tested by {} with Holm's correction over all pairs (family-wise error rate 5 %)"


def test_the_paragraph_for_a_paper(reported: tuple[own.Sweep, Path]) -> None:
    sweep, folder = reported
    verdict = own.best_of_all(sweep)
    how = "paired t tests over seeds"
    how += " with variances shrunk towards the typical one (moderated t)" if len(sweep.scores) >= 6 else ""
    tests = (SEARCHED if verdict.by_search else PAIRED).format(how)
    if all(math.isnan(test.p) for test in sweep.pairs()[0].values()):
        tests = ""
    text = markdown(folder).split("### For a paper\n\n")[1].split("\n\n")[0]
    assert text == paragraph_of(sweep, verdict, tests)


def test_what_one_more_hour_would_show(reported: tuple[own.Sweep, Path]) -> None:
    """Of a pair that differs, its interval; else, a difference that the noncentral t distribution gives a power of
    about 80 %."""
    sweep, folder = reported
    found = re.search(
        r"One more hour of training gives (\w+) and (\w+) about (\d+) more seeds each; (.*)", markdown(folder)
    )
    tests, _, levels = pairs = sweep.pairs()
    if all(math.isnan(test.p) for test in tests.values()):
        assert found is None
        return
    first, second, more, rest = found.groups()
    assert int(more) == int(3600 / (2 * SECONDS))
    verdict = own.best_of_all(sweep)
    level = levels[tuple(sorted((first, second)))]
    if verdict.by_search:
        level = own.search(sweep.scores, sweep.sign, sweep.step, None, sweep.ranked())[1].get(second, (level,))[0]
    test = own.paired_test(own.differences(sweep.scores, first, second, sweep.sign), sweep.step)
    total = test.num + int(more)
    critical = stats.t.ppf(1 - level / 2, total - 1)
    unit = 100 if sweep.is_accuracy else 1
    shown = float(NUMBER.search(rest)[0]) / unit
    error = math.sqrt(test.variance / total)
    if verdict.winner or own.beats(pairs, first, second):
        assert "the interval of their difference would shrink to about ±" in rest
        assert shown == pytest.approx(critical * error, rel=0.05)
    else:
        assert rest.endswith("would be found with a probability of 80 %.")
        assert stats.nct.sf(critical, total - 1, shown / error) == pytest.approx(0.8, abs=0.06)


SERIES = own.Series(LOOKS.first, LOOKS.last)
RACES = {
    "a clear winner": (drawn([0.97, 0.95, 0.93], 0.002, 12, 21), ACCURACY, 0),
    "a late winner": (drawn([0.97, 0.964, 0.95, 0.90], 0.003, 12, 28), ACCURACY, 0),
    "seven options": (drawn(SEVEN, 0.002, 12, 23), ACCURACY, 0),
    "no winner": (drawn([0.95, 0.95, 0.90], 0.003, 12, 26), ACCURACY, 0),
    "losses": (drawn([0.30, 0.33, 0.36], 0.01, 12, 25), LOSS, 0),
    "counts": (counts(drawn([0.97, 0.95, 0.85], 0.008, 12, 26), 400), ACCURACY, 400),
    "failed runs": (without(drawn([0.97, 0.96, 0.93], 0.003, 12, 27), (0, 1), (1, 4), (2, 0)), ACCURACY, 0),
}


def same_but_for_simulation(text: str, expected: str) -> bool:
    """The same words; numbers of the last digit, or of 3 %, may differ: both levels come from simulations."""
    if NUMBER.sub("#", text) != NUMBER.sub("#", expected):
        return False
    for one, other in zip(NUMBER.findall(text), NUMBER.findall(expected), strict=True):
        digit = 10.0 ** -len(one.partition(".")[2])
        if abs(float(one) - float(other)) > max(1.01 * digit if "." in one else 0, 0.03 * abs(float(other))):
            return False
    return True


@pytest.mark.parametrize("case", RACES)
def test_a_sweep_until_a_verdict(case: str, tmp_path: Path) -> None:
    """The calculation decides which options get further seeds; the report must come to the same rounds."""
    scores, objective, images = RACES[case]
    complete: dict[str, dict[int, float]] = {}
    for record in records_of(scores, objective, images):
        of_option = complete.setdefault(record.params["optimizer"], {})
        of_option |= {record.seed: record.metrics[objective]} if record.metrics else {}
    race = own.race(complete, -1.0 if objective == LOSS else 1.0, 1 / images if images else 0.0, SERIES)
    records = []
    for record in records_of(scores, objective, images):
        name, seed = record.params["optimizer"], record.seed
        last = next((count for count, _, _, left in race.rounds if name not in left), race.rounds[-1][0])
        records += [record] if seed < last else []
    sweep = write(tmp_path / "race", records, objective, resamples=0, looks=LOOKS)
    assert sweep.scores == race.seen
    answer = json.loads((tmp_path / "race" / "comparison.json").read_text())["answer"]
    assert [
        (
            one["num_seeds"],
            one["num_runs"],
            one["leader"],
            sorted(standing["option"] for standing in one["standings"] if standing["open"]),
        )
        for one in answer["rounds"]
    ] == race.rounds
    verdict = own.best_of_race(sweep, race, SERIES)
    assert answer["winner"] == verdict.winner
    assert (verdict.winner is None) == (case == "no winner")
    shown = markdown(tmp_path / "race").splitlines()[0]
    assert same_but_for_simulation(shown, f"**{verdict.words}**"), (shown, verdict.words)
    for pair in answer["pairs"] if verdict.winner else []:
        level, tests = race.out.get(pair["second"], race.out[None])[:2]
        test = own.test_of(tests, pair["first"], pair["second"])
        half = test.half_width(SERIES.nominal(level))
        assert pair["p"] == pytest.approx(test.p, rel=0.1, abs=5e-4)
        assert pair["advantage"] == pytest.approx(test.difference)
        assert (pair["high"] - pair["low"]) / 2 == pytest.approx(half, rel=0.03)
    tests, adjusted, _ = sweep.pairs(SERIES)
    for row in read(tmp_path / "race" / "pairs.csv"):
        key = tuple(sorted((row["first"], row["second"])))
        assert float(row["p_holm"]) == pytest.approx(adjusted[key], rel=0.1, abs=2e-3)
    looks = (
        f" The options were compared after every seed from 3 to {race.rounds[-1][0]}, with levels that allow for it."
    )
    text = markdown(tmp_path / "race").split("### For a paper\n\n")[1].split("\n\n")[0]
    expected = paragraph_of(sweep, verdict, SEARCHED.format("paired t tests over seeds"), looks)
    assert same_but_for_simulation(text, expected), (text, expected)


@pytest.mark.parametrize(
    ("case", "baseline"),
    [
        ("five options", "cat"),
        ("seven options, failed runs", "bob"),
        ("losses", "ann"),
        ("counts of 400 images", "gus"),
    ],
)
def test_the_question_which_options_differ_from_a_baseline(case: str, baseline: str, tmp_path: Path) -> None:
    scores, objective, images, failing = SWEEPS[case]
    records = records_of(scores, objective, images, failing)
    sweep = write(tmp_path, records, objective, question=f"better_than:{baseline}", resamples=0)
    assert markdown(tmp_path).splitlines()[0] == f"**{own.better_than(sweep, baseline)}**"
    text = markdown(tmp_path).split("### For a paper\n\n")[1].split("\n\n")[0]
    tests = f"Differences from {baseline} were tested by paired t tests over seeds with Holm's correction"
    assert f"{tests} (family-wise error rate 5 %), which assumes" in text


@pytest.mark.parametrize(("case", "margin"), [("five options", 1.5), ("seven options, no winner", 1), ("losses", 0.03)])
def test_the_question_which_options_are_equivalent(case: str, margin: float, tmp_path: Path) -> None:
    scores, objective, images, failing = SWEEPS[case]
    records = records_of(scores, objective, images, failing)
    sweep = write(tmp_path, records, objective, question=f"equivalent:{margin}", resamples=0)
    decisions, p_holm = own.equivalent(sweep, margin / 100 if sweep.is_accuracy else margin)
    assert {"equivalent"} <= {*decisions.values()}
    tests = own.all_tests(sweep.scores, sweep.sign, sweep.step)
    different, levels = own.holm({pair: test.p for pair, test in tests.items()})
    for pair in json.loads((tmp_path / "comparison.json").read_text())["answer"]["pairs"]:
        key = tuple(sorted((pair["first"], pair["second"])))
        assert pair["decision"] == decisions[key]
        is_different = pair["decision"] == "better"
        assert pair["p_holm"] == pytest.approx((different if is_different else p_holm)[key], rel=1e-6)
        test = own.test_of(tests, pair["first"], pair["second"])
        assert pair["advantage"] == pytest.approx(test.difference)
        if is_different:
            assert pair["low"] == pytest.approx(test.difference - test.half_width(levels[key]), rel=1e-6)
        elif pair["decision"] == "equivalent":
            assert -margin < pair["low"] and pair["high"] < (margin / 100 if sweep.is_accuracy else margin)
    for _, _, p, level in cells(tmp_path, "The question: which options are equivalent"):
        assert float(level.removesuffix(" %")) <= 5
        assert p
    unit = (" point" if margin == 1 else " points") if sweep.is_accuracy else ""
    verdict = markdown(tmp_path).splitlines()[0]
    assert f"within {margin:g}{unit}" in verdict
    for decision, title in (("equivalent", "quivalent"), ("better", "Different: "), ("undecided", "Undecided: ")):
        assert (title in verdict) == (decision in decisions.values())


def test_further_data_sets_have_their_own_scores(tmp_path: Path) -> None:
    records = make_sweep(["adam", "sgd"], 3) + on_data(make_sweep(["adam", "sgd"], 3), "f1f1", "fashion_mnist")
    compared = compare_by_data(records, ["optimizer", "source"], resamples=0)
    write_report(compared, records, tmp_path)
    for prefix, one in zip(("", "data2-"), compared, strict=True):
        rows = read(tmp_path / f"{prefix}scores.csv")
        assert [(row["option"], int(row["seed"]), float(row["score"])) for row in rows] == [
            (option.name, seed, score)
            for option in one.options
            for seed, score in zip(option.seeds, option.scores, strict=True)
        ]
