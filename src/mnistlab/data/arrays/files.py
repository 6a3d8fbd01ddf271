"""The arrays in .npz and .npy files: their shapes and types from the headers, and then those that are needed.

Nothing is unpickled, and no memory is allocated for an array before its size in the header is checked.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from mnistlab.config import ConfigError

ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
NPY_START = b"\x93NUMPY"
OTHER_FORMATS = {
    b"\x89HDF": "an HDF5 file: read it with h5py",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"MATLAB": "a MATLAB file: read it with scipy.io.loadmat",
    b"\x80": "a pickle, which is not read because it may run code: load it where you trust it",
    b"\x89PNG": "a PNG image: for image files choose source=directory",
    b"\xff\xd8\xff": "a JPEG image: for image files choose source=directory",
}
SAVE = "numpy.savez_compressed(path, x_train=..., y_train=..., x_test=..., y_test=...)"
GIGABYTE = 1 << 30


class Header(NamedTuple):
    """An array's shape and type as its header states them, before it is read; held: the bytes that follow."""

    shape: tuple[int, ...]
    dtype: np.dtype
    held: int | None = None

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"


def is_single_array(file: Path) -> bool:
    """Whether a file is an .npy file, by its content."""
    with explained(file):
        return _start(file).startswith(NPY_START)


def read_headers(file: Path) -> dict[str, Header]:
    """Array name -> header, in the order of the file; the array of an .npy file is named after the file.

    Raises:
        ConfigError: the file does not exist, is damaged, or is neither .npz nor .npy.
    """
    with explained(file):
        start = _start(file)
        if start.startswith(NPY_START):
            with file.open("rb") as stream:
                return {file.stem: _header(stream, file.stat().st_size)}
        if not start.startswith(ZIP_STARTS):
            other = next((text for magic, text in OTHER_FORMATS.items() if start.startswith(magic)), "")
            kind = f"It is {other}, then save" if other else "Save" if start else "It is empty: save"
            raise ConfigError(f"source.path={file} cannot be read as an .npz file. {kind} the arrays with {SAVE}.")
        headers = {}
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as stream:
                        headers[name.removesuffix(".npy")] = _header(stream, archive.getinfo(name).file_size)
        return headers


def read_arrays(file: Path, headers: dict[str, Header], names: Sequence[str], max_gigabytes: float) -> list[np.ndarray]:
    """These arrays of a file.

    Raises:
        ConfigError: together they are larger than max_gigabytes; one of them holds Python objects; the file is damaged.
    """
    needed = sum(headers[name].num_bytes for name in names)
    if needed > max_gigabytes * GIGABYTE:
        largest = max(names, key=lambda name: headers[name].num_bytes)
        size = headers[largest].num_bytes / GIGABYTE
        raise ConfigError(
            f"The arrays of source.path={file} must fit into {max_gigabytes:g} GB of memory (source.max_gigabytes). "
            f"Received: {needed / GIGABYTE:,.1f} GB, of these {largest} {size:,.1f} GB: {headers[largest]}."
        )
    for name in names:
        if headers[name].dtype.hasobject:
            raise ConfigError(_python_objects(file, name))
        if headers[name].dtype.names:
            raise ConfigError(f"{name} in {file} must be a plain array. Received: fields {headers[name].dtype.names}.")
        if (held := headers[name].held) is not None and held < headers[name].num_bytes:
            raise ConfigError(
                f"source.path={file} cannot be read as an .npz file: {name} must have {headers[name].num_bytes:,} "
                f"bytes, as its shape {headers[name].shape} says. Received: {held:,}. It may be truncated; write it "
                f"again with {SAVE}."
            )
    with explained(file):
        if is_single_array(file):
            return [np.load(file, allow_pickle=False) for _ in names]
        with np.load(file, allow_pickle=False) as archive:
            return [archive[name] for name in names]


def _python_objects(file: Path, name: str) -> str:
    return (
        f"{name} in {file} must hold numbers or text. Received: Python objects (dtype object), which are not read "
        f"because unpickling may run code. Save {name}.astype(str) for labels that are text, {name}.astype(int) for "
        f"numbers, np.stack({name}).astype('uint8') for images of one size. Images of several sizes need files "
        "(source=directory)."
    )


@contextlib.contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turn the errors of a file that is missing or damaged into ConfigErrors."""
    if not file.is_file():
        kind = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(f"source.path must be an .npz file. Received: {file}, which {kind}.")
    try:
        yield
    except ConfigError:
        raise
    except MemoryError as error:
        raise ConfigError(f"source.path={file} does not fit into memory: {error}.") from error
    except Exception as error:  # of a damaged file: OSError, SyntaxError, tokenize.TokenError, zlib.error and others
        reason = str(error) if isinstance(error, OSError | ValueError | zipfile.BadZipFile) else "it is damaged"
        raise ConfigError(
            f"source.path={file} cannot be read as an .npz file: {reason}. It may be truncated; write it again with "
            f"{SAVE}."
        ) from error


def _start(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(8)


def _header(stream: IO[bytes], size: int) -> Header:
    """The header of an array in a stream of `size` bytes."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return Header(shape, dtype, size - stream.tell())
