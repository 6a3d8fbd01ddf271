"""Two models compared image by image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mnistlab.comparison.paired_images import compare_on_images


def right(num_images: int, *ranges: tuple[int, int]) -> np.ndarray:
    """True in these half-open ranges."""
    found = np.zeros(num_images, bool)
    for start, stop in ranges:
        found[start:stop] = True
    return found


def test_the_images_that_one_model_alone_has_right_decide() -> None:
    # 100 images: both 80, only the first 12, only the second 3, none 5
    pair = compare_on_images(right(100, (0, 92)), right(100, (0, 80), (92, 95)))
    assert (pair.first, pair.second, pair.only_first, pair.only_second) == (0.92, 0.83, 12, 3)
    assert pair.difference == pytest.approx(0.09)
    expected = 2 * sum(math.comb(15, count) for count in range(4)) / 2**15  # McNemar, exact
    assert pair.p == pytest.approx(expected) == pytest.approx(0.03515625)
    assert pair.first_is_better and not pair.second_is_better
    # Clopper-Pearson for 12 of 15: 0.5191 to 0.9567
    assert (pair.low, pair.high) == (pytest.approx(0.15 * 0.0382, abs=2e-5), pytest.approx(0.15 * 0.9134, abs=2e-5))
    assert pair.in_words() == "92.00 % against 83.00 %: +9.00 points [+0.57, +13.70] on 100 images (p = 0.035)"
    turned = compare_on_images(right(100, (0, 80), (92, 95)), right(100, (0, 92)))
    assert (turned.difference, turned.p, turned.low) == (-pair.difference, pair.p, pytest.approx(-pair.high))
    assert turned.second_is_better and not turned.first_is_better


@pytest.mark.parametrize("only_first", range(13))
def test_the_interval_excludes_zero_exactly_where_the_test_rejects(only_first: int) -> None:
    pair = compare_on_images(right(50, (0, only_first)), right(50, (only_first, 12)))
    assert (pair.p < 0.05) == (pair.low > 0 or pair.high < 0)
    assert pair.low - 1e-12 <= pair.difference <= pair.high + 1e-12


def test_equal_predictions_and_few_images_give_no_claim() -> None:
    same = compare_on_images(right(40, (0, 30)), right(40, (0, 30)))
    assert (same.p, same.difference, same.low, same.high) == (1.0, 0.0, 0.0, 0.0)
    few = compare_on_images(right(40, (0, 35)), right(40, (0, 30)))
    assert few.p == pytest.approx(2 / 2**5) and not few.first_is_better


def test_equal_models_are_claimed_to_differ_in_at_most_five_of_a_hundred_comparisons() -> None:
    generator = np.random.default_rng(0)
    claims = sum(compare_on_images(*(generator.random((2, 400)) < 0.95)).p < 0.05 for _ in range(500))
    assert 0 < claims <= 25


@pytest.mark.parametrize(("first", "second"), [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_other_shapes_are_refused(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have one entry an image"):
        compare_on_images(np.ones(first, bool), np.ones(second, bool))
