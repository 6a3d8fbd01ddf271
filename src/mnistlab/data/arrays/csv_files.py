"""`source=csv`: tables with one image a row, a label column and a column for each pixel, as Kaggle's digits have it."""

import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.arrays.assemble import MAX_GIGABYTES, images_from_arrays
from mnistlab.data.arrays.files import GIGABYTE
from mnistlab.data.images import Images

LABEL_NAMES = ("label", "labels", "class", "target", "category", "y")
ROW_NAMES = ("id", "index", "image_id", "imageid", "unnamed: 0", "")  # columns that number the rows
DELIMITERS = (",", ";", "\t", " ")
BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class Table:
    """pixels: numbers, shape (n, values of an image); labels: shape (n,); sentences: how the columns were read."""

    pixels: np.ndarray
    labels: np.ndarray
    sentences: tuple[str, ...]


class NoLabelsError(ConfigError):
    """A table has no column of labels."""


def images_from_csv(
    path: str,
    test: str | None,
    label: str | int | None,
    header: bool | None,
    class_names: Sequence[str] | None,
    image_shape: Sequence[int] | None,
    value_range: Sequence[float] | None = None,
    max_gigabytes: float = MAX_GIGABYTES,
) -> Images:
    """The data set in one table, or in one for training and one for testing; arguments: `sources.csv`."""
    files = {"train": Path(path).expanduser()} | ({"test": Path(test).expanduser()} if test else {})
    tables = {"train": _read(files["train"], label, header, max_gigabytes)}
    if test is not None:
        try:
            tables["test"] = _read(files["test"], label, header, max_gigabytes)
        except NoLabelsError as error:
            raise ConfigError(
                f"{error} If its images have no labels, leave source.test out: training images are held out for the "
                "test, and the saved model predicts these (docs/your-data.md)."
            ) from error
    arrays = {f"x_{split}": table.pixels for split, table in tables.items()}
    arrays |= {f"y_{split}": table.labels for split, table in tables.items()}
    names = {f"x_{split}": f"the pixels of {file.name}" for split, file in files.items()}
    names |= {f"y_{split}": f"the labels of {file.name}" for split, file in files.items()}
    sentences = [sentence for table in tables.values() for sentence in table.sentences]
    train = files["train"]
    name = train.name.split(".")[0]
    return images_from_arrays(
        arrays,
        name,
        str(train.resolve()),
        class_names,
        image_shape=image_shape,
        value_range=value_range,
        names=names,
        sentences=sentences,
    )


def _read(file: Path, label: str | int | None, header: bool | None, max_gigabytes: float) -> Table:
    import pandas

    text = _text(file, max_gigabytes)
    first = next((line for line in text if line.strip()), "")
    if not first:
        raise ConfigError(f"{file} must hold a row for each image. Received: an empty file.")
    delimiter = max(DELIMITERS, key=first.count)
    cells = [cell.strip().strip('"') for cell in first.rstrip("\r\n").split(delimiter)]
    has_header = _looks_like_header(cells) if header is None else header
    text.seek(0)
    try:
        table = pandas.read_csv(
            text,
            sep=delimiter,
            header=0 if has_header else None,
            keep_default_na=False,  # a class may be called None or NA
            na_values=[""],
            low_memory=False,
        )
    except (ValueError, UnicodeDecodeError, EOFError, OSError) as error:  # pandas' errors are ValueErrors
        raise ConfigError(f"{file} cannot be read as a table with the separator {delimiter!r}: {error}.") from error
    if not isinstance(table.index, pandas.RangeIndex):  # pandas would take the first column as names of the rows
        raise ConfigError(f"{file} must have as many names in its first row as values in each other row.")
    columns = [str(column) for column in table.columns]
    position = _label_position(file, columns if has_header else None, label, table)
    chosen, sentences = _pixel_positions(columns, position, has_header)
    shown = f"column {columns[position]!r}" if has_header else f"column {position}"
    read = f"From {file.name}: {len(table):,} rows, the label in {shown}, {len(chosen):,} pixel columns."
    return Table(_pixels(file, table, chosen, columns), _labels(file, table.iloc[:, position]), (read, *sentences))


def _text(file: Path, max_gigabytes: float) -> IO[str]:
    """The file's text, unpacked if it is compressed by gzip, whatever its name."""
    if not file.is_file():
        raise ConfigError(f"source.path and source.test must be CSV files. Received: {file}, which does not exist.")
    try:
        with file.open("rb") as raw:
            start = raw.read(4)
        if start == b"PK\x03\x04":
            raise ConfigError(f"{file} must be a CSV file. Received: a zip archive. Unpack it first.")
        with gzip.open(file) if start.startswith(b"\x1f\x8b") else file.open("rb") as stream:
            content = _read_at_most(stream, max_gigabytes, file)
        return io.StringIO(content.decode("utf-8-sig"))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ConfigError(f"{file} cannot be read as text: {error}.") from error


def _read_at_most(stream: IO[bytes] | gzip.GzipFile, max_gigabytes: float, file: Path) -> bytes:
    """All that the stream has. Raises ConfigError as soon as it is more than max_gigabytes."""
    content = io.BytesIO()
    while block := stream.read(BLOCK_BYTES):
        content.write(block)
        if content.tell() > max_gigabytes * GIGABYTE:
            raise ConfigError(
                f"{file} must have at most {max_gigabytes:g} GB of text (source.max_gigabytes). Received: more. "
                "Convert it to an .npz file (docs/your-data.md)."
            )
    return content.getvalue()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _looks_like_header(cells: Sequence[str]) -> bool:
    """Names, or names for the pixels that count them; not a row of numbers with a label in text."""
    numbers = [cell for cell in cells if _is_number(cell)]
    counted = [str(number) for number in range(len(numbers) + 1)]
    return len(numbers) < len(cells) / 2 or (len(numbers) < len(cells) and numbers in (counted[:-1], counted[1:]))


def _label_position(file: Path, columns: list[str] | None, label: str | int | None, table: Any) -> int:
    """The index of the label's column. columns: their names, or None without a header."""
    num_columns = table.shape[1]
    if isinstance(label, int):
        if not -num_columns <= label < num_columns:
            raise ConfigError(f"source.label must be a column of {file}, 0 to {num_columns - 1}. Received: {label}.")
        return label % num_columns
    if columns is None:
        texts = [index for index in range(num_columns) if table.dtypes.iloc[index].kind not in "iufb"]
        if label is None and len(texts) == 1:
            return texts[0]
        received = "no header" if label is None else f"{label}, but there is no header"
        raise ConfigError(
            f"source.label must tell which column of {file} has the labels: 0 for the first, -1 for the last of "
            f"{num_columns}. Received: {received}."
        )
    names = [name.strip() for name in columns]
    found = [index for index, name in enumerate(names) if name == label or (label is None and _is_label(name))]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(columns[:5]) + (f", ..., {columns[-1]}" if num_columns > 6 else "")
    received = f"{len(found)} columns named " + (" or ".join(LABEL_NAMES) if label is None else label)
    raise (NoLabelsError if not found else ConfigError)(
        f"{file} must have one column of labels; choose it by source.label=NAME. Received: {received}; the columns are "
        f"{shown}."
    )


def _is_label(name: str) -> bool:
    return name.casefold() in LABEL_NAMES


def _pixel_positions(columns: Sequence[str], label: int, has_header: bool) -> tuple[list[int], list[str]]:
    """The indices of the pixels' columns, in the order of the numbers in their names, and sentences on the others."""
    positions = [index for index in range(len(columns)) if index != label]
    if not has_header:
        return positions, []
    rows = [index for index in positions if columns[index].strip().casefold() in ROW_NAMES]
    positions = [index for index in positions if index not in rows]
    sentences = [f"Not used: the column {columns[index]!r}, which numbers the rows." for index in rows]
    matches = [re.fullmatch(r"(\D*)(\d{1,18})", columns[index].strip()) for index in positions]
    numbers = [int(match[2]) for match in matches if match]
    one_prefix = len({match[1] for match in matches if match}) == 1 and len(numbers) == len(positions)
    if one_prefix and len(set(numbers)) == len(numbers) and numbers != sorted(numbers):
        positions = [index for _, index in sorted(zip(numbers, positions, strict=True))]
        sentences.append(
            f"The pixel columns were put in the order of their numbers, from {columns[positions[0]]!r} on."
        )
    return positions, sentences


def _pixels(file: Path, table: Any, chosen: Sequence[int], columns: Sequence[str]) -> np.ndarray:
    pixels = table.iloc[:, list(chosen)]
    if pixels.empty:
        raise ConfigError(f"{file} must hold a row for each image. Received: no row.")
    for index, kind in zip(chosen, (dtype.kind for dtype in pixels.dtypes), strict=True):
        if kind not in "iufb":
            column = table.iloc[:, index].astype(str)
            words = [(row, cell) for row, cell in enumerate(column) if not _is_number(cell)]
            row, cell = words[0] if words else _first_odd_number(column)
            raise ConfigError(
                f"{file} must hold numbers in all columns but the label's (source.label). Received: {cell[:40]!r} in "
                f"column {columns[index]}, image {row}."
            )
    missing = pixels.isna().to_numpy()
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise ConfigError(
            f"{file} must hold a value for each pixel. Received: {missing.sum():,} empty cells, the first in column "
            f"{columns[chosen[column]]}, image {row}. Are all rows of one length?"
        )
    return pixels.to_numpy()


def _first_odd_number(column: Any) -> tuple[int, str]:
    """The first cell that Python reads as a number and a table's reader does not: nan, infinity, 1_000, 9 * 400."""
    odd = (
        row for row, cell in enumerate(column) if not re.fullmatch(r"\s*[+-]?[\d.]{1,19}(e[+-]?\d+)?\s*", cell, re.I)
    )
    row = next(odd, 0)
    return row, column.iloc[row]


def _labels(file: Path, column: Any) -> np.ndarray:
    if column.isna().any():
        row = int(column.isna().to_numpy().argmax())
        raise ConfigError(
            f"{file} must hold a label for each image. Received: {column.isna().sum():,} empty ones, the first for "
            f"image {row}."
        )
    return column.to_numpy() if column.dtype.kind in "iufb" else column.astype(str).to_numpy().astype(str)
