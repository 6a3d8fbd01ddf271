"""`source.labels`: a CSV file of file names and labels for images that are not sorted by class."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistlab.config import ConfigError
from mnistlab.data import prepare
from mnistlab.data.folders.source import directory

SHADES = {"a.png": 10, "b.png": 20, "c.png": 30, "sub/d.png": 40}
CAT, DOG = ["cat", "dog", "cat", "dog"], ("cat", "dog")


def png(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (3, 2), shade).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, shade in SHADES.items():
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(shade))
    return tmp_path / "photos"


def labels_of(images) -> dict[str, str]:
    """The path's part below the folder -> class name, checked against the pixels."""
    names = {}
    for split in filter(None, (images.train, images.validation, images.test)):
        for path, label, pixels in zip(split.images.paths(), split.labels, split.images[:], strict=True):
            name = path.split("/photos/")[1]
            assert np.all(pixels == SHADES.get(name, 50))
            names[name] = images.class_names[label]
    return names


EXPECTED = {"a.png": "cat", "b.png": "dog", "c.png": "cat", "sub/d.png": "dog"}
TABLES = {
    "header": "file,label\na.png,cat\nb.png,dog\nc.png,cat\nsub/d.png,dog\n",
    "no header": "a.png,cat\nb.png,dog\nc.png,cat\nsub/d.png,dog\n",
    "names without folders": "file,label\na.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n",
    "names without endings": "id,breed\na,cat\nb,dog\nc,cat\nd,dog\n",
    "label first": "label,image\ncat,a.png\ndog,b.png\ncat,c.png\ndog,sub/d.png\n",
    "semicolons and spaces": "file; label\na.png; cat\nb.png; dog\nc.png; cat\n\nsub\\d.png; dog\n",
    "tabs": "a.png\tcat\nb.png\tdog\nc.png\tcat\n./sub/d.png\tdog",
    "byte-order mark, Windows": "\ufefffile,label\r\na.png,cat\r\nb.png,dog\r\nc.png,cat\r\nd.png,dog\r\n",
    "index of pandas": ",path,width,class\n0,a.png,3,cat\n1,b.png,3,dog\n2,c.png,3,cat\n3,photos/sub/d.png,3,dog\n",
    "quotes": '"file","label"\n"a.png","cat"\n"b.png","dog"\n"c.png","cat"\n"d.png","dog"\n',
    "a row twice": "a.png,cat\na.png,cat\nb.png,dog\nc.png,cat\nd.png,dog\n",
}


@pytest.mark.parametrize("case", TABLES)
def test_labels_of_a_csv_file(photos, case) -> None:
    (photos / "labels.csv").write_text(TABLES[case], encoding="utf-8", newline="")
    images = directory(str(photos), labels="labels.csv")
    assert images.class_names == DOG
    assert labels_of(images) == EXPECTED
    assert images.notes == ()
    assert images.skipped == ()


def test_the_file_may_be_elsewhere_and_absolute_paths_are_found(photos, tmp_path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("".join(f"{photos}/{name},{label}\n" for name, label in EXPECTED.items()))
    assert labels_of(directory(str(photos), labels=str(file))) == EXPECTED


def test_classes_are_sorted_and_numbers_by_their_value(photos) -> None:
    (photos / "labels.csv").write_text("id,label\na,10\nb,2\nc,-1\nd,2\n")
    images = directory(str(photos), labels="labels.csv")
    assert images.class_names == ("-1", "2", "10")
    assert labels_of(images) == {"a.png": "10", "b.png": "2", "c.png": "-1", "sub/d.png": "2"}


def test_ids_that_are_numbers_are_not_taken_for_labels(tmp_path) -> None:
    for index in range(1, 7):
        (tmp_path / f"{index}.png").write_bytes(png(index))
    (tmp_path / "train.csv").write_text("id,label\n" + "".join(f"{index},{index % 2 + 1}\n" for index in range(1, 7)))
    images = directory(str(tmp_path), labels="train.csv")
    assert images.class_names == ("1", "2")
    assert images.train.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_images_without_a_label_and_rows_without_a_file_are_named(photos) -> None:
    (photos / "e.png").write_bytes(png(50))
    (photos / "labels.csv").write_text(
        "file,label\na.png,cat\nb.png,dog\nc.png,\nsub/d.png,dog\nx.png,cat\ny.png,cat\n"
    )
    with pytest.raises(ConfigError) as error:
        directory(str(photos), labels="labels.csv")
    assert error.value.problems == [
        f"source.labels={photos}/labels.csv lists files that do not exist: 2 (x.png, y.png). Leave them out: "
        "source.on_bad_image=skip."
    ]
    images = directory(str(photos), labels="labels.csv", on_bad_image="skip")
    assert labels_of(images) == {"a.png": "cat", "b.png": "dog", "sub/d.png": "dog"}
    assert images.notes == (
        "NOTE: labels.csv lists files that do not exist: 2 (x.png, y.png).",
        "NOTE: images without a label in labels.csv are not used: 2 (c.png, e.png).",
    )
    assert [row["path"] for row in images.skipped] == ["c.png", "e.png"]


def test_folders_named_as_splits_are_the_splits(tmp_path) -> None:
    rows = []
    for folder, count in (("Train", 6), ("test", 4)):
        for index in range(count):
            file = tmp_path / "photos" / folder / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(50))
            rows.append(f"{folder}/{index}.png,{CAT[index % 4]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    images = directory(str(tmp_path / "photos"), labels=str(tmp_path / "labels.csv"))
    assert (len(images.train), images.validation, len(images.test)) == (6, None, 4)
    assert images.test.labels.tolist() == [0, 1, 0, 1]


def test_only_labelled_images_are_trained_on(photos) -> None:
    for index in range(12):
        (photos / f"{index:02}.png").write_bytes(png(50))
    rows = "".join(f"{index:02},{'cat' if index % 2 else 'dog'}\n" for index in range(12))
    (photos / "labels.csv").write_text("id,label\n" + rows)
    dataset = prepare(directory(str(photos), labels="labels.csv"), test_fraction=0.2, validation_fraction=0.2)
    assert sum(map(sum, dataset.counts.values())) == 12
    names = "a.png, b.png, c.png, sub/d.png"
    assert dataset.notes[0] == f"NOTE: images without a label in labels.csv are not used: 4 ({names})."


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", "must have a column with names of images in {photos}; it is empty."),
        ("x,y\n1,2\n", "must have a column with names of images in {photos}; its first row is x, y."),
        (
            "a.png\nb.png\n",
            "must have one column of labels beside the file names, or one named label or class. Received",
        ),
        ("file,breed,label\na.png,1,2\n", "or one named label or class. Received the columns: file, breed, label."),
        ("a.png,cat\nb.png,cat\n", "must hold at least two labels. Received: cat."),
        ("a.png,cat\na.png,dog\nb.png,dog\n", "lists files with two labels: 1 (a.png (cat, dog))."),
        ("b.png,dog\nd,cat\n", "lists names that fit several files; write their paths: 1 (d (d.png or sub/d.png))."),
    ],
)
def test_tables_that_are_refused(photos, table, expected) -> None:
    (photos / "d.png").write_bytes(png(50))
    (photos / "labels.csv").write_text(table)
    with pytest.raises(ConfigError) as error:
        directory(str(photos), labels="labels.csv")
    assert expected.format(photos=photos) in str(error.value)


def test_a_missing_file_and_two_settings(photos) -> None:
    (photos / "train.csv").touch()
    with pytest.raises(ConfigError) as error:
        directory(str(photos), labels="labels.csv")
    assert str(error.value) == (
        "source.labels must be a CSV file with file names and labels. Received: labels.csv, which does not exist. "
        f"{photos} holds train.csv."
    )
    with pytest.raises(ConfigError, match="source.labels and source.splits exclude each other"):
        directory(str(photos), labels="train.csv", splits="none")
