"""Plain run records, the input of every comparison, and how they are grouped: by option and by seed."""

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


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One job of a sweep, or one run, as plain data. Several records may share a run, and then its run_id.

    params: flat, dotted, resolved settings ("optimizer.learning_rate"), and each config group's choice
    under the group's name ("optimizer": "adam"). history: one value per epoch under Keras's names, plus
    "learning_rate" and "epoch_seconds". metrics: "best_epoch" counts from 1; accuracies are fractions.
    tags: "outcome" is "trained" or "diverged"; hashes start with "hash.": "hash.data" of all images, "hash.train",
    "hash.validation" and "hash.test" of the splits, which older runs lack. confusion: counts, shape
    (classes, classes), rows are true classes. predictions: "predicted" int (n,), "confidence" float (n,),
    for the test images in their stored order; "validation_correct", the bits of `numpy.packbits`, for the validation
    images.
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


def check_axis(records: Sequence[RunRecord], keys: Sequence[str]) -> None:
    """Raises ValueError if no record has a setting of the axis."""
    for key in keys:
        if not any(key in record.params for record in records):
            known = sorted({name for record in records for name in record.params})
            raise ValueError(f"axis: no run has a setting {key!r}. Choices: {', '.join(known)}")


def option_values(record: RunRecord, keys: Sequence[str]) -> tuple[Any, ...]:
    """The run's values on the axis; None for a setting the run lacks ("momentum" of adam)."""
    return tuple(_hashable(record.params.get(key)) for key in keys)


def is_varied(records: Iterable[RunRecord], key: str) -> bool:
    """Whether the records have several values of a setting."""
    return len({option_values(record, [key]) for record in records}) > 1


def natural_order(values: Sequence[Any]) -> tuple[tuple[bool, float, str], ...]:
    """A key that sorts numbers by size, before texts."""
    numeric = [isinstance(value, int | float) for value in values]
    return tuple(
        (not is_number, value if is_number else 0.0, str(value))
        for value, is_number in zip(values, numeric, strict=True)
    )


def option_name(keys: Sequence[str], values: Sequence[Any]) -> str:
    """An option's display name: "adam", "lr=0.01", "adam lr=0.01"; ambiguous settings keep their full path."""
    leaves = [key.rsplit(".", 1)[-1] for key in keys]
    parts = []
    for key, leaf, value in zip(keys, leaves, values, strict=True):
        plain = "." not in key and isinstance(value, str) and (len(keys) == 1 or value != "none")
        label = key if leaves.count(leaf) > 1 else SHORT_NAMES.get(leaf, leaf)
        parts.append(format_setting(value) if plain else f"{label}={format_setting(value)}")
    return " ".join(parts)


def group_by_option(records: Iterable[RunRecord], keys: Sequence[str]) -> dict[str, list[RunRecord]]:
    """Records by option name, each list ordered by seed and run id; names sorted."""
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.seed, record.run_id)):
        groups[option_name(keys, option_values(record, keys))].append(record)
    return dict(sorted(groups.items()))


def score_matrix(
    groups: Mapping[str, Sequence[RunRecord]], objective: str, seeds: Sequence[int] = ()
) -> tuple[list[int], NDArray[np.float64]]:
    """All seeds, and the objective of trained runs, shape (options, seeds); NaN where no run trained.

    Trained runs of the same option and seed are averaged: they count as one replicate. seeds: of the columns, if they
    are known.
    """
    seeds = list(seeds) or sorted({record.seed for group in groups.values() for record in group})
    matrix = np.full((len(groups), len(seeds)), np.nan)
    for row, group in enumerate(groups.values()):
        cells: dict[int, list[float]] = defaultdict(list)
        for record in group:
            if outcome(record, objective) == "trained":
                cells[record.seed].append(float(record.metrics[objective]))
        for seed, values in cells.items():
            matrix[row, seeds.index(seed)] = math.fsum(values) / len(values)
    return seeds, matrix


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def format_setting(value: Any) -> str:
    """A value as one writes it in Hydra: 0.01, null, true; floats with as many digits as they need."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return text if float(text := f"{value:g}") == value else repr(value)
    return str(value)
