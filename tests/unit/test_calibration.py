"""Expected calibration error, its bins and its interval, against values by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from mnistlab.evaluation.calibration import NUM_BINS, bin_numbers, calibration


def test_the_upper_edge_belongs_to_a_bin() -> None:
    confidence = np.array([0.0, 1 / 15, 0.0667, 3 / 15, 0.2001, 14 / 15, 0.99, 1.0])
    assert bin_numbers(confidence).tolist() == [0, 0, 1, 2, 3, 13, 14, 14]


def test_the_errors_by_hand() -> None:
    """Four images above 14/15 with three right, one at 0.5 that is right, one at 0.48 (the same bin) that is wrong."""
    confidence = np.array([0.95, 0.96, 0.97, 1.0, 0.5, 0.48])
    found = calibration(confidence, np.array([1, 1, 1, 0, 1, 0], bool))
    assert found.counts.tolist() == [0] * 7 + [2] + [0] * 6 + [4]
    assert found.accuracy[[7, 14]] == pytest.approx([0.5, 0.75])
    assert found.confidence[[7, 14]] == pytest.approx([0.49, 0.97])
    assert np.isnan(found.accuracy[0]) and np.isnan(found.confidence[0])
    assert found.expected_error == pytest.approx(2 / 6 * 0.01 + 4 / 6 * 0.22)
    assert found.max_error == pytest.approx(0.22)
    assert found.mean_confidence == pytest.approx(4.86 / 6)
    assert found.mean_accuracy == pytest.approx(4 / 6)
    assert [row["images"] for row in found.bins()] == [2, 4]
    assert found.bins()[1] == pytest.approx(
        {"above": 14 / NUM_BINS, "to": 1.0, "images": 4, "mean_confidence": 0.97, "accuracy": 0.75}
    )
    assert found.metrics()["expected_calibration_error"] == found.expected_error


def test_a_model_that_is_always_sure_and_half_right_is_overconfident() -> None:
    found = calibration(np.ones(400), np.arange(400) % 2 == 0)
    assert found.expected_error == found.max_error == 0.5
    assert found.chance_error == 0.0
    assert 0.44 < found.low < 0.5 < found.high < 0.56
    assert found.sentence.startswith("overconfident: its mean confidence is 1.0000, its accuracy 0.5000")


def test_a_right_model_that_is_always_sure_has_no_error() -> None:
    found = calibration(np.ones(10, np.float32), np.ones(10, bool))
    assert (found.expected_error, found.max_error, found.low, found.high) == (0, 0, 0, 0)
    assert found.sentence.startswith("no miscalibration seen")


def test_one_image_is_enough() -> None:
    found = calibration(np.array([0.7]), np.array([True]))
    assert found.expected_error == pytest.approx(0.3)
    assert found.low == 0 and found.num_images == 1


@pytest.mark.parametrize(("over", "least"), [(0.0, 22), (0.1, 20)], ids=["calibrated", "overconfident"])
def test_the_interval_has_the_true_error(over: float, least: int) -> None:
    """About 90 % is expected. Of a calibrated model the percentile interval would never have it."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(25):
        confidence = generator.uniform(0.5, 1, 500)
        found = calibration(confidence, generator.random(500) < confidence - over)
        hits += found.low <= over <= found.high
    assert hits >= least


def test_it_depends_on_nothing_but_its_arguments() -> None:
    confidence, right = np.linspace(0.3, 1, 50), np.arange(50) % 3 > 0
    first, second = calibration(confidence, right), calibration(confidence, right)
    assert first.metrics() == second.metrics()
