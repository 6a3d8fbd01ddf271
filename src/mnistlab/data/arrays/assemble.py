"""`Images` made of named arrays: the pixels converted, the labels counted as classes, the splits complete."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.arrays.classes import checked_class_names, classes
from mnistlab.data.arrays.files import Header, is_single_array, read_arrays, read_headers
from mnistlab.data.arrays.names import assign
from mnistlab.data.arrays.pixels import pixels
from mnistlab.data.images import Images, Split

SPLITS = ("train", "val", "test")
MAX_GIGABYTES = 8.0


def images_from_file(
    path: str,
    name: str,
    class_names: Sequence[str] | None,
    *,
    labels: str | None = None,
    keys: Mapping[str, Any] | None = None,
    image_shape: Sequence[int] | None = None,
    max_gigabytes: float = MAX_GIGABYTES,
    value_range: Sequence[float] | None = None,
) -> Images:
    """The data set in an .npz file, or in an .npy file of images with one of labels; arguments: `sources.npz`."""
    file = Path(path).expanduser()
    headers = read_headers(file)
    if is_single_array(file):
        arrays, names, sentences = _pair(file, headers, labels, max_gigabytes)
    else:
        if labels is not None:
            raise ConfigError(
                "source.labels is for images in an .npy file. Name the labels in an .npz file by "
                f"source.keys='{{y_train: NAME}}'. Received: source.labels={labels} with source.path={path}."
            )
        names, sentences = assign(headers, keys)
        values = read_arrays(file, headers, list(names.values()), max_gigabytes)
        arrays = dict(zip(names, values, strict=True))
    used = ", ".join(f"{array} ({headers[array]})" if array in headers else array for array in names.values())
    return images_from_arrays(
        arrays,
        name,
        str(file.resolve()),
        class_names,
        image_shape=image_shape,
        value_range=value_range,
        names=names,
        sentences=[f"From {file.name}: {used}.", *sentences],
    )


def _pair(
    file: Path, headers: dict[str, Header], labels: str | None, max_gigabytes: float
) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """The arrays of an .npy file of images and one of labels, as training images."""
    if labels is None:
        raise ConfigError(
            f"source.path={file} is one array; its labels are needed too: source.labels=LABELS.npy, or an .npz file "
            "with x_train, y_train, x_test, y_test."
        )
    label_file = Path(labels).expanduser()
    label_headers = read_headers(label_file)
    if not is_single_array(label_file):
        raise ConfigError(f"source.labels must be an .npy file. Received: {labels}, which holds several arrays.")
    names = {"x_train": file.stem, "y_train": label_file.stem}
    (images,) = read_arrays(file, headers, list(headers), max_gigabytes)
    (values,) = read_arrays(label_file, label_headers, list(label_headers), max_gigabytes)
    return {"x_train": images, "y_train": values}, names, []


def images_from_arrays(
    arrays: Mapping[str, np.ndarray],
    name: str,
    origin: str,
    class_names: Sequence[str] | None = None,
    *,
    image_shape: Sequence[int] | None = None,
    value_range: Sequence[float] | None = None,
    names: Mapping[str, str] | None = None,
    sentences: Sequence[str] = (),
) -> Images:
    """Make `Images` of arrays.

    Args:
        arrays: x_train and y_train; x_val, y_val, x_test, y_test and class_names if there are any.
        class_names: take precedence over the array's.
        names: what the user calls the arrays, for messages; None: as here.

    Raises:
        ConfigError: shapes, values or lengths that do not match.
    """
    called = {role: (names or {}).get(role, role) for role in arrays}
    counts = Counter(called.values())  # one array, or files of one name in two folders, may have two roles
    called = {role: name if counts[name] == 1 else f"{name} ({role})" for role, name in called.items()}
    splits = [split for split in SPLITS if f"x_{split}" in arrays]
    arrays, turned = _with_images_first(arrays, called, splits)
    for split in splits:
        images, labels = (f"{kind}_{split}" for kind in "xy")
        lengths = [arrays[role].shape[0] if arrays[role].ndim else 0 for role in (images, labels)]
        if lengths[0] != lengths[1]:
            raise ConfigError(
                f"{called[images]} and {called[labels]} must have the same length. "
                f"Received: {lengths[0]} images, {lengths[1]} labels, shapes {arrays[images].shape} and "
                f"{arrays[labels].shape}."
            )
    if class_names is not None:
        class_names = checked_class_names(class_names, "source.class_names")
    elif "class_names" in arrays:
        class_names = checked_class_names(arrays["class_names"], called["class_names"])
    given = {called[f"x_{split}"]: arrays[f"x_{split}"] for split in splits}
    converted, values, on_pixels = pixels(given, image_shape, value_range)
    labelled = classes({called[f"y_{split}"]: arrays[f"y_{split}"] for split in splits}, class_names)
    made = {split: Split(*pair) for split, *pair in zip(splits, converted, labelled.labels, strict=True)}
    return Images(
        name,
        made["train"],
        made.get("test"),
        labelled.names,
        origin,
        warning="\n".join(labelled.warnings),
        validation=made.get("val"),
        how_read=(*sentences, *turned, *on_pixels, *labelled.sentences),
        value_range=values,
    )


def _with_images_first(
    arrays: Mapping[str, np.ndarray], called: Mapping[str, str], splits: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays, where the last axis counts the images (as in MATLAB) or a row has the labels, as usual; and notes."""
    turned, sentences = dict(arrays), []
    for split in splits:
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if labels.ndim == 2 and labels.shape[0] == 1 < labels.shape[1]:
            labels = turned[f"y_{split}"] = labels[0]
        is_turned = images.ndim in (3, 4) and labels.ndim and images.shape[-1] == len(labels) > max(images.shape[:-1])
        if is_turned:
            turned[f"x_{split}"] = np.moveaxis(images, -1, 0)
            sentences.append(f"The last axis of {called[f'x_{split}']} counts the images and is now the first.")
    return turned, sentences
