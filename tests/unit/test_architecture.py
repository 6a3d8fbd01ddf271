"""The house stays as it is drawn: imports point one way, heavy libraries have few owners, the entry stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from mnistlab import config

SOURCES = Path(config.__file__).parent
# A module is a file; a folder counts as one, its inside is its own affair.
MODULES = {file.stem: [file] for file in SOURCES.glob("*.py")}
MODULES |= {folder.parent.name: sorted(folder.parent.glob("*.py")) for folder in SOURCES.glob("*/__init__.py")}

# Who may import whom within the package. A leaf imports nothing but config and what stands beside it here.
ALLOWED = {
    "__init__": set(),
    "config": set(),
    "checks": {"config"},
    "record": set(),
    "provenance": set(),
    "startup": set(),
    "worker": {"config", "tracking"},
    "mirror": {"stores", "tracking", "worker"},
    "figures": {"plots"},
    "loading": {"build", "config", "data", "sources"},
    "verdict": {"comparison", "history", "stores"},
    "comparison": set(),
    "program": set(),
    "fused": {"program"},
    "evaluate": set(),
    "plots": set(),
    "models": set(),
    "build": {"config"},
    "sources": {"config"},
    "saving": {"config"},
    "stores": {"config"},
    "tracking": {"config", "stores"},
    "data": {"config", "sources"},
    "folders": set(),
    "decode": set(),
    "decoders": {"decode"},
    "pixelcache": {"decode"},
    "folder_images": {"decode", "decoders", "folders"},
    "directory": {"config", "decode", "decoders", "folder_images", "folders", "pixelcache", "sources"},
    "augmentation": {"config"},
    "loaders": {"augmentation", "config", "data", "sources"},
    "export": {"build", "config", "preflight", "sources"},
    "callbacks": {"record"},
    "training": {"config", "data", "fused", "loaders", "sources"},
    "fingerprint": {"config", "provenance"},
    "history": {"comparison", "provenance", "stores", "tracking"},
    "preflight": {"build", "checks", "config"},
    "naming": {"config", "preflight"},
    "reporting": {
        "augmentation",
        "callbacks",
        "config",
        "data",
        "evaluate",
        "figures",
        "fingerprint",
        "loaders",
        "naming",
        "provenance",
        "record",
        "training",
        "worker",
    },
    "experiment": set(MODULES)
    - {"experiment", "train", "preflight", "sweep", "compare", "comparison", "export", "fused", "program"}
    - {"checks", "history", "plots", "startup", "verdict"},
    "compare": {"comparison", "config", "history", "stores", "tracking"},
    "sweep": {"config", "experiment", "fingerprint", "history", "loading", "mirror", "preflight", "provenance"}
    | {"record", "stores", "verdict", "worker"},
    "train": {
        "config",
        "experiment",
        "fingerprint",
        "history",
        "loading",
        "preflight",
        "provenance",
        "startup",
        "stores",
    }
    | {"sweep", "tracking", "worker"},
}
OWNERS = {
    "mlflow": {"tracking"},
    "matplotlib": {"plots", "comparison"},
    "seaborn": {"plots"},
    "sklearn": {"evaluate", "data"},
    "hydra": {"config", "build", "preflight", "train"},
    "omegaconf": {"checks", "config", "preflight", "train"},
    "PIL": {"decode", "pixelcache", "export"},
    "tensorflow": {"fused", "loaders", "program", "training"},
    "keras": {
        *(
            "augmentation",
            "callbacks",
            "experiment",
            "fused",
            "loaders",
            "models",
            "program",
            "reporting",
            "saving",
            "sources",
        ),
        *("training",),
    },
}


def imported(files: list[Path]) -> set[str]:
    names = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "mnistlab":
            names |= {f"mnistlab.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    own = {name.split(".")[1] for name in imported(MODULES[module]) if name.startswith("mnistlab.")} - {module}
    assert own <= ALLOWED[module], f"{module} must not import {own - ALLOWED[module]}"


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_heavy_libraries_have_few_owners(library: str) -> None:
    users = {name for name, files in MODULES.items() if library in {word.split(".")[0] for word in imported(files)}}
    assert users == OWNERS[library]


def test_the_entry_point_loads_nothing_heavy() -> None:
    heavy = ("tensorflow", "keras", "mlflow", "matplotlib", "seaborn", "sklearn", "pandas")
    program = f"import sys, mnistlab.train; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["optimizer=sgdd"], ["--multirun", "fit.epochs=1,0"]])
def test_help_and_mistakes_load_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys, atexit\n"
        "heavy = ('tensorflow', 'keras', 'mlflow', 'matplotlib')\n"
        "atexit.register(lambda: print('LOADED', [name for name in heavy if name in sys.modules]))\n"
        f"sys.argv = ['mnistlab-train', *{words!r}]\n"
        "from mnistlab.train import main\nmain()\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.stdout.strip().endswith("LOADED []")
    assert "Traceback" not in answer.stderr
