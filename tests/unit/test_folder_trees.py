"""Random trees of image folders as archives have them: nothing is read with another class or split than meant."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from test_folder_layouts import png

from mnistlab.config import ConfigError
from mnistlab.data.folders.source import directory

SPELLINGS = {
    "train": ["train", "Train", "TRAINING", "training_set", "train_data", "trainset", "train2017"],
    "validation": ["val", "valid", "Validation", "dev", "validation_set"],
    "test": ["test", "Test", "testing", "test_set", "test-images"],
}
CLASSES = ["cat", "dog", "10", "2", "café", "two words", "a,b", "Cat", "_x", "n01440764", "control", "normal", "images"]
LEFTOVERS = ["__MACOSX/._cat.png", ".DS_Store", "Thumbs.db", "@eaDir/cat.png", ".ipynb_checkpoints/0.png", "readme.txt"]
OTHER_NAMES = ["fold_a", "fold_b", "fold_c"]

Tree = tuple[dict[str, tuple[str, str] | None], str]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """File -> its (split, class), None for files that are not part of the data; and the kind of layout."""
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=3, unique=True))
    kind = draw(st.sampled_from(["classes", "splits", "splits", "wrapped", "repeated", "test beside", "other names"]))
    splits = ["train", *draw(st.lists(st.sampled_from(["validation", "test"]), unique=True))]
    folders = {split: f"{draw(st.sampled_from(SPELLINGS[split]))}/" for split in splits}
    if kind == "classes":
        folders = {"": ""}
    elif kind == "wrapped":
        wrapper = draw(st.sampled_from(["archive", "my data", "archive/dataset"]))
        folders = {split: f"{wrapper}/{folder}" for split, folder in folders.items()}
    elif kind == "repeated":
        folders = {split: f"{folder}{folder}" for split, folder in folders.items()}
    elif kind == "test beside":
        folders = {"train": "", "test": f"{draw(st.sampled_from(SPELLINGS['test']))}/"}
    elif kind == "other names":
        folders = {split: f"{name}/" for split, name in zip(["train", "validation", "test"], OTHER_NAMES, strict=True)}
    files: dict[str, tuple[str, str] | None] = {}
    for split, folder in folders.items():
        for name in classes:
            below = draw(st.sampled_from(["", "", "session_1/", "deep/er/"]))
            for index in range(draw(st.integers(1, 3))):
                ending = draw(st.sampled_from([".png", ".PNG", ".jpg", ""]))  # a format is found by the content
                files[f"{folder}{name}/{below}{index}{ending}"] = split, name
    for leftover in draw(st.lists(st.sampled_from(LEFTOVERS), max_size=2, unique=True)):
        files[draw(st.sampled_from(["", next(iter(folders.values()))])) + leftover] = None
    return files, kind


@settings(max_examples=60, deadline=None)
@given(trees())
def test_no_image_gets_another_class_or_split_than_meant(case: Tree) -> None:
    files, kind = case
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for index, (path, meant) in enumerate(files.items()):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(b"text" if meant is None and not path.endswith(".png") else png(index))
        try:
            images = directory(name)
        except ConfigError as error:
            assert kind == "other names", f"{kind}: {error}"
            assert "'source.splits={train: " in str(error)
            return
        read: dict[str, tuple[str, str]] = {}
        for split in ("train", "validation", "test"):
            found = getattr(images, split)
            for path, label in zip(found.images.paths(), found.labels, strict=True) if found else ():
                read[str(Path(path).relative_to(root.resolve()))] = split, images.class_names[label]
    assert kind != "other names"
    expected = {path: (meant[0] or "train", meant[1]) for path, meant in files.items() if meant is not None}
    assert read == expected
