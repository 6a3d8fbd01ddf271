"""Reports images that cannot be used: the first ten, the number of each kind, and a file with all of them."""

import contextlib
import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mnistlab.data.folders.decoding import Facts
from mnistlab.data.folders.layout import join_names
from mnistlab.data.folders.listing import Scan
from mnistlab.runtime.files import write_bytes

MAX_SHOWN = 10
LIST_NAME = "unusable_images.txt"


def bad_image_problems(
    found: Scan, facts: Sequence[Facts], on_bad_image: str, list_folder: Path | None
) -> Iterator[str]:
    """The problems of unusable images; if these are skipped, only the classes that lose all their images.

    list_folder: where a list of them is written if there are more than ten; None: the folder for temporary files.
    """
    bad = {file.path: known.problem for file, known in zip(found.files, facts, strict=True) if known.problem}
    if on_bad_image == "error":
        yield from _errors(found.root, bad, len(facts), list_folder)
        return
    found.skipped |= {path: f"unusable: {problem}" for path, problem in bad.items()}
    if bad:
        names, kinds = join_names(list(bad), 5), f" ({_by_kind(bad)})" if len(bad) > MAX_SHOWN else ""
        found.notes.append(f"Left out (source.on_bad_image=skip): {len(bad):,} unusable images{kinds}, {names}.")
    before = Counter((file.split, file.class_name) for file in found.files)
    after = Counter((file.split, file.class_name) for file in found.files if file.path not in bad)
    for split, name in sorted(before.keys() - after.keys()):
        yield f"{found.root / split / name}: none of the {before[split, name]} images of this class can be used."


def _errors(root: Path, bad: Mapping[str, str], num_files: int, list_folder: Path | None) -> Iterator[str]:
    if not bad:
        return
    yield from (f"{root}/{path} {problem}." for path, problem in list(bad.items())[:MAX_SHOWN])
    advice = "Repair them, or leave them out: source.on_bad_image=skip."
    if len(bad) > MAX_SHOWN:
        file = _write_list(root, bad, list_folder)
        listed = f" All are listed in {file}." if file else ""
        yield f"... and {len(bad) - MAX_SHOWN:,} more. In total: {_by_kind(bad)}.{listed}"
    yield f"{len(bad):,} of {num_files:,} images cannot be used. {advice}"


def _by_kind(bad: Mapping[str, str]) -> str:
    """'900 not an image, 100 empty', the most frequent first"""
    kinds = Counter(re.split(r"[:(,;]", problem)[0].strip() for problem in bad.values())
    return "; ".join(f"{count:,} x '{kind}'" for kind, count in kinds.most_common())


def _write_list(root: Path, bad: Mapping[str, str], folder: Path | None) -> Path | None:
    """Write one line per image; returns the file, or None if it cannot be written."""
    text = "".join(f"{root}/{path} {problem}.\n" for path, problem in bad.items())
    key = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    candidates = [folder / LIST_NAME] if folder else []
    for file in (*candidates, Path(tempfile.gettempdir()) / f"mnistlab-{key}-{LIST_NAME}"):
        with contextlib.suppress(OSError):
            write_bytes(file, text.encode(errors="backslashreplace"))
            return file
    return None
