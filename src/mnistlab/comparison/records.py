"""Plain run records and how they group: by option, by seed, by data. Everything else here reads these."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]
Outcome = Literal["trained", "diverged", "failed", "unfinished"]

SHORT_NAMES = {"learning_rate": "lr", "batch_size": "batch"}
DATA_GROUPS = ("source", "data")
NO_SOURCE = "[]"


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run as plain data.

    params: flat, dotted, resolved settings ("optimizer.learning_rate"), and each config group's choice
    under the group's name ("optimizer": "adam"). history: one value per epoch under Keras's names, plus
    "learning_rate" and "epoch_seconds". metrics: "best_epoch" counts from 1; accuracies are fractions.
    tags: "outcome" is "trained" or "diverged"; hashes under "hash.". confusion: counts, shape
    (classes, classes), rows are true classes. predictions: "predicted" int (n,), "confidence" float (n,),
    for the test images in their stored order.
    """

    run_id: str
    name: str = ""
    status: Status = "FINISHED"
    params: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    confusion: Sequence[Sequence[int]] | None = None
    class_names: Sequence[str] = ()
    predictions: Mapping[str, NDArray[Any]] | None = None


def outcome(record: RunRecord, objective: str | None = None) -> Outcome:
    """How the run ended; a finished run whose objective is NaN or infinite has diverged.

    A run killed or still running is "unfinished", not failed: that was not its option's doing. So is a
    finished run that never logged the objective.
    """
    if record.status == "FAILED":
        return "failed"
    if record.status != "FINISHED":
        return "unfinished"
    if record.tags.get("outcome") == "diverged":
        return "diverged"
    if objective is None:
        return "trained"
    if objective not in record.metrics:
        return "unfinished"
    return "trained" if math.isfinite(record.metrics[objective]) else "diverged"


def seed_of(record: RunRecord) -> int:
    """The run's seed; runs without one count as seed 0."""
    return int(record.params.get("seed", 0))


def axis_keys(axis: str | Sequence[str]) -> tuple[str, ...]:
    """The axis as a tuple of settings. The seed cannot be one: it is what options are repeated over."""
    keys = (axis,) if isinstance(axis, str) else tuple(axis)
    if not keys or "seed" in keys:
        raise ValueError(
            f"axis: name one or more settings to compare; seeds are repetitions, not options. Received: axis={axis!r}"
        )
    return keys


def option_values(record: RunRecord, keys: Sequence[str]) -> tuple[Any, ...]:
    """The run's values on the axis; a setting the run does not have is None ("momentum" of adam)."""
    return tuple(_hashable(record.params.get(key)) for key in keys)


def option_name(keys: Sequence[str], values: Sequence[Any]) -> str:
    """An option's name for people: "adam", "lr=0.01", "adam lr=0.01"; same-named leaves keep their path."""
    leaves = [key.rsplit(".", 1)[-1] for key in keys]
    parts = []
    for key, leaf, value in zip(keys, leaves, values, strict=True):
        plain = "." not in key and isinstance(value, str) and (len(keys) == 1 or value != "none")
        label = key if leaves.count(leaf) > 1 else SHORT_NAMES.get(leaf, leaf)
        parts.append(_text(value) if plain else f"{label}={_text(value)}")
    return " ".join(parts)


def group_by_option(records: Iterable[RunRecord], keys: Sequence[str]) -> dict[str, list[RunRecord]]:
    """Records by option name, each list ordered by seed and run id; names sorted.

    Raises ValueError if a setting of the axis occurs in no record.
    """
    records = list(records)
    for key in keys:
        if not any(key in record.params for record in records):
            known = sorted({name for record in records for name in record.params})
            raise ValueError(f"axis: no run has a setting {key!r}. Choices: {', '.join(known)}")
    groups: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: (seed_of(record), record.run_id)):
        groups.setdefault(option_name(keys, option_values(record, keys)), []).append(record)
    return dict(sorted(groups.items()))


def score_matrix(groups: Mapping[str, Sequence[RunRecord]], objective: str) -> tuple[list[int], NDArray[np.float64]]:
    """All seeds, and the objective of trained runs, shape (options, seeds); NaN where there is none.

    Several trained runs of one option and seed are averaged: they are one repetition, not several.
    """
    seeds = sorted({seed_of(record) for group in groups.values() for record in group})
    matrix = np.full((len(groups), len(seeds)), np.nan)
    for row, group in enumerate(groups.values()):
        cells: dict[int, list[float]] = {}
        for record in group:
            if outcome(record, objective) == "trained":
                cells.setdefault(seed_of(record), []).append(float(record.metrics[objective]))
        for seed, values in cells.items():
            matrix[row, seeds.index(seed)] = math.fsum(values) / len(values)
    return seeds, matrix


def split_by_data(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Records by the data they were trained on: {name for people: records}, the largest group first.

    The same data means the same `hash.data`. A split drawn from the seed gives every seed its own hash;
    those are one group if, within one source, each seed has exactly one. A run without a hash (it
    failed early) goes with the runs of its source; one that names no source either, with the most runs.
    """
    records = list(records)
    by_source: dict[str, list[RunRecord]] = {}
    for record in records:
        by_source.setdefault(_source_signature(record), []).append(record)
    group_of_hash: dict[str, str] = {}
    for members in by_source.values():
        _assign_groups(members, group_of_hash)
    groups: dict[str, list[RunRecord]] = {}
    for members in by_source.values():
        known = [digest for record in members if (digest := record.tags.get("hash.data"))]
        fallback = group_of_hash[known[0]] if known else ""
        for record in members:
            digest = record.tags.get("hash.data", "")
            groups.setdefault(group_of_hash.get(digest, fallback), []).append(record)
    if len(groups) > 1 and "" in groups and by_source.get(NO_SOURCE) == groups[""]:
        stray = groups.pop("")
        max(groups.values(), key=len).extend(stray)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return {_data_name(digest, members, ordered): members for digest, members in ordered}


def _assign_groups(members: Sequence[RunRecord], group_of_hash: dict[str, str]) -> None:
    """Enter one source's hashes into the table: one group per hash, or one for all if seeds drew them."""
    hashes_of_seed: dict[int, set[str]] = {}
    for record in members:
        if digest := record.tags.get("hash.data"):
            hashes_of_seed.setdefault(seed_of(record), set()).add(digest)
    hashes = sorted(set().union(*hashes_of_seed.values()))
    drawn_by_seed = all(len(found) == 1 for found in hashes_of_seed.values())
    shared = next((group_of_hash[digest] for digest in hashes if digest in group_of_hash), None)
    for digest in hashes:
        own = shared or hashes[0] if drawn_by_seed else digest
        group_of_hash.setdefault(digest, own)


def _source_signature(record: RunRecord) -> str:
    keys = [key for key in record.params if key == "source" or key.startswith("source.")]
    return repr([(key, record.params[key]) for key in sorted(keys)])


def _data_name(digest: str, members: Sequence[RunRecord], groups: Sequence[tuple[str, Any]]) -> str:
    """The source's name if it tells the groups apart, with the digest's beginning if it does not."""
    source = _source_names(members)
    alike = sum(_source_names(other) == source for _, other in groups)
    if alike > 1 or not source:
        return f"{source or 'data'} {digest[:8] or 'unknown'}"
    return source


def _source_names(members: Sequence[RunRecord]) -> str:
    return ", ".join(sorted({str(record.params["source"]) for record in members if "source" in record.params}))


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
