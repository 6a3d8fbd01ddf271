"""The user's code behind a configuration: the modules that its `_target_`s name, and all modules that these import.

Modules are found as Python's import system finds them and parsed, not executed. A module of the user counts by its
content, an installed package by its version; the standard library and mnistlab itself are left out.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple

STANDARD_LIBRARY = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
INSTALLED = {"site-packages", "dist-packages"}  # names of folders; an editable install is outside them
# The fingerprint has these in its parts 'code' and 'libraries'.
ELSEWHERE = {"mnistlab", "tensorflow", "keras", "numpy", "PIL", "scipy"}
IMPORT_FUNCTIONS = ("import_module", "__import__")


class Imported(NamedTuple):
    """One import: the number of dots before the module, the module, the names that are taken from it."""

    dots: int
    module: str
    names: tuple[str, ...]


def used_modules(targets: Iterable[str]) -> dict[str, str]:
    """The modules that dotted paths of callables use, directly and through imports.

    Modules that are missing or have a syntax error are no error here: building the callable reports them.

    Returns:
        file below the import root ('model.py', 'nets/blocks.py') -> hash of its content, 16 hexadecimal digits;
        distribution ('torch') -> its name and version ('torch 2.6.0').
    """
    specs: dict[str, ModuleSpec | None] = {}  # None: missing, or not to be followed
    used: dict[str, str] = {}
    waiting = list(targets)
    while waiting:
        parts = waiting.pop().split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            if name not in specs:
                spec = _find(name, specs)
                imports = _add(name, spec, used) if spec else None
                specs[name] = None if imports is None else spec
                waiting += imports or ()
            if specs[name] is None:
                break
    return used


def _find(name: str, specs: Mapping[str, ModuleSpec | None]) -> ModuleSpec | None:
    """How Python would import this module, whose parent is in `specs`; None if it is missing."""
    parent_name, _, last = name.rpartition(".")
    try:
        if not parent_name:
            return None if name == "mnistlab" else _find_top_level(name)
        parent = specs[parent_name]
        if parent is None or parent.submodule_search_locations is None:
            return None
        # The last part alone: for a dotted name, Python looks for the parent among the modules that are loaded.
        spec = PathFinder.find_spec(last, parent.submodule_search_locations)
        if spec and spec.submodule_search_locations is not None:
            # Python's list of a namespace package's folders would look for the parent too.
            spec.submodule_search_locations = list(spec.submodule_search_locations)
        return spec
    except (ImportError, ValueError, AttributeError, OSError):
        return None


def _find_top_level(name: str) -> ModuleSpec | None:
    """As `importlib.util.find_spec`, also for the `__main__` of a script, which has no specification."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file and getattr(sys.modules[name], "__spec__", None) is None:
        return importlib.util.spec_from_file_location(name, file)
    return importlib.util.find_spec(name)


def _add(name: str, spec: ModuleSpec, used: dict[str, str]) -> list[str] | None:
    """Add a module to those that are used.

    Returns:
        the dotted names that it imports; None: neither the module nor what is below it is the user's code.
    """
    is_package = spec.submodule_search_locations is not None
    if not spec.has_location:
        return [] if is_package else None  # a namespace package has no code of its own; others are built in
    top_level = name.partition(".")[0]
    if _is_installed(spec) and (versions := {} if top_level in ELSEWHERE else _versions(top_level)):
        used |= versions
        return None
    if _is_standard(spec) or (_is_installed(spec) and top_level in ELSEWHERE):
        return None
    content = _source(spec)
    if content is None:
        return None
    used[_file_name(name, spec)] = hashlib.sha256(content).hexdigest()[:16]
    if not str(spec.origin).endswith(".py"):
        return []
    return list(_absolute(_imports(content, is_package), name if is_package else name.rpartition(".")[0]))


_sources: dict[str, bytes | None] = {}


def _source(spec: ModuleSpec) -> bytes | None:
    """The content of a module's file as this process saw it first: the code that is imported, whatever is edited while
    a long sweep runs. None if it cannot be read."""
    origin = str(spec.origin)
    if origin not in _sources:
        try:
            _sources[origin] = spec.loader.get_data(origin)  # type: ignore[union-attr]
        except (OSError, AttributeError):
            _sources[origin] = None
    return _sources[origin]


def _is_standard(spec: ModuleSpec) -> bool:
    origin = Path(spec.origin or "").resolve()
    return not _is_installed(spec) and any(origin.is_relative_to(folder) for folder in STANDARD_LIBRARY)


def _is_installed(spec: ModuleSpec) -> bool:
    return spec.has_location and not INSTALLED.isdisjoint(Path(spec.origin or "").parts)


def _file_name(name: str, spec: ModuleSpec) -> str:
    """The module's file relative to the folder that it is imported from: nets/blocks.py, nets/__init__.py."""
    parents = name.split(".")[: None if spec.submodule_search_locations is not None else -1]
    return "/".join([*parents, Path(spec.origin or "").name])


@functools.lru_cache(maxsize=4096)
def _imports(source: bytes, is_package: bool) -> tuple[Imported, ...]:
    """All imports in a module's source, also inside functions, and those of `importlib.import_module("name")`.

    is_package: the source is an `__init__.py`, whose `__all__` may name modules for `from package import *`.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # importing the module reports them
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Imported(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(Imported(node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Call) and _function_name(node) in IMPORT_FUNCTIONS:
            names = [text for text in _texts(node.args[:1]) if text.strip(".")]
            found += [Imported(len(name) - len(name.lstrip(".")), name.lstrip("."), ()) for name in names]
        elif isinstance(node, ast.Assign) and is_package and "__all__" in map(ast.unparse, node.targets):
            found.append(Imported(1, "", tuple(_texts(getattr(node.value, "elts", [])))))
    return tuple(found)


def _function_name(call: ast.Call) -> str:
    """import_module for importlib.import_module(...)."""
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def _texts(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _absolute(imports: Iterable[Imported], package: str) -> Iterator[str]:
    """The dotted names of what a module of this package imports; 'torch.nn.Linear' may be a module or not."""
    parents = package.split(".") if package else []
    for dots, module, names in imports:
        if dots > len(parents):
            continue  # more dots than packages: Python refuses it
        base = [*parents[: len(parents) - dots + 1], *filter(None, [module])] if dots else [module]
        yield ".".join(base)
        yield from (".".join([*base, name]) for name in names)


def _versions(top_level: str) -> dict[str, str]:
    """Distribution -> name and version, of the distributions that install this top-level module."""
    names = _distributions(tuple(sys.path)).get(top_level, ())
    try:
        return {name: f"{name} {importlib.metadata.version(name)}" for name in names}
    except importlib.metadata.PackageNotFoundError:  # it was removed in the meantime
        return {}


@functools.lru_cache(maxsize=4)
def _distributions(search_path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Top-level module -> its distributions; reading them takes about 0.3 seconds, so once per `sys.path`."""
    return importlib.metadata.packages_distributions()
