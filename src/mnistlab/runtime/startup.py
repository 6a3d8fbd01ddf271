"""How a command loads TensorFlow and Keras in about half the time of plain imports.

- The garbage collector is off while libraries load: hundreds of thousands of new objects, none of them garbage.
  Afterwards `gc.freeze` keeps later collections from walking through them.
- Parts of Keras and TensorFlow that no training needs are loaded on first use. They
  would load pandas, matplotlib, scikit-learn and JAX. Everything still works when it is used.

Only commands do this. A program that imports mnistlab as a library gets ordinary imports.
"""

import contextlib
import gc
import importlib.abc
import importlib.machinery
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from mnistlab.runtime import devices

DEFERRED = {
    "pandas",
    *(
        f"{parent}.{name}"
        for parent in ("keras", "keras._tf_keras.keras")
        for name in ("wrappers", "visualization")  # scikit-learn, matplotlib
    ),
    "keras.src.visualization",
    *(f"tensorflow._api.v2.{prefix}lite" for prefix in ("", "compat.v1.", "compat.v2.")),  # JAX
}


# Modules of Keras that use a library while they are imported; they get a stand-in for it.
IMPORTED_WITHOUT = {
    "keras.src.trainers.data_adapters.array_slicing": "pandas",  # compares with its classes in every `fit`
    "keras.src.callbacks.orbax_checkpoint": "jax",  # adds a function that old versions lack
}
OF_THE_FILE = {"__name__", "__file__", "__spec__", "__loader__", "__package__", "__cached__", "__class__"}


class DeferringFinder(importlib.abc.MetaPathFinder):
    """Finds the modules in DEFERRED; they are executed when one of their attributes is first used."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in DEFERRED and name not in IMPORTED_WITHOUT:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = (_LazyLoader if name in DEFERRED else _LoaderWithout)(spec.loader)
        return spec


class _LazyLoader(importlib.abc.Loader):
    """Leaves a module unexecuted until it is used.

    `importlib.util.LazyLoader` executes it at the sight of any attribute, so `inspect.stack()`, which looks for the
    file of every module, would load them all; and it fails for modules that replace themselves in `sys.modules`.
    """

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__class__ = _UnexecutedModule


class _UnexecutedModule(ModuleType):
    """A module that is executed when something else is asked of it than what its file tells."""

    def __getattribute__(self, name: str) -> Any:
        if name in OF_THE_FILE:
            return super().__getattribute__(name)
        loader, of_module = super().__getattribute__("__loader__"), super().__getattribute__("__name__")
        self.__class__ = ModuleType  # type: ignore[assignment]
        loader.exec_module(self)
        return getattr(sys.modules.get(of_module, self), name)


class _LoaderWithout(importlib.abc.Loader):
    """Executes a module of IMPORTED_WITHOUT: it gets stand-ins for pandas's classes, and no JAX."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def exec_module(self, module: ModuleType) -> None:
        library = IMPORTED_WITHOUT[module.__name__]
        stand_in = ModuleType("pandas") if library == "pandas" else None
        for name in ("Series", "DataFrame") if stand_in else ():
            setattr(stand_in, name, _PandasType(name, (), {}))
        loaded = {library: sys.modules[library]} if library in sys.modules else {}
        sys.modules[library] = stand_in  # type: ignore[assignment]  # None: importing it raises an ImportError
        try:
            self.loader.exec_module(module)
        finally:
            del sys.modules[library]
            sys.modules.update(loaded)


class _PandasType(type):
    """Stands for a class of pandas in `isinstance`: while pandas is not loaded, nothing is an instance of it."""

    def __instancecheck__(cls, instance: object) -> bool:
        pandas = sys.modules.get("pandas")
        return type(pandas) is ModuleType and isinstance(instance, getattr(pandas, cls.__name__))


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Import heavy libraries in this context: fast, and without TensorFlow's C++ messages unless an import fails."""
    devices.let_memory_grow()
    finder = DeferringFinder()
    sys.meta_path.insert(0, finder)
    gc.disable()
    try:
        with _silent_stderr():
            yield
    finally:
        sys.meta_path.remove(finder)
        if not gc.get_freeze_count():  # only once: later there is garbage among the objects
            gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what TensorFlow's C++ prints during the import; print it if the import fails."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        except Exception:
            captured.seek(0)
            os.write(terminal, captured.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
