"""Which images train, validate and test: the splits of a `Dataset`, thinned classes and class weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.sources import Images, Split


def split_images(
    images: Images,
    rule: str,
    validation: str,
    validation_fraction: float,
    test_fraction: float,
    generator: np.random.Generator,
    seed: int,
) -> tuple[dict[str, Split], list[str]]:
    """The splits 'train', 'validation' and 'test', and notes for the user; the arguments are those of `prepare`.

    Splits that the source lacks are held out of the training images.
    """
    train, validation_split, test = images.train, images.validation, images.test
    notes = []
    hold_out_test = rule == "stratified" and test is None
    hold_out_validation = validation_split is None and (validation != "test" or test is None)
    _check_sizes(train.labels, images.class_names, 1 + hold_out_test + hold_out_validation)
    if hold_out_test:
        train, test = _hold_out(train, stratified(train.labels, test_fraction, np.random.default_rng([seed, 1])))
        notes.append(
            f"There is no test set, so {len(test):,} training images are held out for it "
            f"(data.test_fraction={test_fraction:g})."
        )
    if validation == "test" and test is not None:
        if validation_split is not None:
            notes.append(f"The {len(validation_split):,} validation images are not used: data.validation=test.")
        validation_split = test
    if validation_split is None:
        if rule == "keras":
            mask = first_of_each_class(train.labels, validation_fraction)
        else:
            mask = stratified(train.labels, validation_fraction, generator)
        train, validation_split = _hold_out(train, mask)
    if test is None:
        notes.append(
            "NOTE: data.split=keras leaves no test set, so the test numbers ARE the validation numbers. They are too "
            "optimistic if an epoch or a setting is chosen by them."
        )
    return {"train": train, "validation": validation_split, "test": validation_split if test is None else test}, notes


def _check_sizes(labels: np.ndarray, class_names: tuple[str, ...], num_splits: int) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    small = [label for label in range(len(class_names)) if 0 < counts[label] < num_splits]
    if small:
        raise ConfigError(
            f"Class {label} needs at least {num_splits} training images to be split. "
            f"Received: {counts[label]} of {class_names[label]}."
            for label in small
        )


def _hold_out(split: Split, mask: np.ndarray) -> tuple[Split, Split]:
    return split.take(np.flatnonzero(~mask)), split.take(np.flatnonzero(mask))


def first_of_each_class(labels: np.ndarray, fraction: float) -> np.ndarray:
    """A mask, shape (n,), of the first images of every class, as many as ImageDataGenerator's `validation_split` takes.

    Raises:
        ConfigError: the mask would hold no image of a class.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        mask[members[: int(fraction * len(members))]] = True
    without = np.setdiff1d(labels, labels[mask])
    if len(without):
        raise ConfigError(
            f"data.split=keras with data.validation_fraction={fraction:g} leaves class {label} without validation "
            f"images: it has {np.sum(labels == label)}. Use a larger fraction, or data.split=stratified."
            for label in without
        )
    return mask


def stratified(labels: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """A mask, shape (n,), of a random fraction of all images and, up to rounding, of every class.

    It holds at least one image of each class and never all of them.

    Raises:
        ConfigError: a class has a single image, which cannot be on both sides.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        single = classes[counts.argmin()]
        raise ConfigError(f"Class {single} needs at least 2 training images to be split. Received: {counts.min()}.")
    exact = counts * fraction
    sizes = np.floor(exact).astype(int)
    largest_remainders = np.argsort(sizes - exact, kind="stable")  # these classes get the images left over
    sizes[largest_remainders[: round(len(labels) * fraction) - sizes.sum()]] += 1
    mask = np.zeros(len(labels), dtype=bool)
    for label, size in zip(classes, np.clip(sizes, 1, counts - 1), strict=True):
        mask[generator.permutation(np.flatnonzero(labels == label))[:size]] = True
    return mask


def select_training_images(
    train: Split,
    class_names: tuple[str, ...],
    keep: Mapping[Any, float] | None,
    limit: int | None,
    generator: np.random.Generator,
) -> Split:
    """Apply `data.keep` (at least one image of each class remains) and `data.limit` to the training images."""
    if keep:
        kept = np.ones(len(train), dtype=bool)
        for label, share in _by_class("data.keep", keep, class_names).items():
            members = generator.permutation(np.flatnonzero(train.labels == label))
            kept[members[max(1, round(len(members) * share)) :]] = False
        train = train.take(np.flatnonzero(kept))
    if limit is not None and limit < len(train):
        train = train.take(np.flatnonzero(stratified(train.labels, limit / len(train), generator)))
    return train


def class_weights(
    rule: str | Mapping[Any, float] | None, labels: np.ndarray, class_names: tuple[str, ...]
) -> dict[int, float] | None:
    """Class -> weight of its images in the loss.

    rule: None; 'balanced', n / (classes * count) as in scikit-learn's `compute_class_weight`; or a mapping of every
    class (its number or its name) to a weight. Raises ConfigError if classes are unknown or missing.
    """
    if rule is None:
        return None
    if rule == "balanced":
        from sklearn.utils.class_weight import compute_class_weight

        present = np.unique(labels)
        balanced = compute_class_weight("balanced", classes=present, y=labels)
        return {int(label): float(weight) for label, weight in zip(present, balanced, strict=True)}
    if not isinstance(rule, Mapping):
        raise ConfigError(f"data.class_weight must be null, balanced or a mapping. Received: {rule}.")
    weights = _by_class("data.class_weight", rule, class_names)
    missing = sorted(set(range(len(class_names))) - set(weights))
    if missing:
        raise ConfigError(
            f"data.class_weight must name every class, 0 to {len(class_names) - 1}. "
            f"Missing: {', '.join(map(str, missing))}."
        )
    return weights


def _by_class(setting: str, mapping: Mapping[Any, float], class_names: tuple[str, ...]) -> dict[int, float]:
    """Convert the keys (class numbers, also as text, or class names) to class numbers."""
    values = {}
    for key, value in mapping.items():
        text = str(key)
        label = class_names.index(text) if text in class_names else int(text) if text.isdecimal() else -1
        if not 0 <= label < len(class_names):
            raise ConfigError(f"{setting} has an unknown class. Received: {key}. Classes: {', '.join(class_names)}.")
        values[label] = float(value)
    return values
