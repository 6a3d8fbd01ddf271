"""Lists a folder of images: its subfolders and files, without those that are not part of the data set.

Only the first bytes of files without an image's ending are read here; `decoding` reads the images.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mnistlab.data.folders import leftovers


class ImageFile(NamedTuple):
    """A file that is an image by its name or by its first bytes.

    path: relative to the root, with slashes; split: 'train', 'validation', 'test', or '' if there are no split folders;
    stamp: (bytes, mtime_ns, ctime_ns, inode), which changes when the file changes; depth: number of the path's folders
    down to the class folder.
    """

    path: str
    class_name: str
    split: str
    stamp: tuple[int, int, int, int]
    depth: int = 1

    @property
    def order(self) -> tuple[str, str, str]:
        """The sort key: subfolder of the class folder, file name, class.

        Within a class this is ImageDataGenerator's order; for an export's numbered files it is the source's order.
        """
        below, _, name = self.path.split("/", self.depth)[-1].rpartition("/")
        return below, name, self.class_name


@dataclass
class Scan:
    """Lists folders, and holds what was found in a folder of images.

    class_names: the sorted folder names; files: sorted by split and `ImageFile.order`; problems: errors for the user;
    notes: other messages for the user; skipped: path -> why the file is not part of the data set;
    num_images: (split, class name) -> number of image files; labelled_by: what gives the labels and splits;
    listed: folder -> its entries, until they are used.
    """

    root: Path
    follow_links: bool
    class_names: tuple[str, ...] = ()
    files: list[ImageFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    num_images: dict[tuple[str, str], int] = field(default_factory=dict)
    labelled_by: str = "their folders"
    listed: dict[str, list[os.DirEntry[str]]] = field(default_factory=dict, repr=False)

    def subfolders(self, folder: str) -> list[str]:
        """The folders in a folder that holds splits or classes, sorted by name; its files are skipped."""
        folders, files = self.contents(folder)
        for entry in files:
            self._skip(entry, "not in a class folder")
        return folders

    def contents(self, folder: str) -> tuple[list[str], list[os.DirEntry[str]]]:
        """The paths of a folder's subfolders, and its files, sorted by name."""
        folders, files = [], []
        for entry in self._entries(folder):
            if self._is_folder(entry):
                folders.append(entry.path)
            elif self._path(entry) not in self.skipped:
                files.append(entry)
        return folders, files

    def images_in(self, folder: str) -> list[str]:
        """The paths of the images directly in a folder."""
        files = self.contents(folder)[1]
        return [
            entry.path
            for entry in files
            if leftovers.has_image_ending(entry.name)
            or (entry.is_file() and leftovers.starts_like_an_image(entry.path))
        ]

    def relative(self, folder: str) -> str:
        """A folder's path relative to the root, with slashes."""
        return folder[len(str(self.root)) + 1 :].replace(os.sep, "/")

    def add_class(self, class_folder: str, split: str) -> None:
        """Add the images of a class folder."""
        name, depth = Path(class_folder).name, self.relative(class_folder).count("/") + 1
        parents = tuple(_folder_id(str(folder)) for folder in (self.root, str(Path(class_folder).parent)))
        files = [ImageFile(path, name, split, stamp, depth) for path, stamp in self.images_below(class_folder, parents)]
        self.num_images[split, name] = len(files)
        self.files += files

    def images_below(
        self, folder: str, parents: tuple[tuple[int, int], ...] = ()
    ) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
        """Path and stamp of the images in a folder and its subfolders.

        Links to a parent folder, which would never end, are skipped.
        """
        parents = (*parents, _folder_id(folder))
        entries = self._entries(folder)
        del self.listed[folder]
        for entry in entries:
            if self._is_folder(entry):
                if _folder_id(entry.path) in parents:
                    self._skip(entry, "a link to a parent folder")
                else:
                    yield from self.images_below(entry.path, parents)
            elif self._path(entry) in self.skipped:
                continue
            elif leftovers.has_image_ending(entry.name):
                stamp = self._stamp(entry)
                if stamp is not None:
                    yield self._path(entry).replace(os.sep, "/"), stamp
            else:
                yield from self._image_by_content(entry)

    def _image_by_content(self, entry: os.DirEntry[str]) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
        """Path and stamp of a file without an image's ending if its content is an image; else it is skipped."""
        ending = f"not an image file: {Path(entry.name).suffix or 'no ending'}"
        if entry.name.casefold().endswith(leftovers.OTHER_ENDINGS):
            self._skip(entry, ending)
            return
        stamp = self._stamp(entry)
        if stamp is None:
            return
        if leftovers.starts_like_an_image(entry.path):
            yield self._path(entry).replace(os.sep, "/"), stamp
        else:
            self._skip(entry, ending)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """A folder's entries, sorted by name; leftovers, hidden ones and unprintable names are skipped."""
        if folder in self.listed:
            return self.listed[folder]
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.problems.append(f"{folder}: the folder cannot be read: {error.strerror}.")
            ordered = []
        self.listed[folder] = []
        for entry in ordered:
            if leftovers.is_leftover(entry.name):
                self._skip(entry, "left by a system, an archive or a program")
            elif entry.name.startswith("."):
                self._skip(entry, "hidden")
            elif not entry.name.isprintable():
                self._skip(entry, "a name with unprintable characters")
            else:
                self.listed[folder].append(entry)
        return self.listed[folder]

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


def _folder_id(folder: str) -> tuple[int, int]:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino
