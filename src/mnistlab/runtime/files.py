"""Files that are whole or not there: each is written beside its place and moved there when it is complete."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnistlab.config.secrets import hide_secrets


@contextlib.contextmanager
def replacing(file: Path, *, durable: bool = False, suffix: str = "") -> Iterator[Path]:
    """Yield the path of a temporary file in the same folder, which replaces `file` at the end of the block.

    Readers see the old or the new content, whatever happens to this process. After an error the old content stays and
    the temporary file is removed; a process that is killed leaves it behind, named `.NAME.*.half` and the suffix.

    Args:
        file: its folder is made if it does not exist.
        durable: the content is on the disk before it replaces the old one, also if the power fails.
        suffix: of the temporary file, where the function that writes it demands one ('.keras').

    Raises:
        OSError: with the path of `file`, also if the disk is full.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=f".half{suffix}", dir=file.parent)
        os.close(handle)
        half = Path(name)
        half.chmod(0o666 & ~_umask())
        try:
            yield half
            if durable:
                _flush(half)
            half.replace(file)
            if durable:
                _flush(file.parent)
        finally:
            half.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(f".half{suffix}"):
            raise type(error)(error.errno, error.strerror, str(file)) from error
        raise


def write_text(file: Path, text: str) -> None:
    """Write a text file as `replacing` does, without secrets."""
    with replacing(file) as half:
        half.write_text(hide_secrets(text), encoding="utf-8")


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file as `replacing` does."""
    with replacing(file) as half:
        half.write_bytes(content)


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file as `write_text` does; what JSON does not know is written as its text."""
    write_text(file, json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def sha256(file: Path) -> str:
    """The SHA-256 of a file's content: 64 hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """The bits that new files do not get; the only way to read them is to set them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
