"""The user's modules behind a `_target_` are found through their imports and count by content, packages by version."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mnistlab.tracking import user_code
from mnistlab.tracking.user_code import used_modules

Write = Callable[..., Path]


pytestmark = pytest.mark.usefixtures("each_call_in_a_new_process")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files, path -> text, below a folder that Python imports from. Returns the folder."""

    def write_files(files: dict[str, str], folder: str = "project") -> Path:
        for path, text in files.items():
            file = tmp_path / folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if str(tmp_path / folder) not in sys.path:
            monkeypatch.syspath_prepend(str(tmp_path / folder))
        importlib.invalidate_caches()
        return tmp_path / folder

    return write_files


def test_a_module_counts_by_its_content(write: Write) -> None:
    file = write({"model.py": "def build(): ...\n"}) / "model.py"
    assert used_modules(["model.build"]) == {"model.py": hashlib.sha256(file.read_bytes()).hexdigest()[:16]}


PACKAGE = {"nets/__init__.py": "", "nets/blocks.py": "", "nets/unused.py": "", "unused.py": ""}


@pytest.mark.parametrize(
    ("source", "others", "expected"),
    [
        ("import nets.blocks", PACKAGE, "nets/__init__.py nets/blocks.py"),
        ("from nets import blocks", PACKAGE, "nets/__init__.py nets/blocks.py"),
        ("from nets.blocks import Block", PACKAGE, "nets/__init__.py nets/blocks.py"),
        ("import nets", {**PACKAGE, "nets/__init__.py": "from . import blocks"}, "nets/__init__.py nets/blocks.py"),
        ("import nets", {**PACKAGE, "nets/__init__.py": "from .blocks import A"}, "nets/__init__.py nets/blocks.py"),
        ("import nets", {**PACKAGE, "nets/__init__.py": "from nets import blocks"}, "nets/__init__.py nets/blocks.py"),
        ("from nets import *", {**PACKAGE, "nets/__init__.py": "__all__ = ['blocks', 'A']"},
         "nets/__init__.py nets/blocks.py"),
        ("import nets.blocks", {**PACKAGE, "nets/blocks.py": "__all__ = ['unused']"},
         "nets/__init__.py nets/blocks.py"),
        ("import nets.deep.layer",
         {**PACKAGE, "nets/deep/layer.py": "from nets.deep import more", "nets/deep/more.py": ""},
         "nets/__init__.py nets/deep/layer.py nets/deep/more.py"),
        ("import a.b.c", {"a/__init__.py": "", "a/d.py": "", "a/b/__init__.py": "", "a/b/c.py": "from ..d import x"},
         "a/__init__.py a/b/__init__.py a/b/c.py a/d.py"),
        ("import a.b.c", {"a/b/c.py": "from ..d import x", "a/d.py": ""}, "a/b/c.py a/d.py"),  # namespace packages
        ("import first", {"first.py": "import second", "second.py": "import third", "third.py": "import first"},
         "first.py second.py third.py"),
        ("import nets.blocks", {**PACKAGE, "nets/blocks.py": "import model"}, "nets/__init__.py nets/blocks.py"),
        ("def build():\n    from layer import Layer\n    import other as short", {"layer.py": "", "other.py": ""},
         "layer.py other.py"),
        ("try:\n    import fast\nexcept ImportError:\n    import slow", {"slow.py": ""}, "slow.py"),
        ("import importlib\nimportlib.import_module('nets.blocks')", PACKAGE, "nets/__init__.py nets/blocks.py"),
        ("import nets", {**PACKAGE, "nets/__init__.py": "import_module('.blocks', __package__)"},
         "nets/__init__.py nets/blocks.py"),
        ("pattern = '\\d'\nimport layer", {"layer.py": ""}, "layer.py"),  # Python warns of the backslash
        ("import broken", {"broken.py": "def build(:\nimport layer", "layer.py": ""}, "broken.py"),
        ("import zeros", {"zeros.py": "\0"}, "zeros.py"),
        ("from . import layer\nfrom ... import layer", {"layer.py": ""}, ""),  # Python refuses these
        ("import missing\nfrom missing.too import one", {}, ""),
        ("import os, json, importlib.metadata\nfrom xml.etree import ElementTree\nimport builtins", {}, ""),
        ("import mnistlab.data\nimport keras, numpy as np\nimport tensorflow.keras\nfrom PIL import Image", {}, ""),
        ("import this", {"this.py": ""}, "this.py"),  # the user's file takes precedence over the standard library's
    ],
)  # fmt: skip
def test_imports_are_followed(write: Write, source: str, others: dict[str, str], expected: str) -> None:
    write({"model.py": source, **others})
    assert sorted(used_modules(["model.build"])) == sorted(["model.py", *expected.split()])


def test_a_target_may_be_an_attribute_at_any_depth(write: Write) -> None:
    write(PACKAGE)
    for target in ("nets.blocks.Block", "nets.blocks.Block.create", "nets.blocks"):
        assert set(used_modules([target])) == {"nets/__init__.py", "nets/blocks.py"}
    assert set(used_modules(["nets.Block"])) == {"nets/__init__.py"}
    assert (
        used_modules(["", ".", "missing.build", "keras.layers.Dense", "os.path.join", "mnistlab.x", "bad name"]) == {}
    )


def test_several_targets_are_taken_together(write: Write) -> None:
    write({"model.py": "", "optimizer.py": "", "unused.py": ""})
    assert set(used_modules(["optimizer.Mine", "keras.layers.Dense", "model.build"])) == {"model.py", "optimizer.py"}


def test_an_edited_file_changes_its_own_entry_only(write: Write) -> None:
    write({"model.py": "from nets import blocks\nactivation = 'relu'", **PACKAGE})
    before = used_modules(["model.build"])
    write({"model.py": "from nets import blocks\nactivation = 'tanh'"})  # of the same size, immediately afterwards
    after = used_modules(["model.build"])
    assert {name for name in before if before[name] != after[name]} == {"model.py"}
    write({"model.py": "from nets import unused"})
    assert set(used_modules(["model.build"])) == {"model.py", "nets/__init__.py", "nets/unused.py"}
    write({"model.py": "from nets import blocks\nactivation = 'relu'"})
    assert used_modules(["model.build"]) == before


def test_the_folder_has_no_effect(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"model.py": "from nets import blocks", **PACKAGE}
    write(files, "project")
    before = used_modules(["model.build"])
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path / "project")])
    write(files, "elsewhere/deeper")
    assert used_modules(["model.build"]) == before


def test_modules_are_found_in_the_working_directory(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write({"model.py": "import nets.blocks", **PACKAGE})
    expected = used_modules(["model.build"])
    monkeypatch.setattr(sys, "path", ["", *(entry for entry in sys.path if entry != str(folder))])
    monkeypatch.chdir(folder)
    assert used_modules(["model.build"]) == expected
    assert len(expected) == 3


def test_no_code_of_the_user_is_executed(write: Write, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    execute = f"open({str(marker)!r}, 'w')\n"
    write({"model.py": f"{execute}import nets.blocks", "nets/__init__.py": execute, "nets/blocks.py": execute})
    assert len(used_modules(["model.build"])) == 3
    assert not marker.exists()
    assert not {"model", "nets", "nets.blocks"} & set(sys.modules)


def test_a_compiled_extension_counts_by_its_content(write: Write) -> None:
    name = f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    write({"model.py": "import nets.fast", "nets/__init__.py": "", f"nets/{name}": "one"})
    before = used_modules(["model.build"])
    write({f"nets/{name}": "two"})
    after = used_modules(["model.build"])
    assert set(before) == {"model.py", "nets/__init__.py", f"nets/{name}"}
    assert {key for key in before if before[key] != after[key]} == {f"nets/{name}"}


def test_modules_in_a_zip_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("model.py", "from nets import blocks")
        archive.writestr("nets/__init__.py", "")
        archive.writestr("nets/blocks.py", "")
    monkeypatch.syspath_prepend(str(tmp_path / "code.zip"))
    found = used_modules(["model.build"])
    assert set(found) == {"model.py", "nets/__init__.py", "nets/blocks.py"}
    assert found["model.py"] == hashlib.sha256(b"from nets import blocks").hexdigest()[:16]


def test_a_script_without_specification_is_found_by_its_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write({"script.py": "import layer", "layer.py": ""})
    script = types.ModuleType("running_script")  # as `__main__` of `python script.py`
    script.__file__ = str(folder / "script.py")
    monkeypatch.setitem(sys.modules, "running_script", script)
    assert set(used_modules(["running_script.build"])) == {"script.py", "layer.py"}
    del script.__file__  # as `__main__` of a notebook
    assert used_modules(["running_script.build"]) == {}


def distribution(name: str, version: str, *top_level: str) -> dict[str, str]:
    """The files of an installed distribution that pip would write."""
    return {
        f"{name}-info.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-info.dist-info/top_level.txt": "\n".join(top_level),
    }


@pytest.mark.parametrize("folder", ["lib/site-packages", "lib/dist-packages"])
def test_an_installed_package_counts_by_its_version(write: Write, folder: str) -> None:
    write({"model.py": "import lightlib.nn"})
    installed = {"lightlib/__init__.py": "import helper_of_lightlib", "lightlib/nn.py": "", "helper_of_lightlib.py": ""}
    write({**installed, **distribution("LightLib", "2.5.1", "lightlib", "helper_of_lightlib")}, folder)
    before = used_modules(["model.build"])
    assert before == {"model.py": before["model.py"], "LightLib": "LightLib 2.5.1"}
    write({"lightlib/nn.py": "edited = True"}, folder)
    assert used_modules(["model.build"]) == before
    write(distribution("LightLib", "2.6.0", "lightlib", "helper_of_lightlib"), folder)
    assert used_modules(["model.build"]) == {**before, "LightLib": "LightLib 2.6.0"}
    assert used_modules(["lightlib.nn.Layer"]) == {"LightLib": "LightLib 2.6.0"}


def test_a_really_installed_package_counts_by_its_version() -> None:
    version = importlib.metadata.version("scikit-learn")
    assert used_modules(["sklearn.svm.SVC"]) == {"scikit-learn": f"scikit-learn {version}"}


def test_an_installed_file_without_a_distribution_counts_by_its_content(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_code, "STANDARD_LIBRARY", (tmp_path / "lib",))  # has site-packages inside, without a venv
    write({"copied/__init__.py": "from . import part", "copied/part.py": "import of_python"}, "lib/site-packages")
    write({"of_python.py": ""}, "lib")
    assert set(used_modules(["copied.build"])) == {"copied/__init__.py", "copied/part.py"}


def test_an_editable_install_counts_as_the_users_code(write: Write) -> None:
    write({"mypackage/__init__.py": "", "mypackage/models.py": "from mypackage import parts", "mypackage/parts.py": ""})
    write(distribution("mypackage", "1.0", "mypackage"), "lib/site-packages")
    found = used_modules(["mypackage.models.build"])
    assert set(found) == {"mypackage/__init__.py", "mypackage/models.py", "mypackage/parts.py"}
    assert found["mypackage/models.py"] == hashlib.sha256(b"from mypackage import parts").hexdigest()[:16]


def test_a_namespace_package_may_be_installed_in_part(write: Write) -> None:
    write({"space/mine.py": "import space.theirs"})
    write({"space/theirs.py": "", **distribution("Theirs", "3.0", "space")}, "lib/site-packages")
    assert set(used_modules(["space.mine.build"])) == {"space/mine.py", "Theirs"}


def test_the_distributions_are_read_only_for_installed_packages_that_count(write: Write) -> None:
    write({"model.py": "import keras, numpy, tensorflow, scipy.ndimage, PIL.Image, os, mnistlab"})
    user_code._distributions.cache_clear()
    assert set(used_modules(["model.build", "keras.layers.Dense"])) == {"model.py"}
    assert user_code._distributions.cache_info().misses == 0
    used_modules(["sklearn.svm.SVC"])
    used_modules(["sklearn.svm.SVC", "yaml.load"])
    assert user_code._distributions.cache_info().misses == 1


def test_a_process_keeps_what_it_read_first(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python keeps the module that it imported, also if the file is edited while a long sweep runs."""
    monkeypatch.setattr(user_code, "_sources", {})
    file = write({"model.py": "def build(): ...\n"}) / "model.py"
    before = used_modules(["model.build"])
    file.write_text("def build(): return 1\n")
    assert used_modules(["model.build"]) == before
    user_code._sources.clear()  # as in another process
    assert used_modules(["model.build"]) != before
