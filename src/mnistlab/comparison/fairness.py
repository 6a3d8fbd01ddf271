"""Whether the comparison is fair: what differs between runs other than the swept axes and the seed."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from mnistlab.comparison.records import (
    DATA_GROUPS,
    RunRecord,
    axis_keys,
    group_by_option,
    outcome,
    seed_of,
    split_by_data,
)
from mnistlab.comparison.results import Note

STRATEGY_SETTINGS = {"optimizer": ("fit.batch_size",)}
UNSET = "(not set)"
IGNORED = ("tracking", "paths", "hydra", "name", "sweep", "experiment", "callbacks.progress")


def fairness(records: Iterable[RunRecord], axis: str | Sequence[str], ignore: Sequence[str] = IGNORED) -> list[Note]:
    """Warnings and notes on what differs between runs other than the axes and the seed.

    A config group on the axis includes its settings ("optimizer": "optimizer.learning_rate") if they are
    constant within each option. The batch size is part of an optimizer's strategy: a note, not a warning, if it
    is constant within each option. ignore: settings, or groups of them, that cannot affect a result (folders,
    tracking).
    """
    keys = axis_keys(axis)
    groups = group_by_option(records, keys)
    notes = settings_notes(groups, keys, ignore)
    notes += data_notes(groups, keys)
    notes += initial_state_notes(groups, keys)
    notes += budget_notes(groups)
    return notes + replicate_notes(groups)


def settings_notes(groups: dict[str, list[RunRecord]], keys: Sequence[str], ignore: Sequence[str]) -> list[Note]:
    """One note per setting that differs, is not on the axis and does not equal the seed."""
    records = [record for group in groups.values() for record in group]
    names = sorted({name for record in records for name in record.params})
    strategy = [name for key in keys for name in STRATEGY_SETTINGS.get(key, ())]
    notes = []
    for name in names:
        if name in keys or _is_under(name, ignore) or _equals_seed(records, name):
            continue
        values = {option: _values(group, name) for option, group in groups.items()}
        if len(set().union(*values.values())) == 1:
            continue
        constant = all(len(option_values) == 1 for option_values in values.values())
        if _is_under(name, keys) and constant:
            continue
        if name in strategy and constant:
            text = f"{name} is part of each option's strategy: {_options_by_value(groups, name)}"
            notes.append(Note("note", text))
        else:
            text = f"{name} differs but is not on the axis: {_options_by_value(groups, name)}"
            notes.append(Note("warning", text))
    return notes


def data_notes(groups: dict[str, list[RunRecord]], keys: Sequence[str]) -> list[Note]:
    """A warning if the runs were trained on different data, whether the axis intends it or not."""
    data = split_by_data(record for group in groups.values() for record in group)
    if len(data) < 2:
        return []
    if is_data_axis(keys):
        text = (
            f"{', '.join(keys)} changes the data: the options were not evaluated on the same images, so a "
            "difference may come from the difficulty of the images"
        )
    else:
        text = f"the runs used {len(data)} different data sets ({', '.join(data)}): compare each data set separately"
    return [Note("warning", text)]


def initial_state_notes(groups: dict[str, list[RunRecord]], keys: Sequence[str]) -> list[Note]:
    """Warnings if runs with the same seed had different initial weights or batch orders."""
    notes = []
    if not any(key.split(".")[0] == "model" for key in keys):
        seeds = _mismatched_seeds(groups, "hash.initial_weights", seed_of)
        notes += _mismatch_note("initial weights", seeds)
    if is_data_axis(keys):
        return notes
    seeds = _mismatched_seeds(
        groups, "hash.batch_order", lambda record: (seed_of(record), record.params.get("fit.batch_size"))
    )
    return notes + _mismatch_note("batch orders (at equal batch size)", seeds)


def budget_notes(groups: dict[str, list[RunRecord]]) -> list[Note]:
    """A warning if the numbers of epochs differ; a note if only the numbers of steps do."""
    epochs, steps = {}, {}
    for option, group in groups.items():
        trained = [record for record in group if outcome(record) == "trained" and _epochs(record)]
        epochs[option] = {_epochs(record) for record in trained}
        steps[option] = {round(total) for record in trained if (total := _steps(record)) is not None}
    if len(set().union(*epochs.values())) > 1:
        return [Note("warning", f"numbers of epochs differ: {_options_by_range(epochs)}")]
    if len(set().union(*steps.values())) > 1:
        text = f"numbers of steps differ at equal epochs: {_options_by_range(steps)}; see also the curves over seconds"
        return [Note("note", text)]
    return []


def replicate_notes(groups: dict[str, list[RunRecord]]) -> list[Note]:
    """A warning if an option has several trained runs with the same seed: they are averaged."""
    duplicated = []
    for option, group in groups.items():
        seeds = [seed_of(record) for record in group if outcome(record) == "trained"]
        if len(set(seeds)) < len(seeds):
            duplicated.append(option)
    if not duplicated:
        return []
    text = f"several runs per option and seed ({_list_names(duplicated)}) were averaged: they count as one replicate"
    return [Note("warning", text)]


def is_data_axis(keys: Sequence[str]) -> bool:
    """Whether every swept setting is a data setting, so that options have different data by design."""
    return all(key.split(".")[0] in DATA_GROUPS for key in keys)


def _values(group: Sequence[RunRecord], name: str) -> set[str]:
    return {str(record.params.get(name, UNSET)) for record in group}


def _equals_seed(records: Sequence[RunRecord], name: str) -> bool:
    """True for "seed" and for copies of it, such as an interpolated "data.seed"."""
    return all(record.params.get(name, UNSET) == record.params.get("seed") for record in records)


def _is_under(name: str, groups: Sequence[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def _options_by_value(groups: dict[str, list[RunRecord]], name: str) -> str:
    """The values of a setting with the options that have them: "32 (adam, sgd), 1 (slow)"."""
    options: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for option, group in groups.items():
        for record in group:
            value = str(record.params.get(name, UNSET))
            counts[value] = counts.get(value, 0) + 1
            if option not in options.setdefault(value, []):
                options[value].append(option)
    ordered = sorted(options, key=lambda value: (-counts[value], value))
    return ", ".join(f"{value} ({_list_names(options[value])})" for value in ordered)


def _mismatched_seeds(
    groups: dict[str, list[RunRecord]], tag: str, key: Callable[[RunRecord], Hashable]
) -> dict[int, list[str]]:
    """Seeds at which runs with the same key have different hashes, with the options that deviate."""
    digests: dict[Hashable, dict[str, list[tuple[int, str]]]] = {}
    for option, group in groups.items():
        for record in group:
            if digest := record.tags.get(tag):
                found = digests.setdefault(key(record), {})
                found.setdefault(digest, []).append((seed_of(record), option))
    seeds: dict[int, list[str]] = {}
    for found in digests.values():
        common = max(sorted(found), key=lambda digest: len(found[digest]))
        for digest in sorted(found):
            if digest != common:
                for seed, option in found[digest]:
                    seeds.setdefault(seed, []).append(option)
    return seeds


def _mismatch_note(noun: str, seeds: dict[int, list[str]]) -> list[Note]:
    if not seeds:
        return []
    options = _list_names(sorted({option for found in seeds.values() for option in found}))
    text = f"same seed but different {noun}: {options} (seeds {_list_names(map(str, sorted(seeds)))})"
    return [Note("warning", f"{text}; pairing by seed is then less effective")]


def _epochs(record: RunRecord) -> int:
    return max((len(values) for values in record.history.values()), default=0)


def _steps(record: RunRecord) -> float | None:
    per_epoch = record.metrics.get("steps_per_epoch")
    return None if per_epoch is None else per_epoch * _epochs(record)


def _options_by_range(values: dict[str, set[int]]) -> str:
    """Options by the range of their values: "3 (batch_gd), 5,000 to 6,000 (adam, sgd)"."""
    options: dict[tuple[int, int], list[str]] = {}
    for option, found in values.items():
        if found:
            options.setdefault((min(found), max(found)), []).append(option)
    return ", ".join(
        f"{low:,}{f' to {high:,}' if high != low else ''} ({_list_names(names)})"
        for (low, high), names in sorted(options.items())
    )


def _list_names(names: Iterable[Any], limit: int = 6) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
