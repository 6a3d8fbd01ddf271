"""Figures from plain arrays: each function returns a matplotlib `Figure` that the caller saves. No Keras here."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
MAX_ANNOTATED_CLASSES = 30


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str], title: str = "") -> Figure:
    """The confusion matrix as an annotated heatmap: rows truth, columns predicted (Part 5.1).

    The colour is the share of the row, so that rare errors of small classes show; the numbers are counts.
    """
    import seaborn

    classes = len(class_names)
    class_names = [_plain(name) for name in class_names]
    side = float(np.clip(1.8 + 0.52 * classes, 4.2, 18))
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    seaborn.heatmap(
        shares,
        annot=confusion if classes <= MAX_ANNOTATED_CLASSES else False,
        fmt="d",
        vmin=0,
        vmax=1,
        cmap="Blues",
        square=True,
        linewidths=0.5 if classes <= MAX_ANNOTATED_CLASSES else 0,
        xticklabels=list(class_names) if classes <= MAX_ANNOTATED_CLASSES else "auto",
        yticklabels=list(class_names) if classes <= MAX_ANNOTATED_CLASSES else "auto",
        annot_kws={"size": 9 if classes > 5 else 13},
        cbar_kws={"label": "share of the true class", "shrink": 0.8},
        ax=axes,
    )
    axes.set(xlabel="Predicted", ylabel="Truth", title=title)
    longest = max(len(name) for name in class_names)
    axes.tick_params(axis="x", rotation=45 if longest > 3 else 0)
    axes.tick_params(axis="y", rotation=0)
    if longest > 3:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    return figure


def learning_curves(epochs: Sequence[Mapping[str, float]], best_epoch: int | None, title: str = "") -> Figure:
    """Loss and accuracy (or the first other metric) per epoch: training dashed, validation solid, best epoch marked."""
    names = [name for name in epochs[0] if f"val_{name}" in epochs[0]] or ["loss"]
    shown = ["loss", *[name for name in names if name != "loss"][:1]]
    figure = Figure(figsize=(5.2 * len(shown), 4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(shown)))
    numbers = np.arange(1, len(epochs) + 1)
    for axes, name in zip(panels, shown, strict=True):
        for key, label, style, colour in (
            (name, "training", "--o", BLUE),
            (f"val_{name}", "validation", "-s", ORANGE),
        ):
            if key in epochs[0]:
                values = [row.get(key, np.nan) for row in epochs]
                axes.plot(numbers, values, style, color=colour, label=label, markersize=4)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", label=f"best epoch ({best_epoch})")
        axes.set(xlabel="Epoch", ylabel=name.capitalize(), title=f"{name.capitalize()} per epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    if title:
        figure.suptitle(title)
    return figure


def image_grid(images: np.ndarray, captions: Sequence[str], title: str = "", columns: int = 5) -> Figure:
    """Images, uint8 of shape (n, height, width, channels), each with a caption of one or two lines."""
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(2.0 * columns, 2.35 * rows + 0.5), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, image, caption in zip(panels, images, captions, strict=False):
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(caption, fontsize=9)
    if title:
        figure.suptitle(title)
    return figure


def wrong_images(images: np.ndarray, truth: Sequence[str], predicted: Sequence[str], confidence: np.ndarray) -> Figure:
    """The most confidently wrong test images with truth, prediction and confidence."""
    captions = [
        f"{_short(true)} taken for {_short(guess)}\n{share:.1%} sure"
        for true, guess, share in zip(truth, predicted, confidence, strict=True)
    ]
    title = "Most confidently wrong test images" if captions else "No test image was classified wrongly"
    return image_grid(images, captions, title)


def augmented_images(
    original: np.ndarray, versions: np.ndarray, label: str, augmentation: Mapping[str, object]
) -> Figure:
    """A training image, uint8 of shape (1, height, width, channels), and what augmentation makes of it."""
    captions = [f"{_short(label)}, as it is", *[""] * len(versions)]
    said = textwrap.fill(", ".join(f"{name}={value}" for name, value in augmentation.items()), 90)
    figure = image_grid(np.concatenate([original, versions]), captions)
    figure.suptitle(f"One training image, augmented\n{said}", fontsize=11)
    return figure


def _short(name: str, length: int = 12) -> str:
    return _plain(name if len(name) <= length else f"{name[: length - 1]}…")


def _plain(name: str) -> str:
    """A name that matplotlib does not take for a formula."""
    return name.replace("$", r"\$")
