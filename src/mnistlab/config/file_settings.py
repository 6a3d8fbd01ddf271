"""A user's experiment file, and a mapping on the command line, as the overrides that say the same, so that all mistakes
are found at once.

Hydra stops at the first mistake of a file or a mapping and does not say which file a value came from. Used after an
error only.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnistlab.config import yaml_files
from mnistlab.config.options import GROUPS, option_lists
from mnistlab.config.schema import ConfigError, flatten

OPEN = (*GROUPS, "init")  # they take settings of any name
SECTIONS = ("fit", "save", "run", "paths", "sweep", "launch")  # typed, and no groups with options
INTERPOLATION = re.compile(r"\$\{[^{}'\"]+\}")
NOT_SETTINGS = ("defaults", "hydra")


def as_overrides(overrides: Sequence[str], config_dir: str | None) -> tuple[list[str], dict[str, Path]]:
    """The overrides with those of the user's experiment files in place of `experiment=mine`, and with `fit.epochs=3` in
    place of `fit={epochs:3}`.

    Returns:
        the overrides, and for each setting that a user's file has and the command line does not override: the file.
        The settings of a file that cannot be read are not among them.
    """
    written: list[str] = []
    places: dict[str, Path] = {}
    rest: list[str] = []
    for override in overrides:
        contents = {file: _content(file) for file in _files_of(override, config_dir)}
        for file, content in contents.items():
            options = [option.partition("=")[0] for option in _options(content or {})]
            places.update(dict.fromkeys([*options, *_settings_in(file, content or {})], file))
        if contents and all(content is not None and _is_global(file) for file, content in contents.items()):
            for content in contents.values():
                written += [*_options(content or {}), *_settings(content or {})]
        else:
            rest += _spread(override)
    for override in rest:
        places.pop(override.lstrip("+~").partition("=")[0], None)
    return [*written, *rest], places


def _files_of(override: str, config_dir: str | None) -> Iterator[Path]:
    """The user's files that an override chooses: experiment=mine, experiment=[mine,other], optimizer=mine."""
    group, equals, option = override.lstrip("+").partition("=")
    if not config_dir or not equals or "." in group:
        return
    for name in option_lists([override]).get(group, [option]):
        file = Path(config_dir) / group / f"{name}.yaml"
        if file.is_file():
            yield file


def _is_global(file: Path) -> bool:
    """Whether it has settings of all groups."""
    first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return "@package _global_" in first


def _settings_in(file: Path, content: Mapping[str, Any]) -> list[str]:
    """The dotted names of a file's settings."""
    own = {key: value for key, value in content.items() if key not in NOT_SETTINGS}
    names = list(flatten(own)) if own else []
    if _is_global(file):
        return names
    group = file.parent.name
    return [f"{group}.{name}" for name in (*names, "_target_")]  # the place of a missing _target_ is the file, too


def _settings(content: Mapping[str, Any]) -> Iterator[str]:
    own = {key: value for key, value in content.items() if key not in NOT_SETTINGS}
    for key, value in flatten(own).items() if own else ():
        yield f"{'++' if key.split('.')[0] in OPEN else ''}{key}={_written(value)}"


def _spread(override: str) -> list[str]:
    """An override with a mapping for a section as one override per setting."""
    key, _, value = override.partition("=")
    if key not in SECTIONS or not value.startswith("{") or not value.endswith("}"):
        return [override]
    pairs = [pair.partition(":") for pair in value[1:-1].split(",")]
    simple = all(colon and name.strip().isidentifier() for name, colon, _ in pairs)
    return [f"{key}.{name.strip()}={inner.strip()}" for name, _, inner in pairs] if simple else [override]


def _content(file: Path) -> Mapping[str, Any] | None:
    try:
        content = yaml_files.read(file)
    except ConfigError:  # composing says why
        return None
    is_settings = isinstance(content, dict) and all(isinstance(key, str) for key in content)
    return content if is_settings else None


def _options(content: Mapping[str, Any]) -> Iterator[str]:
    """The options that a file's defaults choose: `- override /optimizer: sgd` is optimizer=sgd."""
    listed = content.get("defaults")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict):
            for key, option in entry.items():
                yield f"{str(key).removeprefix('override ').lstrip('/')}={_written(option)}"


def _written(value: Any) -> str:
    """A value as the command line writes it."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}: {_written(inner)}" for key, inner in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if INTERPOLATION.fullmatch(str(value)):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
