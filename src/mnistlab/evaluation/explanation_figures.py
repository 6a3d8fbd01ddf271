"""The figures of an explanation, from plain arrays. Each function returns a matplotlib `Figure` that is saved then."""

from collections.abc import Sequence

import numpy as np
import seaborn
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnistlab.evaluation import embedding as plane
from mnistlab.evaluation.calibration import Calibration
from mnistlab.evaluation.figures import BLUE, GREY, ORANGE, figure_in_inches, image_grid, plain, short

MAX_UNITS = 100  # images of weights in the figure
SCALE_QUANTILE = 0.995  # of the absolute weights: the ends of the colour scale
SALIENCY_QUANTILE = 0.99  # larger values count as this one, as in SmoothGrad
FAINT = 0.35  # share of its contrast that an image keeps below its saliency
TEN_COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#9A8F00", "#7F7F7F", "#6A3D9A", "#8C564B"),
)
Z95 = 1.96
PLANE_INCHES = 7.2  # that the points of an embedding take


def first_layer(weights: np.ndarray, kind: str, name: str, captions: Sequence[str] = ()) -> Figure:
    """The weights of each unit or filter as an image, all with the same scale, which is symmetric around 0.

    Those of one channel are red where positive and blue where negative; those of three are coloured, and mid-grey is 0.

    Args:
        weights: shape (units, height, width, channels). Of more than 100 units those with the largest weights are
            shown; of other numbers of channels their mean.
        kind: 'units' or 'filters'; name: of the layer; captions: the class of each unit.
    """
    total, channels = len(weights), weights.shape[-1]
    chosen = np.sort(np.argsort(-np.linalg.norm(weights.reshape(total, -1), axis=1), kind="stable")[:MAX_UNITS])
    weights = weights[chosen] if channels in (1, 3) else weights[chosen].mean(axis=-1, keepdims=True)
    limit = float(np.quantile(np.abs(weights), SCALE_QUANTILE)) or 1.0
    shares = np.clip(weights / limit, -1, 1) / 2 + 0.5
    columns = min(10 if captions else 16, len(chosen), int(np.ceil(np.sqrt(2 * len(chosen)))))
    figure = image_grid(
        np.round(255 * shares).astype(np.uint8),
        [short(captions[index]) for index in chosen] if captions else [""] * len(chosen),
        _title_of_layer(kind, name, total, len(chosen), channels),
        columns,
        "RdBu_r",
        cell=4.6 if len(chosen) == 1 else float(np.clip(9.6 / columns, 0.6, 2.4)),
        font_size=7,
        bottom=0.5,
    )
    width, height = figure.get_size_inches()
    scale = figure.add_axes(((width - 3) / 2 / width, 0.28 / height, 3 / width, 0.12 / height))
    colours = "gray" if channels == 3 else "RdBu_r"
    scale.imshow(np.linspace(0, 1, 256)[np.newaxis], colours, aspect="auto", extent=(-limit, limit, 0, 1))
    scale.set_yticks([])
    scale.set_xticks([-limit, 0, limit], [f"{-limit:.2g}", "0", f"{limit:.2g}"], fontsize=8)
    return figure


def _title_of_layer(kind: str, name: str, total: int, shown: int, channels: int) -> str:
    which = "" if total == shown else f"\nthe {shown} with the largest weights"
    one = kind if total > 1 else kind.removesuffix("s")
    colours = {1: "", 3: "\nred, green and blue weights as colours: mid-grey is 0"}
    more = colours.get(channels, f"\nthe mean of {channels} channels")
    return f"First layer, {plain(name)}: weights of {total:,} {one}{which}{more}"


def saliency_right(
    pixels: np.ndarray,
    maps: Sequence[np.ndarray],
    truth: Sequence[str],
    predicted: Sequence[str],
    confidence: np.ndarray,
    name: str,
) -> Figure:
    """Right predictions: each image, its saliency on it and, of a convolutional network, Grad-CAM.

    Args:
        pixels: uint8, shape (n, height, width, channels); maps: one or two of shape (n, height, width), at least 0.
    """
    captions = [f"{short(guess, 20)}, {share:.1%}" for guess, share in zip(predicted, confidence, strict=True)]
    return _saliency(pixels, maps, captions, f"{name}: the most confident right predictions")


def saliency_wrong(
    pixels: np.ndarray,
    maps: Sequence[np.ndarray],
    truth: Sequence[str],
    predicted: Sequence[str],
    confidence: np.ndarray,
    name: str,
) -> Figure:
    """Wrong predictions, as `saliency_right`; the maps are those of the predicted class."""
    captions = [
        f"{short(true, 20)}\npredicted {short(guess, 16)}, {share:.1%}"
        for true, guess, share in zip(truth, predicted, confidence, strict=True)
    ]
    return _saliency(pixels, maps, captions, f"{name}: the most confident wrong predictions")


def _saliency(pixels: np.ndarray, maps: Sequence[np.ndarray], captions: Sequence[str], title: str) -> Figure:
    colours = _as_rgb(pixels)
    shown = [colours, *(_overlaid(colours, values) for values in maps)]
    gap = np.full((*colours.shape[:2], max(1, colours.shape[2] // 16), 3), 255, np.uint8)
    panels = [part for panel in shown for part in (panel, gap)][:-1]
    what = "image, saliency" if len(maps) == 1 else "image, saliency, Grad-CAM"
    columns = 4 if len(maps) == 1 else 3
    title = f"{title}\n{what} of the predicted class: red pixels change its score most"
    return image_grid(np.concatenate(panels, axis=2), captions, title, columns, cell=2.3 if len(maps) == 1 else 3.2)


def _as_rgb(pixels: np.ndarray) -> np.ndarray:
    """Images as RGB; grey ones light strokes on black as ink on paper, as in the other figures."""
    if pixels.shape[-1] in (3, 4):
        return pixels[..., :3]
    return np.repeat(255 - pixels[..., :1], 3, axis=-1)


def _overlaid(colours: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each map in red on its faint grey image. Maps are scaled to 1 one by one."""
    tops = np.quantile(values.reshape(len(values), -1), SALIENCY_QUANTILE, axis=1)
    tops = np.where(tops > 0, tops, values.reshape(len(values), -1).max(axis=1))
    shares = np.clip(values / np.where(tops > 0, tops, 1)[:, np.newaxis, np.newaxis], 0, 1)[..., np.newaxis]
    grey = 255 - FAINT * (255 - colours.mean(axis=-1, keepdims=True))
    red = np.array([200, 0, 0])
    return np.round(grey * (1 - shares) + red * shares).astype(np.uint8)


def reliability(measured: Calibration, name: str) -> Figure:
    """Above: the accuracy of each bin of confidences against the diagonal of a calibrated model, with 95 % intervals
    (Wilson 1927). Below: how many images are in each bin."""
    figure = Figure(figsize=(5.6, 6.9))
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.17, top=0.88, hspace=0.1)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = len(measured.counts)
    filled = np.flatnonzero(measured.counts)
    middle, width = (filled + 0.5) / bins, 1 / bins
    accuracy, confidence, counts = measured.accuracy[filled], measured.confidence[filled], measured.counts[filled]
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    above.bar(middle, accuracy, width * 0.94, color=BLUE, alpha=0.85, label="accuracy in the bin")
    gaps = np.abs(accuracy - confidence)
    above.bar(
        middle, gaps, width * 0.94, np.minimum(accuracy, confidence),
        facecolor="none", edgecolor=ORANGE, hatch="////", linewidth=0.8, label="difference to its mean confidence",
    )  # fmt: skip
    low, high = _wilson(accuracy, counts)
    errors = np.maximum([accuracy - low, high - accuracy], 0)
    above.errorbar(
        middle, accuracy, errors, fmt="none", ecolor="black", elinewidth=0.9, capsize=2, label="95 % interval"
    )
    above.set(ylabel="Accuracy", xlim=(0, 1), ylim=(0, 1.02))
    below.bar(middle, counts, width * 0.94, color=BLUE, alpha=0.85)
    below.set(xlabel="Confidence: probability of the predicted class", ylabel="Images", yscale="log")
    below.set_ylim(0.7, max(10, 2 * counts.max()))
    below.axvline(measured.mean_confidence, color=ORANGE, linewidth=1.3, label="mean confidence")
    below.axvline(measured.mean_accuracy, color="black", linewidth=1.3, linestyle=":", label="accuracy")
    figure.legend(frameon=False, loc="lower center", ncols=2, fontsize=8)
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    figure.suptitle(
        f"{plain(name)}\nexpected calibration error {measured.expected_error:.4f} "
        f"(95 %: {measured.low:.4f} to {measured.high:.4f})\n"
        f"a calibrated model would show up to {measured.chance_error:.4f} on {measured.num_images:,} images",
        fontsize=10,
    )
    return figure


def _wilson(share: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share of so many images."""
    squared = Z95**2 / counts
    middle = (share + squared / 2) / (1 + squared)
    half = Z95 / (1 + squared) * np.sqrt(share * (1 - share) / counts + squared / (4 * counts))
    return middle - half, middle + half


def confusions(
    pixels: Sequence[np.ndarray], names: Sequence[tuple[str, str]], counts: Sequence[tuple[int, int]], title: str
) -> Figure:
    """The most frequent confusions, one a row: classes and count on the left, example images on the right.

    Args:
        pixels: per row uint8, shape (examples, height, width, channels); names: true and predicted class; counts: how
            many images are confused so, and images of the true class.
    """
    columns = max(len(row) for row in pixels)
    height, width = pixels[0].shape[1:3]
    texts = [
        f"{short(true, 20)}\n→ {short(guess, 20)}\n{count:,} of {of:,} ({count / of:.1%})"
        for (true, guess), (count, of) in zip(names, counts, strict=True)
    ]
    room = 0.3 + 0.075 * max(len(line) for text in texts for line in text.split("\n"))
    cell = 0.78
    tall = max(cell * height / width, 0.6)
    figure, axes = figure_in_inches(
        columns * cell, len(pixels) * tall, left=room, bottom=0.1, right=max(0.1, 4.6 - room - columns * cell), top=0.55
    )
    axes.set_axis_off()
    for number, (row, text) in enumerate(zip(pixels, texts, strict=True)):
        for column, image in enumerate(row):
            grey = image.shape[-1] == 1
            half = min(0.46 * cell, 0.46 * tall * width / height)
            centre, middle = (column + 0.5) * cell, (number + 0.5) * tall
            axes.imshow(
                image[..., 0] if grey else image, cmap="gray_r", vmin=0, vmax=255,
                aspect="auto", interpolation="nearest",
                extent=(centre - half, centre + half, middle + half * height / width, middle - half * height / width),
            )  # fmt: skip
        axes.text(-0.1, (number + 0.5) * tall, text, ha="right", va="center", fontsize=8)
    axes.set(xlim=(0, columns * cell), ylim=(len(pixels) * tall, 0))
    heading = f"{plain(title)}: the most frequent confusions\ntruth → prediction, the most confident first"
    figure.suptitle(heading, y=1 - 0.08 / figure.get_figheight(), va="top", fontsize=10)
    return figure


def embedding(
    features: np.ndarray, labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], name: str
) -> Figure:
    """The outputs of the last hidden layer in the plane (`embedding.in_plane`), coloured by true class.

    Images that are classified wrongly are ringed. A class's name stands at one of its images, near their middle, where
    there is room.
    """
    points = plane.in_plane(features)
    figure = Figure(figsize=(8, 8.3))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.9))
    colours = _class_colours(len(class_names))
    wrong = labels != predicted
    size = float(np.clip(18_000 / len(points), 9, 40))
    axes.scatter(points[:, 0], points[:, 1], s=size, c=colours[labels], linewidths=0, alpha=0.75)
    ringed = {"facecolors": colours[labels[wrong]], "edgecolors": "black", "linewidths": 0.9}
    axes.scatter(points[wrong, 0], points[wrong, 1], s=size + 13, **ringed)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.03)
    left_out = _write_names(axes, points, labels, [short(one, 16) for one in class_names], colours)
    method = f"outputs of the last hidden layer by PCA and t-SNE, {len(labels):,} images, coloured by true class"
    marked = f"ringed: classified wrongly ({int(wrong.sum()):,})"
    more = f"; no room for {left_out} names" if left_out else ""
    figure.suptitle(f"{plain(name)}\n{method}\n{marked}{more}", fontsize=10)
    return figure


def _class_colours(count: int) -> np.ndarray:
    """RGB of each class, shape (count, 3): distinct ones for ten, else from all hues."""
    if count <= len(TEN_COLOURS):
        return np.array(seaborn.color_palette(TEN_COLOURS[:count]))
    if count <= 20:
        return np.array(seaborn.color_palette("tab20", count))
    hues = np.argsort(np.arange(count) * 0.618 % 1)  # neighbouring classes get distant hues
    return np.array(seaborn.husl_palette(count, l=0.55))[hues]


def _write_names(axes: Axes, points: np.ndarray, labels: np.ndarray, names: Sequence[str], colours: np.ndarray) -> int:
    """Write each class's name where no other name stands: above the image nearest to the middle of its images, else
    close to their middle.

    Returns:
        how many names found no room.
    """
    size = 12 if len(names) <= 10 else 9 if len(names) <= 50 else 7.5
    low, span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-9)
    inches = (points - low) / span * PLANE_INCHES
    taken: list[np.ndarray] = []  # of each name its middle and half its width and height, in inches
    present, sizes = np.unique(labels, return_counts=True)
    for label in present[np.argsort(-sizes, kind="stable")]:
        half = np.array([0.0045 * size * len(names[label]) + 0.03, 0.009 * size + 0.01])
        place = _free_place(inches[labels == label], half, taken)
        if place is None:
            continue
        taken.append(np.array([*place, *half]))
        x, y = place / PLANE_INCHES * span + low
        text = axes.text(
            x, y, names[label], size=size, ha="center", va="center", weight="bold", color=0.75 * colours[label]
        )
        text.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
    return len(present) - len(taken)


def _free_place(own: np.ndarray, half: np.ndarray, taken: Sequence[np.ndarray]) -> np.ndarray | None:
    """The place nearest to the middle of a class's points, among them and on a grid of half an inch around it, where a
    name of this half size fits between those that stand there. All in inches."""
    middle = np.median(own, axis=0)
    steps = np.linspace(-0.5, 0.5, 11)
    around = middle + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    near_first = [one[np.argsort(np.linalg.norm(one - middle, axis=1), kind="stable")] for one in (own, around)]
    above = np.array([0, half[1] + 0.03])
    for place in above + np.concatenate(near_first):
        inside = (place >= half - 0.2).all() and (place <= PLANE_INCHES + 0.2 - half).all()
        if inside and all((np.abs(place - one[:2]) >= half + one[2:]).any() for one in taken):
            return np.asarray(place)
    return None
