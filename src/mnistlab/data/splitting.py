"""Which images train, validate and test: the splits of a `Dataset`, thinned classes and class weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.class_keys import values_by_class
from mnistlab.data.images import Images, Split

MAX_SHOWN = 10  # classes in an error


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
    will_have_test = hold_out_test or test is not None
    hold_out_validation = validation_split is None and not (validation == "test" and will_have_test)
    advice = ", or validate on the test images: data.validation=test" if will_have_test and hold_out_validation else ""
    _check_sizes(train.labels, images.class_names, 1 + hold_out_test, hold_out_validation, advice)
    if hold_out_test:
        notes += _few_held_out("data.test_fraction", test_fraction, train.labels)
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
            notes += _few_held_out("data.validation_fraction", validation_fraction, train.labels)
            mask = stratified(train.labels, validation_fraction, generator)
        train, validation_split = _hold_out(train, mask)
    if test is None:
        notes.append(
            "NOTE: data.split=keras leaves no test set, so the test numbers ARE the validation numbers. They are too "
            "optimistic if an epoch or a setting is chosen by them."
        )
    return {"train": train, "validation": validation_split, "test": validation_split if test is None else test}, notes


def _check_sizes(
    labels: np.ndarray, class_names: tuple[str, ...], num_splits: int, hold_out_validation: bool, advice: str
) -> None:
    """Raise ConfigError if a class has fewer images than splits.

    num_splits: without the validation split; advice: what makes that split unnecessary.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    needed = num_splits + hold_out_validation
    small = [label for label in range(len(class_names)) if 0 < counts[label] < needed]
    if small:
        shown = ", ".join(map(str, small[:MAX_SHOWN])) + (", ..." if small[MAX_SHOWN:] else "")
        subject = f"Classes {shown} need" if small[1:] else f"Class {shown} needs"
        received = ", ".join(f"{counts[label]} of {class_names[label]}" for label in small[:MAX_SHOWN])
        received += f", and {len(small) - MAX_SHOWN:,} more such classes" if small[MAX_SHOWN:] else ""
        enough = min(counts[label] for label in small) >= num_splits
        raise ConfigError(
            f"{subject} at least {needed} training images to be split. Received: {received}. "
            f"Add images{advice if enough else ' or a test set'}."
        )


def _few_held_out(setting: str, fraction: float, labels: np.ndarray) -> list[str]:
    """A note if a fraction is fewer images than classes; `stratified` then holds out one of each.

    Raises:
        ConfigError: it is not a single image, where a tenth would be.
    """
    num_images, num_classes = len(labels), len(np.unique(labels))
    if fraction * num_images < 1 <= num_images / 10:
        raise ConfigError(
            f"{setting} must hold out images of every class. Received: {fraction:g} of {num_images:,} training images, "
            f"less than one. Use at least {num_classes / num_images:.2g}."
        )
    if (1 - fraction) * num_images < num_classes <= num_images / 10:
        raise ConfigError(
            f"{setting} must leave images of every class to train on. Received: {fraction:g} of {num_images:,} "
            f"training images, which leaves fewer than {num_classes}, one a class. "
            f"Use at most {1 - num_classes / num_images:.6g}."
        )
    few = round(fraction * num_images) < num_classes
    return [f"{setting}={fraction:g} of {num_images:,} images is less than one a class: one of each is held out."] * few


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
        for label, share in values_by_class("data.keep", keep, class_names).items():
            members = generator.permutation(np.flatnonzero(train.labels == label))
            kept[members[max(1, round(len(members) * share)) :]] = False
        train = train.take(np.flatnonzero(kept))
    if limit is not None and limit < len(train):
        if limit < len(present := np.unique(train.labels)):
            raise ConfigError(
                f"data.limit must be at least the number of classes, {len(present)}, so that each has an image "
                f"to train on. Received: {limit}."
            )
        if single := [class_names[label] for label, count in enumerate(np.bincount(train.labels)) if count == 1]:
            raise ConfigError(
                f"data.limit={limit} needs at least 2 training images of each class. "
                f"Received: 1 of {', '.join(single[:10])}. Add images, or leave data.limit out."
            )
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
    weights = values_by_class("data.class_weight", rule, class_names)
    missing = sorted(set(range(len(class_names))) - set(weights))
    if missing:
        raise ConfigError(
            f"data.class_weight must name every class, 0 to {len(class_names) - 1}. "
            f"Missing: {', '.join(_numbered(missing, class_names))}."
        )
    return weights


def _numbered(labels: Sequence[int], class_names: Sequence[str]) -> list[str]:
    """The classes as '3 (cat)', or as '3' if that is their name too."""
    return [str(label) if class_names[label] == str(label) else f"{label} ({class_names[label]})" for label in labels]
