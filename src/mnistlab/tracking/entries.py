"""Parameters, tags and metrics as MLflow takes them: names made valid, long values cut, a refused entry left out."""

import logging
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mnistlab.tracking.store_errors import is_refusal
from mnistlab.tracking.stored_names import stored_tags

log = logging.getLogger("mnistlab")

MAX_NAME_LENGTH = 250
MAX_PARAMETER_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_ENTRIES_A_CALL = {"params": 100, "tags": 100, "metrics": 1000}


def valid_name(name: str) -> str:
    """A name that MLflow accepts: others' characters ('cats & dogs', 'layers[0]') become underscores."""
    name = re.sub(r"[^/\w.\- :]", "_", name)[:MAX_NAME_LENGTH]
    normal = posixpath.normpath(name).lstrip("/") if name else "_"
    return "_" if normal in ("", ".") else normal.replace("..", "__") if normal.startswith("..") else normal


def valid_names(names: Iterable[str]) -> dict[str, str]:
    """Name -> valid name; of names that would become the same, the later ones are numbered: 'a_b', 'a_b_2'."""
    found: dict[str, str] = {}
    names = list(names)
    taken = {name for name in names if valid_name(name) == name}
    for name in names:
        valid, number = valid_name(name), 2
        while valid != name and valid in taken:
            ending = f"_{number}"
            valid, number = valid_name(name)[: MAX_NAME_LENGTH - len(ending)] + ending, number + 1
        taken.add(valid)
        found[name] = valid
    return found


def valid_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags under their stored names, which are valid; their values cut to MLflow's length."""
    stored = stored_tags(tags)
    names = valid_names(stored)
    return {names[name]: value[:MAX_TAG_LENGTH] for name, value in stored.items()}


def valid_parameters(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters with valid names; their values cut to MLflow's length."""
    names = valid_names(parameters)
    return {names[name]: str(value)[:MAX_PARAMETER_LENGTH] for name, value in parameters.items()}


def log_entries(log_batch: Callable[..., None], kind: str, entries: Sequence[Any]) -> None:
    """Log MLflow's entities in calls of the size that it takes; those that it refuses one by one, with a warning each.

    Args:
        log_batch: takes them by the keyword `kind`: params, tags or metrics.
    """
    size = MAX_ENTRIES_A_CALL[kind]
    for start in range(0, len(entries), size):
        batch = list(entries[start : start + size])
        try:
            log_batch(**{kind: batch})
        except Exception as error:
            if not is_refusal(error):
                raise
            _log_singly(log_batch, kind, batch)


def _log_singly(log_batch: Callable[..., None], kind: str, entries: Sequence[Any]) -> None:
    for entry in entries:
        try:
            log_batch(**{kind: [entry]})
        except Exception as error:
            if not is_refusal(error):
                raise
            reason = " ".join(str(error).split())[:200]
            log.warning(
                "WARNING: the tracking store refuses the %s %r; it is in the run's folder only (%s).",
                {"params": "parameter", "tags": "tag", "metrics": "metric"}[kind],
                entry.key,
                reason,
            )
