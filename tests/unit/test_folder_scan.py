"""Folders as users have them: layouts, links, bad files. All problems are reported at once, with their paths."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistlab.config import ConfigError
from mnistlab.data.folders.layout import scan
from mnistlab.data.folders.source import directory


def write(file: Path, seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB", **settings) -> Path:
    """Write an image of noise; size: (width, height)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, **settings)
    return file


def fill(root: Path, counts: dict[str, int], ending: str = "png") -> Path:
    """Write images; counts: folder -> number of images."""
    for number, (folder, count) in enumerate(counts.items()):
        for index in range(count):
            write(root / folder / f"{index:03}.{ending}", seed=1000 * number + index)
    return root


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return fill(tmp_path / "pets", {"cat": 6, "dog": 4})


def error_of(path: Path, **settings) -> str:
    """The message with which `directory` rejects the folder."""
    with pytest.raises(ConfigError) as error:
        directory(str(path), **settings)
    return "\n".join(error.value.problems)


def test_classes_are_the_sorted_folder_names(pets) -> None:
    images = directory(str(pets))
    assert images.class_names == ("cat", "dog")
    assert np.bincount(images.train.labels).tolist() == [6, 4]
    assert images.train.images.shape == (10, 10, 12, 3)
    assert (images.test, images.validation) == (None, None)
    assert images.name == "pets"


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_split_folders_make_the_splits(tmp_path, validation) -> None:
    counts = {f"{split}/{name}": 3 for split in ("train", validation, "test") for name in ("a", "b")}
    images = directory(str(fill(tmp_path, counts)))
    assert [len(split) for split in (images.train, images.validation, images.test)] == [6, 6, 6]
    assert {path.split("/")[-3] for path in images.validation.images.paths()} == {validation}


def test_the_order_is_keras_s_within_a_class_and_that_of_numbered_files(tmp_path) -> None:
    for name, file in (("b", "02"), ("a", "03"), ("a", "01"), ("b", "sub/00"), ("a", "a.b/00")):
        write(tmp_path / name / f"{file}.png", seed=hash(file) % 99)
    assert [file.path for file in scan(tmp_path).files] == [
        *("a/01.png", "b/02.png", "a/03.png"),
        *("a/a.b/00.png", "b/sub/00.png"),
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, ["holds no class folders", "PATH/CLASS"]),
        ({"cat": 3}, ["at least two class folders. Received: cat"]),
        ({"cat": 3, "dog": 0}, ["dog: the class folder holds no image (.png"]),
        ({"all/cat": 3, "all/dog": 2}, ["at least two", "Did you mean source.path=", "all?"]),
        (
            {"train/a": 2, "train/b": 2, "test/a": 1, "test/c": 1},
            ["test must have", "missing: b", "not in training: c"],
        ),
        ({"train/a": 2, "train/b": 2, "val/a": 1, "val/B": 1}, ["val must have", "missing: b", "not in training: B"]),
        ({"test/a": 2, "validation/b": 2}, ["no train folder"]),
        ({"train/a": 2, "train/b": 2, "extra/a": 2}, ["extra is beside the train folder"]),
        ({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1, "validation/a": 1}, ["one validation folder"]),
    ],
)
def test_folders_that_cannot_be_trained_on(tmp_path, counts, expected) -> None:
    for folder in counts:
        (tmp_path / folder).mkdir(parents=True)
    message = error_of(fill(tmp_path, counts))
    assert [text for text in expected if text not in message] == []


def test_a_missing_folder_and_a_file(tmp_path) -> None:
    assert "missing, which does not exist" in error_of(tmp_path / "missing")
    assert "which is a file" in error_of(write(tmp_path / "x.png"))


def write_bad_files(root: Path) -> dict[str, str]:
    """Write one of each bad image into the folder; file name -> what the error must say about it."""
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(whole, "JPEG")
    (root / "truncated.jpg").write_bytes(whole.getvalue()[:1500])
    png = (root / "000.png").read_bytes()
    (root / "corrupt.png").write_bytes(png[:60] + bytes(20) + png[80:])
    (root / "cut.png").write_bytes(png[: len(png) // 2])
    (root / "zero.jpg").touch()
    (root / "text.png").write_text("not an image")
    (root / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    Image.fromarray(np.arange(100, dtype=np.uint16).reshape(10, 10) * 600).save(root / "deep.png")
    Image.new("1", (12000, 10000)).save(root / "bomb.png")
    Image.new("1", (20000, 10000)).save(root / "huge.png")
    return {
        "truncated.jpg": "is truncated.",
        "corrupt.png": "is corrupt.",
        "cut.png": "is truncated.",
        "zero.jpg": "is empty (0 bytes)",
        "text.png": "is not an image",
        "program.png": "is not an image",
        "deep.png": "has more than 8 bits per channel",
        "bomb.png": "is too large: 12000 x 10000",
        "huge.png": "is too large: 200 million pixels; it may be a decompression bomb.",
    }


def test_all_bad_images_are_reported_at_once_with_their_paths(pets, tmp_path) -> None:
    expected = write_bad_files(pets / "cat")
    for cache in (None, str(tmp_path / "cache"), str(tmp_path / "cache")):  # the second time from the cache
        message = error_of(pets, cache=cache)
        for name, problem in expected.items():
            assert f"{pets}/cat/{name} {problem}" in message
        assert f"{len(expected)} of 19 images cannot be used" in message
        assert "source.on_bad_image=skip" in message


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_bad_images_can_be_left_out_and_are_listed(pets, loader) -> None:
    good = directory(str(pets), loader=loader)
    expected = write_bad_files(pets / "cat")
    images = directory(str(pets), on_bad_image="skip", loader=loader)
    assert np.array_equal(images.train.images[:], good.train.images[:])
    assert {Path(row["path"]).name for row in images.skipped} == set(expected)
    assert any("9 unusable images" in note for note in images.notes)


def test_a_class_that_loses_all_its_images_is_an_error(pets) -> None:
    for file in (pets / "dog").iterdir():
        file.write_bytes(b"")
    assert "dog: none of the 4 images of this class can be used" in error_of(pets, on_bad_image="skip")


def test_problems_of_folders_and_files_are_reported_together(tmp_path) -> None:
    fill(tmp_path, {"train/cat": 3, "train/dog": 2, "extra": 1})
    (tmp_path / "train" / "cat" / "zero.png").touch()
    message = error_of(tmp_path)
    assert "extra is beside the train folder" in message
    assert "zero.png is empty" in message


def test_other_files_are_skipped_and_counted(pets) -> None:
    (pets / "cat" / "notes.txt").touch()
    (pets / "dog" / "more.txt").touch()
    (pets / "dog" / "Thumbs.db").touch()
    write(pets / "dog" / "moving.gif")
    (pets / "readme.md").touch()
    (pets / ".ipynb_checkpoints").mkdir()
    (pets / ".private").mkdir()
    (pets / "cat" / "._001.png").touch()
    images = directory(str(pets))
    assert len(images.train) == 11
    assert images.class_names == ("cat", "dog")
    notes = "\n".join(images.notes)
    for text in (
        "an image file: .txt: 2 (cat/notes.txt, ...)",
        "not in a class folder: 1 (readme.md)",
        "hidden: 1 (.private)",
        "left by a system, an archive or a program: 3 (.ipynb_checkpoints, ...)",
    ):
        assert text in notes


def test_notes_say_how_keras_handles_unusual_images(pets) -> None:
    write(pets / "cat" / "palette.png", mode="P")
    write(pets / "cat" / "clear.png", mode="RGBA")
    write(pets / "cat" / "print.jpg", mode="CMYK")
    frames = [Image.new("RGB", (12, 10), colour) for colour in ("red", "blue")]
    frames[0].save(pets / "cat" / "moving.png", format="GIF", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    write(pets / "cat" / "turned.jpg", exif=exif)
    notes = "\n".join(directory(str(pets)).notes)
    for text in (
        "with a palette: 2",
        "transparency",
        "CMYK colours: 1 (cat/print.jpg)",
        "only the first is used",
        "EXIF rotation: 1",
    ):
        assert text in notes


def test_links_out_of_the_folder_are_followed_only_if_set(pets, tmp_path) -> None:
    outside = fill(tmp_path / "outside", {"more": 3, "bird": 2})
    (pets / "cat" / "linked.png").symlink_to(outside / "more" / "000.png")
    (pets / "cat" / "inside.png").symlink_to(pets / "cat" / "000.png")
    (pets / "cat" / "more").symlink_to(outside / "more")
    (pets / "bird").symlink_to(outside / "bird")
    images = directory(str(pets))
    assert images.class_names == ("cat", "dog")
    assert len(images.train) == 11  # inside.png links to a file inside the folder
    notes = "\n".join(images.notes)
    assert "a link to a file outside source.path (source.follow_links=false): 1 (cat/linked.png)" in notes
    assert "a link to a folder (source.follow_links=false): 2" in notes
    followed = directory(str(pets), follow_links=True)
    assert followed.class_names == ("bird", "cat", "dog")
    assert len(followed.train) == 17


@pytest.mark.parametrize("follow_links", [False, True])
def test_links_to_parent_folders_and_broken_links(pets, follow_links) -> None:
    (pets / "cat" / "again").symlink_to(pets / "cat")
    (pets / "cat" / "up").symlink_to(pets)
    (pets / "cat" / "gone.png").symlink_to(pets / "nothing.png")
    (pets / "cat" / "self.png").symlink_to(pets / "cat" / "self.png")
    images = directory(str(pets), follow_links=follow_links)
    assert len(images.train) == 10
    assert "a broken link: 2" in "\n".join(images.notes)
    assert {"cat/again", "cat/up"} <= {row["path"] for row in images.skipped}


def test_a_named_pipe_is_skipped(pets) -> None:
    os.mkfifo(pets / "cat" / "pipe.png")
    assert "not a regular file: 1 (cat/pipe.png)" in "\n".join(directory(str(pets)).notes)


def test_files_and_folders_without_permission(pets, monkeypatch) -> None:
    # The tests may run as root, who may read everything, so the errors are simulated.
    real_scandir, real_open = os.scandir, open

    def scandir(folder):
        if str(folder).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real_scandir(folder)

    def locked_open(file, *arguments, **settings):
        if str(file).endswith("cat/001.png"):
            raise PermissionError(13, "Permission denied", str(file))
        return real_open(file, *arguments, **settings)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr("builtins.open", locked_open)
    message = error_of(pets)
    assert f"{pets}/dog: the folder cannot be read: Permission denied" in message
    assert f"{pets}/cat/001.png cannot be read: Permission denied" in message


def test_class_names_with_spaces_accents_or_only_another_case(tmp_path) -> None:
    names = ["Straßenbahn", "cat", "Cat", "sleeping dog", "猫"]
    images = directory(str(fill(tmp_path, dict.fromkeys(names, 2))))
    assert images.class_names == tuple(sorted(names))
    assert any("Cat and cat differ only in case" in note for note in images.notes)


def test_several_sizes_are_resized_to_keras_s_default_with_a_note(pets) -> None:
    assert directory(str(pets)).train.images.shape[1:] == (10, 12, 3)
    write(pets / "dog" / "wide.png", size=(40, 20))
    images = directory(str(pets))
    assert images.train.images.shape == (11, 256, 256, 3)
    assert "2 sizes, 10 to 20 high and 12 to 40 wide: all are resized to 256x256" in images.notes[-1]
    assert "data.image_size='[HEIGHT,WIDTH]'" in images.notes[-1]
    chosen = directory(str(pets), image_size=[5, 6])
    assert chosen.train.images.shape == (11, 5, 6, 3)
    assert not any("sizes" in note for note in chosen.notes)


def test_color_mode_auto_depends_on_the_images(tmp_path) -> None:
    for index in range(3):
        for name in ("a", "b"):
            write(tmp_path / name / f"{index}.png", seed=index, mode="L")
    assert directory(str(tmp_path)).train.images.shape[-1] == 1
    assert directory(str(tmp_path), color_mode="rgb").train.images.shape[-1] == 3
    write(tmp_path / "b" / "colour.png")
    assert directory(str(tmp_path)).train.images.shape[-1] == 3
    assert directory(str(tmp_path), color_mode="rgba").train.images.shape[-1] == 4


def test_choices_are_checked_all_at_once(pets) -> None:
    message = error_of(pets, loader="fast", color_mode="grey", interpolation="cubic", on_bad_image="ignore")
    for text in ("source.loader", "Choices: auto, grayscale", "Did you mean bicubic?", "source.on_bad_image"):
        assert text in message
