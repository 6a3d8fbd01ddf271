"""The structure of the code: imports point one way, heavy libraries have one owner, commands start fast, files and
functions stay small."""

from __future__ import annotations

import ast
import graphlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mnistlab

SOURCES = Path(mnistlab.__file__).parent
COMMANDS = {
    *("check", "compare", "doctor", "eject", "evaluate", "explain", "export"),
    *("predict", "promote", "replay", "sync", "tour", "train", "ui"),
}
# Which package may import which. A package is a folder; experiment is a module; commands may import everything.
ARROWS = {
    "config": set(),
    "comparison": set(),
    "runtime": {"config"},
    "data": {"config", "runtime"},
    "training": {"data", "config", "runtime"},
    "evaluation": {"config", "runtime"},
    "tracking": {"config", "runtime", "comparison"},
    "inference": {"config", "data", "training", "evaluation", "tracking", "comparison", "runtime"},
    "handover": {"config", "data", "training", "tracking", "runtime"},
    "experiment": {"config", "data", "training", "evaluation", "tracking", "runtime"},
    "sweep": {"experiment", "config", "data", "training", "evaluation", "tracking", "comparison", "runtime"},
    "sources": {"data"},  # the types for users' own sources, under their short name
    "notebook": {"sweep", "evaluation", "training", "tracking", "config", "runtime"},
    "touring": {"config"},
    "": {"notebook"},  # mnistlab/__init__.py: from mnistlab import load_run
}
# Inside functions and for types only: a training must not wait for SciPy and matplotlib.
LAZY_ARROWS = {("tracking", "comparison"), ("sweep", "comparison")}
OWNERS = {
    "mlflow": {"tracking"},
    "sqlalchemy": {"tracking"},  # one statement for many runs: mlflow_internals.py
    "matplotlib": {"evaluation", "comparison"},
    "seaborn": {"evaluation"},
    "sklearn": {"evaluation", "data"},  # data: class weights
    "scipy": {"comparison", "inference"},
    "pandas": {"data", "notebook"},  # data: what ImageDataGenerator reads file names from
    "hydra": {"config", "sweep"},
    "omegaconf": {"config", "sweep", "inference"},  # inference: a run's recorded settings
    "tensorflow": {"training", "data"},  # data: batches from folders
    # data: also downloads; tracking: raw_images.py, which runs within logged models; notebook: a type
    "keras": {"training", "data", "experiment", "inference", "handover", "tracking", "notebook"},
    "rich": {"runtime", "comparison", "tour"},
    "optuna": {"runtime", "sweep", "training"},
    "PIL": {"data", "export", "inference", "touring"},
}
# The private names of other libraries are used here and nowhere else; tests/smoke/test_private_names.py tests each.
FILES_WITH_PRIVATE_NAMES = {
    "config/hydra_internals.py",
    "runtime/keras_internals.py",
    "runtime/exits.py",
    "runtime/studies.py",
    "tracking/mlflow_internals.py",
}
PUBLIC = {"os._exit"}  # documented, as are namedtuples' `_replace` and so on
MAX_FILE_LINES = 320
MAX_COMMAND_LINES = {"train.py": 40}


def dotted(file: Path) -> str:
    """mnistlab.data.sources for src/mnistlab/data/sources.py, mnistlab.data for src/mnistlab/data/__init__.py."""
    parts = file.relative_to(SOURCES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(file): file for file in sorted(SOURCES.rglob("*.py"))}
TREES = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in MODULES.items()}


def package_of(module: str) -> str:
    """The folder or top-level module that a module belongs to."""
    return (*module.split("."), "")[1]


def file_name(module: str) -> str:
    return MODULES[module].relative_to(SOURCES).as_posix()


PACKAGES = sorted({package_of(module) for module in MODULES})


class Import(NamedTuple):
    """importer: the module; imported: module of mnistlab or dotted name elsewhere; lazy: not when it is imported."""

    importer: str
    imported: str
    lazy: bool


def imports(module: str) -> Iterator[Import]:
    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if isinstance(child, ast.Import):
                yield from (Import(module, alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}: imports are absolute"
                for alias in child.names:
                    name = f"{child.module}.{alias.name}"
                    is_module = name in MODULES or not f"{child.module}.".startswith("mnistlab.")
                    yield Import(module, name if is_module else str(child.module), lazy)
            else:
                yield from visit(child, lazy or in_function or for_types)

    yield from visit(TREES[module], lazy=False)


IMPORTS = [entry for module in MODULES for entry in imports(module)]
INNER = [entry for entry in IMPORTS if f"{entry.imported}.".startswith("mnistlab.")]
BETWEEN = [entry for entry in INNER if package_of(entry.importer) != package_of(entry.imported)]


@pytest.mark.parametrize("package", [package for package in PACKAGES if package not in COMMANDS])
def test_imports_between_packages_point_one_way(package: str) -> None:
    wrong = [
        f"{file_name(entry.importer)} imports {entry.imported}"
        for entry in BETWEEN
        if package_of(entry.importer) == package and package_of(entry.imported) not in ARROWS[package]
    ]
    assert wrong == []


def test_comparison_is_imported_inside_functions_only() -> None:
    wrong = [
        entry
        for entry in BETWEEN
        if (package_of(entry.importer), package_of(entry.imported)) in LAZY_ARROWS and not entry.lazy
    ]
    assert wrong == []


def test_nothing_imports_a_command() -> None:
    assert [entry for entry in BETWEEN if package_of(entry.imported) in COMMANDS] == []


def test_every_imported_module_exists() -> None:
    assert [entry for entry in INNER if entry.imported not in MODULES] == []


def test_there_are_no_circles_between_packages() -> None:
    graph: dict[str, set[str]] = {package: set() for package in PACKAGES}
    for entry in BETWEEN:
        graph[package_of(entry.importer)].add(package_of(entry.imported))
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", PACKAGES)
def test_there_are_no_circles_between_the_modules_of_a_package(package: str) -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES if package_of(module) == package}
    for entry in INNER:
        if not entry.lazy and {entry.importer, entry.imported} <= set(graph) and entry.importer != entry.imported:
            graph[entry.importer].add(entry.imported)
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("library", OWNERS)
def test_each_heavy_library_has_its_owners(library: str) -> None:
    users = {package_of(entry.importer) for entry in IMPORTS if entry.imported.split(".")[0] == library}
    assert users == OWNERS[library]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in ("_replace", "_asdict", "_fields")


def private_names(module: str) -> set[str]:
    """Private names of other libraries: imported modules and names, and attributes that no class here defines."""
    tree = TREES[module]
    outside = {entry.imported for entry in imports(module) if not f"{entry.imported}.".startswith("mnistlab.")}
    found = {name for name in outside if any(map(is_private, name.split(".")))}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)]
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.attr for node in attributes if ast.unparse(node.value) in ("self", "cls")}
    found |= {text for node in attributes if node.attr not in own and (text := ast.unparse(node)) not in PUBLIC}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    texts = {
        argument.value
        for call in calls
        for argument in call.args[1:2]
        if ast.unparse(call.func) in ("getattr", "hasattr", "setattr") and isinstance(argument, ast.Constant)
    }
    return found | {text for text in texts if is_private(text)}


def test_private_names_of_other_libraries_are_in_their_files_only() -> None:
    found = {file_name(module): names for module in MODULES if (names := private_names(module))}
    assert {file: names for file, names in found.items() if file not in FILES_WITH_PRIVATE_NAMES} == {}
    assert set(found) == FILES_WITH_PRIVATE_NAMES


def test_every_private_name_has_a_test() -> None:
    tests = (Path(__file__).parents[1] / "smoke" / "test_private_names.py").read_text(encoding="utf-8")
    names = {name.rpartition(".")[2] for module in MODULES for name in private_names(module)}
    assert sorted(name for name in names if name not in tests) == []


HEAVY = ("tensorflow", "keras", "mlflow", "matplotlib", "seaborn", "sklearn", "pandas")


def loaded_by(code: str) -> tuple[list[str], str]:
    """Run code in a process of its own; returns which heavy libraries it has loaded, and its standard error."""
    report = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('\\n', [name for name in {HEAVY} if name in sys.modules], flush=True))\n"
    )
    answer = subprocess.run([sys.executable, "-c", report + code], capture_output=True, text=True, check=False)
    return ast.literal_eval(answer.stdout.splitlines()[-1].strip()), answer.stderr


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_importing_a_command_loads_nothing_heavy(command: str) -> None:
    assert loaded_by(f"import mnistlab.{command}") == ([], "")


def test_importing_the_packages_loads_nothing_heavy() -> None:
    """Except training, whose front door is Keras, and notebook, which gives DataFrames."""
    packages = sorted(set(PACKAGES) - COMMANDS - {"", "experiment", "training", "notebook"})
    assert len(packages) == 11
    assert loaded_by(f"import {', '.join(f'mnistlab.{package}' for package in packages)}") == ([], "")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["optimizer=sgdd"], ["--multirun", "fit.epochs=1,0"]], ids=" ".join
)
def test_help_and_mistakes_load_nothing_heavy(arguments: list[str]) -> None:
    code = f"sys.argv = ['mnistlab-train', *{arguments!r}]\nfrom mnistlab.train import main\nmain()\n"
    loaded, errors = loaded_by(code)
    assert loaded == []
    assert "Traceback" not in errors


class Function(NamedTuple):
    """lines: from `def` to the last line, with docstring and comments."""

    name: str
    lines: int
    node: ast.FunctionDef


FUNCTIONS = [
    Function(f"{file_name(module)}: {node.name}", (node.end_lineno or 0) - node.lineno + 1, node)
    for module, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef)
]


def test_files_are_short() -> None:
    lengths = {file_name(module): len(file.read_text().splitlines()) for module, file in MODULES.items()}
    limits = dict.fromkeys(lengths, MAX_FILE_LINES) | MAX_COMMAND_LINES
    assert {name: length for name, length in lengths.items() if length > limits[name]} == {}


def test_functions_are_short() -> None:
    lengths = sorted(function.lines for function in FUNCTIONS)
    assert statistics.median(lengths) <= 12
    assert lengths[int(0.9 * len(lengths))] <= 35
    assert {function.name for function in FUNCTIONS if function.lines > 60} <= {"experiment.py: run"}


def test_every_function_has_a_return_type() -> None:
    assert [function.name for function in FUNCTIONS if function.node.returns is None] == []


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_their_public_names_have_docstrings(module: str) -> None:
    assert ast.get_docstring(TREES[module])
    public = [
        node
        for node in TREES[module].body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
