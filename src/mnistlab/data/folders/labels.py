"""Images that are not sorted by class: a CSV file, `source.labels`, gives each file's label.

The column of file names is the one whose cells are files of the folder; a header is optional.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mnistlab.data.folders.layout import join_names, skipped_notes
from mnistlab.data.folders.leftovers import has_image_ending
from mnistlab.data.folders.listing import ImageFile, Scan
from mnistlab.data.folders.split_names import splits_by_name

LABEL_COLUMNS = ("label", "labels", "class", "classes", "class_name", "category", "target", "species", "breed")
DELIMITERS = (",", ";", "\t", "|")
SAMPLE_ROWS = 200
MAX_SHOWN = 10


@dataclass
class FileNames:
    """Finds a folder's files by the names in a CSV file: a path, a file name, or either without the ending."""

    root: Path
    paths: Iterable[str]
    found: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.paths:
            pure = PurePosixPath(path)
            for name in dict.fromkeys((path, pure.name, str(pure.with_suffix("")), pure.stem)):
                self.found.setdefault(name, []).append(path)

    def matches(self, cell: str) -> list[str]:
        """The files that a cell may mean."""
        name = cell.strip().replace("\\", "/").removeprefix("./")
        for prefix in (f"{self.root}/", f"{self.root.name}/"):
            if name.startswith(prefix) and name not in self.found:
                name = name.removeprefix(prefix)
        matches = self.found.get(name, [])
        return [name] if name in matches else matches


def add_labelled_files(found: Scan, labels: str, on_bad_image: str) -> None:
    """Fill the scan with the images of its root that have a label in the CSV file, and with the problems of both.

    Args:
        labels: the file's path, from the current folder or from the root.
        on_bad_image: 'error': a file in the CSV file that does not exist is a problem; 'skip': it is a note.
    """
    file = _labels_file(found, labels)
    if file is None:
        return
    found.labelled_by = file.name
    stamps = dict(found.images_below(str(found.root)))
    if file.is_relative_to(found.root):
        found.skipped.pop(file.relative_to(found.root).as_posix(), None)
    found.notes += skipped_notes(found)
    table = _Table(found, file, FileNames(found.root, stamps), _rows(file))
    if not found.problems:
        label_of = table.labels(on_bad_image)
        unlabelled = sorted(stamps.keys() - label_of.keys())
        found.skipped |= dict.fromkeys(unlabelled, f"no label in {file.name}")
        if unlabelled:
            names = join_names(unlabelled, MAX_SHOWN)
            found.notes.append(
                f"NOTE: images without a label in {file.name} are not used: {len(unlabelled):,} ({names})."
            )
        _fill(found, label_of, stamps, file)


def _labels_file(found: Scan, labels: str) -> Path | None:
    for file in (Path(labels).expanduser(), found.root / labels):
        if file.is_file():
            return file.resolve()
    others = sorted(entry.name for entry in found.root.glob("*.csv"))
    hint = f" {found.root} holds {', '.join(others[:MAX_SHOWN])}." if others else ""
    found.problems.append(
        f"source.labels must be a CSV file with file names and labels. Received: {labels}, which does not exist.{hint}"
    )
    return None


def _rows(file: Path) -> list[list[str]]:
    """The file's rows without empty ones; the delimiter is the one that the first line has most of."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    first = text.split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


class _Table:
    """The rows of the CSV file, its columns and its header; problems are added to the scan's."""

    def __init__(self, found: Scan, file: Path, names: FileNames, rows: list[list[str]]) -> None:
        self.found = found
        self.file = file
        self.names = names
        self.rows = rows
        self.first = rows[0] if rows else []
        self.file_column = self._file_column()
        self.label_column = self._label_column() if not found.problems else 0
        if not found.problems and self._has_header():
            self.rows = rows[1:]

    def _file_column(self) -> int:
        sample = self.rows[:SAMPLE_ROWS]
        known = [
            len({path for row in sample if column < len(row) for path in self.names.matches(row[column])})
            for column in range(len(self.first))
        ]
        if not any(known):
            received = f"its first row is {', '.join(self.first)}" if self.first else "it is empty"
            self.found.problems.append(
                f"source.labels={self.file} must have a column with names of images in {self.found.root}; {received}."
            )
            return 0
        return known.index(max(known))

    def _label_column(self) -> int:
        """The only other column; else the only one with a usual name. A column without a name is pandas's index."""
        others = [column for column, name in enumerate(self.first) if column != self.file_column and name]
        usual = [column for column in others if self.first[column].casefold() in LABEL_COLUMNS]
        chosen = usual if len(others) != 1 else others
        if len(chosen) != 1:
            self.found.problems.append(
                f"source.labels={self.file} must have one column of labels beside the file names, or one named label "
                f"or class. Received the columns: {', '.join(self.first)}."
            )
            return 0
        return chosen[0]

    def _has_header(self) -> bool:
        """Whether the first row is a header: no file, and its label is not one of the other rows' labels."""
        name, label = self.first[self.file_column], self.first[self.label_column]
        if self.names.matches(name) or has_image_ending(name) or name.isdecimal():
            return False
        return all(self._label(row) != label for row in self.rows[1:])

    def _label(self, row: Sequence[str]) -> str:
        return row[self.label_column] if self.label_column < len(row) else ""

    def labels(self, on_bad_image: str) -> dict[str, str]:
        """Path -> label."""
        label_of: dict[str, str] = {}
        missing, ambiguous, contradictory = [], [], []
        for row in self.rows:
            name = row[self.file_column] if self.file_column < len(row) else ""
            matches, label = self.names.matches(name), self._label(row)
            if not matches:
                missing.append(name or "(no name)")
            elif len(matches) > 1:
                ambiguous.append(f"{name} ({' or '.join(matches[:2])})")
            elif label and label_of.setdefault(matches[0], label) != label:
                contradictory.append(f"{name} ({label_of[matches[0]]}, {label})")
        self._report("files that do not exist", missing, on_bad_image == "skip")
        self._report("names that fit several files; write their paths", ambiguous)
        self._report("files with two labels", contradictory)
        return label_of

    def _report(self, what: str, names: Sequence[str], as_note: bool = False) -> None:
        listed = f"lists {what}: {len(names):,} ({join_names(names, MAX_SHOWN)})."
        if names and as_note:
            self.found.notes.append(f"NOTE: {self.file.name} {listed}")
        elif names:
            advice = " Leave them out: source.on_bad_image=skip." if what.endswith("exist") else ""
            self.found.problems.append(f"source.labels={self.file} {listed}{advice}")


def _fill(found: Scan, label_of: dict[str, str], stamps: dict[str, tuple[int, int, int, int]], file: Path) -> None:
    """Set the scan's files and classes: sorted names, numbers by their value."""
    names = set(label_of.values())
    numbers = all(name.removeprefix("-").isdecimal() for name in names)
    found.class_names = tuple(sorted(names, key=lambda name: (int(name), name) if numbers else (0, name)))
    split_of = splits_by_name({path.split("/")[0] for path in label_of if "/" in path})
    splits = {path: split_of.get(path.split("/")[0], "") for path in label_of}
    if "" in splits.values() or "train" not in splits.values():
        splits = dict.fromkeys(label_of, "")
    found.files += [ImageFile(path, label, splits[path], stamps[path], 0) for path, label in label_of.items()]
    found.files.sort(key=lambda image: (image.split, image.order))
    found.num_images.update(Counter((image.split, image.class_name) for image in found.files))
    if len(names) < 2 and not found.problems:
        found.problems.append(
            f"source.labels={file} must hold at least two labels. Received: {', '.join(names) or 'none'}."
        )
    for split in sorted({split for split in splits.values() if split}):
        absent = [name for name in found.class_names if not found.num_images.get((split, name))]
        if absent:
            found.notes.append(f"WARNING: the {split} images have none of the label {join_names(absent)}.")
