"""Layouts of folders: splits by usual and by other names, unlabelled test images, classes without images."""

from __future__ import annotations

import functools
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistlab.config import ConfigError
from mnistlab.data import prepare
from mnistlab.data.folders.layout import scan
from mnistlab.data.folders.source import directory
from mnistlab.data.folders.split_names import split_of


@functools.cache
def png(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (3, 2), shade).save(content, "PNG")
    return content.getvalue()


def fill(root: Path, counts: dict[str, int]) -> Path:
    """Write images; counts: folder -> number of images."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (root / folder / f"{index:03}.png").write_bytes(png(index))
    return root


def both(folder: str, count: int = 2, names: tuple[str, ...] = ("cats", "dogs")) -> dict[str, int]:
    return {f"{folder}/{name}": count for name in names}


FOUND = {
    "other words": (both("training_set", 3) | both("Test Set"), {"train": 6, "test": 4}),
    "capitals": (both("TRAIN", 3) | both("Valid") | both("Testing"), {"train": 6, "validation": 4, "test": 4}),
    "dev": (both("train", 3) | both("dev") | both("test"), {"train": 6, "validation": 4, "test": 4}),
    "eval as test": (both("train", 3) | both("eval"), {"train": 6, "test": 4}),
    "eval beside test": (both("train", 3) | both("eval", 1) | both("test"), {"train": 6, "validation": 2, "test": 4}),
    "numbered": (both("train2017", 3) | both("val2017"), {"train": 6, "validation": 4}),
    "deeper": (both("archive/dataset/train-images", 3) | both("archive/dataset/test-images"), {"train": 6, "test": 4}),
    "beside leftovers": (both("pets/train", 3) | both("pets/test") | both("__MACOSX/pets"), {"train": 6, "test": 4}),
    "split in split": (both("training_set/training_set", 3) | both("test_set/test_set"), {"train": 6, "test": 4}),
    "test beside the classes": ({"cats": 3, "dogs": 3} | both("test"), {"train": 6, "test": 4}),
    "flat test": ({"cats": 3, "dogs": 3, "test": 5}, {"": 6}),
    "flat test beside train": (both("train", 3) | both("val") | {"test": 5}, {"train": 6, "validation": 4}),
    "test/unknown": (both("train", 3) | {"test/unknown": 5}, {"train": 6}),
    "test1": (both("train", 3) | {"test1": 5}, {"train": 6}),
    "one inner folder each": ({"cats/images": 3, "dogs/images": 2}, {"": 5}),
    "own inner folders": ({"cats/indoors": 3, "cats/outdoors": 1, "dogs/indoors": 2}, {"": 6}),
    "images beside folders": ({"cats": 1, "cats/a": 3, "cats/b": 1, "dogs/a": 2, "dogs/b": 1}, {"": 8}),
}


@pytest.mark.parametrize("case", FOUND)
def test_splits_are_found_by_their_names(tmp_path, case) -> None:
    counts, expected = FOUND[case]
    found = scan(fill(tmp_path, counts))
    assert found.problems == []
    assert found.class_names == ("cats", "dogs")
    assert {split: sum(file.split == split for file in found.files) for split in expected} == expected
    assert len(found.files) == sum(expected.values())
    assert all(f"/{file.class_name}/" in f"/{file.path}" for file in found.files)


def test_files_beside_the_folders_do_not_hide_the_splits(tmp_path) -> None:
    for folder in ("fold_a", "fold_b", "archive/dataset/train", "archive/dataset/test"):
        fill(tmp_path, both(folder, 3))
        (tmp_path / folder / "readme.txt").touch()
    (tmp_path / "archive" / "license.md").touch()
    found = scan(tmp_path / "archive")
    assert (found.problems, len(found.files), found.num_images["test", "cats"]) == ([], 12, 3)
    shutil.rmtree(tmp_path / "archive")
    assert "hold the same class folders" in scan(tmp_path).problems[0]


def test_a_class_may_be_called_train(tmp_path) -> None:
    found = scan(fill(tmp_path, {"car": 2, "plane": 3, "train": 4}))
    assert (found.problems, found.class_names) == ([], ("car", "plane", "train"))
    assert found.num_images["", "train"] == 4
    assert "train holds images directly, so it is a class" in found.notes[0]


def test_folders_that_share_one_folder_may_be_splits_and_that_is_said(tmp_path) -> None:
    found = scan(fill(tmp_path, {"fold_a/cat": 2, "fold_a/dog": 1, "fold_b/cat": 2, "fold_b/owl": 3}))
    assert (found.problems, found.class_names) == ([], ("fold_a", "fold_b"))
    assert found.notes[0] == (
        "The classes are fold_a, fold_b, not the folders in them (cat, dog, owl). If those are the classes: "
        "'source.splits={train: NAME, test: NAME}'."
    )


def test_links_to_class_folders_are_answered_with_the_setting(tmp_path) -> None:
    fill(tmp_path / "elsewhere", {"cat": 2, "dog": 2})
    (tmp_path / "pets").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).symlink_to(tmp_path / "elsewhere" / name)
    (problem,) = scan(tmp_path / "pets").problems
    assert problem.endswith("To follow links to folders (cat): source.follow_links=true.")
    assert scan(tmp_path / "pets", follow_links=True).class_names == ("cat", "dog")


def test_all_folders_are_classes_if_the_setting_says_so(tmp_path) -> None:
    images = directory(str(fill(tmp_path, {"control": 2, "test": 3})), splits="none")
    assert images.class_names == ("control", "test")
    assert np.bincount(images.train.labels).tolist() == [2, 3]
    nested = fill(tmp_path / "nested", both("ann") | both("bob"))
    assert scan(nested, splits="none").class_names == ("ann", "bob")


def test_splits_of_other_names_are_chosen_by_the_setting(tmp_path) -> None:
    fill(tmp_path, both("fold_a", 3) | both("fold_b") | both("more/fold_c", 1) | {"rest": 2})
    images = directory(str(tmp_path), splits={"train": "fold_a", "val": "more/fold_c", "test": "fold_b"})
    assert [len(split) for split in (images.train, images.validation, images.test)] == [6, 2, 4]
    assert images.class_names == ("cats", "dogs")
    assert {"path": "rest", "reason": "not named in source.splits"} in images.skipped
    assert images.train.images.paths()[0].endswith("fold_a/cats/000.png")


PROBLEMS = {
    "same class folders": (
        both("fold_a") | both("fold_b", 3),
        None,
        "fold_a, fold_b hold the same class folders (cats, dogs), so they look like splits, not like classes. Say "
        "which is which: 'source.splits={train: fold_b, test: fold_a}'; or if they are classes: source.splits=none.",
    ),
    "a class is missing in one": (
        both("a b", 3, ("cats", "dogs", "birds")) | both("c"),
        None,
        "Say which is which: 'source.splits={train: \"a b\", test: c}'",
    ),
    "splits in classes": (
        both("cats", 1, ("train", "test")) | both("dogs", 1, ("train", "test")),
        None,
        "cats, dogs hold the split folders test, train. The splits must be above the classes: PATH/train/cats; or if "
        "the splits do not matter: source.splits=none.",
    ),
    "flat train and test": ({"train": 3, "test": 2}, None, "train holds images but no class folders, so they have no"),
    "only test and validation": (both("test") | both("val"), None, "holds test, validation but no train folder."),
    "beside train": (both("train") | both("extra"), None, "Name the folders to use: 'source.splits={train: train, "),
    "two train folders": (both("train") | both("training"), None, "must hold one train folder. Received: "),
    "one class beside a flat test": (
        {"control": 2, "test": 2},
        None,
        "at least two class folders. Received: control. NOTE: the 2 images in ",
    ),
    "unknown split": (both("a"), {"trian": "a"}, "Received: trian. Did you mean train?"),
    "unknown folder": (both("fold_a"), {"train": "fold_b"}, "Received: fold_b. Did you mean fold_a?"),
    "folder outside": (both("a"), {"train": ".."}, "source.splits.train must be a folder in "),
    "no train": (both("a"), {"test": "a"}, "source.splits must name the train folder: "),
    "another word": (both("train"), "all", "source.splits must be null, none, or 'source.splits={train: NAME, test: "),
    "class only in test": (
        both("train") | both("test", 1, ("cat", "dogs")),
        None,
        "missing: cats; not in training: cat",
    ),
    "no image of any class": (both("train") | both("test", 0), None, "test holds no image (.png, "),
    "one class with images": ({"cats": 2, "dogs": 0}, None, "dogs: the class folder holds no image (.png, "),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_layouts_that_are_refused(tmp_path, case) -> None:
    counts, splits, expected = PROBLEMS[case]
    with pytest.raises(ConfigError) as error:
        directory(str(fill(tmp_path, counts)), splits=splits)
    assert expected in str(error.value).replace(f"{tmp_path}/", "")


def test_unlabelled_test_images_are_left_aside_with_a_note(tmp_path) -> None:
    images = directory(str(fill(tmp_path, both("train", 3) | {"test": 5})))
    assert images.test is None
    assert (
        f"NOTE: the 5 images in {tmp_path}/test are not used: they are in no class folder, so they have no labels. "
        "The saved model predicts them: docs/image-folders.md." in images.notes
    )
    assert {"path": "test", "reason": "no labels"} in images.skipped


def test_classes_without_images_are_named(tmp_path) -> None:
    names = ("bird", "cat", "dog")
    fill(tmp_path, both("train", 4, names) | both("val", 1, names[1:]) | both("test", 2, names) | {"test/cat": 0})
    for file in (tmp_path / "train" / "bird").iterdir():
        file.unlink()
    for file in (tmp_path / "test" / "cat").iterdir():
        file.unlink()
    images = directory(str(tmp_path))
    assert images.class_names == names
    warnings = [note for note in images.notes if note.startswith("WARNING")]
    assert warnings == [
        f"WARNING: {tmp_path}/test holds no image of class cat.",
        f"WARNING: there are no training images of class bird ({tmp_path}/train), so it cannot be learned.",
        f"WARNING: {tmp_path}/val holds no image of class bird.",
    ]
    assert prepare(images).counts == {"train": [0, 4, 4], "validation": [0, 1, 1], "test": [2, 0, 2]}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Train", "train"), ("trainset", "train"), ("train data", "train"), ("val.images", "validation")),
        *(("VALIDATION_SET", "validation"), ("testing-set", "test"), ("evaluation", "evaluation")),
        *(("trains", ""), ("contest", ""), ("validated", ""), ("testament", ""), ("device", "")),
    ],
)
def test_names_of_splits(name, split) -> None:
    assert split_of(name) == split


def test_one_paragraph_says_how_the_folders_were_read(tmp_path) -> None:
    fill(tmp_path, both("Training", 3) | both("test_set") | {"test_set/cats": 4})
    (tmp_path / "readme.txt").touch()
    dataset = prepare(directory(str(tmp_path), image_size=[4, 5]))
    assert dataset.notes[-1] == (
        f"How your data were read: 12 image files of {tmp_path}, labelled by their folders (train = Training, test = "
        "test_set). They are resized to 4 x 5 (nearest). Files and folders that are not used: 1. Images: 4 x 5 pixels "
        "(height x width), 1 channel, uint8 from 0 to 1. Split: 4 train, 2 validation (held out of the training "
        "images), 6 test. 2 classes (images in train/validation/test): cats 2/1/4, dogs 2/1/2."
    )
