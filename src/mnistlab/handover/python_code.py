"""Python code as text: literals, calls, and the calls that a configuration's nodes and Keras's objects stand for."""

import contextlib
import inspect
import json
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mnistlab.config import ConfigError
from mnistlab.config.trust import FUNCTION_GETTERS

WIDTH = 100  # of a line; longer calls have an argument a line
SQUARES = ("kernel_size", "strides", "pool_size", "dilation_rate", "size")  # (3, 3) is written as 3
HYDRAS = ("_target_", "_convert_", "_recursive_")
PARTS_OF_KERAS = ("layers", "initializers", "regularizers", "constraints")
SHORT = {"keras.layers.": "layers."}  # as the script imports them


class CannotBeWrittenError(ConfigError):
    """A part of a run has no equivalent in plain Keras, or is code of the user's."""


def literal(value: Any) -> str:
    """A value as Python writes it, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(entry)}" for key, entry in value.items()) + "}"
    return repr(value)


def call(function: str, *positional: str, indent: int = 0, used: int = 0, **keywords: Any) -> str:
    """A call whose arguments are code already, on one line if it fits; the first line is not indented.

    used: characters of the line that come before or after the call.
    """
    arguments = [*positional, *(f"{name}={value}" for name, value in keywords.items())]
    line = f"{function}({', '.join(arguments)})"
    if indent + used + len(line) <= WIDTH and "\n" not in line:
        return line
    margin = " " * (indent + 4)
    listed = "".join(f"{margin}{argument},\n" for argument in arguments)
    return f"{function}(\n{listed}{' ' * indent})"


def wrapped_list(values: Sequence[Any], name: str) -> str:
    """`NAME = [...]`, on as many lines as it needs."""
    lines, current = [], ""
    for text in map(literal, values):
        if len(current) + len(text) > WIDTH - 8:
            lines.append(current.rstrip())
            current = ""
        current += f"{text}, "
    whole = f"{name} = {literal(list(values))}"
    body = "\n".join(f"    {line}" for line in [*lines, current.rstrip()])
    return whole if len(whole) <= WIDTH else f"{name} = [\n{body}\n]"


def node_code(value: Any, place: str, folder: str = "", indent: int = 0) -> str:
    """The code of a configuration's value: a node with `_target_` becomes a call of Keras.

    Args:
        place: its name in the configuration, for messages.
        folder: of the run; files there become files beside the script.

    Raises:
        CannotBeWrittenError: it names something that is not Keras's.
    """
    if isinstance(value, Mapping) and value.get("_target_") in FUNCTION_GETTERS:
        return keras_path(str(value.get("path")), f"{place}.path")
    if isinstance(value, Mapping) and "_target_" in value:
        function = keras_path(str(value["_target_"]), f"{place}._target_")
        if value.get("_partial_"):
            raise CannotBeWrittenError(f"{place} has _partial_, which the script cannot write out.")
        entries = {name: entry for name, entry in value.items() if name not in (*HYDRAS, "_args_", "_partial_")}
        positional = [node_code(entry, place, folder) for entry in value.get("_args_", ())]
        keywords: dict[str, Any] = {
            name: node_code(entry, f"{place}.{name}", folder) for name, entry in entries.items()
        }
        return call(function, *positional, indent=indent, **keywords)
    if isinstance(value, list | tuple):
        return f"[{', '.join(node_code(entry, place, folder) for entry in value)}]"
    if isinstance(value, Mapping):
        pairs = [f"{literal(name)}: {node_code(entry, f'{place}.{name}', folder)}" for name, entry in value.items()]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, str) and folder and value.startswith(f"{folder}/"):
        return literal(value.removeprefix(f"{folder}/").removeprefix("checkpoints/"))
    return literal(value)


def keras_path(target: str, place: str) -> str:
    """The dotted name under which the script finds a callable of Keras.

    Raises:
        CannotBeWrittenError: it is none of Keras's.
    """
    name = target.removeprefix("tensorflow.")
    if not name.startswith("keras."):
        raise CannotBeWrittenError(
            f"{place}={target} is not part of Keras, and the script needs nothing but Keras. Train a run without it, "
            "or copy your code into the script of such a run."
        )
    return shortened(name)


def shortened(name: str) -> str:
    """A dotted name of Keras as the script writes it: layers.Dense."""
    for long, short in SHORT.items():
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


def object_code(serialized: Mapping[str, Any], indent: int = 0, used: int = 0, **more: Any) -> str:
    """The call that makes an object of Keras again, with the arguments that differ from Keras's defaults.

    Args:
        serialized: as `keras.saving.serialize_keras_object` returns it.
        more: further arguments.

    Raises:
        CannotBeWrittenError: its class is not Keras's.
    """
    name = str(serialized["class_name"])
    module = re.sub(r"^keras\.src\b", "keras", str(serialized.get("module") or ""))
    public = _public_module(module, name)
    if public is None:
        raise CannotBeWrittenError(
            f"{module}.{name} is a class of your own, and the script needs nothing but Keras. Build the model from "
            "Keras's layers."
        )
    cls = operator.attrgetter(f"{public}.{name}")(keras)
    positional, keywords = _arguments(cls, serialized["config"])
    keywords |= {key: literal(value) for key, value in more.items()}
    return call(shortened(f"keras.{public}.{name}"), *positional, indent=indent, used=used, **keywords)


def _public_module(module: str, name: str) -> str | None:
    """The part of Keras's front door that has this class: 'layers', 'initializers', 'optimizers.schedules'."""
    if not module.startswith("keras"):
        return None
    for candidate in (module.removeprefix("keras."), *PARTS_OF_KERAS):
        with contextlib.suppress(AttributeError):
            operator.attrgetter(f"{candidate}.{name}")(keras)
            return candidate
    return None


def _arguments(cls: Any, config: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The required arguments, and the others by name."""
    parameters = [
        entry
        for entry in list(inspect.signature(cls.__init__).parameters.values())[1:]
        if entry.kind in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY)
    ]
    required = [entry.name for entry in parameters if entry.default is entry.empty]
    defaults = _default_config(cls, required, config)
    positional = [_value(config[name], name) for name in required]
    names = dict.fromkeys([*(entry.name for entry in parameters), "trainable", "dtype"])
    keywords = {
        name: _value(config[name], name)
        for name in names
        if name in config and name not in (*required, "name") and _plain(config[name]) != _plain(defaults.get(name))
    }
    return positional, keywords


def _default_config(cls: Any, required: Sequence[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an object that is built with its required arguments only."""
    given = {name: keras.saving.deserialize_keras_object(config[name]) for name in required}
    default: dict[str, Any] = cls(**given).get_config()
    return default


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _value(value: Any, name: str) -> str:
    """The code of an argument in a configuration of Keras."""
    if isinstance(value, Mapping) and "class_name" in value:
        if "DTypePolicy" in str(value["class_name"]):
            return literal(value["config"]["name"])
        if value["class_name"] == "function":
            return keras_path(f"keras.{value.get('module')}.{value['config']}", name)
        return _short_name(value) or object_code(value)
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        return f"[{', '.join(_value(entry, name) for entry in value)}]"
    if name in SQUARES and isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        return literal(value[0])
    return literal(value)


def _short_name(value: Mapping[str, Any]) -> str | None:
    """The name that Keras knows an initializer by if it has no arguments of its own: "he_normal"."""
    if not str(value.get("module", "")).endswith("initializers"):
        return None
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(value["class_name"])).lower()
    try:
        known = keras.initializers.get(name)
    except ValueError:
        return None
    return literal(name) if known.get_config() == value["config"] else None
