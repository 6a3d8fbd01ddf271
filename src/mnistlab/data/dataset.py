"""From images and labels to a `Dataset`: split, thinned, weighted, digested. Knows neither Keras nor tracking."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.sources import Images, Split


@dataclass(frozen=True, eq=False)
class Dataset:
    """What one experiment trains, validates and tests on.

    name: the source's own name; digests: split name -> hash of its images and labels, in order;
    labels: 'one_hot', 'integer' or 'binary', what the loss compares with;
    class_weight: class -> factor in the training loss, or None; augmentation: ImageDataGenerator's arguments;
    notes: what the user should know;
    manifest: for images in files a row each: path, class, split, size, content hash; skipped files last.
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
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""
    notes: tuple[str, ...] = ()
    manifest: tuple[dict[str, Any], ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        """Units of the network's last layer: one for binary labels, else one per class."""
        return 1 if self.labels == "binary" else self.num_classes

    @property
    def output_activation(self) -> str:
        return "sigmoid" if self.labels == "binary" else "softmax"

    @property
    def resident(self) -> bool:
        """Whether all pixels are arrays in memory; if not, `loaders.py` reads them in batches."""
        return all(split.resident for split in self.splits.values())

    @property
    def loader(self) -> str:
        """'resident', 'stream' or 'generator'."""
        return "resident" if isinstance(self.train.images, np.ndarray) else self.train.images.loader

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
        """What the loss compares with: one-hot rows (n, classes) float32, the integers themselves (n,) int32, or for
        binary labels 0.0 and 1.0 in a column (n, 1) float32."""
        if self.labels == "integer":
            return labels.astype(np.int32)
        if self.labels == "binary":
            return labels.astype(np.float32)[:, np.newaxis]
        return np.eye(self.num_classes, dtype=np.float32)[labels]

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Each class's probability, shape (n, classes), from the network's outputs: [1 - p, p] for binary labels."""
        return np.concatenate([1 - outputs, outputs], axis=1) if self.labels == "binary" else outputs


MANIFEST_COLUMNS = ("path", "class", "split", "bytes", "width", "height", "mode", "sha256", "same_as", "reason")
LABELS_OF_CLASS_MODE = {"categorical": "one_hot", "sparse": "integer", "binary": "binary"}


def prepare(
    images: Images,
    *,
    labels: str = "one_hot",
    class_mode: str | None = None,
    split: str = "stratified",
    validation: str = "holdout",
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    class_weight: str | Mapping[Any, float] | None = None,
    keep: Mapping[Any, float] | None = None,
    limit: int | None = None,
    augmentation: Mapping[str, Any] | None = None,
) -> Dataset:
    """Split a source into training, validation and test.

    Args:
        labels: 'one_hot' or 'integer', what `targets` gives.
        class_mode: the same in Keras's words, 'categorical' or 'sparse', or 'binary'; None: as `labels` says.
        split: 'stratified' draws from every class with the seed; 'keras' takes the first images of every class, as
            ImageDataGenerator does, and makes no test set.
        validation: 'holdout' takes a part of the training images (or the validation images that the source has),
            'test' validates on the test set.
        validation_fraction, test_fraction: share of the training images held out, 0 < value < 1; the second only
            if the source has no test set.
        split_seed: of the hold-outs, of `keep` and of `limit`.
        class_weight: 'balanced' (scikit-learn's rule), a mapping that names every class, or None.
        keep: class -> share of its training images to keep, to make an imbalance.
        limit: train on at most this many images, drawn so that the classes keep their shares.
        augmentation: ImageDataGenerator's arguments, for training images only; handed on.

    Raises:
        ConfigError: a class that does not exist, is missing, or is too small to be split.
    """
    labels = LABELS_OF_CLASS_MODE[class_mode] if class_mode else labels
    if labels == "binary" and len(images.class_names) != 2:
        raise ConfigError(
            f"data.class_mode=binary needs exactly two classes. Received {len(images.class_names)}: "
            f"{', '.join(images.class_names[:20])}. Choose categorical or sparse."
        )
    generator = np.random.default_rng(split_seed)
    splits, notes = _split(images, split, validation, validation_fraction, test_fraction, generator, split_seed)
    train = splits["train"]
    if keep:
        shares = _by_class("data.keep", keep, images.class_names)
        train = train.take(_thinned(train.labels, shares, generator))
    if limit is not None and limit < len(train):
        train = train.take(np.flatnonzero(stratified(train.labels, limit / len(train), generator)))
    splits["train"] = train
    manifest = [row | {"split": name} for name, part in splits.items() for row in _rows(part)]
    return Dataset(
        name=images.name,
        origin=images.origin,
        **_settled(splits),
        class_names=images.class_names,
        digests={name: digest(part) for name, part in splits.items()},
        labels=labels,
        class_weight=weights(class_weight, train.labels, images.class_names),
        augmentation=dict(augmentation or {}),
        warning=images.warning,
        notes=(*images.notes, *notes, *_duplicates(manifest)),
        manifest=(*manifest, *({"split": "skipped"} | row for row in images.skipped)) if manifest else (),
    )


def _split(
    images: Images,
    rule: str,
    validation: str,
    validation_fraction: float,
    test_fraction: float,
    generator: np.random.Generator,
    seed: int,
) -> tuple[dict[str, Split], list[str]]:
    """Training, validation and test, and what is to be said of them; what the source has is kept, the rest held out."""
    train, validating, test = images.train, images.validation, images.test
    notes = []
    to_hold_out = [rule == "stratified" and test is None, validating is None and (validation != "test" or test is None)]
    _check_sizes(train.labels, images.class_names, 1 + sum(to_hold_out))
    if to_hold_out[0]:
        train, test = _held_out(train, stratified(train.labels, test_fraction, np.random.default_rng([seed, 1])))
        notes.append(
            f"There is no test set: data.test_fraction={test_fraction:g} holds {len(test):,} images out for it."
        )
    if validation == "test" and test is not None:
        if validating is not None:
            notes.append(f"The {len(validating):,} validation images are not used: data.validation=test.")
        validating = test
    if validating is None:
        mask = first_of_each_class if rule == "keras" else stratified
        train, validating = _held_out(train, mask(train.labels, validation_fraction, generator))
    if test is None:
        notes.append(
            "NOTE: data.split=keras leaves no test set, so the test numbers ARE the validation numbers: an epoch or "
            "a setting chosen by them has seen the test."
        )
    return {"train": train, "validation": validating, "test": validating if test is None else test}, notes


def _check_sizes(labels: np.ndarray, class_names: tuple[str, ...], needed: int) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    small = [label for label in range(len(class_names)) if 0 < counts[label] < needed]
    if small:
        raise ConfigError(
            f"Class {label} needs at least {needed} training images to be split. "
            f"Received: {counts[label]} of {class_names[label]}."
            for label in small
        )


def _held_out(split: Split, mask: np.ndarray) -> tuple[Split, Split]:
    return split.take(np.flatnonzero(~mask)), split.take(np.flatnonzero(mask))


def _settled(splits: dict[str, Split]) -> dict[str, Split]:
    """The pixels of a resident loader as arrays; a split that is another one stays that."""
    settled = {
        id(split): split if isinstance(split.images, np.ndarray) else Split(split.images.settled(), split.labels)
        for split in splits.values()
    }
    return {name: settled[id(split)] for name, split in splits.items()}


def _rows(split: Split) -> list[dict[str, Any]]:
    return [] if isinstance(split.images, np.ndarray) else split.images.rows()


def _duplicates(manifest: list[dict[str, Any]]) -> list[str]:
    """Notes on files with identical content in two splits or classes; their rows get `same_as`, the other's path."""
    first: dict[str, dict[str, Any]] = {}
    found: dict[str, list[str]] = {"split": [], "class": []}
    for row in manifest:
        other = first.setdefault(row["sha256"], row)
        if other["path"] == row["path"]:
            continue
        row["same_as"] = other["path"]
        for kind, pairs in found.items():
            if other[kind] != row[kind]:
                pairs.append(f"{row['path']} ({row[kind]}) = {other['path']} ({other[kind]})")
    said = {"split": "another split, so the numbers flatter the model", "class": "another class"}
    return [
        f"Images identical to one in {said[kind]}: {len(pairs):,} ({pairs[0]}{', ...' if len(pairs) > 1 else ''}); "
        "manifest.csv names them all under same_as."
        for kind, pairs in found.items()
        if pairs
    ]


def manifest_csv(manifest: Sequence[Mapping[str, Any]]) -> str:
    """The manifest as a table with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, MANIFEST_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(manifest)
    return text.getvalue()


def first_of_each_class(labels: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """A mask, shape (n,), of the first images of every class, as many as ImageDataGenerator's `validation_split` takes.

    Raises:
        ConfigError: a class so small that none of its images would be taken.
    """
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        mask[members[: int(fraction * len(members))]] = True
    without = sorted(set(labels.tolist()) - set(labels[mask].tolist()))
    if without:
        raise ConfigError(
            f"data.split=keras with data.validation_fraction={fraction:g} leaves class {label} without validation "
            f"images: it has {np.sum(labels == label)}. Use a larger fraction, or data.split=stratified."
            for label in without
        )
    return mask


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
    """A hash of a split's images (of their files' contents, if they are files) and labels, their shapes and order:
    16 hexadecimal digits of SHA-256."""
    sha = hashlib.sha256(repr((split.images.shape, split.labels.shape)).encode())
    if isinstance(split.images, np.ndarray):
        sha.update(np.ascontiguousarray(split.images).data)
    else:
        sha.update(split.images.digest())
    sha.update(np.ascontiguousarray(split.labels).data)
    return sha.hexdigest()[:16]


def epoch_order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch sees the images: a function of seed and epoch alone, int32, shape (n,).

    A run that is resumed at an epoch sees what it would have seen, and every engine sees the same.
    """
    return np.random.default_rng([seed, epoch]).permutation(num_images).astype(np.int32)
