"""Figures of the errors on the test set, within `style.drawing_settings`: confusions, and disputed images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mnistlab.comparison.layout import new_figure, shorten, text_inches
from mnistlab.comparison.records import RunRecord, group_by_option
from mnistlab.comparison.results import Comparison
from mnistlab.comparison.statistics import Floats
from mnistlab.comparison.style import ERROR_COLOUR, INK, MAX_MATRICES, describe_hidden, shown_options

MAX_CLASSES_NAMED = 12


def confusions_figure(comparison: Comparison, records: Sequence[RunRecord]) -> Figure | None:
    """Test-set errors per option, summed over seeds: rows are true classes, shades the share of that class.

    The diagonal is not drawn: a diagonal of 99 % would hide errors of 1 %. None without confusion matrices.
    """
    shares = confusion_shares(comparison, records)
    if not shares:
        return None
    columns = 2 if len(shares) <= 2 or len(shares) == 4 else 3
    num_rows = -(-len(shares) // columns)
    classes = _class_names(records)
    hidden = describe_hidden(comparison, MAX_MATRICES)
    legend = [*_legend_lines(classes), *([hidden] if hidden else [])]
    cell = 5.2 / columns
    foot = 0.22 + 0.14 * len(legend)
    height = 0.3 + num_rows * (cell + 0.22) + foot
    figure = new_figure(height, "Confusion matrices on the test set")
    norm = PowerNorm(0.5, 0, _largest_error(shares))
    for index, (name, matrix) in enumerate(shares.items()):
        left = (index % columns) * cell + 0.26
        top = 0.62 + (index // columns) * (cell + 0.22)
        side = cell - 0.36
        axes = figure.add_axes((left / 5.2, (height - top - side) / height, side / 5.2, side / height))
        _draw_confusion(axes, name, matrix, norm)
    foot_text = ["rows: true class; columns: predicted; darker: more of that class", *legend]
    figure.text(0.02, 0.08 / height, "\n".join(foot_text), fontsize=7.5, va="bottom")
    return figure


def confusion_shares(comparison: Comparison, records: Sequence[RunRecord]) -> dict[str, Floats]:
    """Row-normalised confusion matrices of the shown options, summed over seeds; best option first."""
    groups = group_by_option(records, comparison.axis)
    shares = {}
    for name in shown_options(comparison, MAX_MATRICES):
        matrices = [np.asarray(run.confusion, dtype=float) for run in groups[name] if run.confusion is not None]
        if matrices and len({matrix.shape for matrix in matrices}) == 1:
            total = np.sum(matrices, axis=0)
            shares[name] = total / np.maximum(total.sum(axis=1, keepdims=True), 1)
    return shares


def disagreement_figure(
    comparison: Comparison,
    records: Sequence[RunRecord],
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    num_images: int = 10,
) -> Figure | None:
    """The test images on which the options disagree most, with each option's prediction.

    images: uint8, shape (n, height, width, channels) or (n, height, width); labels: int, shape (n,), in the
    order of the predictions. An option predicts what most of its seeds predict. Wrong predictions are in a box,
    which is more opaque the more seeds agree. None without predictions, and where no two options disagree.
    """
    shares = prediction_shares(comparison, records, len(labels))
    if len(shares) < 2:
        return None
    chosen = most_disputed_images(shares, num_images)
    if not len(chosen):
        return None
    names = list(shares)
    classes = _class_names(records)
    hidden = describe_hidden(comparison, MAX_MATRICES)
    legend = [*_legend_lines(classes), *([hidden] if hidden else [])]
    left = 0.15 + max(text_inches(map(shorten, names)), text_inches(["true class"], 10))
    cell = (5.2 - left - 0.08) / num_images
    top, row, foot = 0.42, 0.24, 0.34 + 0.14 * len(legend)
    height = top + cell + row * (len(names) + 1) + foot
    figure = new_figure(height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for column, index in enumerate(chosen):
        x = left + column * cell
        _draw_image(axes, images[index], (x + 0.02, top, cell - 0.04))
        _draw_predictions(axes, x + cell / 2, top + cell + row / 2, row, shares, int(index), int(labels[index]))
    axes.set(xlim=(0, 5.2), ylim=(height, 0))
    for line, name in enumerate(["true class", *map(shorten, names)]):
        y = top + cell + row * (line + 0.5)
        axes.text(left - 0.08, y, name, ha="right", va="center", weight="bold" if line == 0 else "normal")
    axes.text(0.1, 0.2, "Images on which the options disagree most", weight="bold", fontsize=10, va="center")
    foot_text = [f"in a box: wrong; indices of the test images: {', '.join(map(str, chosen))}", *legend]
    axes.text(0.1, height - 0.08, "\n".join(foot_text), fontsize=7, va="bottom")
    return figure


def prediction_shares(comparison: Comparison, records: Sequence[RunRecord], num_images: int) -> dict[str, Floats]:
    """Per option, the share of its seeds that predict each class, shape (images, classes); best first."""
    groups = group_by_option(records, comparison.axis)
    predicted = {
        name: [
            np.asarray(run.predictions["predicted"], dtype=np.intp)
            for run in groups[name]
            if run.predictions is not None and len(run.predictions.get("predicted", ())) == num_images
        ]
        for name in shown_options(comparison, MAX_MATRICES)
    }
    classes = np.arange(1 + max((array.max() for arrays in predicted.values() for array in arrays), default=0))
    return {
        name: np.mean([array[:, None] == classes for array in arrays], axis=0)
        for name, arrays in predicted.items()
        if arrays
    }


def most_disputed_images(shares: Mapping[str, Floats], num_images: int) -> NDArray[np.intp]:
    """Indices of the images with the largest Jensen-Shannon divergence between the options' predictions.

    It is high if the options contradict each other, and zero if the seeds of all options vary in the same way; such
    images are left out.
    """
    stacked = np.stack(list(shares.values()))
    divergence = _entropy(stacked.mean(axis=0)) - _entropy(stacked).mean(axis=0)
    chosen: NDArray[np.intp] = np.argsort(-divergence, kind="stable")[:num_images]
    return chosen[divergence[chosen] > 1e-9]


def _entropy(shares: Floats) -> Floats:
    entropy: Floats = -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=-1)
    return entropy


def _largest_error(shares: Mapping[str, Floats]) -> float:
    """The full scale of the shades: the largest error among the options that learned."""
    accuracies = {name: float(np.diag(matrix).mean()) for name, matrix in shares.items()}
    learned = [name for name, value in accuracies.items() if value > 0.5 * max(accuracies.values())]
    errors = [float((shares[name] - np.diag(np.diag(shares[name]))).max()) for name in learned]
    return max(*errors, 1e-3) if errors else 1.0


def _draw_confusion(axes: Axes, name: str, matrix: Floats, norm: PowerNorm) -> None:
    errors = matrix - np.diag(np.diag(matrix))
    shade = LinearSegmentedColormap.from_list("wrong", [(0.84, 0.37, 0, 0), (0.84, 0.37, 0, 1)])
    axes.imshow(errors, cmap=shade, norm=norm, interpolation="nearest")
    size = len(matrix)
    for index in range(size):
        axes.add_patch(Rectangle((index - 0.5, index - 0.5), 1, 1, facecolor=INK, alpha=0.12, linewidth=0))
    true, predicted = np.unravel_index(np.argmax(errors), errors.shape)
    worst = f"{true}→{predicted} {100 * errors[true, predicted]:.1f} %"
    axes.set_title(shorten(name, 18), fontsize=8.5, pad=11, x=0)
    axes.text(0, 1.02, f"largest: {worst}", transform=axes.transAxes, fontsize=7)
    step = -(-size // MAX_CLASSES_NAMED)
    axes.set(xticks=range(0, size, step), yticks=range(0, size, step))
    axes.tick_params(labelsize=6.5, length=0, pad=1.5)
    axes.spines[["top", "right"]].set_visible(True)


def _draw_image(axes: Axes, image: NDArray[np.uint8], box: tuple[float, float, float]) -> None:
    """A test image at (left, top) with the given side, in inches; grey unless it has three channels."""
    left, top, side = box
    pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    extent = (left, left + side, top + side, top)
    axes.imshow(
        pixels, cmap="gray_r", vmin=0, vmax=255, extent=extent, interpolation="nearest", aspect="auto", zorder=2
    )


def _draw_predictions(
    axes: Axes, x: float, y: float, row: float, shares: Mapping[str, Floats], index: int, label: int
) -> None:
    """The true class, and below it every option's prediction, in a box if it is wrong."""
    axes.text(x, y, str(label), ha="center", va="center", weight="bold")
    for line, option_shares in enumerate(shares.values(), start=1):
        predicted = int(np.argmax(option_shares[index]))
        if predicted != label:
            corner, alpha = (x - 0.11, y + row * line - 0.1), 0.25 + 0.5 * float(option_shares[index, predicted])
            axes.add_patch(Rectangle(corner, 0.22, 0.2, facecolor=ERROR_COLOUR, alpha=alpha, zorder=1))
        axes.text(x, y + row * line, str(predicted), ha="center", va="center", zorder=3)


def _class_names(records: Sequence[RunRecord]) -> list[str]:
    return next((list(run.class_names) for run in records if run.class_names), [])


def _legend_lines(classes: Sequence[str], width: int = 80) -> list[str]:
    """Class numbers with their names, in lines; empty if the names are the numbers, or beyond 40 classes."""
    if all(name == str(number) for number, name in enumerate(classes)) or len(classes) > 40:
        return []
    lines = [""]
    for number, name in enumerate(classes):
        entry = f"{number} {name}"
        if len(lines[-1]) + len(entry) + 2 > width:
            lines.append("")
        lines[-1] += f"{', ' if lines[-1] else ''}{entry}"
    return lines
