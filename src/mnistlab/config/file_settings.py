"""A user's experiment file as the overrides that say the same, so that all its mistakes are found at once.

Hydra stops at a file's first mistake and does not say which file a value came from. Used after an error only.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mnistlab.config.options import GROUPS
from mnistlab.config.schema import flatten

OPEN = (*GROUPS, "init")  # they take settings of any name


def as_overrides(overrides: Sequence[str], config_dir: str | None) -> tuple[list[str], dict[str, Path]]:
    """The overrides with those of the user's experiment files in place of `experiment=mine`.

    Returns:
        the overrides, and for each setting that a file has and the command line does not override: the file. Empty if
        no such file is used, or if one cannot be read as settings.
    """
    written: list[str] = []
    places: dict[str, Path] = {}
    rest: list[str] = []
    for override in overrides:
        file = _file_of(override, config_dir)
        content = _content(file) if file else None
        if file is None or content is None:
            rest.append(override)
            continue
        written += _options(content)
        settings = {key: value for key, value in content.items() if key != "defaults"}
        for key, value in flatten(settings).items() if settings else ():
            written.append(f"{'++' if key.split('.')[0] in OPEN else ''}{key}={_written(value)}")
            places[key] = file
    for override in rest:
        places.pop(override.lstrip("+~").partition("=")[0], None)
    return [*written, *rest], places


def _file_of(override: str, config_dir: str | None) -> Path | None:
    """The user's file for all groups that an override chooses: experiment=mine."""
    group, equals, option = override.lstrip("+").partition("=")
    file = Path(config_dir or "") / group / f"{option}.yaml"
    if not config_dir or not equals or "." in group or not file.is_file():
        return None
    first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return file if "@package _global_" in first else None


def _content(file: Path) -> Mapping[str, Any] | None:
    try:
        content = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError):
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
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
