"""Python values as words of the command line: optimizer="adam", fit={"epochs": 5} -> optimizer=adam fit.epochs=5."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.config import ConfigError

UNQUOTED = re.compile(r"[\w./@:%+?|*-]+", re.ASCII)  # what Hydra reads as one text, number, true or null
MULTIRUN = ("--multirun", "-m")


def of_run(words: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """The words of one experiment.

    Raises:
        ConfigError: a word is no text, a value cannot be written, or `--multirun` was given.
    """
    given = _checked(words)
    if any(word in MULTIRUN for word in given):
        raise ConfigError("train runs one experiment, without --multirun. For several: from mnistlab import sweep.")
    return [*given, *(f"{name}={text(value, name)}" for name, value in _flat(settings))]


def of_sweep(words: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """The words of a sweep, with `--multirun`. A list, a range or an array holds the options of its setting."""
    given = [word for word in _checked(words) if word not in MULTIRUN]
    for name, value in _flat(settings):
        options = value if isinstance(value, list | tuple | range | np.ndarray) else [value]
        if not len(options):
            raise ConfigError(f"{name} must have at least one option. Received: {value!r}.")
        given.append(f"{name}={','.join(text(option, name) for option in options)}")
    return ["--multirun", *given]


def _checked(words: Sequence[str]) -> list[str]:
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise ConfigError(
            f"Each word must be a text, as on the command line: 'optimizer=adam'. Received: {wrong[0]!r}. "
            "Python values are given by name: optimizer='adam', fit={'epochs': 5}."
        )
    return list(words)


def _flat(settings: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    """Settings in mappings by their dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{parent}{name}.")
        else:
            yield f"{parent}{name}", value


def text(value: Any, name: str = "value") -> str:
    """A value as Hydra's command line writes it.

    Raises:
        ConfigError: there is no way to write it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return value if UNQUOTED.fullmatch(value) else _quoted(value)
    if isinstance(value, list | tuple | range | np.ndarray):
        return f"[{','.join(text(entry, name) for entry in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{text(key, name)}:{text(entry, name)}" for key, entry in value.items()) + "}"
    raise ConfigError(
        f"{name} must be a text, a number, a boolean, None, or a list or mapping of them. Received: {value!r}. Objects "
        "are named: optimizer='adam', or **{'optimizer._target_': 'mypackage.MyOptimizer'} with 'trust=[mypackage]'."
    )


def _quoted(value: str) -> str:
    """In single quotes; backslashes before a quote, or at the end, are doubled, as Hydra's grammar asks."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", value)
    return "'" + re.sub(r"(\\+)$", lambda match: match[1] * 2, escaped) + "'"
