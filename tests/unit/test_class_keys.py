"""Keys of data.class_weight and data.keep: class names, and numbers with one meaning; quotes on the command line."""

from __future__ import annotations

import numpy as np
import pytest

from mnistlab.config import ConfigError
from mnistlab.config.class_keys import quote_mappings, read_mapping
from mnistlab.config.compose import compose_config
from mnistlab.data import Images, Split, loading, prepare
from mnistlab.data.class_keys import values_by_class

KERAS_ORDER = ("0", "1", "10", "11", "2", "3")  # sorted folder names
SHIFTED = ("1", "2", "3")
PADDED = ("01", "02", "03")


@pytest.mark.parametrize(
    ("class_names", "mapping", "expected"),
    [
        (("cat", "dog"), {"cat": 1, "dog": 5}, {0: 1, 1: 5}),
        (("cat", "dog"), {0: 1, "1": 5}, {0: 1, 1: 5}),
        (("0", "1", "2"), {2: 5, "1": 2}, {2: 5, 1: 2}),
        (KERAS_ORDER, {"10": 5, "2": 3}, {2: 5, 4: 3}),
        (KERAS_ORDER, {0: 5, 1: 3}, {0: 5, 1: 3}),  # both readings are the same class
        (KERAS_ORDER, {10: 5, 11: 3}, {2: 5, 3: 3}),  # there is no class number 10
        (SHIFTED, {"1": 5, 3: 2}, {0: 5, 2: 2}),
        (PADDED, {"01": 5}, {0: 5}),
        (("no", "null", "true"), {True: 5, None: 2}, {2: 5, 1: 2}),
        (("False", "True"), {False: 5}, {0: 5}),
        (("-1", "1"), {-1: 5}, {0: 5}),
        (("Straße", "a b"), {"Straße": 5}, {0: 5}),
    ],
)
def test_keys_that_mean_one_class(class_names, mapping, expected) -> None:
    assert values_by_class("data.keep", mapping, class_names) == expected


@pytest.mark.parametrize(
    ("class_names", "key", "expected"),
    [
        (
            KERAS_ORDER,
            2,
            "data.keep has the key 2, which may be the class named 2 or class number 2, counted from 0, which is named "
            "10. Write the class's name in quotes: 'data.keep={\"2\": VALUE}' or 'data.keep={\"10\": VALUE}'.",
        ),
        (SHIFTED, 1, "'data.keep={\"1\": VALUE}' or 'data.keep={\"2\": VALUE}'."),
        (PADDED, 1, "may be the class named 01 or class number 1, counted from 0, which is named 02."),
        (PADDED, "1", "may be the class named 01 or class number 1, counted from 0, which is named 02."),
        (("-1", "0", "1"), 0, "may be the class named 0 or class number 0, counted from 0, which is named -1."),
        (SHIFTED, 7, "data.keep has an unknown class. Received: 7. Classes: 1, 2, 3."),
        (("cat", "dog"), "Cat", "data.keep has an unknown class. Received: Cat. Classes: cat, dog."),
        (("cat", "dog"), 2, "unknown class. Received: 2."),
        (("cat", "dog"), -1, "unknown class. Received: -1."),
    ],
)
def test_keys_that_mean_two_classes_or_none(class_names, key, expected) -> None:
    with pytest.raises(ConfigError) as error:
        values_by_class("data.keep", {key: 0.5}, class_names)
    assert expected in str(error.value)


def test_two_keys_of_one_class_are_refused() -> None:
    with pytest.raises(ConfigError, match="names the class cat twice"):
        values_by_class("data.keep", {"cat": 1, 0: 0.5}, ("cat", "dog"))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ('data.keep={"10": 0.1}', {"10": 0.1}),
        ("data.keep={'10': 0.1, 2: .5}", {"10": 0.1, 2: 0.5}),
        ('data.class_weight={"10":5,"é ü":1.5}', {"10": 5, "é ü": 1.5}),
        ("data.class_weight={cat: 1, dog: 5}", {"cat": 1, "dog": 5}),
        ("data.class_weight={0:1,1:5}", {0: 1, 1: 5}),
        ("data.class_weight=balanced", "balanced"),
        ("data.keep=null", None),
    ],
)
def test_quoted_keys_are_names_on_the_command_line(override, expected) -> None:
    config = compose_config([override])
    assert getattr(config.data, override[5:].partition("=")[0]) == expected


def test_values_of_a_sweep_are_quoted_one_by_one() -> None:
    assert quote_mappings(['data.keep={"10": .1},{2: .1},null', 'model.units={"10": 1}', "data.keep='{\"1\": 1}'"]) == [
        "data.keep='{\"10\": .1}',{2: .1},null",
        'model.units={"10": 1}',
        "data.keep='{\"1\": 1}'",
    ]
    assert quote_mappings(["data.keep={'é': 1}"]) == [r"data.keep='{\'é\': 1}'"]


@pytest.mark.parametrize("text", ["{", "balanced", "{a: b: c}", "[1]", "a{}"])
def test_text_that_is_no_mapping_is_kept(text) -> None:
    assert read_mapping(text) == text


def test_numbers_and_names_stay_different_keys_until_the_classes_are_known(monkeypatch) -> None:
    labels = np.arange(60) % 6
    split = Split(np.zeros((60, 2, 2, 1), np.uint8), labels)
    monkeypatch.setattr(loading, "_loaded", lambda source: Images("made", split, split, KERAS_ORDER, "made"))
    dataset = loading.load(compose_config(['data.keep={"2": 0.2}', "data.split_seed=41"]))
    assert dataset.counts["train"] == [9, 9, 9, 9, 2, 9]
    with pytest.raises(ConfigError, match="data.keep has the key 2, which may be the class named 2 or class number 2"):
        loading.load(compose_config(["data.keep={2: 0.2}", "data.split_seed=41"]))


def two_classes(counts: tuple[int, int], test: bool) -> Images:
    labels = np.repeat([0, 1], counts)
    split = Split(np.zeros((len(labels), 2, 2, 1), np.uint8), labels)
    return Images("made", split, split if test else None, ("cat", "dog"), "made")


@pytest.mark.parametrize(
    ("counts", "test", "settings", "expected"),
    [
        (
            (9, 2),
            False,
            {},
            "Class 1 needs at least 3 training images to be split. Received: 2 of dog. Add images, or validate on the "
            "test images: data.validation=test.",
        ),
        ((9, 1), False, {}, "Received: 1 of dog. Add images or a test set."),
        ((2, 1), False, {}, "Classes 0, 1 need at least 3 training images to be split. Received: 2 of cat, 1 of dog."),
        ((9, 1), True, {}, "Received: 1 of dog. Add images, or validate on the test images: data.validation=test."),
        (
            (9, 1),
            False,
            {"validation": "test"},
            "at least 2 training images to be split. Received: 1 of dog. Add images",
        ),
        (
            (9, 1),
            True,
            {"validation": "test", "limit": 5},
            "data.limit=5 needs at least 2 training images of each class. Received: 1 of dog. Add images, or leave",
        ),
    ],
)
def test_too_few_images_are_refused_with_the_setting_that_helps(counts, test, settings, expected) -> None:
    with pytest.raises(ConfigError) as error:
        prepare(two_classes(counts, test), **settings)
    assert expected in str(error.value)


def test_the_advice_for_too_few_images_works() -> None:
    assert prepare(two_classes((9, 2), False), validation="test").counts["train"] == [8, 1]
    assert prepare(two_classes((9, 1), True), validation="test").counts["train"] == [9, 1]


def test_a_missing_class_weight_is_named() -> None:
    with pytest.raises(ConfigError, match=r"must name every class, 0 to 1. Missing: 1 \(dog\)"):
        prepare(two_classes((9, 9), True), class_weight={"cat": 1})
