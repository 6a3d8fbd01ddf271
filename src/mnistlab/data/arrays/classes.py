"""Arrays of labels as class numbers 0, 1, 2, ... and the classes' names.

Any set of different labels is a set of classes, in sorted order; the labels become the classes' names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnistlab.config import ConfigError, suggest

MAX_SHOWN = 20
MAX_DIGITS = 18  # of a class that is a number
MAX_CLASSES_OF_FEW_IMAGES = 100
MAX_EMPTY_SHARE = 0.1  # labels from 0 with a larger share of gaps are codes, not class numbers


@dataclass(frozen=True)
class Classes:
    """labels: one int64 array, shape (n,), for each array given; names: the classes', in order of their numbers;
    sentences: how labels became classes; warnings: on classes that cannot be learned."""

    labels: list[np.ndarray]
    names: tuple[str, ...]
    sentences: list[str]
    warnings: list[str]


def classes(arrays: Mapping[str, np.ndarray], class_names: Sequence[str] | None) -> Classes:
    """The classes of all label arrays together; the first array has the training labels.

    Args:
        arrays: name -> labels: numbers, text or booleans of shape (n,) or (n, 1), or one-hot rows.
        class_names: the names in order of the class numbers; None: the labels.

    Raises:
        ConfigError: labels that are not one class for each image, or that do not fit class_names.
    """
    labels, widths = {}, set()
    for name, array in arrays.items():
        labels[name], width = _one_dimensional(array, name)
        widths.add(width)
    if len(widths - {0}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ConfigError(f"All one-hot rows must have one length. Received: {shapes}.")
    kinds = {name: "text" if array.dtype.kind == "U" else "numbers" for name, array in labels.items()}
    if len(set(kinds.values())) > 1:
        received = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        raise ConfigError(f"All labels must be numbers, or all text. Received: {received}.")
    present = _sorted(np.unique(np.concatenate([np.unique(array) for array in labels.values()])))
    _check_number(present, sum(map(len, labels.values())), " and ".join(arrays))
    named = tuple(class_names) if class_names is not None else None
    values, names, sentences = _numbered(present, max(widths), named, " and ".join(arrays))
    if len(names) < 2:
        raise ConfigError(f"There must be at least two classes. Received: {', '.join(names)}.")
    found = [_numbers_of(array, values) for array in labels.values()]
    return Classes(found, names, sentences, _warnings(list(arrays), found, names))


def _check_number(present: list, num_labels: int, arrays: str) -> None:
    if len(present) > max(MAX_CLASSES_OF_FEW_IMAGES, num_labels / 2):
        raise ConfigError(
            f"{arrays} must hold classes that several images have. Received: {len(present):,} different labels for "
            f"{num_labels:,} images, such as {_listed(present[:3])}. Are they numbers or names of the images?"
        )


def checked_class_names(names: np.ndarray | Sequence[str], origin: str) -> tuple[str, ...]:
    """Class names as text. Raises ConfigError if they are not a list of different names.

    origin: where they are from, for the message: `source.class_names` or the array's name.
    """
    array = names if isinstance(names, np.ndarray) else np.array([str(name) for name in names], dtype=str)
    if array.ndim != 1:
        raise ConfigError(f"{origin} must be a list of names, shape (classes,). Received: the shape {array.shape}.")
    texts = [_text(name).strip() for name in array.tolist()]
    repeated = sorted({name for name in texts if texts.count(name) > 1})
    if repeated:
        raise ConfigError(f"{origin} must be different names. Received more than once: {', '.join(repeated)}.")
    if "" in texts:
        raise ConfigError(f"{origin} must not hold an empty name. Received: '' for class {texts.index('')}.")
    return tuple(texts)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    return str(value)


def _one_dimensional(array: np.ndarray, name: str) -> tuple[np.ndarray, int]:
    """Labels of shape (n,), int64, uint64, bool or text; and the length of one-hot rows, else 0."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf":
        return _from_one_hot(array, name), array.shape[1]
    kind = array.dtype.kind
    if kind == "S":
        array = np.array([_text(label) for label in array.ravel().tolist()], dtype=str).reshape(array.shape)
        kind = "U"
    if array.ndim != 1 or kind not in "biufU":
        raise ConfigError(
            f"{name} must hold integer labels of shape (n,), text, or one-hot rows. Received: {array.dtype}, "
            f"{array.shape}."
        )
    if kind == "U" and (array == "").any():
        raise ConfigError(f"{name} must hold a label for each image. Received: {(array == '').sum():,} empty ones.")
    if array.dtype == np.uint64:  # beside int64 it would become float64
        return array.astype(np.int64 if array.size == 0 or array.max() < 2**63 else array.dtype), 0
    if kind != "f":
        return array, 0
    if np.isnan(array).any():
        raise ConfigError(
            f"{name} must hold a label for each image. Received: NaN for {np.isnan(array).sum():,} of {len(array):,} "
            "images. Leave these images and their labels out."
        )
    if not (np.isfinite(array).all() and (array == np.rint(array)).all() and (np.abs(array) < 2**53).all()):
        example = array[array != np.rint(array)]
        shown = f"such as {example[0]:g}" if len(example) else f"up to {np.abs(array).max():g}"
        raise ConfigError(
            f"{name} must hold integer labels of shape (n,), or one-hot rows. Received: {array.dtype}, {shown}: "
            "numbers to predict (regression) are not classes."
        )
    return array.astype(np.int64), 0


def _from_one_hot(array: np.ndarray, name: str) -> np.ndarray:
    """The class numbers of one-hot rows. Rows of probabilities are refused: their largest entry is another target."""
    one_hot = ((array == 0) | (array == 1)).all(axis=1) & (array.astype(np.float64).sum(axis=1) == 1)
    if one_hot.all():
        return array.argmax(axis=1).astype(np.int64)
    row = int((~one_hot).argmax())
    shown = ", ".join(f"{value:g}" for value in array[row].astype(float)[:10]) + (
        ", ..." if array.shape[1] > 10 else ""
    )
    received = f"Received: {array.dtype}, {array.shape}, and row {row} is [{shown}]"
    rule = f"{name} must hold integer labels of shape (n,), or one-hot rows."
    values = array[row].astype(np.float64)
    if ((array == 0) | (array == 1)).all():
        what = "no class" if values.sum() == 0 else "several classes"
        raise ConfigError(f"{rule} {received}: {what} for one image. Each image needs exactly one class.")
    if np.isfinite(values).all() and values.min() >= 0 and abs(values.sum() - 1) < 1e-3:
        raise ConfigError(
            f"{rule} {received}: probabilities (soft labels), which cannot be trained on. If the most probable class "
            f"is meant, save {name}.argmax(axis=1)."
        )
    raise ConfigError(f"{rule} {received}.")


def _sorted(present: np.ndarray) -> list[int | str | bool]:
    """Different labels in order: numbers, and text of whole numbers, by value; other text by its characters."""
    values = present.tolist()
    if values and all(isinstance(value, str) for value in values) and all(map(_is_whole_number, values)):
        return sorted(values, key=int)
    return sorted(values)


def _is_whole_number(text: str) -> bool:
    digits = text.removeprefix("-")
    is_short = len(text) <= MAX_DIGITS  # Python refuses numbers of thousands of digits
    return is_short and digits.isascii() and digits.isdecimal() and str(int(text)) == text


def _numbered(
    present: list, width: int, class_names: tuple[str, ...] | None, arrays: str
) -> tuple[list, tuple[str, ...], list[str]]:
    """The labels in order of their class numbers, the classes' names, and sentences for the user."""
    if width:
        names = class_names or tuple(str(label) for label in range(width))
        if len(names) != width:
            raise ConfigError(
                f"class_names must have a name for each class: {width}, as one-hot rows are long. "
                f"Received: {len(names)}."
            )
        if not all(isinstance(label, int) and 0 <= label < width for label in present):
            raise ConfigError(
                f"Labels beside one-hot rows of length {width} must be numbers from 0 to {width - 1}. "
                f"Received: {_listed(present)}."
            )
        return list(range(width)), names, []
    if class_names is not None:
        return _by_class_names(present, class_names, arrays)
    if not present:
        return [], (), []
    if isinstance(present[0], int) and not isinstance(present[0], bool) and present[0] == 0:
        num_classes = present[-1] + 1
        if num_classes - len(present) <= MAX_EMPTY_SHARE * num_classes:
            return list(range(num_classes)), tuple(str(label) for label in range(num_classes)), []
    names = tuple(str(label) for label in present)
    return present, names, [f"The labels {_listed(present)} are the classes {_listed(list(range(len(present))))}."]


def _by_class_names(
    present: list, class_names: tuple[str, ...], arrays: str
) -> tuple[list, tuple[str, ...], list[str]]:
    """The same with given names: numbers count them, text is among them."""
    num_classes = len(class_names)
    if present and isinstance(present[0], str) and not set(present) <= set(class_names):
        unknown = [label for label in present if label not in class_names]
        if not all(map(_is_whole_number, present)):
            raise ConfigError(
                f"The labels in {arrays} must be among class_names. Received: {_listed(unknown)}."
                f"{suggest(unknown[0], class_names)}"
            )
        values, names, sentences = _by_class_names([int(label) for label in present], class_names, arrays)
        return [str(value) for value in values], names, sentences
    if present and isinstance(present[0], str):
        return list(class_names), class_names, []
    if present and not (present[0] >= 0 and present[-1] < num_classes):
        if len(present) != num_classes:
            wrong = present[-1] if present[-1] >= num_classes else present[0]
            raise ConfigError(
                f"Labels must be below the number of classes, {num_classes} (class_names), and not negative, or as "
                f"many as the names. Received: {wrong}, among {len(present)} different labels: {_listed(present)}."
            )
        return present, class_names, [f"The labels {_listed(present)} are the classes {_listed(list(class_names))}."]
    return list(range(num_classes)), class_names, []


def _numbers_of(labels: np.ndarray, values: list) -> np.ndarray:
    """The class number of each label, int64: its index in `values`."""
    if values == list(range(len(values))) and labels.dtype.kind in "biu":
        return labels.astype(np.int64)
    different, inverse = np.unique(labels, return_inverse=True)
    number_of = {value: number for number, value in enumerate(values)}
    numbers = np.array([number_of[value] for value in different.tolist()], dtype=np.int64)
    return numbers[inverse.reshape(-1)]


def _listed(values: list) -> str:
    """'1..26' for whole numbers without gaps, else all of them, or the first."""
    if len(values) > 2 and all(type(value) is int for value in values) and values[-1] - values[0] == len(values) - 1:
        return f"{values[0]}..{values[-1]}"
    return ", ".join(map(str, values[:MAX_SHOWN])) + (f", ... ({len(values)})" if len(values) > MAX_SHOWN else "")


def _warnings(arrays: list[str], labels: list[np.ndarray], names: tuple[str, ...]) -> list[str]:
    """Classes without training images, which the network cannot learn, and names that may mean one class."""
    counts = [np.bincount(array, minlength=len(names)) for array in labels]
    warnings = []
    for name, count in zip(arrays[1:], counts[1:], strict=True):
        unseen = [names[number] for number in np.flatnonzero((count > 0) & (counts[0] == 0))]
        if unseen:
            warnings.append(f"{name} has classes without training images: {_listed(unseen)}. They stay classes.")
    empty = [names[number] for number in np.flatnonzero(np.sum(counts, axis=0) == 0)]
    if empty:
        warnings.append(f"Classes without any image: {_listed(empty)}. They stay classes.")
    folded = [name.strip().casefold() for name in names]
    similar = [repr(name) for name, key in zip(names, folded, strict=True) if folded.count(key) > 1]
    if similar:
        warnings.append(
            f"Classes that differ only in case or spaces: {_listed(similar)}. Are they meant to be different?"
        )
    return warnings
