"""Plain run records, the input of every comparison, and how they are grouped: by option, by seed, by data."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]
Outcome = Literal["trained", "diverged", "failed", "unfinished"]

SHORT_NAMES = {"learning_rate": "lr", "batch_size": "batch"}
DATA_GROUPS = ("source", "data")
NO_SOURCE = "[]"  # the signature of a run that names no source


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run as plain data.

    params: flat, dotted, resolved settings ("optimizer.learning_rate"), and each config group's choice
    under the group's name ("optimizer": "adam"). history: one value per epoch under Keras's names, plus
    "learning_rate" and "epoch_seconds". metrics: "best_epoch" counts from 1; accuracies are fractions.
    tags: "outcome" is "trained" or "diverged"; hashes start with "hash.". confusion: counts, shape
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

    @property
    def seed(self) -> int:
        """The run's seed; 0 if the run has none."""
        return int(self.params.get("seed", 0))


def outcome(record: RunRecord, objective: str | None = None) -> Outcome:
    """How the run ended; a finished run whose objective is NaN or infinite has diverged.

    A run that was killed or still runs is "unfinished", not "failed", because its option is not the cause.
    A finished run that never logged the objective is "unfinished" as well.
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


def axis_keys(axis: str | Sequence[str]) -> tuple[str, ...]:
    """The axis as a tuple of settings. Raises ValueError for the seed: runs are repeated over it."""
    keys = (axis,) if isinstance(axis, str) else tuple(axis)
    if not keys or "seed" in keys:
        raise ValueError(
            f"axis: name one or more settings to compare; seeds are replicates, not options. Received: axis={axis!r}"
        )
    return keys


def is_data_axis(keys: Sequence[str]) -> bool:
    """Whether every swept setting is a data setting, so that options have different data by design."""
    return all(key.split(".")[0] in DATA_GROUPS for key in keys)


def option_values(record: RunRecord, keys: Sequence[str]) -> tuple[Any, ...]:
    """The run's values on the axis; None for a setting the run lacks ("momentum" of adam)."""
    return tuple(_hashable(record.params.get(key)) for key in keys)


def option_name(keys: Sequence[str], values: Sequence[Any]) -> str:
    """An option's display name: "adam", "lr=0.01", "adam lr=0.01"; ambiguous settings keep their full path."""
    leaves = [key.rsplit(".", 1)[-1] for key in keys]
    parts = []
    for key, leaf, value in zip(keys, leaves, values, strict=True):
        plain = "." not in key and isinstance(value, str) and (len(keys) == 1 or value != "none")
        label = key if leaves.count(leaf) > 1 else SHORT_NAMES.get(leaf, leaf)
        parts.append(_format_setting(value) if plain else f"{label}={_format_setting(value)}")
    return " ".join(parts)


def group_by_option(records: Iterable[RunRecord], keys: Sequence[str]) -> dict[str, list[RunRecord]]:
    """Records by option name, each list ordered by seed and run id; names sorted.

    Raises ValueError if no record has a setting of the axis.
    """
    records = list(records)
    for key in keys:
        if not any(key in record.params for record in records):
            known = sorted({name for record in records for name in record.params})
            raise ValueError(f"axis: no run has a setting {key!r}. Choices: {', '.join(known)}")
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.seed, record.run_id)):
        groups[option_name(keys, option_values(record, keys))].append(record)
    return dict(sorted(groups.items()))


def score_matrix(groups: Mapping[str, Sequence[RunRecord]], objective: str) -> tuple[list[int], NDArray[np.float64]]:
    """All seeds, and the objective of trained runs, shape (options, seeds); NaN where no run trained.

    Trained runs of the same option and seed are averaged: they count as one replicate.
    """
    seeds = sorted({record.seed for group in groups.values() for record in group})
    matrix = np.full((len(groups), len(seeds)), np.nan)
    for row, group in enumerate(groups.values()):
        cells: dict[int, list[float]] = defaultdict(list)
        for record in group:
            if outcome(record, objective) == "trained":
                cells[record.seed].append(float(record.metrics[objective]))
        for seed, values in cells.items():
            matrix[row, seeds.index(seed)] = math.fsum(values) / len(values)
    return seeds, matrix


def split_by_data(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Records by the data they were trained on: {display name: records}, the largest group first.

    Runs with the same `hash.data` have the same data. If the seed determines the split, every seed has another
    hash; the runs of a source form one group if each seed has exactly one hash. A run without a hash (it
    failed early) joins the runs of its source, or the largest group if it names no source either. The display
    name is the source; the start of the hash follows if several groups have that source.
    """
    by_source: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_source[_source_signature(record)].append(record)
    group_of_hash: dict[str, str] = {}
    for members in by_source.values():
        _assign_groups(members, group_of_hash)
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for members in by_source.values():
        fallback = next((group_of_hash[digest] for record in members if (digest := record.tags.get("hash.data"))), "")
        for record in members:
            groups[group_of_hash.get(record.tags.get("hash.data", ""), fallback)].append(record)
    if len(groups) > 1 and "" in groups and by_source.get(NO_SOURCE) == groups[""]:
        without_source = groups.pop("")
        max(groups.values(), key=len).extend(without_source)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    sources = [_source_names(members) for _, members in ordered]
    return {
        source if source and sources.count(source) == 1 else f"{source or 'data'} {digest[:8] or 'unknown'}": members
        for source, (digest, members) in zip(sources, ordered, strict=True)
    }


def _assign_groups(members: Sequence[RunRecord], group_of_hash: dict[str, str]) -> None:
    """Add a source's hashes to the table: one group per hash, or a single one if the seed determines the split."""
    hashes_of_seed: dict[int, set[str]] = defaultdict(set)
    for record in members:
        if digest := record.tags.get("hash.data"):
            hashes_of_seed[record.seed].add(digest)
    hashes = sorted(set().union(*hashes_of_seed.values()))
    determined_by_seed = all(len(found) == 1 for found in hashes_of_seed.values())
    shared = next((group_of_hash[digest] for digest in hashes if digest in group_of_hash), None)
    for digest in hashes:
        group_of_hash.setdefault(digest, shared or hashes[0] if determined_by_seed else digest)


def _source_signature(record: RunRecord) -> str:
    keys = [key for key in record.params if key == "source" or key.startswith("source.")]
    return repr([(key, record.params[key]) for key in sorted(keys)])


def _source_names(members: Sequence[RunRecord]) -> str:
    return ", ".join(sorted({str(record.params["source"]) for record in members if "source" in record.params}))


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _format_setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
