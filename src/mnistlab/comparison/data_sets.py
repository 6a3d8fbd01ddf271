"""Which runs have the same data: the axes that change the data, the data sets of a sweep, how two of them differ."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mnistlab.comparison.records import RunRecord, format_setting, is_varied, natural_order, option_name, option_values
from mnistlab.comparison.results import DataIdentity

DATA_GROUPS = ("source", "data")
# Settings that never reach the images, however the runs are distributed.
WITHOUT_DATA = (
    *("optimizer", "model", "callbacks", "fit", "init", "save", "deterministic"),
    *("tracking", "paths", "sweep", "launch", "explain"),
)
SPLITS = ("data", "train", "validation", "test")

DataDifference = Literal["none", "training images", "test images", "validation images", "source", "images", "unknown"]


@dataclass(frozen=True, eq=False)
class DataSet:
    """The records with one data set. name: unique among the data sets of a sweep."""

    name: str
    records: list[RunRecord]


@dataclass(frozen=True, eq=False)
class GroupedByData:
    """The data sets of a sweep. axis: the settings that distinguish the options; data_axis: those that select data."""

    data_sets: list[DataSet]
    axis: list[str]
    data_axis: list[str]


def data_axes(records: Iterable[RunRecord], keys: Sequence[str]) -> list[str]:
    """The settings of the axis that change the data: varied alone, they change `hash.data`.

    Where the runs do not show it (no hashes, or no two runs that differ in this setting alone), fewer settings are
    held fixed; without any evidence, settings under "source" and "data" count as changing the data.
    """
    records = list(records)
    return [key for key in keys if _changes_data(records, key, [other for other in keys if other != key])]


def is_data_comparison(records: Iterable[RunRecord], keys: Sequence[str]) -> bool:
    """Whether the options of this axis are data sets: a setting changes the data, and no other one varies."""
    records = list(records)
    found = data_axes(records, keys)
    return bool(found) and not any(key not in found and is_varied(records, key) for key in keys)


def group_by_data(records: Iterable[RunRecord], keys: Sequence[str]) -> GroupedByData:
    """The records of each data set, those with the most records first.

    If the axis changes nothing but the data, the data sets are the options: one group of records per source.
    """
    records = list(records)
    if is_data_comparison(records, keys):
        axis = data_axes(records, keys)
        return GroupedByData(_by_source(records, axis), axis, [])
    selecting = data_axes(records, keys)
    by_values: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_values[option_name(selecting, option_values(record, selecting))].append(record)
    found = []
    for name, members in by_values.items():
        parts = split_by_data(members)
        names = list(parts) if not name else [name] if len(parts) == 1 else [f"{name} {part}" for part in parts]
        found += [DataSet(one, part) for one, part in zip(names, parts.values(), strict=True)]
    if selecting:
        found.sort(key=lambda one: natural_order(option_values(one.records[0], selecting)))
        found.sort(key=lambda one: -len(one.records))
    return GroupedByData(found, [key for key in keys if key not in selecting], selecting)


def split_by_data(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Records by the data they were trained on: {display name: records}, the largest group first.

    Runs with the same `hash.data` have the same data. If the seed determines the split, every seed has another
    hash; runs with the same source and data settings form one group if each seed has exactly one hash. A run
    without a hash (it failed early) joins the runs with its settings, else those of its source, or the largest
    group if it names no source either. The display name is the source; the start of the hash follows if several
    groups have that source.
    """
    records = list(records)
    of_seed = {key for record in records for key in record.params} - {
        key for record in records for key, value in record.params.items() if value != record.params.get("seed")
    }
    by_settings: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_settings[_signature(record, DATA_GROUPS, of_seed)].append(record)
    group_of_hash: dict[str, str] = {}
    for members in by_settings.values():
        _assign_groups(members, group_of_hash)
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        if digest := record.tags.get("hash.data"):
            groups[group_of_hash[digest]].append(record)
    _add_without_hash(groups, [record for record in records if not record.tags.get("hash.data")], by_settings)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return dict(zip(_display_names(ordered), (members for _, members in ordered), strict=True))


def data_identity(records: Sequence[RunRecord]) -> DataIdentity:
    """What identifies the data of these records; of several hashes for a seed, the first in order."""
    hashes = {}
    for split in SPLITS:
        found = sorted((record.seed, digest) for record in records if (digest := record.tags.get(f"hash.{split}")))
        if found:
            hashes[split] = dict(reversed(found))
    return DataIdentity(", ".join(sorted({_signature(record, ("source",)) for record in records})), hashes)


def data_difference(one: DataIdentity, other: DataIdentity) -> DataDifference:
    """How two data sets differ; "images" if the runs did not record which ones, "unknown" without any hash."""
    same = {split: _have_same_hashes(one, other, split) for split in SPLITS}
    if same["data"]:
        return "none"
    if same["validation"]:
        return "test images" if same["train"] else "training images"
    if one.source != other.source:
        return "source"
    if same["validation"] is None:
        return "unknown" if same["data"] is None else "images"
    return "validation images"


def _have_same_hashes(one: DataIdentity, other: DataIdentity, split: str) -> bool | None:
    """Whether the hashes agree for the seeds that both have, or without such seeds for any; None if unknown."""
    first, second = one.hashes.get(split, {}), other.hashes.get(split, {})
    if not first or not second:
        return None
    shared = sorted(set(first) & set(second))
    if shared:
        return all(first[seed] == second[seed] for seed in shared)
    return not set(first.values()).isdisjoint(second.values())


def _changes_data(records: Sequence[RunRecord], key: str, others: Sequence[str]) -> bool:
    group = key.split(".")[0]
    if group in WITHOUT_DATA or not is_varied(records, key):
        return False

    def settings(record: RunRecord) -> tuple[Any, ...]:
        return option_values(record, others)

    def off_axis(record: RunRecord) -> str:
        outside = {name for name in record.params if name.split(".")[0] in DATA_GROUPS}
        return _signature(record, DATA_GROUPS, {name for name in outside if _is_under(name, [key, *others])})

    conditions: list[Callable[[RunRecord], Hashable]] = [
        lambda record: (record.seed, settings(record), off_axis(record)),
        lambda record: (record.seed, settings(record)),
        lambda record: record.seed,
    ]
    if group not in DATA_GROUPS:  # a preset, such as an experiment, changes settings off the axis
        del conditions[0]
    for condition in conditions:
        answer = _differs_within(records, key, condition)
        if answer is not None:
            return answer
    return group in DATA_GROUPS


def _differs_within(records: Sequence[RunRecord], key: str, condition: Callable[[RunRecord], Hashable]) -> bool | None:
    """Whether runs that agree in the condition have other hashes for another value; None if none can be compared."""
    groups: dict[Hashable, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in records:
        if digest := record.tags.get("hash.data"):
            groups[condition(record)][option_values(record, [key])].add(digest)
    comparable = [list(hashes.values()) for hashes in groups.values() if len(hashes) > 1]
    if not comparable:
        return None
    return any(one.isdisjoint(other) for hashes in comparable for one, other in itertools.combinations(hashes, 2))


def _is_under(name: str, keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for key in keys)


def _by_source(records: Sequence[RunRecord], axis: Sequence[str]) -> list[DataSet]:
    """One group; one per source if runs of several sources share a value of the axis and a seed."""
    hashes: dict[Hashable, set[str]] = defaultdict(set)
    for record in records:
        hashes[record.seed, option_values(record, axis)].add(record.tags.get("hash.data", ""))
    by_source: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_source[_signature(record, ("source",))].append(record)
    if max(len(found - {""}) for found in hashes.values()) < 2 or len(by_source) < 2:
        return [DataSet(_source_names(records), list(records))]
    ordered = sorted(by_source.items(), key=lambda item: (-len(item[1]), item[0]))
    names = [_source_names(members) for _, members in ordered]
    unique = [name if names.count(name) == 1 else source for name, (source, _) in zip(names, ordered, strict=True)]
    return [DataSet(name, members) for name, (_, members) in zip(unique, ordered, strict=True)]


def _assign_groups(members: Sequence[RunRecord], group_of_hash: dict[str, str]) -> None:
    """Add these settings' hashes to the table: one group per hash, or a single one if the seed determines the split."""
    hashes_of_seed: dict[int, set[str]] = defaultdict(set)
    for record in members:
        if digest := record.tags.get("hash.data"):
            hashes_of_seed[record.seed].add(digest)
    hashes = sorted(set().union(*hashes_of_seed.values()))
    determined_by_seed = all(len(found) == 1 for found in hashes_of_seed.values())
    shared = next((group_of_hash[digest] for digest in hashes if digest in group_of_hash), None)
    for digest in hashes:
        group_of_hash.setdefault(digest, shared or hashes[0] if determined_by_seed else digest)


def _add_without_hash(
    groups: dict[str, list[RunRecord]], records: Sequence[RunRecord], by_settings: Mapping[str, Sequence[RunRecord]]
) -> None:
    """Add each record without a hash to the group with its settings, with its source, or to the largest one."""
    alike = {id(record): members for members in by_settings.values() for record in members}
    largest = sorted(groups, key=lambda digest: (-len(groups[digest]), digest))
    sources = {digest: {_signature(record, ("source",)) for record in groups[digest]} for digest in largest}
    members_of = {digest: set(map(id, groups[digest])) for digest in largest}
    for record in records:
        source = _signature(record, ("source",))
        found = [digest for digest in largest if any(id(one) in members_of[digest] for one in alike[id(record)])]
        found += [digest for digest in largest if source in sources[digest]]
        groups[found[0] if found else "" if source or not largest else largest[0]].append(record)


def _display_names(groups: Sequence[tuple[str, Sequence[RunRecord]]]) -> list[str]:
    """The source of each group; with the start of the hash, or all of it, as far as the names need it to be unique."""
    sources = [_source_names(members) for _, members in groups]
    names = [
        source if source and sources.count(source) == 1 else f"{source or 'data'} {digest[:8] or 'unknown'}"
        for source, (digest, _) in zip(sources, groups, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{source or 'data'} {digest}"
        for name, source, (digest, _) in zip(names, sources, groups, strict=True)
    ]


def _signature(record: RunRecord, groups: Sequence[str], ignore: Iterable[str] = ()) -> str:
    """The record's settings under these groups, as text: "source=mnist source.path=mnist.npz"."""
    keys = sorted(key for key in record.params if key.split(".")[0] in groups and key not in ignore)
    return " ".join(f"{key}={format_setting(record.params[key])}" for key in keys)


def _source_names(members: Sequence[RunRecord]) -> str:
    return ", ".join(sorted({str(record.params["source"]) for record in members if "source" in record.params}))
