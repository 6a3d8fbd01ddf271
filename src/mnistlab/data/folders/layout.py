"""Scans a folder of images by class: which file belongs to which class and split, and what is wrong with the folders.

`listing` lists the folders, `split_names` finds the splits. No image is decoded here; `decoding` does that.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mnistlab.data.folders.leftovers import ENDINGS
from mnistlab.data.folders.listing import Scan
from mnistlab.data.folders.split_names import LAYOUTS, Layout, find_layout

MAX_NAMES_SHOWN = 20


def open_root(path: str | Path, follow_links: bool) -> Scan:
    """An empty scan of a folder, with a problem if it is none."""
    root = Path(path).expanduser().resolve()
    found = Scan(root, follow_links)
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        found.problems.append(f"source.path must be a folder of class folders. Received: {path}, which {kind}.")
    return found


def scan(path: str | Path, follow_links: bool = False, splits: str | Mapping[str, str] | None = None) -> Scan:
    """Find the images in `path/CLASS/...` or `path/{train,validation,test}/CLASS/...`.

    Args:
        follow_links: follow links to folders, and to files outside `path`.
        splits: None: the split folders are known by their names; 'none': all folders are classes; or split -> folder.
    """
    found = open_root(path, follow_links)
    if found.problems:
        return found
    layout = find_layout(found, splits)
    for split, class_folder in layout.classes:
        found.add_class(class_folder, split)
    found.listed.clear()
    named = [f"{split} = {found.relative(folder) or '.'}" for split, folder in layout.splits.items() if split]
    found.labelled_by = f"their folders ({', '.join(named)})" if named else "their folders"
    _check_classes(found, layout)
    return found


def _check_classes(found: Scan, layout: Layout) -> None:
    """Set the class names, sort the files, and add the problems of the classes and the notes."""
    by_split = {split: sorted(name for other, name in found.num_images if other == split) for split in layout.splits}
    found.class_names = tuple(by_split.get("train", by_split.get("", [])))
    found.files.sort(key=lambda file: (file.split, file.order))
    if "train" in by_split or "" in by_split:
        _check_class_count(found)
    for split, names in by_split.items():
        folder = layout.splits[split]
        if split not in ("", "train") and set(names) - set(found.class_names):
            found.problems.append(_class_mismatch(folder, names, found.class_names))
        elif split not in ("", "train") and not names:
            found.problems.append(f"{folder} holds no class folders. {LAYOUTS}")
    _check_empty_classes(found, layout)
    found.notes += [*_similar_names(found.class_names), *skipped_notes(found)]


def _check_empty_classes(found: Scan, layout: Layout) -> None:
    """Warn of classes without images in a split; they are a problem if not even two can be learned."""
    unreadable = {problem.split(": ")[0] for problem in found.problems}
    for split, folder in layout.splits.items():
        empty = [name for name in found.class_names if not found.num_images.get((split, name))]
        empty = [name for name in empty if f"{folder}/{name}" not in unreadable]
        if split not in ("", "train"):
            if empty and len(empty) < len(found.class_names):
                found.notes.append(f"WARNING: {folder} holds no image of {_classes(empty)}.")
            elif empty and any(other == split for other, _ in found.num_images):
                found.problems.append(f"{folder} holds no image ({', '.join(ENDINGS)}).")
        elif len(found.class_names) - len(empty) < 2:
            found.problems += [
                f"{folder}/{name}: the class folder holds no image ({', '.join(ENDINGS)})." for name in empty
            ]
        elif empty:
            found.notes.append(
                f"WARNING: there are no training images of {_classes(empty)} ({folder}), so it cannot be learned."
            )


def _classes(names: Sequence[str]) -> str:
    return f"class{'es' if names[1:] else ''} {join_names(names)}"


def _check_class_count(found: Scan) -> None:
    names = found.class_names
    if not names:
        links = [path for path, reason in found.skipped.items() if reason.startswith("a link to a folder (")]
        hint = f" To follow links to folders ({links[0]}): source.follow_links=true." if links else ""
        found.problems.append(f"{found.root} holds no class folders. {LAYOUTS}{hint}")
    elif len(names) == 1:
        inner = found.root / names[0]
        nested = sum(entry.is_dir() for entry in inner.iterdir()) if inner.is_dir() else 0
        hint = f" Did you mean source.path={inner}?" if nested > 1 else ""
        if any("source.splits=none" in note for note in found.notes):
            hint = f" {found.notes[0]}"
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


def skipped_notes(found: Scan) -> Iterator[str]:
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
