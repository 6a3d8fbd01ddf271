"""What a model file holds, told from its bytes before Keras opens it, or why it cannot be loaded."""

import codecs
import contextlib
import json
import subprocess
import sys
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnistlab.config import ConfigError

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
NUM_FIRST_BYTES = 4096
SHOWN_NAMES = 4
# What is often taken for a model: the first bytes, and what to say of them.
OTHER_KINDS = (
    (b"version https://git-lfs", "is a pointer of Git LFS instead of the file itself. Fetch it: git lfs pull"),
    (b"\x93NUMPY", "is an array of NumPy, not a model"),
    (b"\x1f\x8b", "is a gzip archive. Unpack it first"),
    (b"PK\x05\x06", "is an empty zip archive"),
)
PICKLE = (
    "is a pickle, which can run any code while it is read, so it is not loaded. Save the model with Keras: "
    "model.save('NAME.keras')"
)
TORN = "An interrupted copy or a full disk leaves such a file: copy it again, or take another file of that run"
# An archive that grows this much, to more than this many bytes, was made to fill the memory: Keras compresses nothing.
MAX_GROWTH, MAX_UNPACKED = 100, 1 << 28
READ_SECONDS = 30
READ_ALL = """
import sys
import h5py

def read(name, entry):
    dict(entry.attrs)
    if isinstance(entry, h5py.Dataset):
        entry[()]

with h5py.File(sys.argv[1], "r") as file:
    read("", file)
    file.visititems(read)
"""


@dataclass(frozen=True)
class ModelFile:
    """kind: 'keras' or 'h5' for a whole model, 'weights' for its weights; config: the model's configuration;
    keras_version: the version that saved it, '' if the file does not say."""

    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    keras_version: str = ""


class _BadFile(Exception):
    """Why a file cannot be loaded: the words that follow its name."""


def read(file: Path, setting: str) -> ModelFile:
    """Tell what a file holds. No code of the file is run, and no weights are read.

    Args:
        setting: that names the file, for the message.

    Raises:
        ConfigError: the file is no model or a damaged one, with the reason.
    """
    try:
        return _content(file)
    except _BadFile as reason:
        raise ConfigError(f"{setting}={file} {reason}.") from reason


def check_name(file: Path, found: ModelFile, setting: str) -> None:
    """Raise a ConfigError if the file's name is that of another format: Keras goes by the name."""
    named = "weights" if file.name.endswith(".weights.h5") else file.suffix.removeprefix(".")
    if found.kind == named:
        return
    what = {
        "keras": "is a whole model in the format of .keras files",
        "h5": "is a whole model in the format of .h5 files",
        "weights": "has the weights of a model only",
    }[found.kind]
    ending = {"weights": ".weights.h5"}.get(found.kind, f".{found.kind}")
    raise ConfigError(f"{setting}={file} {what}, under another ending. Name it {ending}: Keras goes by the name.")


def _content(file: Path) -> ModelFile:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            first = opened.read(NUM_FIRST_BYTES)
    except OSError as error:
        raise _BadFile(f"cannot be read: {error.strerror}") from error
    if not size:
        raise _BadFile(f"is empty (0 bytes). {TORN}")
    if first.startswith(HDF5):
        return _content_of_hdf5(file)
    if first.startswith(ZIP):
        return _content_of_zip(file)
    raise _BadFile(_other_kind(first))


def _other_kind(first: bytes) -> str:
    for start, reason in OTHER_KINDS:
        if first.startswith(start):
            return reason
    if first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    if HDF5.startswith(first[: len(HDF5)]) or ZIP.startswith(first[: len(ZIP)]):
        return f"is cut off after {len(first)} bytes. {TORN}"
    with contextlib.suppress(UnicodeDecodeError):
        text = codecs.getincrementaldecoder("utf-8")().decode(first)  # the last letter may be cut
        if all(letter.isprintable() or letter.isspace() for letter in text):
            return _kind_of_text(text.strip())
    return "is no model of Keras: it starts neither like a .keras file (a zip archive) nor like an .h5 file (HDF5)"


def _kind_of_text(text: str) -> str:
    if text.lower().startswith(("<!doctype html", "<html")):
        return "is an HTML page, not a model: the download probably gave an error or a login page"
    return f"is a text file, not a model. It starts with {text[:40]!r}"


# ---- .h5 and .weights.h5 --------------------------------------------------------------------------------------------


def _check_that_it_ends(file: Path) -> None:
    """HDF5 can read a damaged file without end, or crash: another process reads all of it first, in limited time."""
    limit = READ_SECONDS + file.stat().st_size / 10_000_000
    try:
        done = subprocess.run([sys.executable, "-c", READ_ALL, str(file)], timeout=limit, capture_output=True)
    except subprocess.TimeoutExpired as error:
        raise _BadFile(f"is damaged: HDF5 does not come to an end with it. {TORN}") from error
    if done.returncode < 0:
        raise _BadFile(f"is damaged: HDF5 crashes when it reads it. {TORN}")


def _content_of_hdf5(file: Path) -> ModelFile:
    import h5py

    _check_that_it_ends(file)
    try:
        with h5py.File(file, "r") as opened:
            found = {name.decode() if isinstance(name, bytes) else name: value for name, value in opened.attrs.items()}
            names: list[str] = []
            opened.visit(names.append)
    except Exception as error:
        reason = " ".join(str(error).split())
        if "truncated file" in reason or "addr overflow" in reason:
            raise _BadFile(f"is cut off: its end is missing. {TORN}") from error
        raise _BadFile(f"is damaged: HDF5 cannot read it ({reason[:150].rstrip('.')})") from error
    version = _text(found.get("keras_version", ""))
    if "model_config" in found:
        return ModelFile("h5", _parsed(_text(found["model_config"])), version)
    if "layer_names" in found:
        raise _BadFile(
            "has the weights of a model only, in the older format of Keras. In Python, load them into their model "
            "(model.load_weights) and save that: model.save('NAME.keras')"
        )
    if not any("vars" in name.split("/") for name in names):
        raise _BadFile(f"is an HDF5 file, but no model of Keras: it holds {_listed(names)}")
    return ModelFile("weights")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# ---- .keras ---------------------------------------------------------------------------------------------------------


def _content_of_zip(file: Path) -> ModelFile:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            _refuse_bomb(archive)
            if "config.json" not in names:
                raise _BadFile(f"is a zip archive, but no model of Keras: it holds {_listed(names)}")
            if damaged := archive.testzip():
                raise _BadFile(f"is damaged: {damaged} in it was changed. {TORN}")
            config = _parsed(archive.read("config.json").decode("utf-8", "replace"))
            metadata = archive.read("metadata.json") if "metadata.json" in names else b""
    except zipfile.BadZipFile as error:
        if "not a zip file" in str(error):
            raise _BadFile(f"is cut off: the end of the archive is missing. {TORN}") from error
        raise _BadFile(f"is damaged: {str(error).rstrip('.')}") from error
    except _BadFile:
        raise
    except Exception as error:  # unknown compression, encryption, a name that is no text
        raise _BadFile(f"is damaged: the archive cannot be read ({' '.join(str(error).split())[:150]})") from error
    if not {"model.weights.h5", "model.weights.npz"} & set(names):
        raise _BadFile(f"has no weights: it holds {_listed(names)}")
    version = ""
    with contextlib.suppress(ValueError, AttributeError):
        version = str(json.loads(metadata).get("keras_version", ""))
    return ModelFile("keras", config, version)


def _refuse_bomb(archive: zipfile.ZipFile) -> None:
    for entry in archive.infolist():
        if entry.file_size > max(MAX_UNPACKED, MAX_GROWTH * entry.compress_size):
            raise _BadFile(
                f"is not unpacked: {entry.filename} in it has {entry.compress_size:,} bytes and would grow to "
                f"{entry.file_size:,}"
            )


def _parsed(text: str) -> dict[str, Any]:
    """The configuration of a model, from its JSON."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _BadFile(f"is damaged: the model's configuration is no JSON ({str(error)[:100]})") from error
    if not isinstance(config, dict):
        raise _BadFile(f"is damaged: the model's configuration must be an object. Received: {text[:60]!r}")
    return config


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES]) or "nothing"
    return f"{shown} and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else shown


# ---- what a configuration names -------------------------------------------------------------------------------------


def nodes(config: Any) -> Iterator[dict[str, Any]]:
    """Every object in a model's configuration, the outer ones first."""
    waiting = deque([config])
    while waiting:
        value = waiting.popleft()
        if isinstance(value, dict):
            yield value
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
