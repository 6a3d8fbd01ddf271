"""One paragraph that tells the user how their data were read: shape, range, classes with counts, split."""

from collections.abc import Mapping

import numpy as np

from mnistlab.data.images import Images, Split, pixel_type

MAX_CLASSES_SHOWN = 20
REPORT_START = "How your data were read:"
SPLITS = ("train", "validation", "test")


def reading_report(images: Images, splits: Mapping[str, Split]) -> str:
    """'How your data were read: ...', from the source's sentences, `Images.how_read`, and the splits made of it."""
    train = splits["train"].images
    height, width, channels = train.shape[1:]
    shape = f"{height} x {width} pixels (height x width), {channels} channel{'s' if channels > 1 else ''}"
    shape += f", {pixel_type(train)}"
    if isinstance(train, np.ndarray):
        shape += f" from {train.min():.6g} to {train.max():.6g}"
    sizes = ", ".join(f"{len(splits[name]):,} {name}{_held_out(name, images, splits)}" for name in SPLITS)
    facts = (f"Images: {shape}.", f"Split: {sizes}.", _class_counts(images, splits))
    return " ".join([REPORT_START, *(images.how_read or ()), *facts])


def _held_out(name: str, images: Images, splits: Mapping[str, Split]) -> str:
    """Where the images of a split are from, if the source has no such split."""
    one_split = splits["validation"] is splits["test"]
    if one_split and name == ("validation" if images.test is not None else "test"):
        return f" (the {'test' if name == 'validation' else 'validation'} images)"
    given = {"train": images.train, "validation": images.validation, "test": images.test}[name]
    return "" if given is not None else " (held out of the training images)"


def _class_counts(images: Images, splits: Mapping[str, Split]) -> str:
    """'3 classes (train/validation/test): cat 10/2/3, ...'"""
    num_classes = len(images.class_names)
    counts = [np.bincount(splits[name].labels, minlength=num_classes).tolist() for name in SPLITS]
    rows = [f"{name} {'/'.join(map(str, row))}" for name, *row in zip(images.class_names, *counts, strict=True)]
    more = f", ... and {num_classes - MAX_CLASSES_SHOWN} more" if num_classes > MAX_CLASSES_SHOWN else ""
    return f"{num_classes} classes (images in {'/'.join(SPLITS)}): {', '.join(rows[:MAX_CLASSES_SHOWN])}{more}."
