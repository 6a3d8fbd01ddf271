"""Finds the folders of the splits and the class folders in them: by usual names, or by the setting `source.splits`.

Folders that look like splits but have other names are refused, because to take them for classes would train a network
that tells the training set from the test set.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnistlab.config import suggest
from mnistlab.data.folders.listing import Scan

SPLITS = ("train", "validation", "test")
WORDS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("eval", "evaluation"), "evaluation"),  # the test set, or beside one the validation set
}
SPLIT_NAME = re.compile(rf"({'|'.join(WORDS)})(?:[\s_.-]*(?:set|data|dataset|split|folder|images?|imgs?))?\d*")
LAYOUTS = (
    "Layouts: PATH/CLASS/..., or PATH/train/CLASS/... with validation (val, valid, dev) and test folders beside train."
)
UNLABELLED = re.compile(r"unknown|unlabell?ed|unsorted|images?|imgs?|all|data|none")
MAX_WRAPPERS = 3


@dataclass
class Layout:
    """splits: split -> its folder, '' -> the root if the folders make no splits; classes: (split, class folder)."""

    splits: dict[str, str]
    classes: list[tuple[str, str]] = field(default_factory=list)


def split_of(name: str) -> str:
    """The split that a folder of this name holds: 'train', 'validation', 'test', 'evaluation', or '' for others."""
    match = SPLIT_NAME.fullmatch(name.casefold().strip())
    return WORDS[match[1]] if match else ""


def find_layout(found: Scan, setting: str | Mapping[str, str] | None) -> Layout:
    """The split folders and class folders of a root; what is wrong with them is added to the scan's problems.

    Args:
        setting: `source.splits`: None: by the folders' names; 'none': all folders are classes; or split -> folder.
    """
    root = str(found.root)
    if isinstance(setting, Mapping):
        return _chosen_splits(found, setting)
    if setting == "none":
        return Layout({"": root}, [("", folder) for folder in found.subfolders(root)])
    if setting is not None:
        found.problems.append(f"source.splits must be null, none, or {_setting('NAME', 'NAME')}. Received: {setting}.")
        return Layout({"": root})
    parent, folders = _without_wrapper(found, root)
    named = splits_by_name(folders)
    if not named:
        _refuse_unsplits_by_name(found, folders)
        return Layout({"": root}, [("", folder) for folder in folders])
    return _named_splits(found, parent, folders, named)


def splits_by_name(folders: Iterable[str]) -> dict[str, str]:
    """Folder -> 'train', 'validation' or 'test', of the folders with a split's name."""
    splits = {folder: split for folder in folders if (split := split_of(Path(folder).name))}
    meaning = "validation" if "test" in splits.values() else "test"
    return {folder: meaning if split == "evaluation" else split for folder, split in splits.items()}


def _without_wrapper(found: Scan, root: str) -> tuple[str, list[str]]:
    """The folder that holds the splits, and its folders: the root, or a folder in it that archives have around them."""
    parent, folders = root, found.contents(root)[0]
    for _ in range(MAX_WRAPPERS):
        if "train" in splits_by_name(folders).values() or len(folders) != 1:
            break
        parent, folders = folders[0], found.contents(folders[0])[0]
        if found.images_in(parent):
            break
    if "train" not in splits_by_name(folders).values() or parent == root:
        return root, found.subfolders(root)
    while root != parent:
        found.subfolders(root)
        root = found.contents(root)[0][0]
    return parent, found.subfolders(parent)


def _named_splits(found: Scan, parent: str, folders: Sequence[str], named: dict[str, str]) -> Layout:
    others = [folder for folder in folders if folder not in named]
    if list(named.values()) == ["train"] and others and _is_flat(found, next(iter(named))):
        found.notes.append(
            f"NOTE: {next(iter(named))} holds images directly, so it is a class like the folders beside it, not the "
            "training set."
        )
        return Layout({"": parent}, [("", folder) for folder in folders])
    train_classes = {
        Path(class_folder).name
        for folder, split in named.items()
        if split == "train"
        for class_folder in found.contents(_inner(found, folder))[0]
    }
    kept = {
        folder: split
        for folder, split in named.items()
        if split != "test" or not _leave_unlabelled_aside(found, folder, train_classes)
    }
    if not kept:
        return Layout({"": parent}, [("", folder) for folder in others])
    if "train" not in kept.values() and _same_names(others, *(found.contents(folder)[0] for folder in kept)):
        found.notes.append(f"The class folders beside {', '.join(_names(kept))} are the training set.")
        splits = {"train": parent, **{split: folder for folder, split in kept.items()}}
        return _with_classes(found, splits, {"train": others})
    _check_named(found, parent, kept, others)
    return _with_classes(found, {split: _inner(found, folder) for folder, split in kept.items()})


def _inner(found: Scan, folder: str) -> str:
    """The folder itself, or the only folder in it if that has the split's name too: training_set/training_set."""
    folders = found.contents(folder)[0]
    same = (
        len(folders) == 1
        and not found.images_in(folder)
        and split_of(Path(folders[0]).name) == split_of(Path(folder).name)
    )
    return folders[0] if same else folder


def _with_classes(found: Scan, splits: dict[str, str], known: Mapping[str, Sequence[str]] | None = None) -> Layout:
    """The layout of these splits; known: split -> class folders that are not simply those in the split's folder."""
    layout = Layout(splits)
    for split, folder in splits.items():
        classes = (known or {}).get(split) or found.subfolders(folder)
        layout.classes += [(split, class_folder) for class_folder in classes]
    return layout


def _is_flat(found: Scan, folder: str) -> bool:
    """Whether the folder holds images and no folders."""
    return not found.contents(folder)[0] and bool(found.images_in(folder))


def _leave_unlabelled_aside(found: Scan, folder: str, train_classes: set[str]) -> bool:
    """Whether the images of a test folder have no labels: they are in no class folder, or in one such as `unknown`."""
    inner = _inner(found, folder)
    folders = found.contents(inner)[0]
    if len(folders) == 1 and not found.images_in(inner) and UNLABELLED.fullmatch(Path(folders[0]).name.casefold()):
        inner = folders[0]
    if not _is_flat(found, inner) or Path(inner).name in train_classes:
        return False
    count = len(found.images_in(inner))
    found.skipped[found.relative(inner)] = "no labels"
    found.notes.append(
        f"NOTE: the {count:,} images in {inner} are not used: they are in no class folder, so they have no labels."
        " The saved model predicts them: docs/image-folders.md."
        + ("" if train_classes else f" If {Path(inner).name} is a class: source.splits=none.")
    )
    return True


def _check_named(found: Scan, parent: str, named: Mapping[str, str], others: Sequence[str]) -> None:
    """Add a problem for each missing, repeated or unknown split folder."""
    counts = Counter(named.values())
    example = _setting(*(_relative_names(found, [folder for folder, split in named.items() if split == "train"])[:1]))
    if "train" not in counts:
        found.problems.append(f"{parent} holds {', '.join(named.values())} but no train folder. {LAYOUTS}")
    for split, count in counts.items():
        folders_of_split = [folder for folder, name in named.items() if name == split]
        if count > 1:
            found.problems.append(
                f"{parent} must hold one {split} folder. Received: {', '.join(folders_of_split)}. "
                f"Name the folders to use: {_setting('NAME', 'NAME')}."
            )
        elif split == "train" and _is_flat(found, folders_of_split[0]):
            found.problems.append(
                f"{folders_of_split[0]} holds images but no class folders, so they have no labels. Sort them into "
                "PATH/train/CLASS, or name a CSV file with file names and labels: source.labels=FILE.csv."
            )
    for folder in others:
        found.problems.append(
            f"{folder} is beside the {'train' if 'train' in counts else next(iter(counts))} folder but is neither "
            f"validation (val) nor test. Name the folders to use: {example}; or if all are classes: source.splits=none."
        )


def _refuse_unsplits_by_name(found: Scan, folders: Sequence[str]) -> None:
    """Add a problem if the folders hold no images but the same folders: they are splits, or classes of splits. Add a
    note if they have one folder in common: they may be."""
    inner = [found.contents(folder)[0] for folder in folders]
    common = set.intersection(*({Path(path).name for path in below} for below in inner)) if inner else set()
    if len(folders) < 2 or not common or any(found.images_in(folder) for folder in folders):
        return
    if len(common) == 1:
        within = {Path(path).name for below in inner for path in below}
        if len(within) > 1:
            found.notes.append(
                f"The classes are {', '.join(_relative_names(found, folders)[:5])}, not the folders in them "
                f"({', '.join(sorted(within)[:5])}). If those are the classes: {_setting('NAME', 'NAME')}."
            )
        return
    names, shown = _relative_names(found, folders), ", ".join(sorted(common)[:5])
    if all(map(split_of, common)):
        found.problems.append(
            f"{', '.join(names[:5])} hold the split folders {shown}. The splits must be above the classes: "
            f"PATH/{sorted(common)[-1]}/{names[0]}; or if the splits do not matter: source.splits=none."
        )
        return
    by_size = sorted(names, key=lambda name: -_num_files(found, inner[names.index(name)]))
    found.problems.append(
        f"{', '.join(names[:5])} hold the same class folders ({shown}), so they look like splits, not like classes. "
        f"Say which is which: {_setting(*by_size[:2])}; or if they are classes: source.splits=none."
    )


def _num_files(found: Scan, folders: Iterable[str]) -> int:
    return sum(len(found.contents(folder)[1]) for folder in folders)


def _chosen_splits(found: Scan, setting: Mapping[str, str]) -> Layout:
    """The layout that `source.splits={train: FOLDER, ...}` names; other folders are skipped."""
    root, splits, top = str(found.root), {}, found.subfolders(str(found.root))
    for key, name in setting.items():
        split, path = splits_by_name([str(key)]).get(str(key), ""), found.root / str(name)
        inside = path.is_dir() and path.resolve().is_relative_to(found.root)
        if not split or split in splits:
            found.problems.append(
                f"source.splits names train, validation and test once each. Received: {key}.{suggest(str(key), SPLITS)}"
            )
        elif not inside:
            choices = suggest(str(name), _relative_names(found, top))
            found.problems.append(f"source.splits.{key} must be a folder in {root}. Received: {name}.{choices}")
        else:
            splits[split] = str(path)
    if "train" not in splits and not found.problems:
        found.problems.append(f"source.splits must name the train folder: {_setting('NAME', 'NAME')}.")
    if found.problems:
        return Layout({"": root})
    chosen = set(splits.values())
    for folder in top:
        if not any(f"{path}/".startswith(f"{folder}/") for path in chosen) and root not in chosen:
            found.skipped[found.relative(folder)] = "not named in source.splits"
    classes = {
        split: [path for path in found.subfolders(folder) if path not in chosen] for split, folder in splits.items()
    }
    return _with_classes(found, splits, classes)


def _same_names(folders: Sequence[str], *others: Sequence[str]) -> bool:
    """Whether the folders are at least two and all the others have the same names."""
    return len(folders) > 1 and all(_names(other) == _names(folders) for other in others)


def _names(folders: Iterable[str]) -> list[str]:
    return [Path(folder).name for folder in folders]


def _relative_names(found: Scan, folders: Iterable[str]) -> list[str]:
    return [found.relative(folder) for folder in folders]


def _setting(train: str = "NAME", test: str = "NAME") -> str:
    """The setting as one word of a shell's command line."""
    train, test = (name if re.fullmatch(r"[\w./-]+", name, re.ASCII) else f'"{name}"' for name in (train, test))
    return f"'source.splits={{train: {train}, test: {test}}}'"
