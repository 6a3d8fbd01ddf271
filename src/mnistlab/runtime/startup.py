"""How a command loads TensorFlow and Keras in half the time that plain imports take.

- Nothing is collected while libraries load: hundreds of thousands of new objects, none of them garbage. Afterwards they
  are set apart (`gc.freeze`), so that no later collection walks through them.
- Keras looks for pandas, matplotlib, scikit-learn and JAX, and would load all that are installed, for features that no
  training asks for. It gets stand-ins, which load the library when they are really used.

What MLflow and the figures need is imported by another process meanwhile (`worker.py`).

For commands only: who imports mnistlab as a library gets everything as usual.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

# Their classes are bases of Keras's or wanted at import: no stand-in can do, so Keras does without. In a command
# `keras.wrappers` and TensorFlow Lite's converter for JAX say that the library is missing.
REFUSED = ("sklearn", "jax")


class StandIn(ModuleType):
    """A module that is imported when one of its attributes is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


class _TypeIfLoaded(type):
    """A class of a module that may not be loaded: nothing can be an instance of it until somebody loads the module."""

    def __instancecheck__(cls, instance: object) -> bool:
        module = sys.modules.get(cls.__module__)
        return module is not None and isinstance(instance, getattr(module, cls.__name__))


def _stand_ins() -> dict[str, ModuleType]:
    pandas, matplotlib = StandIn("pandas"), StandIn("matplotlib")
    for name in ("Series", "DataFrame"):
        setattr(pandas, name, _TypeIfLoaded(name, (), {"__module__": "pandas"}))
    for name in ("pyplot", "patches"):
        setattr(matplotlib, name, StandIn(f"matplotlib.{name}"))
    return {"pandas": pandas, "matplotlib": matplotlib}


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Import heavy libraries inside: quickly, and without what TensorFlow's C++ says unless an import fails."""
    gc.disable()
    try:
        with _silent_stderr(), _lean_keras():
            yield
    finally:
        if not gc.get_freeze_count():  # once: later on there is garbage among the objects
            gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _lean_keras() -> Iterator[None]:
    """Give Keras and TensorFlow the stand-ins, by who imports: other threads' imports are as ever."""
    plain, stand_ins = builtins.__import__, _stand_ins()

    def lean(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level == 0 and (top in stand_ins or top in REFUSED) and globals is not None:
            importer = str(globals.get("__name__", "")).partition(".")[0]
            if importer in ("keras", "tensorflow") and top not in sys.modules:
                if top in REFUSED:
                    raise ImportError(
                        f"{name} is not loaded for Keras in a command (mnistlab.runtime.startup)", name=name
                    )
                return stand_ins[top]
        return plain(name, globals, locals, fromlist or (), level)

    builtins.__import__ = lean
    try:
        yield
    finally:
        builtins.__import__ = plain


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Swallow what TensorFlow's C++ prints while it is imported; shown after all if the import fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
