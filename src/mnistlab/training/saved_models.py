"""Loading a whole model in safe mode: no code of the file is run, and classes come from Keras or trusted packages."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from mnistlab.config import ConfigError, trust
from mnistlab.runtime.keras_internals import safe_loading
from mnistlab.training import model_files
from mnistlab.training.model_files import ModelFile

MISSING = re.compile(r"Could not locate (?:class|function) '([^']+)'|Unknown [\w ]+: '([^']+)'")
REGISTERED = "@keras.saving.register_keras_serializable()"


def load(file: Path, found: ModelFile, setting: str) -> keras.Model:
    """Load a .keras or .h5 file without compiling it.

    Args:
        found: what `model_files.read` says of it; setting: that names the file, for the message.

    Raises:
        ConfigError: the file holds code, needs a class of a package that is not trusted, or cannot be loaded.
    """
    place = f"{setting}={file}"
    _refuse_code(found.config, place)
    objects = _trusted_objects(found.config, place)
    try:
        with safe_loading():
            model: keras.Model = keras.models.load_model(file, custom_objects=objects, compile=False, safe_mode=True)
    except Exception as error:
        raise ConfigError(f"{place} {_reason(error, found)}.") from error
    return model


def _refuse_code(config: dict[str, Any], place: str) -> None:
    """Raise a ConfigError if the configuration holds Python code, whatever Keras would do with it."""
    for node in model_files.nodes(config):
        kind, inner = node.get("class_name"), node.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        if _is_code(node) or (kind == "Lambda" and isinstance(inner, dict) and not _is_named(inner.get("function"))):
            what = f"a Lambda layer ({name})" if kind == "Lambda" else "a lambda"
        elif kind in trust.UNSAFE_LAYERS - {"Lambda"}:
            what = f"a {kind} ({name})"
        else:
            continue
        raise ConfigError(
            f"{place} has {what} and with it code, which is not loaded from a file: it could do anything. Save the "
            "weights alone, model.save_weights('NAME.weights.h5'), and start the same model from them; or write the "
            f"layer as a class of your package with {REGISTERED}, and type trust=[mypackage]."
        )


def _is_code(node: dict[str, Any]) -> bool:
    """Whether this is a function that Python's `marshal` has written."""
    value = node.get("value")
    is_old = set(node) == {"value"} and isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)
    return node.get("class_name") == "__lambda__" or is_old


def _is_named(function: Any) -> bool:
    """Whether a Lambda layer names a function instead of holding one."""
    return isinstance(function, str) or (isinstance(function, dict) and function.get("class_name") == "function")


def _trusted_objects(config: dict[str, Any], place: str) -> dict[str, Any]:
    """Registered name -> class or function, of those that the model needs from packages that the user trusts."""
    objects: dict[str, Any] = {}
    for name, module, registered in _own(config):
        for candidate in _trusted_modules(module):
            found = vars(_imported(candidate, place)).get(name)
            if found is not None and not trust.origin_problem(found, place, f"{candidate}.{name}"):
                objects |= {name: found, registered: found}
                break
    return objects


def _own(config: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, module ('' if it is not known) and registered name of each class and function that may be none of Keras."""
    for node in model_files.nodes(config):
        kind, module = node.get("class_name"), str(node.get("module") or "")
        if kind == "function" and isinstance(node.get("config"), str):
            yield node["config"], module.removeprefix("builtins"), node["config"]
        elif isinstance(kind, str) and module.split(".")[0] != "keras" and not kind.startswith("__"):
            yield kind.rpartition(">")[2], module, str(node.get("registered_name") or kind)


def _trusted_modules(module: str) -> list[str]:
    """The modules to look into: that one, if its package is trusted; all trusted ones if it is not known."""
    trusted = sorted(trust.trusted())
    if not module:
        return trusted
    return [module] if any(f"{module}.".startswith(f"{name}.") for name in trusted) else []


def _imported(module: str, place: str) -> Any:
    if module in sys.modules:
        return sys.modules[module]
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise ConfigError(f"{place} needs {module}, and importing it failed: {error!r}.") from error


def _reason(error: Exception, found: ModelFile) -> str:
    """Why Keras could not load a model whose file is whole."""
    missing = MISSING.search(str(error))
    if missing:
        return _reason_for_class(missing[1] or missing[2], found)
    if _is_newer(found.keras_version):
        return (
            f"was saved by Keras {found.keras_version}, and this is Keras {keras.__version__}, which cannot load it. "
            "Install that version, or save the weights alone there: model.save_weights('NAME.weights.h5')"
        )
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"cannot be loaded; it may be damaged: {lines[0][:200].rstrip('.')}"


def _reason_for_class(name: str, found: ModelFile) -> str:
    short = name.rpartition(">")[2]
    known = {own: module for own, module, _ in _own(found.config) if module}
    module = known.get(short, "")
    package = module.split(".")[0] or name.partition(">")[0] if module or ">" in name else ""
    where = f" of {module}" if module else ""
    if trust.trusted() and (not package or _trusted_modules(module or package)):
        return (
            f"needs {short}{where}, which is not there. Packages that are trusted: {', '.join(sorted(trust.trusted()))}"
        )
    return (
        f"needs {short}{where}, which is none of Keras. If you trust the package that has it, name it on the command "
        f"line: trust=[{package or 'mypackage'}]"
    )


def _is_newer(version: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text)[:3]]

    return numbers(version) > numbers(keras.__version__)
