"""Arrays as users have them: each kind of names, shapes, pixel values and labels is read as meant, or refused by the
exact message."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnistlab.config import ConfigError
from mnistlab.data import prepare, sources
from mnistlab.data.arrays.assemble import images_from_arrays
from mnistlab.data.arrays.names import role_of
from mnistlab.data.dataset import digest
from mnistlab.data.value_range import ValueRange

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 1), dtype=np.uint8)
PIXELS.flat[:2] = 0, 255
SQUARE = np.random.default_rng(1).integers(0, 256, (12, 28, 28, 1), dtype=np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
INK = (PIXELS > 127).astype(np.uint8)
NUMBERS = np.arange(12) % 3
FOUR = {"x_train": PIXELS, "y_train": NUMBERS, "x_test": PIXELS, "y_test": NUMBERS}


def save(folder: Path, **arrays: np.ndarray) -> str:
    file = folder / "own.npz"
    np.savez(file, **arrays)
    return str(file)


def read(images: np.ndarray = PIXELS, labels: np.ndarray = NUMBERS, **more: Any) -> sources.Images:
    """Training arrays as `Images`; `more`: further arrays, class_names as a list, image_shape."""
    keywords = {key: more.pop(key) for key in ("image_shape",) if key in more}
    names = more.pop("class_names") if isinstance(more.get("class_names"), list) else None
    return images_from_arrays({"x_train": images, "y_train": labels, **more}, "own", "here", names, **keywords)


def error_of(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(ConfigError) as error:
        read(*arguments, **keywords)
    return str(error.value)


LABELS = {
    "from_0": (NUMBERS, ("0", "1", "2"), None),
    "from_1": (NUMBERS + 1, ("1", "2", "3"), "The labels 1..3 are the classes 0..2."),
    "two": (NUMBERS[:12] % 2 + 1, ("1", "2"), "The labels 1, 2 are the classes 0, 1."),
    "gaps": (np.array([3, 7, 9])[NUMBERS], ("3", "7", "9"), "The labels 3, 7, 9 are the classes 0..2."),
    "gap_after_0": (np.array([0, 2, 5])[NUMBERS], ("0", "2", "5"), "The labels 0, 2, 5 are the classes 0..2."),
    "huge": (np.array([0, 5, 10**12])[NUMBERS], ("0", "5", "1000000000000"), "0, 5, 1000000000000 are"),
    "negative": (NUMBERS - 1, ("-1", "0", "1"), "The labels -1..1 are the classes 0..2."),
    "plus_and_minus": (np.where(NUMBERS > 0, 1, -1), ("-1", "1"), "The labels -1, 1 are the classes 0, 1."),
    "uint8_column": (NUMBERS.astype(np.uint8)[:, np.newaxis], ("0", "1", "2"), None),
    "uint64": (NUMBERS.astype(np.uint64) + 4, ("4", "5", "6"), "The labels 4..6 are"),
    "whole_floats": (NUMBERS + 1.0, ("1", "2", "3"), "The labels 1..3 are the classes 0..2."),
    "booleans": (NUMBERS > 0, ("False", "True"), "The labels False, True are the classes 0, 1."),
    "text": (np.array(["cat", "ant", "bee"])[NUMBERS], ("ant", "bee", "cat"), "ant, bee, cat are the classes 0..2."),
    "bytes": (np.array([b"caf\xc3\xa9", b"b", b"\xff"])[NUMBERS], ("b", "café", "ÿ"), "b, café, ÿ are"),
    "text_of_numbers": (np.array(["9", "10", "8"])[NUMBERS], ("8", "9", "10"), "The labels 8, 9, 10 are"),
    "text_with_zeros": (np.array(["9", "10", "08"])[NUMBERS], ("08", "10", "9"), "The labels 08, 10, 9 are"),
    "one_hot": (np.eye(3)[NUMBERS], ("0", "1", "2"), None),
    "one_hot_booleans": (np.eye(3, dtype=bool)[NUMBERS], ("0", "1", "2"), None),
    "one_hot_with_an_empty_class": (np.eye(4, dtype=np.uint8)[NUMBERS], ("0", "1", "2", "3"), None),
}


@pytest.mark.parametrize("kind", LABELS)
def test_any_set_of_labels_is_a_set_of_classes(kind: str) -> None:
    labels, names, sentence = LABELS[kind]
    images = read(labels=labels)
    assert images.class_names == names
    assert images.train.labels.dtype == np.int64
    if labels.ndim == 1:
        original = [
            value.decode("utf-8" if value != b"\xff" else "latin-1") if kind == "bytes" else value
            for value in labels.tolist()
        ]
        named = [images.class_names[label] for label in images.train.labels]
        assert named == [str(int(value)) if isinstance(value, float) else str(value) for value in original]
    else:
        assert images.train.labels.tolist() == NUMBERS.tolist()
    assert (" ".join(images.how_read) == "") == (sentence is None)
    assert sentence is None or sentence in images.how_read[-1]


def test_a_file_of_one_saved_dictionary_is_answered_with_how_to_save_its_arrays(tmp_path) -> None:
    np.savez(tmp_path / "own.npz", {"x": PIXELS, "y": NUMBERS})
    with pytest.raises(ConfigError, match=r"numpy.savez_compressed\(path, \*\*dictionary\)"):
        sources.npz(str(tmp_path / "own.npz"))


def test_axes_of_images_and_labels_as_other_programs_have_them(tmp_path) -> None:
    images = read(images=np.moveaxis(COLOUR, 0, -1), labels=NUMBERS[np.newaxis])
    assert np.array_equal(images.train.images, COLOUR)
    assert images.train.labels.tolist() == NUMBERS.tolist()
    assert images.how_read == ("The last axis of x_train counts the images and is now the first.",)
    assert np.array_equal(read(images=SQUARE.reshape(12, 784, 1)).train.images, SQUARE)
    assert "must have the same length. Received: 12 images, 6 labels" in error_of(PIXELS[..., 0], NUMBERS[:6])


def test_a_class_that_only_one_split_has() -> None:
    """The classes are those of all splits together; ten classes of which one has no image stay ten."""
    labels = np.array([0, 2])[np.arange(12) % 2]
    test = {"x_test": PIXELS, "y_test": NUMBERS}
    images = read(labels=labels, **test)
    assert images.class_names == ("0", "1", "2")
    assert images.train.labels.tolist() == labels.tolist()
    assert images.warning == "y_test has classes without training images: 1. They stay classes."
    digits = np.array([0, 1, 2, 3, 4, 6, 7, 8, 9, 0, 1, 2])
    images = read(labels=digits)
    assert images.class_names == tuple("0123456789")
    assert images.train.labels.tolist() == digits.tolist()
    assert images.warning == "Classes without any image: 5. They stay classes."
    assert read(labels=digits[digits < 5], images=PIXELS[digits < 5]).class_names == tuple("01234")


def test_names_that_may_mean_one_class_are_a_warning() -> None:
    images = read(labels=np.array(["cat", "Cat ", "dog"])[NUMBERS])
    assert images.class_names == ("Cat ", "cat", "dog")
    assert images.warning == (
        "Classes that differ only in case or spaces: 'Cat ', 'cat'. Are they meant to be different?"
    )


NAMES = {
    "list": (NUMBERS, ["a", "b", "c"], [0, 1, 2]),
    "longer_list": (NUMBERS, ["a", "b", "c", "d"], [0, 1, 2]),
    "array": (NUMBERS, np.array(["a", "b", "c"]), [0, 1, 2]),
    "bytes": (NUMBERS, np.array([b"a", b"b", b"c"]), [0, 1, 2]),
    "from_1": (NUMBERS + 1, ["a", "b", "c"], [0, 1, 2]),
    "from_1_with_a_name_for_0": (NUMBERS + 1, ["none", "a", "b", "c"], [1, 2, 3]),
    "text_in_the_order_of_the_names": (np.array(["x", "z", "y"])[NUMBERS], ["z", "y", "x"], [2, 0, 1]),
    "text_of_numbers": (np.array(["0", "1", "2"])[NUMBERS], ["z", "y", "x"], [0, 1, 2]),
    "booleans": (NUMBERS > 0, ["no", "yes"], [0, 1, 1]),
    "one_hot": (np.eye(3)[NUMBERS], ["z", "y", "x"], [0, 1, 2]),
}


@pytest.mark.parametrize("kind", NAMES)
def test_class_names_count_the_labels_or_are_the_labels(kind: str) -> None:
    labels, names, first = NAMES[kind]
    images = read(labels=labels, class_names=names)
    texts = (
        names if isinstance(names, list) else [name.decode() if kind == "bytes" else name for name in names.tolist()]
    )
    assert images.class_names == tuple(texts)
    assert images.train.labels[:3].tolist() == first


def scaled(factor: float, dtype: type) -> np.ndarray:
    return (PIXELS / factor).astype(dtype)


VALUES = {
    "uint8": (PIXELS, PIXELS, ""),
    "whole_floats": (PIXELS.astype(np.float32), PIXELS, ""),
    "int64": (PIXELS.astype(np.int64), PIXELS, ""),
    "big_endian": (PIXELS.astype(">i4"), PIXELS, ""),
    "not_contiguous": (np.repeat(PIXELS, 2, axis=1)[:, ::2], PIXELS, ""),
    "black_and_white": (INK * 255, INK * 255, ""),
    "booleans": (INK.astype(bool), INK * 255, "1 became 255"),
    "zeros_and_ones": (INK, INK * 255, "1 became 255"),
    "zeros_and_ones_as_int": (INK.astype(np.int64), INK * 255, "1 became 255"),
    "zeros_and_ones_as_float": (INK.astype(np.float32), INK * 255, "1 became 255"),
    "divided_float64": (PIXELS / 255, PIXELS, "they are exact"),
    "divided_float32": (PIXELS.astype(np.float32) / np.float32(255), PIXELS, "they are exact"),
    "multiplied_float32": (PIXELS.astype(np.float32) * np.float32(1 / 255), PIXELS, "they are exact"),
    "float32_made_float64": ((PIXELS.astype(np.float32) / 255).astype(np.float64), PIXELS, "they are exact"),
    "divided_float16": (PIXELS.astype(np.float16) / np.float16(255), PIXELS, "they are exact"),
    "dark": (PIXELS // 16, PIXELS // 16, "WARNING: no pixel is above 15."),
    "all_black": (PIXELS * 0, PIXELS * 0, ""),
}


@pytest.mark.parametrize("kind", VALUES)
def test_pixels_are_read_as_meant(kind: str) -> None:
    given_pixels, expected, sentence = VALUES[kind]
    images = read(given_pixels, x_test=given_pixels[:2], y_test=NUMBERS[:2])
    assert images.train.images.dtype == np.uint8
    assert np.array_equal(images.train.images, expected)
    assert np.array_equal(images.test.images, expected[:2])
    assert sentence in " ".join(images.how_read)
    assert bool(sentence) == bool(images.how_read)


def test_the_scale_is_that_of_all_splits_together() -> None:
    divided = PIXELS / 255
    images = read(divided, x_val=divided * 0, y_val=NUMBERS, x_test=INK.astype(float), y_test=NUMBERS)
    assert np.array_equal(images.train.images, PIXELS)
    assert np.array_equal(images.test.images, INK * 255)
    assert images.validation is not None
    assert images.validation.images.max() == 0
    message = error_of(PIXELS, x_test=divided, y_test=NUMBERS)
    assert message == (
        "x_train and x_test must be on one scale. Received: uint8 from 0 to 255 and float64 from 0 to 1. "
        "Save (255 * x_test).round().astype('uint8')."
    )
    assert "Save (255 * x_train).round().astype('uint8')." in error_of(INK, x_test=PIXELS, y_test=NUMBERS)


WIDE = PIXELS.astype(np.int64)
FLOATS = {  # stored values, dtypes, black, white and kind of the range
    "fractions": (PIXELS / 255 * 0.997, ["f2", "f4", "f8"], 0, 1, "unit"),
    "overshoot": (PIXELS / 255 * 1.05, ["f2", "f4", "f8"], 0, 1, "unit"),
    "minus_1_to_1": (PIXELS / 127.5 - 1, ["f2", "f4", "f8"], -1, 1, "signed"),
    "minus_1_0_1": (WIDE % 3 - 1, ["i2", "i4", "i8", "f2", "f4"], -1, 1, "signed"),
    "standardized": ((WIDE - 51) / 102, ["f2", "f4", "f8"], -0.5, 2, "standardized"),
    "standardized_whole": (WIDE % 4 - 2, ["i2", "i8", "f4"], -2, 1, "standardized"),
    "fractions_up_to_255": (PIXELS * 0.997, ["f2", "f4", "f8"], 0, 255, "pixels"),
    "overshoot_of_255": (PIXELS * 1.001, ["f2", "f4", "f8"], 0, 255, "pixels"),
    "small_fractions": (PIXELS * 0.015625, ["f2", "f4", "f8"], 0, 3.984375, "range"),
    "just_above": (WIDE + 1, ["i2", "u2", "i4", "i8", "f2", "f4", "f8"], 0, 1023, "bits"),
    "ten_bits": (WIDE * 4, ["i2", "u2", "i4", "i8", "f2", "f4", "f8"], 0, 1023, "bits"),
    "twelve_bits": (WIDE * 16, ["i2", "u2", "i4", "i8", "f2", "f4", "f8"], 0, 4095, "bits"),
    "twelve_bits_with_fractions": (WIDE * 15.5, ["f4", "f8"], 0, 4095, "bits"),
    "fourteen_bits": (WIDE * 64, ["i2", "u2", "i4", "f4"], 0, 16383, "bits"),
    "sixteen_bits": (WIDE * 257, ["u2", "i4", "u4", "i8", "u8", "f4", "f8"], 0, 65535, "bits"),
    "ct": (WIDE * 16 - 1000, ["i2", "i4", "i8", "f2", "f4", "f8"], -1000, 3080, "range"),
    "centered_bytes": (WIDE - 128, ["i2", "i4", "i8", "f2", "f4", "f8"], -128, 127, "range"),
    "millions": (WIDE * 65536 + 65536, ["i4", "u4", "i8", "u8", "f4", "f8"], 65536, 2**24, "range"),
    "beyond_2_to_24": (WIDE * 2**40, ["i8", "u8", "f4", "f8"], 0, 255 * 2**40, "range"),
    "constant_fraction": (PIXELS * 0 + 0.5, ["f2", "f4", "f8"], 0, 1, "unit"),
}


@pytest.mark.parametrize("kind", FLOATS)
def test_values_on_another_scale_are_kept_as_float32_with_their_range(kind: str) -> None:
    stored, dtypes, black, white, name = FLOATS[kind]
    for dtype in dtypes:
        given_pixels = stored.astype(dtype)
        images = read(given_pixels.astype(f">{dtype}"), x_test=given_pixels[:2], y_test=NUMBERS[:2])
        assert images.train.images.dtype == images.test.images.dtype == np.float32
        assert np.array_equal(images.train.images, given_pixels.astype(np.float32))
        assert np.array_equal(images.test.images, given_pixels[:2].astype(np.float32))
        assert images.value_range == ValueRange(pytest.approx(black), pytest.approx(white), name)
        sentence = "The values are not all whole numbers from 0 to 255 and are kept as float32. Value range: "
        assert images.how_read[-1].startswith(sentence)


def test_a_value_range_can_be_given(tmp_path) -> None:
    """Also for values that are exact in uint8: then 0 and 1, or 0 to 15, keep these values."""
    for stored, given_range, dtype in [
        (PIXELS.astype(np.uint16) * 16, [0, 65535], np.float32),
        (PIXELS // 16, [0, 15], np.uint8),
        (INK.astype(bool), [0, 1], np.uint8),
        (PIXELS / 255, [0, 1], np.float32),
        (PIXELS.view(np.int8), [-128, 127], np.float32),
    ]:
        file = save(tmp_path, x_train=stored, y_train=NUMBERS, x_test=stored, y_test=NUMBERS)
        images = sources.npz(file, value_range=given_range)
        assert images.train.images.dtype == dtype
        assert np.array_equal(images.train.images, stored.astype(dtype))
        assert images.value_range == ValueRange(*given_range, "given")
        assert f"Value range: {given_range[0]} to {given_range[1]} (source.value_range)." in images.how_read[-1]
    for wrong, expected in [
        ([255, 0], "two numbers, the values of black and white, black below white: '[0,4095]'. Received: [255, 0]."),
        ([0], "Received: [0]."),
        ("0,255", "Received: 0,255."),
        ([0, float("nan")], "Received: [0, nan]."),
        ([0, 65535], "source.value_range='[0,65535]' must be the values of black and white in x_train. Received: "),
        ([0, 50], "Received: uint8 from 0 to 255."),
    ]:
        with pytest.raises(ConfigError) as error:
            sources.npz(save(tmp_path, **FOUR), value_range=wrong)
        assert expected in str(error.value)


SCALES = {  # training images, test images, the value range, or None: they are refused
    "a_little_darker": (PIXELS / 255 * 0.997, PIXELS / 255 * 0.9, (0, 1)),
    "exact_beside_fractions": (PIXELS / 255, PIXELS / 255 * 0.99, (0, 1)),
    "a_little_beyond": (PIXELS / 255 * 0.997, PIXELS / 255 * 1.05, (0, 1)),
    "whole_beside_fractions": (PIXELS, PIXELS * 0.99, (0, 255)),
    "more_bits_beyond": (WIDE * 4, WIDE * 4 + 40, (0, 1023)),
    "ct": (WIDE * 16 - 1000, WIDE * 16 - 1024, (-1000, 3080)),
    "standardized_beyond": ((WIDE - 51) / 102, (WIDE - 60) / 90, (-0.5, 2)),
    "all_black": (WIDE * 16, WIDE * 0, (0, 4095)),
    "twelve_and_8_bits": (PIXELS.astype(np.uint16) * 16, PIXELS, None),
    "sixteen_and_8_bits": (WIDE * 257, WIDE, None),
    "8_and_16_bits": (WIDE, WIDE * 257, None),
    "unit_and_255": (PIXELS / 255 * 0.997, PIXELS, None),
    "255_and_unit": (PIXELS * 0.997, PIXELS / 255, None),
    "signed_and_unit": (PIXELS / 127.5 - 1, PIXELS / 255, None),
    "unit_and_signed": (PIXELS / 255 * 0.997, PIXELS / 127.5 - 1, None),
    "standardized_and_255": ((WIDE - 51) / 102, PIXELS, None),
    "standardized_and_unit": ((WIDE - 51) / 102, PIXELS / 255, None),
    "ct_and_8_bits": (WIDE * 16 - 1000, PIXELS, None),
}


@pytest.mark.parametrize("kind", SCALES)
def test_the_training_images_alone_decide_the_value_range(kind: str) -> None:
    train, test, expected = SCALES[kind]
    if expected is None:
        message = error_of(train, x_test=test, y_test=NUMBERS)
        assert message.startswith("x_train and x_test must be on one scale. Received: ")
        assert "Save (255 * x_" in message or message.endswith("source.value_range='[BLACK,WHITE]'.")
        return
    images = read(train, x_test=test, y_test=NUMBERS)
    assert (images.value_range.black, images.value_range.white) == expected
    assert np.array_equal(images.test.images, test.astype(np.float32))


def test_held_out_images_do_not_decide_the_value_range() -> None:
    """Wherever the outlier is held out, the range is that of the training images, and a note says so."""
    stored = np.tile(WIDE * 16 - 1000, (5, 1, 1, 1))
    stored[7] = 9000
    ranges = set()
    for seed in range(12):
        dataset = prepare(read(stored, np.tile(NUMBERS, 5)), split_seed=seed)
        in_training = dataset.train.images.max() == 9000
        assert dataset.value_range == ValueRange(-1000, 9000 if in_training else 3080, "range")
        assert ("Without the held-out images the value range is -1000 to 3080." in dataset.notes[-1]) != in_training
        ranges.add(dataset.value_range)
    assert len(ranges) == 2


def test_a_users_source_may_return_any_numbers() -> None:
    """Its arrays are read as those of a file; digests depend on the type, those of uint8 are as before."""
    labels = np.tile(NUMBERS, 5)
    for stored, dtype, expected in [
        (np.tile(PIXELS, (5, 1, 1, 1)), "uint8", ValueRange(0, 255, "uint8")),
        (np.tile(PIXELS / 255, (5, 1, 1, 1)), "uint8", ValueRange(0, 255, "uint8")),
        (np.tile(WIDE * 16, (5, 1, 1, 1)), "float32", ValueRange(0, 4095, "bits")),
    ]:
        split = sources.Split(stored, labels)
        dataset = prepare(sources.Images("own", split, split, ("a", "b", "c"), "here"), validation="test")
        assert (dataset.dtype, dataset.value_range) == (dtype, expected)
        assert dataset.validation is dataset.test
        assert np.array_equal(dataset.test.images, np.tile(PIXELS if dtype == "uint8" else WIDE * 16, (5, 1, 1, 1)))
    assert digest(sources.Split(PIXELS, NUMBERS)) == "1ce61ef1c1c06ca2"  # as in earlier versions
    assert digest(sources.Split(PIXELS.astype(np.float32), NUMBERS)) != digest(sources.Split(PIXELS, NUMBERS))
    ink, bits = np.zeros((1, 2, 2, 1), np.float32), np.zeros((1, 2, 2, 1), np.uint8)
    assert digest(sources.Split(ink, NUMBERS[:1])) != digest(sources.Split(bits, NUMBERS[:1]))


def test_images_are_shown_from_black_to_white() -> None:
    shown = ValueRange(-1000, 3080, "range").as_pixels(np.array([-1024, -1000, 1040, 3080, 9000], np.float32))
    assert (shown.dtype, shown.tolist()) == (np.uint8, [0, 0, 128, 255, 255])
    assert ValueRange(0, 255, "uint8").as_pixels(PIXELS) is PIXELS
    assert ValueRange(0, 15, "given").as_pixels(np.array([[0, 15]], np.uint8)).tolist() == [[0, 255]]


SHAPES = {
    "without_channels": (PIXELS[..., 0], PIXELS, "", None),
    "grey": (PIXELS, PIXELS, "", None),
    "colour": (COLOUR, COLOUR, "", None),
    "transparent": (
        np.concatenate([COLOUR, COLOUR[..., :1]], 3),
        np.concatenate([COLOUR, COLOUR[..., :1]], 3),
        "",
        None,
    ),
    "flat_mnist": (
        SQUARE.reshape(12, 784),
        SQUARE,
        "Rows of 784 values are images of 28 x 28 pixels, one channel.",
        None,
    ),
    "channel_first": (np.moveaxis(SQUARE, -1, 1), SQUARE, "The channels, 1, were the first axis", None),
    "channels_first": (np.moveaxis(COLOUR, -1, 1), COLOUR, "The channels, 3, were the first axis", None),
    "flat_with_a_size": (PIXELS.reshape(12, 30), PIXELS, "", [6, 5]),
    "flat_colour": (COLOUR.reshape(12, -1), COLOUR, "", [8, 8, 3]),
    "flat_colour_in_planes": (np.moveaxis(COLOUR, -1, 1).reshape(12, -1), COLOUR, "The channels, 3, were", [3, 8, 8]),
    "known_size": (COLOUR, COLOUR, "", [8, 8, 3]),
    "known_size_without_channels": (PIXELS[..., 0], PIXELS, "", [6, 5]),
    "three_rows": (PIXELS[:, :3], PIXELS[:, :3], "", None),
    "four_by_four": (PIXELS[:, :4, :4], PIXELS[:, :4, :4], "", None),
    "said_to_be_channels_last": (COLOUR[:, :3, :3], COLOUR[:, :3, :3], "", [3, 3, 3]),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_become_height_width_channels(kind: str) -> None:
    given_pixels, expected, sentence, shape = SHAPES[kind]
    images = read(given_pixels, image_shape=shape)
    assert images.train.images.shape == expected.shape
    assert np.array_equal(images.train.images, expected)
    assert images.train.images.flags.c_contiguous
    assert sentence in " ".join(images.how_read)


SHAPE_RULE = "x_train must have the shape (n, height, width) or (n, height, width, 1, 3 or 4). Received: "
SOFT = np.array([[1, 0, 0], [0.9, 0.1, 0]])[NUMBERS % 2]
REFUSED = {
    "int8": ({"images": PIXELS.view(np.int8)}, "Save x_train.view('uint8') if bytes were stored as int8, or "),
    "too_precise": ({"images": WIDE * 2**20 + 1}, "x_train must hold numbers that float32 can hold. Received: int64 "
                    "from 1 to 2.67387e+08, whole numbers that float32 cannot hold exactly. Save them on a smaller"),
    "too_large": ({"images": WIDE * 2**50}, "whole numbers that float32 cannot hold exactly"),
    "beyond_float32": ({"images": PIXELS * 1e300}, "float64 from 0 to 2.55e+302, numbers beyond float32."),
    "constant": ({"images": WIDE * 0 - 500}, "x_train must hold different values. Received: -500 in all images."),
    "nan": ({"images": np.where(PIXELS == 255, np.nan, PIXELS)}, "x_train must hold finite numbers. Received: NaN or"),
    "infinite": ({"images": np.where(PIXELS == 255, np.inf, PIXELS)}, "np.nan_to_num(x_train, nan=0, posinf=255"),
    "infinite_ct": ({"images": np.where(PIXELS == 7, np.inf, WIDE * 16 - 1000)}, "np.nan_to_num(x_train, nan=-1000, "
                    "posinf=3080, neginf=-1000) if such a pixel is a black or white one."),
    "nan_unit": ({"images": np.where(PIXELS == 7, np.nan, PIXELS / 255)}, "nan=0, posinf=1, neginf=0)"),
    "all_nan": ({"images": PIXELS * np.nan}, "in 12 of 12 images, the first at index 0. Leave these images and their"),
    "complex": ({"images": PIXELS + 0j}, "x_train must hold numbers, preferably uint8. Received: complex128."),
    "file_names": ({"images": np.full((12, 6, 5), "a.png")}, "<U5. For image files choose source=directory."),
    "flat_colour": ({"images": COLOUR.reshape(12, 192)}, "set source.image_shape='[8,8,3]', or '[3,8,8]' if all red"),
    "flat_not_square": ({"images": PIXELS.reshape(12, 30)}, SHAPE_RULE + "(12, 30). For flat images that are not "
                        "square set source.image_shape='[HEIGHT,WIDTH]'."),
    "iris": ({"images": PIXELS[:, :4, 0, 0]}, SHAPE_RULE + "(12, 4)."),
    "two_channels": ({"images": COLOUR[..., :2]}, SHAPE_RULE + "(12, 8, 8, 2)."),
    "images_last": ({"images": COLOUR.transpose(1, 2, 3, 0), "labels": NUMBERS[:8]}, " np.moveaxis(x_train, -1, 0)."),
    "video": ({"images": PIXELS[:, np.newaxis]}, "To drop the axes of length 1, save x_train.squeeze()."),
    "no_pixels": ({"images": PIXELS[:, :0]}, SHAPE_RULE + "(12, 0, 5, 1)."),
    "no_images": ({"images": PIXELS[:0], "labels": NUMBERS[:0]}, "x_train must hold at least one image. Received: 0."),
    "two_meanings": ({"images": COLOUR[:, :3, :4].repeat(2, 2)[:, :, :4, [0, 1, 2, 0]]}, "The shape of x_train, "
                     "(12, 3, 4, 4), has two meanings. Set source.image_shape='[3, 4, 4]' if the channels are"),
    "wrong_size": ({"images": PIXELS, "image_shape": [5, 6]}, "shape (5, 6, 1) (source.image_shape) or flat ones"),
    "wrong_values": ({"images": PIXELS, "image_shape": [5, 7]}, "x_train must hold 35 values for each image, as"),
    "wrong_setting": ({"image_shape": [5]}, "source.image_shape must be [height, width], [height, width, 1, 3 or 4]"),
    "lengths": ({"labels": NUMBERS[:7]}, "x_train and y_train must have the same length. Received: 12 images, 7"),
    "test_size": ({"x_test": SQUARE, "y_test": NUMBERS}, "x_train and x_test must have images of one shape. "
                  "Received: (6, 5, 1) and (28, 28, 1)."),
    "soft": ({"labels": SOFT}, "y_train must hold integer labels of shape (n,), or one-hot rows. Received: float64, "
             "(12, 3), and row 1 is [0.9, 0.1, 0]: probabilities (soft labels), which cannot be trained on. If the "
             "most probable class is meant, save y_train.argmax(axis=1)."),
    "several_classes": ({"labels": np.eye(3)[NUMBERS] + [0, 0, 1] > 0}, "row 0 is [1, 0, 1]: several classes for one"),
    "no_class": ({"labels": np.eye(3)[NUMBERS] * [0, 1, 1]}, "row 0 is [0, 0, 0]: no class for one image."),
    "not_one_hot": ({"labels": np.eye(3)[NUMBERS] * [2, 1, 1] - [1, 0, 0]}, "and row 1 is [-1, 1, 0]"),
    "masks": ({"labels": PIXELS}, "y_train must hold integer labels of shape (n,), text, or one-hot rows."),
    "regression": ({"labels": NUMBERS + 0.5}, "float64, such as 0.5: numbers to predict (regression) are not classes."),
    "nan_labels": ({"labels": np.where(NUMBERS, 1.0, np.nan)}, "Received: NaN for 4 of 12 images."),
    "empty_labels": ({"labels": np.array(["a", "", "b"])[NUMBERS]}, "Received: 4 empty ones."),
    "dates": ({"labels": NUMBERS.astype("datetime64[D]")}, "Received: datetime64[D], (12,)."),
    "one_class": ({"labels": NUMBERS * 0 + 7}, "There must be at least two classes. Received: 7."),
    "text_and_numbers": ({"x_test": PIXELS, "y_test": NUMBERS.astype(str)}, "All labels must be numbers, or all text. "
                         "Received: y_train numbers, y_test text."),
    "one_hot_lengths": ({"labels": np.eye(3)[NUMBERS], "x_test": PIXELS, "y_test": np.eye(4)[NUMBERS]}, "one-hot rows "
                        "must have one length. Received: y_train (12, 3), y_test (12, 4)."),
    "names_too_few": ({"class_names": ["a", "b"]}, "Labels must be below the number of classes, 2 (class_names), and "
                      "not negative, or as many as the names. Received: 2, among 3 different labels: 0..2."),
    "names_repeated": ({"class_names": ["a", "b", "a"]}, "source.class_names must be different names. Received more "
                       "than once: a."),
    "names_two_dimensional": ({"class_names": np.array([["a", "b", "c"]])}, "class_names must be a list of names, "
                              "shape (classes,). Received: the shape (1, 3)."),
    "names_without_a_label": ({"labels": np.array(["ant", "cat"])[NUMBERS % 2], "class_names": ["ant", "cot"]},
                              "must be among class_names. Received: cat. Did you mean cot?"),
    "names_and_one_hot": ({"labels": np.eye(3)[NUMBERS], "class_names": ["a", "b"]}, "Received: 2."),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_as_meant_is_refused(kind: str) -> None:
    arguments, expected = REFUSED[kind]
    assert expected in error_of(**arguments)


def test_identifiers_are_not_classes() -> None:
    many = np.zeros((300, 4, 4), np.uint8)
    assert "Received: 300 different labels for 300 images, such as 0..2." in error_of(many, np.arange(300))


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, "x_train") for name in ("x_train", "X_train", "train_images", "training_images", "images_train")),
        *((name, "x_train") for name in ("trainX", "Xtrain", "train_x", "train-images", "train_data", "train_set_x")),
        *((name, "x_train") for name in ("images", "X", "x", "data", "imgs")),
        *(
            (name, "y_train")
            for name in ("Y_train", "train_labels", "training_labels", "labels_train", "ytr", "trainY")
        ),
        *((name, "y_train") for name in ("y", "labels", "target", "targets")),
        *((name, "x_test") for name in ("X_test", "test_images", "testing_images", "xte", "testX")),
        *((name, "y_test") for name in ("test_labels", "y_TEST", "test_y")),
        *((name, "x_val") for name in ("x_val", "val_images", "X_valid", "validation_images", "x_validation", "x_dev")),
        *((name, "y_val") for name in ("y_val", "val_labels", "yvalid", "validation_labels")),
        *((name, "class_names") for name in ("class_names", "label_names", "target_names")),
        *(
            (name, "")
            for name in ("ids", "mask", "x_train_small", "train_test_x", "images_labels", "extra_x", "arr_0", "")
        ),
    ],
)
def test_the_usual_names(name: str, role: str) -> None:
    assert role_of(name) == role


def renamed(**names: str) -> dict[str, np.ndarray]:
    """The four arrays, and equal validation arrays, under other names."""
    given_arrays = {**FOUR, "x_val": PIXELS[:6], "y_val": NUMBERS[:6]}
    return {name: given_arrays[role] for role, name in names.items()}


MEDMNIST = renamed(
    x_train="train_images", y_train="train_labels", x_val="val_images", y_val="val_labels", x_test="test_images",
    y_test="test_labels",
)  # fmt: skip


def test_arrays_under_usual_names(tmp_path) -> None:
    column = {name: array[:, np.newaxis] if "labels" in name else array for name, array in MEDMNIST.items()}
    images = sources.npz(save(tmp_path, **column))
    assert np.array_equal(images.train.images, PIXELS)
    assert images.train.labels.tolist() == NUMBERS.tolist()
    assert images.validation is not None
    assert images.validation.labels.tolist() == NUMBERS[:6].tolist()
    assert len(images.test) == 12
    assert images.how_read[0].startswith(
        "From own.npz: train_images ((12, 6, 5, 1) uint8), train_labels ((12, 1) int64)"
    )


def test_only_training_arrays_have_a_test_set_held_out(tmp_path) -> None:
    images = sources.npz(save(tmp_path, images=np.tile(PIXELS, (5, 1, 1, 1)), labels=np.tile(NUMBERS, 5), ids=NUMBERS))
    assert (images.test, images.validation) == (None, None)
    assert "Not used: ids." in images.how_read
    dataset = prepare(images)
    assert [len(split) for split in dataset.splits.values()] == [49, 5, 6]
    assert dataset.notes[0].startswith("There is no test set, so 6 training images are held out for it")


NUMBERED = {
    "images_labels": ([PIXELS, NUMBERS], "x_train y_train"),
    "keras_order": ([PIXELS, NUMBERS, PIXELS[:6], NUMBERS[:6]], "x_train y_train x_test y_test"),
    "scikit_learn_order": ([PIXELS, PIXELS[:6], NUMBERS, NUMBERS[:6]], "x_train x_test y_train y_test"),
    "one_hot": ([PIXELS, np.eye(3)[NUMBERS]], "x_train y_train"),
    "flat": ([SQUARE.reshape(12, -1), NUMBERS[:, np.newaxis]], "x_train y_train"),
    "equal_lengths": ([PIXELS, PIXELS, NUMBERS, NUMBERS], ""),
    "labels_first": ([NUMBERS, PIXELS], ""),
    "flat_and_one_hot": ([SQUARE.reshape(12, -1), np.eye(3)[NUMBERS]], ""),
    "three": ([PIXELS, NUMBERS, PIXELS], ""),
    "six": ([PIXELS, NUMBERS] * 3, ""),
    "lengths": ([PIXELS, NUMBERS[:6]], ""),
}


@pytest.mark.parametrize("kind", NUMBERED)
def test_numbered_arrays_are_told_apart_by_their_shapes(tmp_path, kind: str) -> None:
    arrays, order = NUMBERED[kind]
    np.savez(tmp_path / "own.npz", *arrays)
    if not order:
        with pytest.raises(ConfigError, match="their shapes do not tell which are the images and labels: arr_0 "):
            sources.npz(str(tmp_path / "own.npz"))
        return
    images = sources.npz(str(tmp_path / "own.npz"))
    assert len(images.train) == 12
    assert images.train.labels.tolist() == NUMBERS.tolist()
    if "x_test" in order:
        assert images.test is not None
        assert images.test.labels.tolist() == NUMBERS[:6].tolist()
    else:
        assert images.test is None


def test_keys_name_the_arrays(tmp_path) -> None:
    other = save(tmp_path, pictures=PIXELS, kinds=NUMBERS, x_test=PIXELS[:3], names=np.array(["a", "b", "c"]))
    keys = {"x_train": "pictures", "y_train": "kinds", "x_test": None, "class_names": "names"}
    images = sources.npz(other, keys=keys)
    assert (len(images.train), images.test, images.class_names) == (12, None, ("a", "b", "c"))
    assert "Not used: x_test." in images.how_read
    for wrong, expected in [
        (None, "Missing: x_train, y_train, y_test; it holds: pictures (12, 6, 5, 1) uint8, kinds (12,) int64"),
        (None, "If they have other names: source.keys='{x_train: NAME, y_train: NAME, y_test: NAME}'."),
        ({"x_trian": "pictures"}, "source.keys has an unknown key: x_trian. Did you mean x_train?"),
        (
            {"x_train": "picturs"},
            "source.keys={x_train: picturs} must name an array of the file. Did you mean pictures?",
        ),
        ({"x_train": "kinds", "y_train": "kinds"}, "source.keys must give each array one use. Received twice: kinds."),
    ]:
        with pytest.raises(ConfigError) as error:
            sources.npz(other, keys=wrong)
        assert expected in str(error.value)


def test_several_arrays_for_one_use_are_an_error_that_shows_the_setting(tmp_path) -> None:
    arrays = {"X_train": PIXELS, "train_images": PIXELS, "y_train": NUMBERS}
    with pytest.raises(ConfigError) as error:
        sources.npz(save(tmp_path, **arrays))
    assert str(error.value) == (
        "Several arrays may be x_train: X_train (12, 6, 5, 1) uint8, train_images (12, 6, 5, 1) uint8. "
        "Choose one: source.keys='{x_train: X_train}'."
    )
    assert len(sources.npz(save(tmp_path, **arrays), keys={"x_train": "X_train"}).train) == 12
    exact = sources.npz(save(tmp_path, x_train=PIXELS[::-1], **arrays))
    assert np.array_equal(exact.train.images, PIXELS[::-1])
    assert "Not used: X_train, train_images." in exact.how_read
    images = sources.npz(save(tmp_path, **FOUR, x_val=PIXELS))
    assert images.validation is None
    assert "x_val is not used: there is no y_val." in images.how_read
    with pytest.raises(ConfigError, match="To leave images without labels out: source.keys='{x_test: null}'"):
        sources.npz(save(tmp_path, x_train=PIXELS, y_train=NUMBERS, x_test=PIXELS))


def test_a_pair_of_npy_files(tmp_path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    np.save(tmp_path / "labels.npy", NUMBERS + 1)
    images = sources.npz(str(tmp_path / "images.npy"), labels=str(tmp_path / "labels.npy"))
    assert np.array_equal(images.train.images, PIXELS)
    assert images.class_names == ("1", "2", "3")
    with pytest.raises(
        ConfigError, match="images.npy is one array; its labels are needed too: source.labels=LABELS.npy"
    ):
        sources.npz(str(tmp_path / "images.npy"))
    with pytest.raises(ConfigError, match="nowhere.npy, which does not exist"):
        sources.npz(str(tmp_path / "images.npy"), labels=str(tmp_path / "nowhere.npy"))
    with pytest.raises(ConfigError, match=r"Name the labels in an .npz file by source.keys='{y_train: NAME}'"):
        sources.npz(save(tmp_path, **FOUR), labels=str(tmp_path / "labels.npy"))


def npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def damaged(kind: str, folder: Path) -> Path:
    file = folder / "own.npz"
    save(folder, **FOUR)
    objects = np.empty(12, dtype=object)
    objects[:] = [image[: 3 + index % 2] for index, image in enumerate(PIXELS)]
    if kind == "too_large":
        with zipfile.ZipFile(file, "w") as archive:
            for name in FOUR:
                archive.writestr(f"{name}.npy", npy_header((700, 10**9) if name == "x_train" else (700,)))
    elif kind == "ragged":
        save(folder, **{**FOUR, "x_train": objects})
    elif kind == "object_labels":
        save(folder, **{**FOUR, "y_train": np.array(["a", "b", "c"], dtype=object)[NUMBERS]})
    elif kind == "fields":
        save(folder, **{**FOUR, "y_train": np.zeros(12, dtype=[("a", "i4"), ("b", "i4")])})
    elif kind == "half":
        file.write_bytes(file.read_bytes()[:600])
    elif kind == "changed":
        content = bytearray(file.read_bytes())
        content[300] ^= 255
        file.write_bytes(content)
    else:
        texts = {"empty": b"", "text": b"hello", "hdf5": b"\x89HDF\r\n\x1a\n", "gzip": b"\x1f\x8b\x08\x00"}
        file.write_bytes(texts.get(kind) or (pickle.dumps(FOUR) if kind == "pickle" else b""))
    return file


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("too_large", ["8 GB of memory (source.max_gigabytes). Received: 651.9 GB, of these x_train 651.9 GB"]),
        ("ragged", ["x_train in", "Python objects (dtype object)", "Images of several sizes need files"]),
        ("object_labels", ["y_train in", "Save y_train.astype(str) for labels that are text"]),
        ("fields", ["y_train in", "must be a plain array. Received: fields ('a', 'b')."]),
        ("half", ["cannot be read as an .npz file", "It may be truncated"]),
        ("changed", ["cannot be read as an .npz file", "Bad CRC-32", "It may be truncated"]),
        ("empty", ["cannot be read as an .npz file. It is empty: save the arrays with numpy.savez_compressed"]),
        ("text", ["cannot be read as an .npz file. Save the arrays with numpy.savez_compressed"]),
        ("hdf5", ["It is an HDF5 file: read it with h5py, then save"]),
        ("gzip", ["It is a gzip file: unpack it first, then save"]),
        ("pickle", ["It is a pickle, which is not read because it may run code"]),
    ],
)
def test_damaged_files_and_other_formats(tmp_path, kind: str, expected: list[str]) -> None:
    file = damaged(kind, tmp_path)
    with pytest.raises(ConfigError) as error:
        sources.npz(str(file))
    assert [text for text in expected if text not in str(error.value)] == []


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        (b"'shape': (12, 4, 4), }", "x_train must have 192 bytes, as its shape (12, 4, 4) says. Received: 100."),
        (b"'shape': (12, \xd7, 4), }", "cannot be read as an .npz file"),
        (b"'shape': (12, 4, 4\0)}", "cannot be read as an .npz file"),
        (b"'shape': (12, 4, (4), ", "cannot be read as an .npz file: it is damaged."),
    ],
)
def test_a_damaged_header_of_an_array(tmp_path, replaced: bytes, expected: str) -> None:
    text = b"{'descr': '|u1', 'fortran_order': False, " + replaced + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(100)
    with zipfile.ZipFile(save(tmp_path, y_train=np.arange(12) % 3), "a") as archive:
        archive.writestr("x_train.npy", array)
    with pytest.raises(ConfigError) as error:
        sources.npz(str(tmp_path / "own.npz"))
    assert expected in str(error.value)


def test_the_report_on_how_the_data_were_read(tmp_path) -> None:
    arrays = {name: np.tile(array, (5, *[1] * (array.ndim - 1))) for name, array in FOUR.items()}
    arrays |= {"y_train": arrays["y_train"] + 1, "y_test": arrays["y_test"] + 1, "ids": NUMBERS}
    dataset = prepare(sources.npz(save(tmp_path, **arrays)))
    assert dataset.notes[-1] == (
        "How your data were read: From own.npz: x_train ((60, 6, 5, 1) uint8), y_train ((60,) int64), "
        "x_test ((60, 6, 5, 1) uint8), y_test ((60,) int64). Not used: ids. The labels 1..3 are the classes 0..2. "
        "Images: 6 x 5 pixels (height x width), 1 channel, uint8 from 0 to 255. "
        "Split: 54 train, 6 validation (held out of the training images), 60 test. "
        "3 classes (images in train/validation/test): 1 18/2/20, 2 18/2/20, 3 18/2/20."
    )
    on_test = prepare(sources.npz(save(tmp_path, **arrays)), validation="test")
    assert "Split: 60 train, 60 validation (the test images), 60 test." in on_test.notes[-1]
    only = prepare(sources.npz(save(tmp_path, x=arrays["x_train"], y=arrays["y_train"])), split="keras")
    assert "6 validation (held out of the training images), 6 test (the validation images)." in only.notes[-1]
    assert prepare(sources.mnist_5k()).notes == ()
    own = sources.Images("own", sources.Split(PIXELS, NUMBERS % 2), None, ("a", "b"), "a user's function")
    assert prepare(own).notes[-1] == (
        "How your data were read: Images: 6 x 5 pixels (height x width), 1 channel, uint8 from 0 to 255. "
        "Split: 8 train, 2 validation (held out of the training images), 2 test (held out of the training images). "
        "2 classes (images in train/validation/test): a 6/1/1, b 2/1/1."
    )


# Scale -> the types it may be stored in, and the values that mean black and white.
STORED_AS = {
    "whole": (["u1", "i2", "u2", "i8", "f2", "f4", "f8", ">i4"], 0, 255),
    "divided": (["f4", "f8"], 0, 1),
    "ink": (["?", "u1", "i2", "u2", "i8", "f2", "f4", "f8"], 0, 1),
    "signed": (["f4", "f8"], -1, 1),
    "standardized": (["f4", "f8"], -2.5, 3.5),
    "12 bits": (["u2", "i4", "f4", ">u2"], 0, 4095),
    "16 bits": (["u2", "i4", "f8"], 0, 65535),
    "range": (["i2", "i8", "f4"], -1000, 3000),
}


@st.composite
def readable(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images as users may store them, labels likewise; the shares of white and the class numbers that are meant."""
    channels = draw(st.sampled_from([1, 3, 4]))
    size = draw(st.sampled_from([(6, 5), (7, 7), (8, 16), (28, 28)]))
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    levels = generator.integers(0, 256, (12, *size, channels))
    levels.flat[:2] = 0, 255
    scale = draw(st.sampled_from(list(STORED_AS)))
    types, black, white = STORED_AS[scale]
    levels = np.where(levels > 127, 255, 0) if scale == "ink" else levels
    dtype = np.dtype(draw(st.sampled_from(types)))
    values = black + levels / 255 * (white - black)
    stored = (values if dtype.kind == "f" and scale != "whole" else np.rint(values)).astype(dtype)
    meant = (stored.astype(np.float64) - black) / (white - black)
    layout = draw(st.sampled_from(["last", "first", "flat", "none", "count last"]))
    if layout == "first":
        stored = np.moveaxis(stored, -1, 1)
    elif layout == "flat" and channels == 1 and size[0] == size[1]:
        stored = stored.reshape(12, -1)
    elif layout == "none" and channels == 1:
        stored = stored[..., 0]
    elif layout == "count last" and max(size) < 12:
        stored = np.moveaxis(stored, 0, -1)
    numbers = generator.permutation(np.arange(12) % 4)
    values = np.array(sorted(draw(st.lists(st.integers(-50, 50), min_size=4, max_size=4, unique=True))))
    kind = draw(st.sampled_from(["values", "floats", "text", "bytes", "one_hot", "column", "row"]))
    words = np.array(["ant", "bee", "cat", "dog"])
    labels = {
        "values": values[numbers], "floats": values[numbers].astype(float), "text": words[numbers],
        "bytes": words[numbers].astype(bytes), "one_hot": np.eye(4)[numbers], "column": values[numbers][:, np.newaxis],
        "row": values[numbers][np.newaxis],
    }[kind]  # fmt: skip
    return stored, labels, meant, numbers


@settings(max_examples=120, deadline=None)
@given(readable())
def test_whatever_the_type_range_layout_and_labels_the_same_data_are_read(case) -> None:
    stored, labels, meant, numbers = case
    images = read(stored, labels)
    values = images.value_range
    read_shares = (images.train.images.astype(np.float64) - values.black) / values.width
    assert np.allclose(read_shares, meant, rtol=0, atol=1e-6)
    assert images.train.labels.tolist() == numbers.tolist()
    assert len(images.class_names) == 4
