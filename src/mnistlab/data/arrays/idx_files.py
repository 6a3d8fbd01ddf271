"""`source=idx`: the IDX files of MNIST and its relatives (Fashion-MNIST, KMNIST, EMNIST), plain or gzip.

The format: http://yann.lecun.com/exdb/mnist. Two zero bytes, the type, the number of axes, their lengths as big-endian
32-bit numbers, the values.
"""

import gzip
import io
import math
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.data.arrays.assemble import images_from_arrays
from mnistlab.data.arrays.files import GIGABYTE
from mnistlab.data.images import Images

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_AXES = 4  # images, height, width, channels
BLOCK_BYTES = 1 << 24
NAME = re.compile(r"(?P<set>.*?)-?(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d-ubyte(\.gz)?")
EXAMPLE = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz"


def images_from_idx(
    path: str,
    subset: str | None,
    transpose: bool | None,
    class_names: Sequence[str] | None,
    max_gigabytes: float,
    value_range: Sequence[float] | None = None,
) -> Images:
    """The data set in a folder of IDX files; arguments: `sources.idx`."""
    folder = Path(path).expanduser()
    chosen, files = _files(folder, subset)
    arrays = {role: _read(file, max_gigabytes) for role, file in files.items()}
    sentences = [f"From {', '.join(file.name for file in files.values())}."]
    if transpose is None:
        transpose = chosen.startswith("emnist")
    if transpose:
        for role in arrays:
            if role.startswith("x_") and arrays[role].ndim == 3:
                arrays[role] = arrays[role].swapaxes(1, 2)
        sentences.append("Rows and columns were exchanged: EMNIST's files hold each image by columns.")
    names = {role: file.name for role, file in files.items()}
    return images_from_arrays(
        arrays,
        chosen or folder.resolve().name,
        str(folder.resolve()),
        class_names,
        value_range=value_range,
        names=names,
        sentences=sentences,
    )


def _files(folder: Path, subset: str | None) -> tuple[str, dict[str, Path]]:
    """The name of the data set, '' for MNIST's own file names, and role -> file."""
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise ConfigError(f"source.path must be a folder of IDX files. Received: {folder}, which {kind}.")
    sets: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        if match := NAME.fullmatch(file.name):
            role = f"{'x' if match['kind'] == 'images' else 'y'}_{'train' if match['split'] == 'train' else 'test'}"
            sets.setdefault(match["set"], {}).setdefault(role, file)
    if subset is None and len(sets) > 1:
        raise ConfigError(
            f"{folder} holds several data sets: {', '.join(sets)}. Choose one, such as source.subset={min(sets)}."
        )
    chosen = subset if subset is not None else next(iter(sets), "")
    found = sets.get(chosen, {})
    missing = [role for role in ("x_train", "y_train") if role not in found]
    missing += [role for role in ("x_test", "y_test") if role not in found and "test" in " ".join(found)]
    if missing:
        held = ", ".join(sorted(file.name for file in folder.iterdir())[:10]) or "nothing"
        raise ConfigError(
            f"{folder} must hold files named like {EXAMPLE}. Missing: {', '.join(missing)}; it holds: {held}."
        )
    return chosen, {role: found[role] for role in ("x_train", "y_train", "x_test", "y_test") if role in found}


def _read(file: Path, max_gigabytes: float) -> np.ndarray:
    """The array in an IDX file. Raises ConfigError if the file is damaged or larger than max_gigabytes."""
    try:
        with file.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(file) if packed else file.open("rb") as stream:
            return _values(stream, file, max_gigabytes)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise ConfigError(f"{file} cannot be read as an IDX file: {error}. It may be truncated.") from error


def _read_at_most(stream: BinaryIO | gzip.GzipFile, num_bytes: int) -> bytes:
    """So many bytes, or all that there are. Takes no memory for bytes that a header merely claims."""
    content = io.BytesIO()
    while block := stream.read(min(BLOCK_BYTES, num_bytes - content.tell())):
        content.write(block)
    return content.getvalue()


def _values(stream: BinaryIO | gzip.GzipFile, file: Path, max_gigabytes: float) -> np.ndarray:
    zeros, kind, num_axes = struct.unpack(">HBB", stream.read(4))
    if zeros != 0 or kind not in TYPES or not 1 <= num_axes <= MAX_AXES:
        raise ConfigError(f"{file} cannot be read as an IDX file: it does not start with the header of one.")
    shape = struct.unpack(f">{num_axes}I", stream.read(4 * num_axes))
    dtype = np.dtype(TYPES[kind])
    num_bytes = math.prod(shape) * dtype.itemsize
    if num_bytes > max_gigabytes * GIGABYTE:
        raise ConfigError(
            f"{file} must fit into {max_gigabytes:g} GB of memory (source.max_gigabytes). "
            f"Received: {num_bytes / GIGABYTE:,.1f} GB, {shape} {dtype}."
        )
    content = _read_at_most(stream, num_bytes + 1)
    if len(content) != num_bytes:
        held = f"{len(content):,}" if len(content) < num_bytes else "more"
        raise ConfigError(
            f"{file} must hold {num_bytes:,} bytes after its header, as the shape {shape} says. Received: {held}. "
            "It may be truncated."
        )
    return np.frombuffer(content, dtype).reshape(shape)
