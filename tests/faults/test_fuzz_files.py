"""Random bytes of files of arrays, tables, IDX files, batches: each is a data set to train on, or a ConfigError.

Never another exception, never without end, never memory for what a header merely claims, never a file left behind.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import LENGTHS, Damage, check_data_set, damaged, damages, fuzz, saved
from hypothesis import strategies as st

from mnistlab.data import sources

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (40, 4, 4), dtype=np.uint8)
LABELS = np.arange(40, dtype=np.uint8) % 4
TEXTS = np.array(["cat", "dog", "owl", "été"])[LABELS]
COLOURS = GENERATOR.integers(0, 256, (6, 3072), dtype=np.uint8)


ARRAYS = {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:12], "y_test": LABELS[:12]}
TABLE = "\n".join(
    [
        "label," + ",".join(f"pixel{number}" for number in range(16)),
        *(f"{label}," + ",".join(map(str, image.ravel())) for label, image in zip(LABELS, PIXELS, strict=True)),
    ]
)
WHOLE = {
    "npz": saved(np.savez, **ARRAYS),
    "packed.npz": saved(np.savez_compressed, **ARRAYS),
    "floats.npz": saved(np.savez, x_train=PIXELS / 255, y_train=TEXTS, class_names=["cat", "dog", "owl", "été"]),
    "csv": TABLE.encode(),
    "tsv": TABLE.replace(",", "\t").encode(),
    "csv.gz": gzip.compress(TABLE.encode()),
}


@LENGTHS
@pytest.mark.parametrize("kind", WHOLE)
def test_a_damaged_file_of_arrays_or_text(tmp_path: Path, kind: str, length: str) -> None:
    source, file = sources.npz if "npz" in kind else sources.csv, tmp_path / f"own.{kind}"
    ends: Counter[str] = Counter()

    @fuzz(length, 15, 600, steps=damages())
    def check(steps: list[Damage]) -> None:
        file.write_bytes(damaged(WHOLE[kind], steps))
        ends[check_data_set(lambda: source(str(file)), steps)] += 1
        assert list(tmp_path.iterdir()) == [file]

    print(kind, dict(ends))


ODD_CELLS = [
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "256",
    "1e30",
    "0x10",
    "1_000",
    "½",
    "\0",
    '"',
    '""',
    "'",
    "\r",
]
ODD_CELLS += [
    "a" * 200_000,
    "9" * 5000,
    "9" * 25,
    "true",
    "None",
    "label",
    "1;2",
    "1,2",
    "\ufeff",
    "\t",
    "1.5",
    "#",
    "\\",
]
CELLS = st.sampled_from(ODD_CELLS) | st.integers(0, 255).map(str) | st.text(max_size=4)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp037"]


@LENGTHS
def test_odd_tables(tmp_path: Path, length: str) -> None:
    """Ragged rows, huge fields, quotes, NUL bytes, encodings; with and without a header."""
    file = tmp_path / "own.csv"
    changes = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), CELLS), max_size=6)

    @fuzz(
        length,
        20,
        800,
        changes=changes,
        first=st.integers(0, 1),
        separator=st.sampled_from([",", ";", "\t", " ", "|"]),
        encoding=st.sampled_from(ENCODINGS),
        label=st.sampled_from([None, None, 0, -1, 17, "label", "pixel3", ""]),
    )
    def check(changes: list, first: int, separator: str, encoding: str, label: Any) -> None:
        rows = [line.split(",") for line in TABLE.split("\n")[first:]]
        for row, column, cell in changes:
            if row < len(rows):
                rows[row][column : column + 1] = [cell]
        text = "\n".join(separator.join(row) for row in rows)
        file.write_bytes(text.encode(encoding, errors="replace"))
        check_data_set(lambda: sources.csv(str(file), label=label), (changes, first, separator, encoding, label))


def header(descr: str, shape: str, order: str = "False", version: bytes = b"\x01\x00") -> bytes:
    """The header of an .npy file, whatever it says."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode("latin-1", "replace") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text


DTYPES = ["|u1", "<u2", ">u2", "<i8", ">i4", "|i1", "<f2", "<f4", ">f8", "<f16", "|b1", "<U5", "|S3", "|O", "<c8"]
DTYPES += ["<M8[s]", "<m8[D]", "|V4", "|V0", "<U0", "<U999999999", "x", "", "|u1,|u1", "(2,)u1"]
SHAPES = ["(40, 4, 4)", "(40,)", "()", "(0,)", "(40, 0, 4)", "(0, 4, 4)", "(1, 4, 4)", "(40, 4, 4, 1)", "(4, 4, 40)"]
SHAPES += ["(1000000, 1000000)", "(10**12,)", "(1000000000000, 1, 1)", "(-1, 4, 4)", "(40, 4, 4, 3, 2)", "(2**63, 2)"]
SHAPES += ["(9223372036854775808,)", "(2000000000, 4)", "(7000000000,)", "40", "None", "(True, 4)", "(1.5,)", "[40]"]
SHAPES += ["(" + "1," * 70 + ")", "(40, 4, 4" + ", 1" * 30 + ")", "()" * 30, "(" * 300 + ")" * 300, "(40, 16)"]


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    """An array's file: a header that may say anything, and some bytes."""
    descr = draw(
        st.sampled_from(DTYPES).map(repr) | st.sampled_from(["[('a', '|u1')]", "3", "None", "__import__('os')"])
    )
    shape = draw(st.sampled_from(SHAPES) | st.lists(st.integers(-2, 50), max_size=5).map(lambda axes: str(tuple(axes))))
    version = draw(st.sampled_from([b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x07\x00"]))
    start = header(descr, shape, draw(st.sampled_from(["False", "True", "None"])), version)
    body = draw(
        st.sampled_from([PIXELS.tobytes(), LABELS.tobytes(), PIXELS.astype(float).tobytes(), b"", b"\x80\x04N."])
    )
    if descr == "'|O'":
        body = pickle.dumps(Harmful())
    return start + body


class Harmful:
    """An object whose pickle would make a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (Path("harm_was_done"),)


FLOATS = st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e38, -1e300, 1e308, 5e-324, 255.0, 65535.0])


def with_a_value(value: float, dtype: str) -> np.ndarray:
    """Pixels that are one half, but for a few."""
    with np.errstate(all="ignore"):
        return np.where(PIXELS[0, 0, 0] == PIXELS, value, 0.5).astype(dtype)


ARRAY = st.one_of(
    st.builds(lambda dtype: PIXELS.astype(dtype), st.sampled_from(["u1", "u2", "i4", "f2", "f4", "f8", "bool"])),
    st.builds(with_a_value, FLOATS, st.sampled_from(["f8", "f8", "f2", "c8"])),
    st.builds(np.full, st.tuples(st.integers(0, 41), st.integers(0, 5), st.integers(0, 5)), FLOATS),
    st.builds(lambda size: PIXELS.reshape(-1)[:size], st.integers(0, 640)),
    st.sampled_from([LABELS, TEXTS, TEXTS.astype(object), np.eye(4)[LABELS], LABELS - 3.5, LABELS.astype("M8[s]")]),
    st.sampled_from([np.array([""] * 40), np.array(5), LABELS.astype(np.int64) * 2**61, np.array(["a\0b", "\n"] * 20)]),
    st.sampled_from([LABELS * 0, np.arange(40), np.array([b"\xff"] * 40), LABELS.astype("c8"), np.zeros((40, 4, 4))]),
)


@LENGTHS
def test_npz_files_of_any_arrays(tmp_path: Path, length: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each array is odd, or its header claims what it has not. A huge shape is refused before memory is allocated."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "own.npz"
    names = st.sampled_from(["x_train", "y_train", "x_test", "y_test", "x_val", "class_names", "", "../x", "arr_0"])
    member = st.one_of(npy_files(), ARRAY, st.sampled_from([WHOLE["npz"], b"", b"text"]))
    packing = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])

    @fuzz(length, 25, 1000, changes=st.dictionaries(names, member, min_size=1, max_size=3), packing=packing)
    def check(changes: dict[str, Any], packing: int) -> None:
        with zipfile.ZipFile(file, "w", packing) as archive:
            for name, content in {**ARRAYS, **changes}.items():
                if isinstance(content, np.ndarray):
                    stream = io.BytesIO()
                    np.save(stream, content, allow_pickle=True)
                    content = stream.getvalue()
                archive.writestr(f"{name}.npy", content)
        check_data_set(lambda: sources.npz(str(file)), changes)
        assert list(tmp_path.iterdir()) == [file]


@LENGTHS
def test_single_arrays(tmp_path: Path, length: str) -> None:
    images, labels = tmp_path / "images.npy", tmp_path / "labels.npy"
    whole = saved(lambda stream: np.save(stream, PIXELS)), saved(lambda stream: np.save(stream, LABELS))

    @fuzz(
        length, 10, 500, first=npy_files() | st.just(whole[0]), second=npy_files() | st.just(whole[1]), steps=damages(2)
    )
    def check(first: bytes, second: bytes, steps: list[Damage]) -> None:
        images.write_bytes(damaged(first, steps) if steps[0][3] > b"\x7f" else first)
        labels.write_bytes(second)
        check_data_set(lambda: sources.npz(str(images), labels=str(labels)), (first[:200], second[:200], steps))


def test_bombs_are_refused_without_their_memory(tmp_path: Path) -> None:
    """Zeros that are packed a thousandfold, archives in archives, a table of one endless row."""
    bomb = header("'|u1'", "(3000000, 28, 28)")
    file = tmp_path / "own.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", bomb + bytes(1 << 20))
    assert check_data_set(lambda: sources.npz(str(file)), "an array that claims 2.2 GB") == "refused"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", WHOLE["packed.npz"])
    assert check_data_set(lambda: sources.npz(str(file)), "archives in an archive") == "refused"
    table = tmp_path / "own.csv"
    table.write_bytes(gzip.compress(b"label,a\n" + bytes(200 << 20)))
    assert check_data_set(lambda: sources.csv(str(table), max_gigabytes=0.1), "200 MB of NUL bytes") == "refused"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@LENGTHS
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_damaged_idx_files(tmp_path: Path, packed: bool, length: str) -> None:
    names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    whole = dict(zip(names, map(idx, (PIXELS, LABELS, PIXELS[:12], LABELS[:12])), strict=True))

    @fuzz(length, 10, 400, name=st.sampled_from(names), steps=damages())
    def check(name: str, steps: list[Damage]) -> None:
        for each, content in whole.items():
            packed_bytes = gzip.compress(content) if packed else content
            (tmp_path / each).write_bytes(damaged(packed_bytes, steps) if each == name else packed_bytes)
        check_data_set(lambda: sources.idx(str(tmp_path)), (name, steps))


BATCH = {b"data": COLOURS, b"labels": [0, 1, 2, 0, 1, 2]}
NAMES = {b"label_names": ["airplane", "automobile", "bird"]}
ENTRIES: list[Any] = [
    None,
    5,
    b"x",
    [],
    [1],
    [[1], [2, 3]],
    ["a"] * 6,
    [10**30] * 6,
    [None] * 6,
    [0.5] * 6,
    {},
    COLOURS[0],
]
ENTRIES += [
    COLOURS[:, :5],
    COLOURS.astype(object),
    COLOURS.astype(float) * np.nan,
    np.array(5),
    [-1] * 6,
    [[0]] * 6,
    "abc",
]


@LENGTHS
def test_damaged_batches_of_cifar(tmp_path: Path, length: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are pickles: nothing but arrays and text is loaded."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    files = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]
    whole = {name: NAMES if name == "batches.meta" else BATCH for name in files}
    key = st.sampled_from([b"data", b"labels", b"label_names"])

    @fuzz(
        length,
        15,
        500,
        name=st.sampled_from(files),
        replaced=st.dictionaries(key, st.sampled_from(ENTRIES), max_size=1),
        protocol=st.integers(0, 4),
        steps=st.just([]) | damages(3),
    )
    def check(name: str, replaced: dict, protocol: int, steps: list[Damage]) -> None:
        for each, content in whole.items():
            data = pickle.dumps({**content, **replaced} if each == name else content, protocol)
            (folder / each).write_bytes(damaged(data, steps) if each == name else data)
        check_data_set(lambda: sources.cifar10(str(folder)), (name, replaced, protocol, steps))
        assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]
