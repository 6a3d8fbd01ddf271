"""How a command loads TensorFlow and Keras in about half the time of plain imports.

- The garbage collector is off while libraries load: hundreds of thousands of new objects, none of them garbage.
  Afterwards `gc.freeze` keeps later collections from walking through them.
- Parts of Keras and TensorFlow that no training needs are loaded on first use (`importlib.util.LazyLoader`). They
  would load pandas, matplotlib, scikit-learn and JAX. Everything still works when it is used.

The background process (`tracking/background.py`) imports MLflow and matplotlib at the same time.

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

DEFERRED = {
    "pandas",
    *(
        f"{parent}.{name}"
        for parent in ("keras", "keras._tf_keras.keras")
        for name in ("wrappers", "visualization")  # scikit-learn, matplotlib
    ),
    "keras.src.visualization",
    "keras.src.trainers.data_adapters.array_slicing",  # names pandas's classes when it is imported
    *(f"tensorflow._api.v2.{prefix}lite" for prefix in ("", "compat.v1.", "compat.v2.")),  # JAX
}


class DeferringFinder(importlib.abc.MetaPathFinder):
    """Finds the modules in DEFERRED; they are executed when one of their attributes is first used."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name in DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Import heavy libraries in this context: fast, and without TensorFlow's C++ messages unless an import fails."""
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
