"""A run's figures are written as PNG files; an error in one does not fail the run."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mnistlab.evaluation import figures


def run_figures(**replaced) -> figures.RunFigures:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, 6, 5, 1)).astype(np.uint8)
    epochs = [{"loss": 1 / epoch, "val_loss": 1.5 / epoch, "accuracy": 0.5, "val_accuracy": 0.4} for epoch in (1, 2)]
    wrong = figures.WrongImages(images, ["a", "b", "a"], ["b", "a", "b"], np.array([0.9, 0.8, 0.7]))
    given = {"class_names": ["a", "b"], "confusion": np.array([[3, 1], [2, 4]]), "epochs": epochs, "best_epoch": 2}
    return figures.RunFigures(**{**given, "wrong": wrong, **replaced})


@pytest.mark.parametrize("augmented", [False, True])
def test_all_figures_are_written(tmp_path, augmented: bool) -> None:
    images = np.zeros((4, 6, 5, 3), np.uint8)
    version = figures.AugmentedImage(images[:1], images, "a $ name", {"rotation_range": 20}) if augmented else None
    figures.draw(tmp_path / "figures", run_figures(augmented=version))
    expected = {"confusion_matrix.png", "learning_curves.png", "wrong_images.png"}
    expected |= {"augmented_images.png"} if augmented else set()
    assert {file.name for file in (tmp_path / "figures").iterdir()} == expected
    for name in expected:
        with Image.open(tmp_path / "figures" / name) as image:
            assert min(image.size) > 200


def test_an_error_is_logged_with_its_traceback_in_a_file(tmp_path, caplog) -> None:
    wrong = figures.WrongImages(images=None, truth=["a"], predicted=["b"], confidence=[0.5])
    figures.draw(tmp_path / "figures", run_figures(confusion=None, epochs=[], best_epoch=None, wrong=wrong))
    assert "figures are missing" in caplog.text
    assert "Traceback" in (tmp_path / "figures" / "error.txt").read_text()
