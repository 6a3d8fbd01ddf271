"""An experiment's `Dataset`, made of a source's `Images`: split, thinned, weighted, hashed and described."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.arrays.pixel_values import converted, range_of_training
from mnistlab.data.background import background_of
from mnistlab.data.images import Images, Split, pixel_type
from mnistlab.data.manifest import build_manifest, manifest_csv
from mnistlab.data.reading_report import reading_report
from mnistlab.data.splitting import class_weights, select_training_images, split_images
from mnistlab.data.value_range import UINT8, ValueRange

LABELS_OF_CLASS_MODE = {"categorical": "one_hot", "sparse": "integer", "binary": "binary"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """What one experiment trains, validates and tests on.

    name, origin: the source's; digests: split name -> hash of its images and labels, in order;
    labels: the format of the loss's targets, 'one_hot', 'integer' or 'binary'; class_weight: class -> weight in the
    training loss; augmentation: ImageDataGenerator's arguments; warning, notes: messages for the user;
    manifest: for images in files one row each, skipped files last; its columns are `manifest.COLUMNS`; value_range: of
    the pixels.
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
    value_range: ValueRange = UINT8

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_outputs(self) -> int:
        """Units of the network's last layer: 1 for binary labels, else the number of classes."""
        return 1 if self.labels == "binary" else self.num_classes

    @property
    def output_activation(self) -> str:
        return "sigmoid" if self.labels == "binary" else "softmax"

    @property
    def resident(self) -> bool:
        """Whether all pixels are arrays in memory; if not, `folders.batches` reads them batch by batch."""
        return all(split.resident for split in self.splits.values())

    @property
    def loader(self) -> str:
        """'resident', 'stream' or 'generator'."""
        return "resident" if isinstance(self.train.images, np.ndarray) else self.train.images.loader

    @property
    def content(self) -> dict[str, str]:
        """What the data set is, wherever it is stored: each split's digest, a hash of the class names, the loader."""
        classes = hashlib.sha256(repr(self.class_names).encode()).hexdigest()[:16]
        return {**self.digests, "classes": classes, "loader": self.loader}

    @property
    def resident_bytes(self) -> int:
        """The size of the pixels in memory; splits that are the same images count once."""
        splits = {id(split): split for split in self.splits.values() if split.resident}
        return sum(int(np.prod(split.images.shape)) * np.dtype(self.dtype).itemsize for split in splits.values())

    @property
    def dtype(self) -> str:
        """'uint8' or 'float32', the type of the pixels."""
        return pixel_type(self.train.images)

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
        """Split name -> number of images of each class."""
        classes = self.num_classes
        return {name: np.bincount(split.labels, minlength=classes).tolist() for name, split in self.splits.items()}

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """The targets for the loss: one-hot rows, float32, shape (n, classes); for integer labels int32, shape (n,);
        for binary labels a column of 0.0 and 1.0, float32, shape (n, 1)."""
        if self.labels == "integer":
            return labels.astype(np.int32)
        if self.labels == "binary":
            return labels.astype(np.float32)[:, np.newaxis]
        return np.eye(self.num_classes, dtype=np.float32)[labels]

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Class probabilities, shape (n, classes), from the network's outputs: [1 - p, p] for binary labels."""
        return np.concatenate([1 - outputs, outputs], axis=1) if self.labels == "binary" else outputs


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
    """Split a source into training, validation and test images.

    Args:
        labels: 'one_hot' or 'integer', the format of the targets.
        class_mode: the same by Keras's names, 'categorical' or 'sparse', or 'binary'; None: use `labels`.
        split: 'stratified' draws images of every class; 'keras' takes the first of every class, as ImageDataGenerator
            does, and makes no test set.
        validation: 'holdout' takes the source's validation images or holds training images out, 'test' validates on
            the test set.
        validation_fraction, test_fraction: share of the training images held out if the source lacks that split.
        split_seed: seed of the held-out images, of `keep` and of `limit`.
        class_weight: 'balanced' (scikit-learn's formula), a mapping with every class, or None.
        keep: class -> share of its training images to keep, to make the classes imbalanced.
        limit: train on at most this many images; the classes keep their shares.
        augmentation: ImageDataGenerator's arguments, for training images only.

    Raises:
        ConfigError: a class does not exist, is missing, or has too few images to be split.
    """
    if class_mode:
        labels = _labels_of_class_mode(class_mode, images.class_names)
    images = with_value_range(images)
    generator = np.random.default_rng(split_seed)
    splits, notes = split_images(images, split, validation, validation_fraction, test_fraction, generator, split_seed)
    images = _range_of_training_split(images, splits["train"])
    splits["train"] = select_training_images(splits["train"], images.class_names, keep, limit, generator)
    manifest, duplicates = build_manifest(splits, images.skipped)
    digests = {name: digest(split) for name, split in splits.items()}  # of files, not of their pixels in memory
    splits = _resident_in_memory(splits)
    report = [] if images.how_read is None else [reading_report(images, splits)]
    return Dataset(
        name=images.name,
        origin=images.origin,
        **splits,
        class_names=images.class_names,
        digests=digests,
        labels=labels,
        class_weight=class_weights(class_weight, splits["train"].labels, images.class_names),
        augmentation=dict(augmentation or {}),
        warning=images.warning,
        notes=(*images.notes, *notes, *duplicates, *report),
        manifest=manifest,
        value_range=images.value_range or UINT8,
    )


def _labels_of_class_mode(class_mode: str, class_names: tuple[str, ...]) -> str:
    """The format of the targets by Keras's name for it."""
    if class_mode == "binary" and len(class_names) != 2:
        raise ConfigError(
            f"data.class_mode=binary needs exactly two classes. Received {len(class_names)}: "
            f"{', '.join(class_names[:20])}. Choose categorical or sparse."
        )
    return LABELS_OF_CLASS_MODE[class_mode]


def with_value_range(images: Images) -> Images:
    """The images of a source with their value range; arrays that are neither uint8 nor float32 are converted."""
    given = {"train.images": images.train, "validation.images": images.validation, "test.images": images.test}
    splits = {name: split for name, split in given.items() if split is not None}
    types = {pixel_type(split.images) for split in splits.values()}
    if types == {"uint8"} or (images.value_range is not None and types <= {"uint8", "float32"}):
        return images if images.value_range else replace(images, value_range=UINT8)
    arrays = {name: np.asarray(split.images) for name, split in splits.items()}
    stated = None if images.value_range is None else (images.value_range.black, images.value_range.white)
    read, values, sentence = converted(arrays, stated)
    made = {id(split): Split(array, split.labels) for split, array in zip(splits.values(), read, strict=True)}
    return replace(
        images,
        train=made[id(images.train)],
        validation=made.get(id(images.validation)),
        test=made.get(id(images.test)),
        how_read=None if images.how_read is None else (*images.how_read, *([sentence] if sentence else [])),
        value_range=values,
    )


def _range_of_training_split(images: Images, train: Split) -> Images:
    """The images with the value range of the training split alone, so that held-out images decide nothing."""
    before = images.value_range or UINT8
    if before.kind == "given" or train is images.train or pixel_type(train.images) == "uint8":
        return images
    values = range_of_training(np.asarray(train.images), "train.images")
    if values == before:
        return images
    sentence = f"Without the held-out images the value range is {values}."
    how_read = None if images.how_read is None else (*images.how_read, sentence)
    return replace(images, value_range=values, how_read=how_read)


def _resident_in_memory(splits: dict[str, Split]) -> dict[str, Split]:
    """Replace the files of a resident loader by their pixels; one split under two names stays one object."""
    loaded = {
        id(split): split if isinstance(split.images, np.ndarray) else Split(split.images.in_memory(), split.labels)
        for split in splits.values()
    }
    return {name: loaded[id(split)] for name, split in splits.items()}


def digest(split: Split) -> str:
    """A hash of a split's images (for files, of their contents) and labels: 16 digits of a SHA-256."""
    images = split.images
    kind = () if pixel_type(images) == "uint8" else (pixel_type(images),)
    sha = hashlib.sha256(repr((images.shape, split.labels.shape, *kind)).encode())
    sha.update(np.ascontiguousarray(images).data if isinstance(images, np.ndarray) else images.digest())
    sha.update(np.ascontiguousarray(split.labels).data)
    return sha.hexdigest()[:16]


def epoch_order(num_images: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch trains on the images, int32, shape (n,); it depends on seed and epoch only.

    So a resumed run continues with the same order, and all engines and loaders use the same one.
    """
    return np.random.default_rng([seed, epoch]).permutation(num_images).astype(np.int32)


def describe(dataset: Dataset) -> dict[str, Any]:
    """What is recorded about a data set, as plain values. 'manifest': the text of manifest.csv, or empty."""
    splits = {
        name: {
            "num_images": len(split),
            "image_shape": list(dataset.image_shape),
            "class_counts": dict(zip(dataset.class_names, dataset.counts[name], strict=True)),
            "digest": dataset.digests[name],
        }
        for name, split in dataset.splits.items()
    }
    return {
        "name": dataset.name,
        "origin": dataset.origin,
        "loader": dataset.loader,
        "dtype": dataset.dtype,
        "value_range": asdict(dataset.value_range),
        "background": background_of(dataset.train.images, dataset.value_range),
        "notes": list(dataset.notes),
        "class_names": list(dataset.class_names),
        "splits": splits,
        "manifest": manifest_csv(dataset.manifest) if dataset.manifest else "",
    }
