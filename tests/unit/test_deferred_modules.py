"""Modules that a command leaves unexecuted until they are used."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mnistlab.runtime import startup


@pytest.fixture
def deferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], ModuleType]:
    def imported(name: str, code: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(f"import sys\nsys.executed = {name!r}\n{code}")
        monkeypatch.setattr(sys, "executed", None, raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(startup, "DEFERRED", {name})
        monkeypatch.setattr(sys, "meta_path", [startup.DeferringFinder(), *sys.meta_path])
        module = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return imported


def test_looking_at_the_files_of_all_modules_executes_none(deferred) -> None:
    module = deferred("looked_at", "VALUE = 1\n")
    assert inspect.stack()[0].function == "test_looking_at_the_files_of_all_modules_executes_none"
    assert inspect.getmodule(inspect.currentframe()) is sys.modules[__name__]
    assert sys.executed is None
    assert module.VALUE == 1
    assert sys.executed == "looked_at"
    assert type(module) is ModuleType
    assert module.__spec__.loader is module.__loader__


def test_a_module_that_replaces_itself_is_used_as_its_replacement(deferred) -> None:
    module = deferred("replacing", "class New: VALUE = 2\nsys.modules[__name__] = New\n")
    assert module.VALUE == 2


def test_a_missing_attribute_is_an_attribute_error(deferred) -> None:
    module = deferred("without", "VALUE = 1\n")
    with pytest.raises(AttributeError, match="without"):
        module.MISSING  # noqa: B018
    assert module.VALUE == 1
