"""Whether the comparison is fair: what differs between runs other than the swept axes and the seed."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import mode
from typing import Any

from mnistlab.comparison.records import RunRecord, axis_keys, group_by_option, is_data_axis, outcome, split_by_data
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
        constant = all(len(set(option_values)) == 1 for option_values in values.values())
        if _is_under(name, keys) and constant:
            continue
        found = _options_by_value(groups, name)
        if name in strategy and constant:
            notes.append(Note("note", f"{name} is part of each option's strategy: {found}"))
        else:
            notes.append(Note("warning", f"{name} differs but is not on the axis: {found}"))
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
        notes += _mismatch_notes(groups, "initial weights", "hash.initial_weights")
    if not is_data_axis(keys):
        noun = "batch orders (at equal batch size)"
        notes += _mismatch_notes(groups, noun, "hash.batch_order", ["fit.batch_size"])
    return notes


def budget_notes(groups: dict[str, list[RunRecord]]) -> list[Note]:
    """A warning if the numbers of epochs differ; a note if only the numbers of steps do."""
    epochs, steps = {}, {}
    for option, group in groups.items():
        trained = [record for record in group if outcome(record) == "trained" and _epochs(record)]
        epochs[option] = {_epochs(record) for record in trained}
        counted = [record for record in trained if "steps_per_epoch" in record.metrics]
        steps[option] = {round(record.metrics["steps_per_epoch"] * _epochs(record)) for record in counted}
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
        seeds = [record.seed for record in group if outcome(record) == "trained"]
        if len(set(seeds)) < len(seeds):
            duplicated.append(option)
    if not duplicated:
        return []
    text = f"several runs per option and seed ({_list_names(duplicated)}) were averaged: they count as one replicate"
    return [Note("warning", text)]


def _values(group: Sequence[RunRecord], name: str) -> list[str]:
    return [str(record.params.get(name, UNSET)) for record in group]


def _equals_seed(records: Sequence[RunRecord], name: str) -> bool:
    """True for "seed" and for copies of it, such as an interpolated "data.seed"."""
    return all(record.params.get(name, UNSET) == record.params.get("seed") for record in records)


def _is_under(name: str, groups: Sequence[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def _options_by_value(groups: dict[str, list[RunRecord]], name: str) -> str:
    """The values of a setting with the options that have them: "32 (adam, sgd), 1 (slow)"."""
    values = {option: _values(group, name) for option, group in groups.items()}
    counts = Counter(sorted(value for option_values in values.values() for value in option_values))
    return ", ".join(
        f"{value} ({_list_names(option for option in groups if value in values[option])})"
        for value, _ in counts.most_common()
    )


def _mismatch_notes(groups: dict[str, list[RunRecord]], noun: str, tag: str, same: Sequence[str] = ()) -> list[Note]:
    """A warning if hashes differ between runs with the same seed that also agree in the settings `same`."""
    comparable: dict[Any, list[tuple[str, RunRecord]]] = defaultdict(list)
    for option, group in groups.items():
        for record in group:
            if record.tags.get(tag):
                comparable[record.seed, *map(record.params.get, same)].append((option, record))
    deviating = []
    for runs in comparable.values():
        common = mode(sorted(record.tags[tag] for _, record in runs))
        deviating += [(option, record.seed) for option, record in runs if record.tags[tag] != common]
    if not deviating:
        return []
    options = _list_names(sorted({option for option, _ in deviating}))
    text = f"same seed but different {noun}: {options} (seeds {_list_names(sorted({seed for _, seed in deviating}))})"
    return [Note("warning", f"{text}; pairing by seed is then less effective")]


def _epochs(record: RunRecord) -> int:
    return max((len(values) for values in record.history.values()), default=0)


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
