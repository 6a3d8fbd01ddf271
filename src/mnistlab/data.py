"""From images and labels to a `Dataset`: split, thinned, weighted, digested. Knows neither Keras nor tracking."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.sources import Images, Split


@dataclass(frozen=True, eq=False)
class Dataset:
    """What one experiment trains, validates and tests on.

    name: the source's own name; digests: split name -> hash of its images and labels, in order;
    class_weight: class -> factor in the training loss, or None.
    """

    name: str
    origin: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    digests: dict[str, str]
    labels: str = "one_hot"
    class_weight: dict[int, float] | None = None
    warning: str = ""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)"""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def counts(self) -> dict[str, list[int]]:
        """Split name -> images per class."""
        return {
            name: np.bincount(split.labels, minlength=self.num_classes).tolist() for name, split in self.splits.items()
        }

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """What the loss compares with: one-hot rows (n, classes) float32, or the integers themselves (n,) int32."""
        if self.labels == "integer":
            return labels.astype(np.int32)
        return np.eye(self.num_classes, dtype=np.float32)[labels]


def prepare(
    images: Images,
    *,
    labels: str = "one_hot",
    validation: str = "holdout",
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    class_weight: str | Mapping[Any, float] | None = None,
    keep: Mapping[Any, float] | None = None,
    limit: int | None = None,
) -> Dataset:
    """Split a source into training, validation and test.

    Args:
        labels: 'one_hot' or 'integer', what `targets` gives.
        validation: 'holdout' takes a stratified part of the training images, 'test' validates on the test set.
        validation_fraction: share of the training images held out, 0 < value < 1.
        split_seed: of the hold-out, of `keep` and of `limit`.
        class_weight: 'balanced' (scikit-learn's rule), a mapping that names every class, or None.
        keep: class -> share of its training images to keep, to make an imbalance.
        limit: train on at most this many images, drawn so that the classes keep their shares.

    Raises:
        ConfigError: a class that does not exist, is missing, or is too small to be split.
    """
    generator = np.random.default_rng(split_seed)
    train, validating = images.train, images.test
    if validation == "holdout":
        held_out = stratified(train.labels, validation_fraction, generator)
        train, validating = train.take(np.flatnonzero(~held_out)), train.take(np.flatnonzero(held_out))
    if keep:
        shares = _by_class("data.keep", keep, images.class_names)
        train = train.take(_thinned(train.labels, shares, generator))
    if limit is not None and limit < len(train):
        train = train.take(np.flatnonzero(stratified(train.labels, limit / len(train), generator)))
    splits = {"train": train, "validation": validating, "test": images.test}
    return Dataset(
        name=images.name,
        origin=images.origin,
        **splits,
        class_names=images.class_names,
        digests={name: digest(split) for name, split in splits.items()},
        labels=labels,
        class_weight=weights(class_weight, train.labels, images.class_names),
        warning=images.warning,
    )


def stratified(labels: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """A mask, shape (n,), that takes the fraction of all images and, as nearly as whole images allow, of every class;
    at least one image of each and never all of them.

    Raises:
        ConfigError: a class with a single image, which cannot be on both sides.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        single = classes[counts.argmin()]
        raise ConfigError(f"Class {single} needs at least 2 training images to be split. Received: {counts.min()}.")
    wanted = counts * fraction
    sizes = np.floor(wanted).astype(int)
    most_cut = np.argsort(sizes - wanted, kind="stable")  # the largest remainders get the images left over
    sizes[most_cut[: round(len(labels) * fraction) - sizes.sum()]] += 1
    mask = np.zeros(len(labels), dtype=bool)
    for label, size in zip(classes, np.clip(sizes, 1, counts - 1), strict=True):
        mask[generator.permutation(np.flatnonzero(labels == label))[:size]] = True
    return mask


def _thinned(labels: np.ndarray, shares: dict[int, float], generator: np.random.Generator) -> np.ndarray:
    kept = np.ones(len(labels), dtype=bool)
    for label, share in shares.items():
        members = generator.permutation(np.flatnonzero(labels == label))
        kept[members[max(1, round(len(members) * share)) :]] = False
    return np.flatnonzero(kept)


def weights(
    rule: str | Mapping[Any, float] | None, labels: np.ndarray, class_names: tuple[str, ...]
) -> dict[int, float] | None:
    """Class -> weight of its images in the loss.

    Args:
        rule: None; 'balanced', n / (classes * count) as scikit-learn's `compute_class_weight` computes it; or a
            mapping of every class (its number or its name) to a weight.

    Raises:
        ConfigError: classes that are unknown or missing.
    """
    if rule is None:
        return None
    if rule == "balanced":
        from sklearn.utils.class_weight import compute_class_weight

        present = np.unique(labels)
        balanced = compute_class_weight("balanced", classes=present, y=labels)
        return {int(label): float(weight) for label, weight in zip(present, balanced, strict=True)}
    if not isinstance(rule, Mapping):
        raise ConfigError(f"data.class_weight is null, balanced or a mapping. Received: {rule}.")
    given = _by_class("data.class_weight", rule, class_names)
    missing = sorted(set(range(len(class_names))) - set(given))
    if missing:
        raise ConfigError(
            f"data.class_weight must name every class, 0 to {len(class_names) - 1}. "
            f"Missing: {', '.join(map(str, missing))}."
        )
    return given


def _by_class(name: str, mapping: Mapping[Any, float], class_names: tuple[str, ...]) -> dict[int, float]:
    """Keys (class numbers, also as text, or class names) as class numbers."""
    found = {}
    for key, value in mapping.items():
        text = str(key)
        label = class_names.index(text) if text in class_names else int(text) if text.isdecimal() else -1
        if not 0 <= label < len(class_names):
            raise ConfigError(f"{name} has an unknown class. Received: {key}. Classes: {', '.join(class_names)}.")
        found[label] = float(value)
    return found


def digest(split: Split) -> str:
    """A hash of a split's images and labels, their shapes and order: 16 hexadecimal digits of SHA-256."""
    sha = hashlib.sha256(repr((split.images.shape, split.labels.shape)).encode())
    sha.update(np.ascontiguousarray(split.images).data)
    sha.update(np.ascontiguousarray(split.labels).data)
    return sha.hexdigest()[:16]


def epoch_order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch sees the images: a function of seed and epoch alone, int32, shape (n,).

    A run that is resumed at an epoch sees what it would have seen, and every engine sees the same.
    """
    return np.random.default_rng([seed, epoch]).permutation(num_images).astype(np.int32)
