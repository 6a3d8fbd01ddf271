"""Errors of reading files inside a pipeline: TensorFlow replaces them by its own, which do not name the file."""

import contextlib
from collections.abc import Iterator

_failures: list[BaseException] = []


@contextlib.contextmanager
def remember_failure() -> Iterator[None]:
    """Keep an error that is raised here for `raise_original`."""
    try:
        yield
    except Exception as error:
        _failures.append(error)
        raise


@contextlib.contextmanager
def raise_original() -> Iterator[None]:
    """Raise the remembered error, which names the file, instead of TensorFlow's."""
    _failures.clear()
    try:
        yield
    except Exception as error:
        if _failures and error is not _failures[0]:
            raise _failures[0] from error
        raise
