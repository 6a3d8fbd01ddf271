"""Scans a folder of images by class: which file belongs to which class and split, and what is wrong with the folders.

No file is opened here; `decoding` does that.
"""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff")  # as in ImageDataGenerator
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LAYOUTS = "Layouts: PATH/CLASS/..., or PATH/train/CLASS/... with validation (or val) and test folders beside train."
MAX_NAMES_SHOWN = 20


class ImageFile(NamedTuple):
    """A file with an image's ending.

    path: relative to the root, with slashes; split: 'train', 'validation', 'test', or '' if there are no split folders;
    stamp: (bytes, mtime_ns, ctime_ns, inode), which changes when the file changes.
    """

    path: str
    class_name: str
    split: str
    stamp: tuple[int, int, int, int]

    @property
    def order(self) -> tuple[str, str, str]:
        """The sort key: subfolder of the class folder, file name, class.

        Within a class this is ImageDataGenerator's order; for an export's numbered files it is the source's order.
        """
        below, _, name = self.path.split("/", 2 if self.split else 1)[-1].rpartition("/")
        return below, name, self.class_name


@dataclass
class Scan:
    """Lists folders, and holds what was found in a folder of images.

    class_names: the sorted folder names; files: sorted by split and `ImageFile.order`; problems: errors for the user;
    notes: other messages for the user; skipped: path -> why the file is not part of the data set;
    num_images: (split, class name) -> number of files with an image's ending.
    """

    root: Path
    follow_links: bool
    class_names: tuple[str, ...] = ()
    files: list[ImageFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    num_images: dict[tuple[str, str], int] = field(default_factory=dict)

    def subfolders(self, folder: str) -> list[str]:
        """The folders in a folder that holds splits or classes, sorted by name."""
        folders = []
        for entry in self._entries(folder):
            if self._is_folder(entry):
                folders.append(entry.path)
            elif self._path(entry) not in self.skipped:
                self._skip(entry, "not in a class folder")
        return folders

    def add_class(self, class_folder: str, split: str) -> None:
        name = Path(class_folder).name
        parents = tuple(_folder_id(str(folder)) for folder in (self.root, str(Path(class_folder).parent)))
        files = list(self._files(class_folder, name, split, parents))
        self.num_images[split, name] = len(files)
        self.files += files

    def _files(
        self, folder: str, class_name: str, split: str, parents: tuple[tuple[int, int], ...]
    ) -> Iterator[ImageFile]:
        """The images in a folder and its subfolders; links to a parent folder, which would never end, are skipped."""
        parents = (*parents, _folder_id(folder))
        for entry in self._entries(folder):
            if self._is_folder(entry):
                if _folder_id(entry.path) in parents:
                    self._skip(entry, "a link to a parent folder")
                else:
                    yield from self._files(entry.path, class_name, split, parents)
            elif self._path(entry) in self.skipped:
                continue
            elif entry.name.casefold().endswith(ENDINGS):
                stamp = self._stamp(entry)
                if stamp is not None:
                    yield ImageFile(self._path(entry).replace(os.sep, "/"), class_name, split, stamp)
            else:
                self._skip(entry, f"not an image file: {Path(entry.name).suffix or 'no ending'}")

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """A folder's entries, sorted by name; hidden ones and unprintable names are skipped."""
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.problems.append(f"{folder}: the folder cannot be read: {error.strerror}.")
            return []
        for entry in ordered:
            if entry.name.startswith("."):
                self._skip(entry, "hidden")
            elif not entry.name.isprintable():
                self._skip(entry, "a name with unprintable characters")
        return [entry for entry in ordered if not entry.name.startswith(".") and entry.name.isprintable()]

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether the entry is a folder to read; a link to a folder that must not be followed is skipped."""
        try:
            if not entry.is_dir():
                return False
        except OSError:
            self._skip(entry, "a broken link")
            return False
        if entry.is_symlink() and not self.follow_links:
            self._skip(entry, "a link to a folder (source.follow_links=false)")
            return False
        return True

    def _stamp(self, entry: os.DirEntry[str]) -> tuple[int, int, int, int] | None:
        """A regular file's stamp; anything else, or a link out of the root, is skipped and gives None."""
        try:
            if entry.is_symlink() and not self.follow_links and not self._inside(entry.path):
                self._skip(entry, "a link to a file outside source.path (source.follow_links=false)")
                return None
            status = entry.stat()
        except (OSError, RuntimeError):
            self._skip(entry, "a broken link")
            return None
        if not stat.S_ISREG(status.st_mode):
            self._skip(entry, "not a regular file")
            return None
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    def _inside(self, path: str) -> bool:
        return Path(path).resolve(strict=True).is_relative_to(self.root)

    def _path(self, entry: os.DirEntry[str]) -> str:
        """The entry's path relative to the root."""
        return entry.path[len(str(self.root)) + 1 :]

    def _skip(self, entry: os.DirEntry[str], reason: str) -> None:
        shown = self._path(entry).encode("utf-8", "backslashreplace").decode()
        self.skipped[shown] = reason


def scan(path: str | Path, follow_links: bool = False) -> Scan:
    """Find the images in `path/CLASS/...` or `path/{train,validation|val,test}/CLASS/...`.

    Args:
        follow_links: follow links to folders, and to files outside `path`.
    """
    root = Path(path).expanduser().resolve()
    found = Scan(root, follow_links)
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        found.problems.append(f"source.path must be a folder of class folders. Received: {path}, which {kind}.")
        return found
    folders = found.subfolders(str(root))
    splits = _split_folders(found, folders)
    for split, folder in splits:
        for class_folder in found.subfolders(folder) if split else folders:
            found.add_class(class_folder, split)
    _check_classes(found, splits)
    return found


def _split_folders(found: Scan, folders: Sequence[str]) -> list[tuple[str, str]]:
    """(split, folder) for each split folder; [('', root)] if the root holds the class folders."""
    split_of = {folder: SPLIT_NAMES.get(Path(folder).name.casefold(), "") for folder in folders}
    named = [(split, folder) for folder, split in split_of.items() if split]
    if not named:
        return [("", str(found.root))]
    counts = Counter(split for split, _ in named)
    if "train" not in counts:
        found.problems.append(
            f"{found.root} holds {', '.join(split for split, _ in named)} but no train folder. {LAYOUTS}"
        )
    for split, count in counts.items():
        if count > 1:
            folders_of_split = ", ".join(folder for name, folder in named if name == split)
            found.problems.append(f"{found.root} must hold one {split} folder. Received: {folders_of_split}.")
    for folder, split in split_of.items():
        if not split:
            found.problems.append(f"{folder} is beside the train folder but is neither validation (val) nor test.")
    return named


def _folder_id(folder: str) -> tuple[int, int]:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def _check_classes(found: Scan, splits: Sequence[tuple[str, str]]) -> None:
    """Set the class names, sort the files, and add the problems of the classes and the notes."""
    by_split = {split: sorted(name for other, name in found.num_images if other == split) for split, _ in splits}
    found.class_names = tuple(by_split.get("train", by_split.get("", [])))
    found.files.sort(key=lambda file: (file.split, file.order))
    for (split, name), count in found.num_images.items():
        folder = f"{dict(splits)[split]}/{name}"
        if not count and not any(problem.startswith(f"{folder}: ") for problem in found.problems):
            found.problems.append(f"{folder}: the class folder holds no image ({', '.join(ENDINGS)}).")
    if "train" in by_split or "" in by_split:
        _check_class_count(found)
    for split, names in by_split.items():
        if split not in ("", "train") and tuple(names) != found.class_names:
            found.problems.append(_class_mismatch(dict(splits)[split], names, found.class_names))
    found.notes += [*_similar_names(found.class_names), *_skipped_notes(found)]


def _check_class_count(found: Scan) -> None:
    names = found.class_names
    if not names:
        found.problems.append(f"{found.root} holds no class folders. {LAYOUTS}")
    elif len(names) == 1:
        inner = found.root / names[0]
        nested = sum(entry.is_dir() for entry in inner.iterdir()) if inner.is_dir() else 0
        hint = f" Did you mean source.path={inner}?" if nested > 1 else ""
        found.problems.append(f"{found.root} must hold at least two class folders. Received: {names[0]}.{hint}")


def _class_mismatch(folder: str, names: Sequence[str], expected: Sequence[str]) -> str:
    missing, extra = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
    differences = {"missing": missing, "not in training": extra}
    text = "; ".join(f"{kind}: {join_names(names)}" for kind, names in differences.items() if names)
    return f"{folder} must have the class folders of the training set; {text}."


def _similar_names(names: Iterable[str]) -> Iterator[str]:
    """Notes on class names that differ only in case or in how an accent is encoded."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
    for group in groups.values():
        if len(group) > 1:
            yield (
                f"The class folders {' and '.join(group)} differ only in case or accents: they are separate classes "
                "here, but the same folder on some other systems."
            )


def _skipped_notes(found: Scan) -> Iterator[str]:
    """One note per reason: the number of files and the first file's path."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in found.skipped.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in sorted(by_reason.items()):
        yield f"Skipped, {reason}: {len(paths):,} ({paths[0]}{', ...' if paths[1:] else ''})."


def join_names(names: Sequence[str], max_shown: int = MAX_NAMES_SHOWN) -> str:
    """'a, b, c and 40 more'"""
    rest = f" and {len(names) - max_shown:,} more" if len(names) > max_shown else ""
    return ", ".join(names[:max_shown]) + rest
