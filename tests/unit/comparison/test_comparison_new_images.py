"""Claims about new images: the variance between seeds and between images, told apart and added."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import make_sweep

from mnistlab.comparison import compare
from mnistlab.comparison.new_images import on_new_images
from mnistlab.comparison.report import write_report


def with_correct(records, answers):
    """answers: option -> bool (seeds, images)."""
    found = []
    for run in records:
        correct = answers[run.params["optimizer"]][run.seed]
        accuracy = {"best_epoch_val_accuracy": float(correct.mean()), "num_validation_images": float(len(correct))}
        predictions = {"validation_correct": np.packbits(correct)}
        found.append(dataclasses.replace(run, metrics={**run.metrics, **accuracy}, predictions=predictions))
    return found


def answers_of(generator, share, seeds, images, difficulty=0.0):
    """Right with this probability; `difficulty` spreads it over the images."""
    shares = np.clip(share + difficulty * generator.normal(size=images), 0, 1)
    return generator.random((seeds, images)) < shares


def groups_of(answers):
    records = with_correct(make_sweep(sorted(answers), len(next(iter(answers.values())))), answers)
    return {name: [run for run in records if run.params["optimizer"] == name] for name in answers}


def test_the_variance_is_that_between_seeds_plus_that_between_images():
    generator = np.random.default_rng(0)
    answers = {"adam": answers_of(generator, 0.95, 5, 403), "sgd": answers_of(generator, 0.90, 5, 403)}
    groups = groups_of(answers)
    found = on_new_images(groups["adam"], groups["sgd"], ("adam", "sgd"), 0.05)
    table = answers["adam"].astype(float) - answers["sgd"].astype(float)
    by_seed, by_image = table.mean(axis=1).var(ddof=1) / 5, table.mean(axis=0).var(ddof=1) / 403
    degrees = (by_seed + by_image) ** 2 / (by_seed**2 / 4 + by_image**2 / 402)
    half = stats.t.isf(0.025, degrees) * math.sqrt(by_seed + by_image)
    assert (found.num_seeds, found.num_images) == (5, 403)
    assert found.difference == pytest.approx(table.mean())
    assert (found.low, found.high) == pytest.approx((table.mean() - half, table.mean() + half))
    assert found.seed_share == pytest.approx(by_seed / (by_seed + by_image))


def test_new_images_make_the_interval_wider_where_images_differ():
    """The same few images tell the options apart for every seed: certain for these images, not for others."""
    answers = {"adam": np.ones((5, 50), bool), "sgd": np.ones((5, 50), bool)}
    answers["sgd"][:, :3] = False
    answers["sgd"][0, 4] = False
    records = with_correct(make_sweep(["adam", "sgd"], 5), answers)
    found = compare(records, resamples=0)
    assert found.verdict.startswith("adam beats sgd by ")
    assert found.new_images.startswith("For new images as well as new seeds, adam and sgd are not distinguishable: ")
    assert found.new_images.endswith(" % of the uncertainty is due to the images")


def test_claims_about_new_images_are_wrong_at_most_once_in_twenty():
    """Equal options whose images differ in difficulty: 400 sweeps of five seeds on fresh images."""
    generator, claims = np.random.default_rng(1), 0
    for _ in range(400):
        answers = {name: answers_of(generator, 0.9, 5, 200, 0.1) for name in ("adam", "sgd")}
        groups = groups_of(answers)
        found = on_new_images(groups["adam"], groups["sgd"], ("adam", "sgd"), 0.05)
        claims += not found.low <= 0 <= found.high
    assert claims / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_without_recorded_answers_nothing_is_said(tmp_path):
    assert compare(make_sweep(["adam", "sgd"], 3), resamples=0).new_images == ""
    generator = np.random.default_rng(2)
    answers = {"adam": answers_of(generator, 0.97, 5, 400), "sgd": answers_of(generator, 0.8, 5, 400)}
    records = with_correct(make_sweep(["adam", "sgd"], 5), answers)
    found = compare(records, resamples=0)
    assert found.new_images.startswith("For new images, too, not only new seeds: adam beats sgd by ")
    assert compare(records, objective="best_epoch_val_loss", resamples=0).new_images == ""
    write_report(found, records, tmp_path)
    assert found.new_images in (tmp_path / "report.md").read_text().replace("\\_", "_")
