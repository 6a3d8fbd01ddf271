"""How a command loads TensorFlow and Keras in about half the time of plain imports.

- The garbage collector is off while libraries load: hundreds of thousands of new objects, none of them garbage.
  Afterwards `gc.freeze` keeps later collections from walking through them.
- Parts of Keras and TensorFlow that no training needs are loaded on first use (`importlib.util.LazyLoader`). They
  would load pandas, matplotlib, scikit-learn and JAX. Everything still works when it is used.

Only commands do this. A program that imports mnistlab as a library gets ordinary imports.
"""

import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

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


class DeferringFinder(importlib.abc.MetaPathFinder):
    """Finds the modules in DEFERRED; they are executed when one of their attributes is first used."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in DEFERRED and name not in IMPORTED_WITHOUT:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            lazy = importlib.util.LazyLoader if name in DEFERRED else _LoaderWithout
            spec.loader = lazy(spec.loader)  # type: ignore[assignment]
        return spec


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
