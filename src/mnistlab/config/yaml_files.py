"""A user's own YAML files: what would take Hydra hours to read, and which of them cannot be read."""

import functools
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from mnistlab.config.schema import ConfigError

MAX_VALUES = 100_000  # of a file whose aliases are written out
LEVELS = ("*.yaml", "*/*.yaml", "*/*/*.yaml")
MAX_DEPTH = 200  # of brackets in brackets: PyYAML's time grows with its square


def check_sizes(folders: Iterable[Path]) -> None:
    """Raise ConfigError if a file would take hours to read: Hydra writes out all aliases (`*name`) of its anchors."""
    found = (_size_problem(file, file.stat().st_mtime_ns) for file in yaml_files(folders))
    if problems := [problem for problem in found if problem]:
        raise ConfigError(problems)


def yaml_files(folders: Iterable[Path]) -> Iterator[Path]:
    """The YAML files of these folders, in order: those of groups, not of all that may lie below a working directory."""
    found = (file for folder in folders for depth in LEVELS for file in sorted(folder.glob(depth)))
    return (file for file in found if file.is_file())


@functools.lru_cache(maxsize=1000)
def _size_problem(file: Path, changed: int) -> str:
    """What is wrong with a file's brackets or aliases, or ''. changed: when the file was, so that it is read again."""
    try:
        content = file.read_bytes()
        if _depth(content) > MAX_DEPTH:
            return f"{file} must have at most {MAX_DEPTH} lists or mappings in one another. Received: more."
        if b"&" not in content or b"*" not in content:
            return ""
        documents: list[yaml.Node | None] = list(yaml.compose_all(content, Loader=yaml.SafeLoader))
        values = sum(_count(node, {}) for node in documents if node is not None)
    except (OSError, ValueError, yaml.YAMLError):
        return ""  # Hydra will say why it cannot be read
    except RecursionError:
        return f"{file} has an anchor (&name) that contains its own alias (*name), or too many lists in lists."
    if values <= MAX_VALUES:
        return ""
    return (
        f"{file} must have at most {MAX_VALUES:,} values, with its aliases (*name) written out. Received: {values:,}."
    )


def _depth(content: bytes) -> int:
    """How many brackets are open at once, at most."""
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return 0
    return max(itertools.accumulate(1 if byte in b"[{" else -1 for byte in content if byte in b"[]{}"))


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """The number of values in a node, with every alias counted as often as it stands there."""
    if id(node) not in known:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        items = node.value if isinstance(node, yaml.SequenceNode) else [value for _, value in pairs]
        known[id(node)] = 1 + sum(_count(item, known) for item in items)
    return known[id(node)]


def read(file: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: it cannot be read, or would take hours to be used.
    """
    if problem := _size_problem(file, file.stat().st_mtime_ns):
        raise ConfigError(problem)
    try:
        return yaml.safe_load(file.read_bytes())
    except Exception as error:  # PyYAML raises AttributeError, too
        raise ConfigError(f"{file} cannot be read as YAML: {error}.") from error


def defaults_problem(folders: Iterable[Path]) -> str:
    """What is wrong with the form of the first list of defaults that Hydra cannot read, or ''."""
    for file in yaml_files(folders):
        try:
            content = read(file)
        except ConfigError:  # `unreadable_file` says so
            continue
        listed = content.get("defaults", []) if isinstance(content, dict) else []
        wrong = [entry for entry in listed if not _is_default(entry)] if isinstance(listed, list) else [listed]
        if wrong:
            return (
                f"{file}: defaults must be a list of `_self_`, files of this folder, and options of groups as in "
                f"`- override /optimizer: sgd`. Received: {wrong[0]}."
            )
    return ""


def _is_default(entry: object) -> bool:
    if not isinstance(entry, dict):
        return isinstance(entry, str)
    (option, *others) = entry.values() or [0]
    names = option if isinstance(option, list) else [option]
    return not others and all(name is None or isinstance(name, str) for name in names)


def unreadable_file(folders: Iterable[Path]) -> Path | None:
    """The first file that cannot be read by itself, or None."""
    for file in yaml_files(folders):
        try:
            OmegaConf.load(file)
        except Exception:  # PyYAML raises AttributeError, too
            return file
    return None


def no_mapping(file: Path) -> str:
    """What a file has in place of settings: 'a list', 'nothing'; '' if it has settings or cannot be read."""
    try:
        content = read(file)
    except ConfigError:
        return ""
    if isinstance(content, dict):
        return ""
    return "nothing" if content is None else "a list" if isinstance(content, list) else f"the text {content!r:.40}"
