"""Modules that are functions, too.

`from mnistlab import train, sweep` gives a notebook two functions; the same names are the training command's module and
a package.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module that calls the function of its name in `mnistlab.notebook`."""

    def __call__(self, *words: str, **settings: Any) -> Any:
        notebook = importlib.import_module("mnistlab.notebook")  # only here: notebooks stand above all that they use
        return getattr(notebook, self.__name__.rpartition(".")[2])(*words, **settings)


def make_callable(name: str) -> None:
    """Make the imported module of this name callable (Python: "Customizing module attribute access")."""
    sys.modules[name].__class__ = CallableModule
