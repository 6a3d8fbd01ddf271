"""A run's figures are written as PNG files; an error in one does not fail the run."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from mnistlab.evaluation import drawing, figures

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (3, 6, 5, 1)).astype(np.uint8)
EPOCHS = [{"loss": 1 / epoch, "val_loss": 1.5 / epoch, "accuracy": 0.5, "val_accuracy": 0.4} for epoch in (1, 2)]
SHOWN = {
    "confusion_matrix": (np.array([[3, 1], [2, 4]]), ["a", "b"], "Test images"),
    "learning_curves": (EPOCHS, 2),
    "wrong_images": (IMAGES, ["a", "b", "a"], ["b", "a", "b"], np.array([0.9, 0.8, 0.7])),
    "augmented_images": (IMAGES[:1], IMAGES, "a $ name", {"rotation_range": 20}),
}


def test_each_figure_is_written_under_its_name(tmp_path) -> None:
    drawing.draw(tmp_path / "figures", SHOWN)
    assert {file.stem for file in (tmp_path / "figures").iterdir()} == set(SHOWN)
    for name in SHOWN:
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert min(image.size) > 200


def test_the_learning_curves_mark_the_epoch_that_counts() -> None:
    for reported in ("best", "last"):
        axes = figures.learning_curves(EPOCHS, 2, reported=reported).axes[0]
        assert axes.get_legend_handles_labels()[1] == ["training", "validation", f"{reported} epoch (2)"]
        assert list(axes.lines[-1].get_xdata()) == [2, 2]


def test_a_learning_rate_that_changes_has_a_panel() -> None:
    def panels(*rates: float) -> list:
        rows = [{**row, "learning_rate": rate} for row, rate in zip(EPOCHS, rates, strict=True)]
        return figures.learning_curves(rows, 2).axes

    assert len(panels(0.1, 0.1)) == 2
    last = panels(0.1, 0.02)[2]
    assert last.get_title() == "Learning rate at the end of each epoch"
    assert list(last.lines[0].get_ydata()) == [0.1, 0.02]


def test_an_error_is_logged_with_its_traceback_in_a_file(tmp_path, caplog) -> None:
    drawing.draw(tmp_path / "figures", {**SHOWN, "confusion_matrix": (None, ["a", "b"])})
    assert "figures are missing" in caplog.text
    assert "Traceback" in (tmp_path / "figures" / "error.txt").read_text()


@contextlib.contextmanager
def small_files_only(num_bytes: int) -> Iterator[None]:
    """The system refuses larger files, as a full disk does."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_figure_for_which_there_is_no_room_is_not_there_in_part(tmp_path, caplog) -> None:
    with small_files_only(12_000):
        drawing.draw(tmp_path / "figures", SHOWN)
    assert "File too large" in caplog.text
    for file in (tmp_path / "figures").iterdir():
        assert file.suffix in (".png", ".txt")
        if file.suffix == ".png":
            with Image.open(file) as image:
                image.load()


@pytest.mark.parametrize("number", [1, 2, 10, 30, 300])
def test_the_axis_of_the_epochs_has_whole_numbers_from_1(number: int) -> None:
    epochs = [
        {"loss": 1 / epoch, "val_loss": 1.5 / epoch, "learning_rate": 1 / epoch} for epoch in range(1, number + 1)
    ]
    figure = figures.learning_curves(epochs, 1)
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert low < 1 <= number < high
        assert shown and all(tick >= 1 and tick == round(tick) for tick in shown)
