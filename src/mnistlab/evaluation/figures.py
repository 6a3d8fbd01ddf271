"""Figures from plain arrays. Each function returns a matplotlib `Figure` that the caller saves. Uses no Keras."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
MAX_ANNOTATED_CLASSES = 30


def confusion_matrix(confusion: np.ndarray, class_names: Sequence[str], title: str = "") -> Figure:
    """The confusion matrix as an annotated heatmap: rows truth, columns predicted (Part 5.1).

    The colour is the share of the row, so that rare errors of small classes show; the numbers are counts.
    """
    classes = len(class_names)
    class_names = [plain(name) for name in class_names]
    few = classes <= MAX_ANNOTATED_CLASSES
    side = float(np.clip(0.5 * classes, 2.4, 15))  # inches of the matrix itself
    longest = max(len(name) for name in class_names) if few else 3
    room = 0.55 + 0.085 * min(longest, 24)  # inches for the class names
    figure, axes = figure_in_inches(side, side, left=room, bottom=room, right=1.1, top=0.4)
    box = axes.get_position()
    scale = figure.add_axes((1 - 0.85 / figure.get_figwidth(), box.y0, 0.15 / figure.get_figwidth(), 0.85 * box.height))
    every = "auto" if few else max(1, classes // 20)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    seaborn.heatmap(
        shares,
        annot=confusion if few else False,
        fmt="d",
        vmin=0,
        vmax=1,
        cmap="Blues",
        linewidths=0.5 if few else 0,
        xticklabels=[short(name, 24) for name in class_names] if few else every,
        yticklabels=[short(name, 24) for name in class_names] if few else every,
        annot_kws={"size": 9 if classes > 5 else 13},
        cbar_kws={"label": "share of the true class"},
        cbar_ax=scale,
        ax=axes,
    )
    axes.set(xlabel="Predicted", ylabel="Truth", title=title)
    axes.tick_params(axis="x", rotation=45 if longest > 3 else 0)
    axes.tick_params(axis="y", rotation=0)
    for label in axes.get_xticklabels() if longest > 3 else ():
        label.set(ha="right", rotation_mode="anchor")
    return figure


def figure_in_inches(
    width: float, height: float, *, left: float, bottom: float, right: float, top: float
) -> tuple[Figure, Axes]:
    """A figure with axes of this size and these margins, all in inches: layout engines take longer than the drawing."""
    figure = Figure(figsize=(left + width + right, bottom + height + top))
    total_width, total_height = figure.get_size_inches()
    axes = figure.add_axes((left / total_width, bottom / total_height, width / total_width, height / total_height))
    return figure, axes


def learning_curves(
    epochs: Sequence[Mapping[str, float]], best_epoch: int | None, title: str = "", reported: str = "best"
) -> Figure:
    """Loss and accuracy (or the first other metric) per epoch: training dashed, validation solid, best epoch marked.

    The learning rate, that of each epoch's last step, is beside them if it changed.
    reported: 'best' or 'last', the epoch that `best_epoch` is.
    """
    names = [name for name in epochs[0] if f"val_{name}" in epochs[0]] or ["loss"]
    shown = ["loss", *[name for name in names if name != "loss"][:1]]
    rates = [row.get("learning_rate", np.nan) for row in epochs]
    num_panels = len(shown) + (len(set(rates)) > 1)
    figure = Figure(figsize=(5.2 * num_panels, 4))
    figure.subplots_adjust(left=0.15 / num_panels, right=0.98, bottom=0.13, top=0.88, wspace=0.25)
    panels = np.atleast_1d(figure.subplots(1, num_panels))
    numbers = np.arange(1, len(epochs) + 1)
    if num_panels > len(shown):
        panels[-1].plot(numbers, rates, "-o", color=BLUE, markersize=4)
        panels[-1].set(xlabel="Epoch", ylabel="Learning rate", title="Learning rate at the end of each epoch", ylim=0)
        panels[-1].grid(alpha=0.3)
    for axes, name in zip(panels, shown, strict=False):
        for key, label, style, colour in ((name, "training", "--o", BLUE), (f"val_{name}", "validation", "-s", ORANGE)):
            if key in epochs[0]:
                values = [row.get(key, np.nan) for row in epochs]
                axes.plot(numbers, values, style, color=colour, label=label, markersize=4)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", label=f"{reported} epoch ({best_epoch})")
        axes.set(xlabel="Epoch", ylabel=name.capitalize(), title=f"{name.capitalize()} per epoch")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    for axes in panels:
        axes.xaxis.get_major_locator().set_params(integer=True)
        margin = 0.04 * len(epochs) if len(epochs) > 1 else 0.5
        axes.set_xlim(max(0.5, 1 - margin), len(epochs) + margin)  # there is no epoch 0
        if len(epochs) == 1:
            axes.set_xticks([1])
    if title:
        figure.suptitle(title)
    return figure


def image_grid(
    images: np.ndarray,
    captions: Sequence[str],
    title: str = "",
    columns: int = 5,
    cmap: str = "gray_r",
    *,
    cell: float = 1.7,
    font_size: float = 8,
    bottom: float = 0.1,
) -> Figure:
    """Images, uint8 of shape (n, height, width, channels), each with a caption of one or two lines above it.

    cmap: of grey images; 'gray_r' shows light strokes on black as ink on paper, 'gray' shows them as they are;
    cell: width of an image with its gap, in inches; bottom: height of the lower margin, in inches.

    One picture with text on it, not a panel for each image, which would take ten times as long to draw.
    """
    count, height, width = images.shape[:3]
    rows = max(1, -(-count // columns))
    gap = 0.12 * width  # between the columns, in pixels of an image
    cell_width = width + gap
    inches = cell / cell_width
    lines = max((1 + caption.count("\n") for caption in captions), default=1) if any(captions) else 0
    above = (0.16 + 0.15 * lines if lines else 0.07) / inches  # for the caption
    cell_height = height + above
    top = 0.2 + 0.2 * (1 + title.count("\n")) if title else 0.1
    figure, axes = figure_in_inches(
        columns * cell, rows * cell_height * inches, left=0.1, bottom=bottom, right=0.1, top=top
    )
    axes.set(xlim=(0, columns * cell_width), ylim=(rows * cell_height, 0))
    axes.set_axis_off()
    for number, (image, caption) in enumerate(zip(images, captions, strict=False)):
        left, top = number % columns * cell_width + gap / 2, number // columns * cell_height + above
        axes.imshow(
            image[..., 0] if image.shape[-1] == 1 else image,
            cmap=cmap,
            vmin=0,
            vmax=255,
            extent=(left, left + width, top + height, top),
            aspect="auto",
            interpolation="nearest",
        )
        axes.text(left + width / 2, top - 0.05 * height, caption, ha="center", va="bottom", fontsize=font_size)
    axes.set(xlim=(0, columns * cell_width), ylim=(rows * cell_height, 0))
    if title:
        figure.suptitle(title, y=1 - 0.1 / figure.get_figheight(), va="top", fontsize=11)
    return figure


def wrong_images(images: np.ndarray, truth: Sequence[str], predicted: Sequence[str], confidence: np.ndarray) -> Figure:
    """The test images with the most confident errors: truth, prediction and confidence."""
    long = max((len(name) for name in (*truth, *predicted)), default=0) > 5
    captions = [
        f"{short(true, 18)}{chr(10) if long else ' '}predicted {short(guess, 16)}\n{share:.1%} confident"
        for true, guess, share in zip(truth, predicted, confidence, strict=True)
    ]
    title = "Test images with the most confident errors" if captions else "No test image was classified wrongly"
    return image_grid(images, captions, title)


def augmented_images(
    original: np.ndarray, versions: np.ndarray, label: str, augmentation: Mapping[str, object]
) -> Figure:
    """A training image, uint8 of shape (1, height, width, channels), and its augmented versions."""
    captions = [f"{short(label)}, original", *[""] * len(versions)]
    settings = textwrap.fill(", ".join(f"{name}={value}" for name, value in augmentation.items()), 90)
    return image_grid(np.concatenate([original, versions]), captions, f"One training image, augmented\n{settings}")


def short(name: str, length: int = 12) -> str:
    """A class name of at most so many characters, cut with an ellipsis."""
    return plain(name if len(name) <= length else f"{name[: length - 1]}…")


def plain(name: str) -> str:
    """A name that matplotlib does not read as a formula."""
    return name.replace("$", r"\$")
