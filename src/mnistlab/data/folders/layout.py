"""Folders of images by class: which files belong to which class and split, and all that is wrong with the folders.

No file is opened here; `decode.py` looks into them.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff")  # those that ImageDataGenerator reads
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
}
LAYOUTS = "Layouts: PATH/CLASS/..., or PATH/train/CLASS/... with validation (or val) and test folders beside train."
SHOWN = 20


class ImageFile(NamedTuple):
    """A file that should be an image.

    path: below the root, with slashes; split: 'train', 'validation', 'test' or '' if the folders do not say;
    stamp: (bytes, mtime_ns, ctime_ns, inode), which changes when the file does.
    """

    path: str
    class_name: str
    split: str
    stamp: tuple[int, int, int, int]

    @property
    def order(self) -> tuple[str, str, str]:
        """Images are ordered by folder below the class, then file name, then class: within a class as
        ImageDataGenerator orders them, and as they were for an export that numbers its files."""
        class_folder = f"{self.split_folder}{self.class_name}"
        below, _, name = self.path[len(class_folder) :].rpartition("/")
        return below, name, self.class_name

    @property
    def split_folder(self) -> str:
        return self.path.split("/", 1)[0] + "/" if self.split else ""


@dataclass
class Scan:
    """What lies in a folder of images.

    class_names: the sorted folder names; files: in training order (`ImageFile.order`);
    problems: what must be mended; notes: what the user should know; skipped: path -> why it is no image of the data.
    """

    root: Path
    class_names: tuple[str, ...] = ()
    files: list[ImageFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def splits(self) -> list[str]:
        """The splits that the folders make: [''] if they make none."""
        return sorted({file.split for file in self.files})


def scan(path: str | Path, follow_links: bool = False) -> Scan:
    """Find the images below `path`: `path/class/...` or `path/{train,validation|val,test}/class/...`.

    Args:
        follow_links: read files and folders outside `path` that links lead to, and folders behind links.
    """
    root = Path(path).expanduser().resolve()
    found = Scan(root)
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        found.problems.append(f"source.path must be a folder of class folders. Received: {path}, which {kind}.")
        return found
    walk = _Walk(found, follow_links)
    folders = walk.subfolders(str(root))
    splits = _split_folders(found, folders)
    for split, folder in splits:
        for class_folder in walk.subfolders(folder) if split else folders:
            walk.gather(class_folder, split)
    _finish(found, splits, walk)
    return found


def _split_folders(found: Scan, folders: Sequence[str]) -> list[tuple[str, str]]:
    """(split, folder) for each split that the folders make; [('', root)] if they hold the classes themselves."""
    known = {folder: SPLIT_NAMES.get(Path(folder).name.casefold(), "") for folder in folders}
    named = [(split, folder) for folder, split in known.items() if split]
    if not named:
        return [("", str(found.root))]
    counts = Counter(split for split, _ in named)
    if "train" not in counts:
        found.problems.append(
            f"{found.root} holds {', '.join(split for split, _ in named)} but no train folder. {LAYOUTS}"
        )
    for split, count in counts.items():
        if count > 1:
            twice = ", ".join(folder for name, folder in named if name == split)
            found.problems.append(f"{found.root} must hold one {split} folder. Received: {twice}.")
    for folder, split in known.items():
        if not split:
            found.problems.append(f"{folder} stands beside the train folder but is neither validation (val) nor test.")
    return named


class _Walk:
    """Lists folders and gathers the files of class folders.

    Remembers the folders it is in, so that links cannot lead in circles.
    """

    def __init__(self, found: Scan, follow_links: bool) -> None:
        self.found = found
        self.follow_links = follow_links
        self.prefix = len(str(found.root)) + 1
        self.count: dict[tuple[str, str], int] = {}

    def subfolders(self, folder: str) -> list[str]:
        """The folders in a folder that holds splits or classes, sorted by name."""
        folders = []
        for entry in self._entries(folder):
            if self._is_folder(entry):
                folders.append(entry.path)
            elif entry.path[self.prefix :] not in self.found.skipped:
                self._skip(entry, "in no class folder")
        return folders

    def gather(self, class_folder: str, split: str) -> None:
        name = Path(class_folder).name
        above = tuple(_identity(str(folder)) for folder in (self.found.root, str(Path(class_folder).parent)))
        files = list(self._files(class_folder, name, split, above))
        self.count[split, name] = len(files)
        self.found.files += files

    def _files(
        self, folder: str, class_name: str, split: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[ImageFile]:
        here = (*above, _identity(folder))
        for entry in self._entries(folder):
            if self._is_folder(entry):
                if _identity(entry.path) in here:
                    self._skip(entry, "a link that leads in a circle")
                else:
                    yield from self._files(entry.path, class_name, split, here)
            elif entry.path[self.prefix :] in self.found.skipped:
                continue
            elif entry.name.casefold().endswith(ENDINGS):
                stamp = self._stamp(entry)
                if stamp is not None:
                    yield ImageFile(entry.path[self.prefix :].replace(os.sep, "/"), class_name, split, stamp)
            else:
                self._skip(entry, f"no image: {Path(entry.name).suffix or 'no ending'}")

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What a folder holds, sorted by name; hidden files and names that are no text are skipped."""
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.found.problems.append(f"{folder}: the folder cannot be read: {error.strerror}.")
            return []
        for entry in ordered:
            if entry.name.startswith("."):
                self._skip(entry, "hidden")
            elif not entry.name.isprintable():
                self._skip(entry, "a name with characters that cannot be shown")
        return [entry for entry in ordered if not entry.name.startswith(".") and entry.name.isprintable()]

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether it is a folder to look into; a link that is not to be followed is skipped."""
        try:
            if not entry.is_dir():
                return False
        except OSError:
            self._skip(entry, "a link that leads nowhere or to itself")
            return False
        if entry.is_symlink() and not self.follow_links:
            self._skip(entry, "a link to a folder (source.follow_links=false)")
            return False
        return True

    def _stamp(self, entry: os.DirEntry[str]) -> tuple[int, int, int, int] | None:
        """An ordinary file's stamp; None, and skipped, if it is none or lies outside."""
        try:
            if entry.is_symlink() and not self.follow_links and not self._inside(entry.path):
                self._skip(entry, "a link to a file outside (source.follow_links=false)")
                return None
            status = entry.stat()
        except (OSError, RuntimeError):
            self._skip(entry, "a link that leads nowhere or to itself")
            return None
        if not stat.S_ISREG(status.st_mode):
            self._skip(entry, "no ordinary file")
            return None
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    def _inside(self, path: str) -> bool:
        return Path(path).resolve(strict=True).is_relative_to(self.found.root)

    def _skip(self, entry: os.DirEntry[str], reason: str) -> None:
        shown = entry.path[self.prefix :].encode("utf-8", "backslashreplace").decode()
        self.found.skipped[shown] = reason


def _identity(folder: str) -> tuple[int, int]:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def _finish(found: Scan, splits: Sequence[tuple[str, str]], walk: _Walk) -> None:
    """The classes, and everything that is wrong with them and with what was skipped."""
    by_split = {split: sorted(name for where, name in walk.count if where == split) for split, _ in splits}
    found.class_names = tuple(by_split.get("train", by_split.get("", [])))
    found.files.sort(key=lambda file: (file.split, file.order))
    for (split, name), count in walk.count.items():
        folder = f"{dict(splits)[split]}/{name}"
        if not count and not any(problem.startswith(f"{folder}: ") for problem in found.problems):
            found.problems.append(f"{folder}: the class folder holds no image ({', '.join(ENDINGS)}).")
    if "train" in by_split or "" in by_split:
        _check_class_count(found)
    for split, names in by_split.items():
        if split not in ("", "train") and tuple(names) != found.class_names:
            found.problems.append(_other_classes(dict(splits)[split], names, found.class_names))
    found.notes += [*_alike(found.class_names), *_skipped_notes(found)]


def _check_class_count(found: Scan) -> None:
    names = found.class_names
    if not names:
        found.problems.append(f"{found.root} holds no class folders. {LAYOUTS}")
    elif len(names) == 1:
        inner = found.root / names[0]
        nested = sum(entry.is_dir() for entry in inner.iterdir()) if inner.is_dir() else 0
        hint = f" Perhaps source.path={inner} is meant." if nested > 1 else ""
        found.problems.append(f"{found.root} must hold at least two class folders. Received: {names[0]}.{hint}")


def _other_classes(folder: str, names: Sequence[str], expected: Sequence[str]) -> str:
    missing, extra = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
    said = [f"missing: {listed(missing)}" if missing else "", f"not in training: {listed(extra)}" if extra else ""]
    return f"{folder} must have the class folders of the training set; {'; '.join(word for word in said if word)}."


def _alike(names: Iterable[str]) -> Iterator[str]:
    """Class names that differ only in case or in how an accent is encoded."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    for group in groups.values():
        if len(group) > 1:
            yield (
                f"The class folders {' and '.join(group)} differ only in case or accents: they are different classes "
                "here, and one folder on other systems."
            )


def _skipped_notes(found: Scan) -> Iterator[str]:
    """One line per reason: how many files, and where the first lies."""
    reasons = Counter(found.skipped.values())
    first: dict[str, str] = {}
    for path, reason in found.skipped.items():
        first.setdefault(reason, path)
    for reason, count in sorted(reasons.items()):
        yield f"Skipped, {reason}: {count:,} ({first[reason]}{', ...' if count > 1 else ''})."


def listed(words: Sequence[str], shown: int = SHOWN) -> str:
    """'a, b, c and 40 more'"""
    rest = f" and {len(words) - shown:,} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + rest
