"""The script's Part 2: images and labels are loaded, held out, thinned, scaled and one-hot encoded, as the run did."""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mnistlab.data import Dataset
from mnistlab.data.class_keys import values_by_class
from mnistlab.handover.document import Section
from mnistlab.handover.python_code import literal, wrapped_list
from mnistlab.handover.reading_code import Reading
from mnistlab.handover.recorded import RecordedRun
from mnistlab.training import augmentation
from mnistlab.training.building import describe_scaling
from mnistlab.training.models import scale_and_offset

MAX_SCALED_BYTES = 2 << 30  # of float32 training images in memory; more are scaled within the model

HOLD_OUT = '''
def hold_out(labels, fraction, generator):
    """Choose a random share of the images, the same share of every class: True for each chosen one."""
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * fraction
    sizes = np.floor(exact).astype(int)
    left_over = round(len(labels) * fraction) - sizes.sum()
    sizes[np.argsort(sizes - exact, kind="stable")[:left_over]] += 1
    chosen = np.zeros(len(labels), dtype=bool)
    for label, size in zip(classes, np.clip(sizes, 1, counts - 1)):
        chosen[generator.permutation(np.flatnonzero(labels == label))[:size]] = True
    return chosen
'''
FIRST_OF_EACH_CLASS = '''
def first_of_each_class(labels, fraction):
    """Choose the first images of every class, as ImageDataGenerator(validation_split=...) does."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen[members[: int(fraction * len(members))]] = True
    return chosen
'''


@dataclass(frozen=True)
class DataFacts:
    """What the script does with the pixels. in_model: the scaling is a layer of the model, not done here;
    class_weight: the code of the weights, or ''; num_augmenting: layers of the model that vary the images."""

    scale: float
    offset: float
    in_model: bool
    class_weight: str = ""
    num_augmenting: int = 0


def facts_of(run: RecordedRun, dataset: Dataset, in_model: bool = False) -> DataFacts:
    """How this run scaled its images and weighted its classes.

    in_model: scale in the model in any case.
    """
    scale, offset = scale_and_offset(run.config.data.rescale or run.config.data.scaling, dataset.value_range)
    too_large = sum(4 * math.prod(split.images.shape) for split in dataset.splits.values()) > MAX_SCALED_BYTES
    precise = run.config.fit.precision == "float64"  # Keras hands arrays over as float32
    weights = _class_weight(run, dataset)
    layers = augmentation.layers(dataset.augmentation, dataset.image_shape) if dataset.loader != "generator" else []
    return DataFacts(scale, offset, in_model or too_large or precise, weights, len(layers))


def _class_weight(run: RecordedRun, dataset: Dataset) -> str:
    rule = run.config.data.class_weight
    if rule is None:
        return ""
    if rule == "balanced":
        return (
            'weights = compute_class_weight("balanced", classes=np.unique(train_labels), y=train_labels)\n'
            "class_weight = dict(zip(np.unique(train_labels).tolist(), weights.tolist()))\n"
            "print(class_weight)"
        )
    return f"class_weight = {literal(dataset.class_weight)}"


def sections(run: RecordedRun, dataset: Dataset, reading: Reading, facts: DataFacts) -> Iterator[Section]:
    """The sections of Part 2."""
    classes = wrapped_list(dataset.class_names, "CLASS_NAMES")
    yield Section("Part 2.1: Load the images", reading.text, f"{classes}\n\n{reading.code}")
    if not reading.is_split and (splitting := _splitting(run, reading)):
        yield splitting
    yield Section(
        "Part 2.1: Are these the images of the run?",
        "A check that costs nothing: the sum of all training pixels. If your files have changed, or Keras gives other "
        "ones, the numbers below cannot be those of the run.",
        _check(dataset),
    )
    yield _scaling(run, dataset, facts)
    yield _labels(dataset)
    if facts.class_weight:
        yield Section(
            "Part 6.2: Class weights",
            "An image of a rare class counts more in the loss, so that the network cannot ignore the class "
            "(data.class_weight).",
            facts.class_weight,
        )


def _splitting(run: RecordedRun, reading: Reading) -> Section | None:
    data, functions = run.config.data, ""
    lines: list[str] = []
    texts: list[str] = []
    keras_rule = data.split == "keras"
    test_exists = reading.has_test
    if not reading.has_test and not keras_rule:
        lines.append(_held_out("test", f"{data.test_fraction!r}, np.random.default_rng([{data.split_seed}, 1])"))
        texts.append(f"The data have no test set: {data.test_fraction:.0%} of the training images become one.")
        test_exists = True
    if data.validation == "test" and test_exists:
        lines.append("X_val, val_labels = X_test, test_labels")
        texts.append("As the guide does, the test images are also the validation images (data.validation=test).")
    elif not reading.has_validation:
        texts.append(
            f"{data.validation_fraction:.0%} of the training images are held out for the validation "
            "(data.validation_fraction): the network never trains on them, and the test images stay unseen until the "
            "end."
        )
        if keras_rule:
            functions += FIRST_OF_EACH_CLASS
            lines.append(_held_out("val", f"{data.validation_fraction!r}", "first_of_each_class"))
        else:
            lines.append(_held_out("val", f"{data.validation_fraction!r}, generator"))
    if not test_exists:
        lines.append("X_test, test_labels = X_val, val_labels")
        texts.append("There is no test set: the validation images stand for it (data.split=keras).")
    for label, share in values_by_class("data.keep", data.keep or {}, reading.class_names).items():
        texts.append(f"Of the class {reading.class_names[label]} only {share:g} of the images are kept (data.keep).")
    lines += _thinning(run, reading)
    if data.limit is not None:
        texts.append(f"The training uses at most {data.limit:,} images, the same share of every class (data.limit).")
    if not lines:
        return None
    code = "\n".join(lines)
    functions += f"\n{HOLD_OUT}" if "hold_out(" in code else ""
    if "generator" in code:
        code = f"generator = np.random.default_rng({data.split_seed})  # data.split_seed\n{code}"
    return Section(
        "Part 2.1: Which images train, validate and test", " ".join(texts), f"{functions.strip()}\n\n\n{code}".strip()
    )


def _held_out(name: str, arguments: str, function: str = "hold_out") -> str:
    return textwrap.dedent(f"""
        held_out = {function}(train_labels, {arguments})
        X_{name}, {name}_labels = X_train[held_out], train_labels[held_out]
        X_train, train_labels = X_train[~held_out], train_labels[~held_out]
    """).strip()


def _thinning(run: RecordedRun, reading: Reading) -> Iterator[str]:
    data = run.config.data
    if data.keep:
        shares = values_by_class("data.keep", data.keep, reading.class_names)
        yield textwrap.dedent(f"""
            kept = np.ones(len(train_labels), dtype=bool)
            for label, share in {literal(shares)}.items():
                members = generator.permutation(np.flatnonzero(train_labels == label))
                kept[members[max(1, round(len(members) * share)) :]] = False
            X_train, train_labels = X_train[kept], train_labels[kept]
        """).strip()
    if data.limit is not None:
        yield textwrap.dedent(f"""
            if len(train_labels) > {data.limit}:
                used = hold_out(train_labels, {data.limit} / len(train_labels), generator)
                X_train, train_labels = X_train[used], train_labels[used]
        """).strip()


def _check(dataset: Dataset) -> str:
    counts = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    if not dataset.train.resident:
        return (
            f"assert (len(X_train), len(X_val), len(X_test)) == {tuple(map(len, dataset.splits.values()))}\n"
            f'print("{counts} images")'
        )
    pixel_sum = float(np.asarray(dataset.train.images).sum(dtype=np.float64))
    return textwrap.dedent(f"""
        if not np.isclose(X_train.sum(dtype="float64"), {pixel_sum!r}, rtol=1e-6):
            print("WARNING: these are not the training images of the run")
        print(len(X_train), "training,", len(X_val), "validation,", len(X_test), "test images")
    """).strip()


def _scaling(run: RecordedRun, dataset: Dataset, facts: DataFacts) -> Section:
    rule = describe_scaling(run.config, dataset)
    title = "Part 2.2: Scale the pixels"
    if facts.in_model:
        return Section(
            title,
            f"The pixels are scaled by a layer of the model (Part 3), not here, which takes less memory: {rule}.",
            f"INPUT_SHAPE = {literal(dataset.image_shape)}",
        )
    factor = f"np.float32(1 / {1 / facts.scale:g})" if _is_inverse(facts.scale) else f"np.float32({facts.scale!r})"
    expression = 'images.astype("float32")'
    expression += "" if facts.scale == 1 else f" * {factor}"
    expression += "" if facts.offset == 0 else f" + np.float32({facts.offset!r})"
    same = "X_test = X_val" if dataset.validation is dataset.test else "X_test = scaled(X_test)"
    return Section(
        title,
        f"Networks learn best from small numbers: {rule}. The run multiplies where the guide divides, which differs "
        "in the last digit.",
        f"def scaled(images):\n    return {expression}\n\n\n"
        f"X_train = scaled(X_train)\nX_val = scaled(X_val)\n{same}\nINPUT_SHAPE = X_train.shape[1:]",
    )


def _is_inverse(scale: float) -> bool:
    return 0 < scale < 1 and round(1 / scale) < 1 << 24 and 1 / round(1 / scale) == scale


def _labels(dataset: Dataset) -> Section:
    title, names = "Part 2.3: One-hot encoding", (("train", "train"), ("val", "val"), ("test", "test"))
    if dataset.labels == "one_hot":
        text = "The label 3 becomes a row of zeros with a 1 at position 3, which the loss compares with the softmax."
        expression = f"keras.utils.to_categorical({{}}_labels, {dataset.num_classes})"
    elif dataset.labels == "integer":
        text = "Integer labels need no encoding: the sparse cross-entropy computes the same as the one-hot one."
        title, expression = "Part 2.3: The labels", '{}_labels.astype("int32")'
    else:
        text = "Two classes and one output: the label is 0.0 or 1.0, the probability of the second class."
        title, expression = "Part 2.3: The labels", '{}_labels.astype("float32").reshape(-1, 1)'
    return Section(title, text, "\n".join(f"y_{name} = {expression.format(labels)}" for name, labels in names))
