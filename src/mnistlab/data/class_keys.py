"""Which class a key of `data.class_weight` or `data.keep` means: a class name, or a class number if that is clear."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mnistlab.config import ConfigError

MAX_NAMES_SHOWN = 20
NUMBER = re.compile(r"-?[0-9]+")


def values_by_class(setting: str, mapping: Mapping[Any, float], class_names: Sequence[str]) -> dict[int, float]:
    """Class number -> value.

    mapping: a key of text is a class name, or if no class has this name, a class number; a number is either, and must
    mean the same class as both.

    Raises:
        ConfigError: a key means no class or two, or two keys mean one class.
    """
    values: dict[int, float] = {}
    for key, value in mapping.items():
        label = _label(setting, key, class_names)
        if label in values:
            raise ConfigError(f"{setting} names the class {class_names[label]} twice. Received: {dict(mapping)}.")
        values[label] = float(value)
    return values


def _label(setting: str, key: Any, class_names: Sequence[str]) -> int:
    if isinstance(key, int) and not isinstance(key, bool):
        return _same_class(setting, key, class_names)
    texts = {None: ("null", "None"), True: ("true", "True"), False: ("false", "False")}.get(key, (str(key),))
    for text in texts:
        if text in class_names:
            return class_names.index(text)
    if str(key).isdecimal():
        return _same_class(setting, int(key), class_names)
    raise _unknown(setting, key, class_names)


def _same_class(setting: str, number: int, class_names: Sequence[str]) -> int:
    """The class that a number means, which must be the same as a name and as a class number."""
    named = [label for label, name in enumerate(class_names) if NUMBER.fullmatch(name) and int(name) == number]
    counted = [number] if 0 <= number < len(class_names) else []
    meanings = list(dict.fromkeys([*named, *counted]))
    if len(meanings) == 1:
        return meanings[0]
    if not meanings:
        raise _unknown(setting, number, class_names)
    readings = [f"the class named {class_names[label]}" for label in named]
    readings += [f"class number {number}, counted from 0, which is named {class_names[number]}" for _ in counted]
    settings = [f"""'{setting}={{"{class_names[label]}": VALUE}}'""" for label in meanings]
    raise ConfigError(
        f"{setting} has the key {number}, which may be {' or '.join(readings)}. "
        f"Write the class's name in quotes: {' or '.join(settings)}."
    )


def _unknown(setting: str, key: Any, class_names: Sequence[str]) -> ConfigError:
    rest = f" and {len(class_names) - MAX_NAMES_SHOWN:,} more" if len(class_names) > MAX_NAMES_SHOWN else ""
    return ConfigError(
        f"{setting} has an unknown class. Received: {key}. Classes: {', '.join(class_names[:MAX_NAMES_SHOWN])}{rest}."
    )
