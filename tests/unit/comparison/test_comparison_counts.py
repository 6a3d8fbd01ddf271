"""Accuracies are counts of right images: what they can show, and that equal options are not told apart by chance."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import scores_as_runs

from mnistlab.comparison.compare import compare
from mnistlab.comparison.records import RunRecord
from mnistlab.comparison.resolution import NUM_IMAGES, number_of_images, resolution
from mnistlab.comparison.statistics import compare_pairs, rounding_variance

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks.verdict_errors import NOISE, scores_of

SWEEPS = 400
ALLOWED = 0.05 + 2.58 * (0.05 * 0.95 / SWEEPS) ** 0.5  # 99.5 % of the simulations of an exact test


@pytest.mark.parametrize("number", [50, 100, 397, 400, 6_000, 10_000])
def test_the_number_of_images_follows_from_the_accuracies(number: int) -> None:
    counts = np.random.default_rng(number).integers(int(0.8 * number), number, 40)
    values = (counts.astype(np.float32) / np.float32(number)).astype(float)
    if len(np.unique(values)) >= 10:
        assert number_of_images(values) == number


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).random(30),
        np.log(np.arange(2, 40)) / 4,
        np.array([0.95, 0.9, 0.85, 0.8]),
        np.array([0.0, 1.0] * 10),
        np.array([np.nan] * 12),
    ],
    ids=["continuous", "a loss", "few values", "only 0 and 1", "missing"],
)
def test_without_evidence_there_is_no_number(values: np.ndarray) -> None:
    assert number_of_images(values) is None


def run(metrics: dict[str, float], history: list[float] = ()) -> RunRecord:
    return RunRecord("id", metrics=metrics, history={"val_accuracy": list(history)})


def test_a_run_s_own_number_comes_first_and_the_coarsest_counts() -> None:
    said = [
        run({"best_epoch_val_accuracy": 0.95, NUM_IMAGES: 400.0}),
        run({"best_epoch_val_accuracy": 0.9, NUM_IMAGES: 100.0}),
    ]
    assert resolution(said, "best_epoch_val_accuracy") == 1 / 100
    assert resolution(said, "best_epoch_val_loss") == 0.0
    epochs = [count / 200 for count in range(150, 170)]
    assert resolution([run({"best_epoch_val_accuracy": 0.85}, epochs)], "best_epoch_val_accuracy") == 1 / 200
    assert resolution([run({"best_epoch_val_accuracy": 0.85})], "best_epoch_val_accuracy") == 0.0


def test_differences_that_coincide_do_not_look_noiseless() -> None:
    """Two and three seeds with the same difference of two images: a t test with the variance of rounding."""
    for seeds in (2, 3):
        scores = np.array([[0.95] * seeds, [0.955] * seeds])
        tests = compare_pairs(scores, resolution=1 / 400)
        error = np.sqrt(2 * (1 / 400) ** 2 / 12 / seeds)
        assert tests.p[0] == pytest.approx(2 * stats.t.sf(0.005 / error, seeds - 1))
        assert not tests.significant[0] or seeds == 3
        assert np.isnan(compare_pairs(scores).p[0])
    assert rounding_variance(0.3) == pytest.approx(np.var(np.linspace(-0.15, 0.15, 100_001)), rel=1e-4)


def test_a_larger_variance_is_not_changed() -> None:
    scores = np.random.default_rng(0).normal(0.9, 0.02, (4, 5))
    assert np.array_equal(compare_pairs(scores).p, compare_pairs(scores, resolution=1 / 400).p)


def false_claims(noise: str, images: int, options: int, seeds: int, step: float) -> float:
    """The share of sweeps of equal options with a significant pair."""
    generator = np.random.default_rng([images, options, seeds, len(noise)])
    drawn = (scores_of(generator, noise, images, options, seeds) for _ in range(SWEEPS))
    return sum(compare_pairs(scores, resolution=step).significant.any() for scores in drawn) / SWEEPS


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("images", [50, 400])
@pytest.mark.parametrize(("options", "seeds"), [(6, 2), (6, 3), (10, 3)])
def test_equal_options_have_a_winner_at_most_once_in_twenty(noise: str, images: int, options: int, seeds: int) -> None:
    assert false_claims(noise, images, options, seeds, 1 / images) <= ALLOWED


def test_without_the_number_of_images_the_same_sweeps_would_have_one() -> None:
    assert false_claims("binomial 0.99", 50, 10, 3, 0.0) > 0.15


def test_the_comparison_takes_the_number_from_its_runs() -> None:
    records = scores_as_runs(np.array([[0.96, 0.96], [0.95, 0.95]]))
    told = [dataclasses.replace(record, metrics={**record.metrics, NUM_IMAGES: 100.0}) for record in records]
    found = compare(told, resamples=0)
    assert found.resolution == 0.01
    assert found.pairs[0].decision == "undecided"
    assert "shares of 100 images" in found.method
    assert "about new seeds on the same validation images" in found.method
    assert compare(records, resamples=0).pairs[0].decision == "no spread"
