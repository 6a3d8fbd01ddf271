"""Whether the comparison is fair: what differs between runs other than the swept axes and the seed."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import mode
from typing import Any

from mnistlab.comparison.data_sets import (
    DataDifference,
    data_axes,
    data_difference,
    data_identity,
    is_data_comparison,
    split_by_data,
)
from mnistlab.comparison.options import same_runs
from mnistlab.comparison.records import RunRecord, axis_keys, check_axis, format_setting, group_by_option, outcome
from mnistlab.comparison.results import Note
from mnistlab.comparison.wording import describe_same_runs

PRESETS = ("experiment", "debug")  # groups whose options set settings of all groups
STRATEGY_SETTINGS = {"optimizer": ("fit.batch_size",)}
UNSET = "(not set)"
IGNORED = ("tracking", "paths", "hydra", "name", "sweep", "launch", "experiment", "explain", "callbacks.progress")


def fairness(records: Iterable[RunRecord], axis: str | Sequence[str], ignore: Sequence[str] = IGNORED) -> list[Note]:
    """Warnings and notes on what differs between runs other than the axes and the seed.

    A config group on the axis includes its settings ("optimizer": "optimizer.learning_rate") if they are
    constant within each option. The batch size is part of an optimizer's strategy: a note, not a warning, if it
    is constant within each option. ignore: settings, or groups of them, that cannot affect a result (folders,
    tracking). Raises ValueError for an axis that no record has.
    """
    records, keys = list(records), axis_keys(axis)
    check_axis(records, keys)
    return fairness_notes(records, keys, ignore)


def fairness_notes(records: Sequence[RunRecord], keys: Sequence[str], ignore: Sequence[str] = IGNORED) -> list[Note]:
    """The notes of `fairness`; the records may lack settings of the axis."""
    groups = group_by_option(records, keys)
    notes = same_runs_notes(groups)
    notes += settings_notes(groups, keys, ignore)
    notes += data_notes(groups, keys)
    notes += validation_notes(groups)
    notes += initial_state_notes(groups, keys)
    notes += budget_notes(groups)
    return notes + replicate_notes(groups)


def same_runs_notes(groups: dict[str, list[RunRecord]]) -> list[Note]:
    """A note on options that have exactly the same runs."""
    notes = []
    for names in same_runs(groups):
        served = "both" if len(names) == 2 else f"all {len(names)}"
        text = f"{describe_same_runs(names)}: one run per seed serves {served}; the tests count them once"
        notes.append(Note("note", text))
    return notes


def settings_notes(groups: dict[str, list[RunRecord]], keys: Sequence[str], ignore: Sequence[str]) -> list[Note]:
    """One note per setting that differs, is not on the axis and does not equal the seed."""
    records = [record for group in groups.values() for record in group]
    names = sorted({name for record in records for name in record.params})
    strategy = [name for key in keys for name in STRATEGY_SETTINGS.get(key, ())]
    presets = [key for key in keys if key in PRESETS]
    notes, preset_settings = [], []
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
        elif presets and constant:
            preset_settings.append(name)
        else:
            notes.append(Note("warning", f"{name} differs but is not on the axis: {found}"))
    if preset_settings:
        text = f"options of {', '.join(presets)} differ in several settings: {_list_names(preset_settings, 12)}"
        notes.append(Note("note", text))
    return notes


def data_notes(groups: dict[str, list[RunRecord]], keys: Sequence[str]) -> list[Note]:
    """How the data of the options differ: a note if only the training images do, otherwise a warning."""
    records = [record for group in groups.values() for record in group]
    if not is_data_comparison(records, keys):
        data = split_by_data(records)
        listed = ", ".join(data)
        text = f"the runs used {len(data)} different data sets ({listed}): compare each data set separately"
        return [Note("warning", text)] if len(data) > 1 else []
    axis = ", ".join(keys)
    found = _data_differences(groups)
    if not found - {"none"}:
        return []
    if found <= {"none", "training images"}:
        text = "the options were trained on different images and validated on the same ones"
        return [Note("note", f"{axis} changes the data: {text}")]
    text = "the options were not evaluated on the same images, so a difference may come from the images' difficulty"
    return [Note("warning", f"{axis} changes the data: {text}")]


def _data_differences(groups: dict[str, list[RunRecord]]) -> set[DataDifference]:
    """How the data of each two options differ; options without any hash (all runs failed early) are left out."""
    identities = [data_identity(group) for group in groups.values()]
    known = [one for one in identities if one.hashes]
    return {data_difference(one, other) for one, other in itertools.combinations(known, 2)}


def validation_notes(groups: dict[str, list[RunRecord]]) -> list[Note]:
    """A warning if options are validated on the test images."""
    reasons, options = set(), []
    for option, group in groups.items():
        by_setting = any(record.params.get("data.validation") == "test" for record in group)
        if by_setting or any(_has_equal_hashes(record) for record in group):
            options.append(option)
            reasons.add("data.validation=test" if by_setting else "their hashes are the same")
    if not options:
        return []
    which = "" if len(options) == len(groups) else f" of {_list_names(options)}"
    text = f"the validation images{which} are the test images ({', '.join(sorted(reasons))}): options are ranked by the"
    return [Note("warning", f"{text} test set, so the best value is optimistic")]


def _has_equal_hashes(record: RunRecord) -> bool:
    digest = record.tags.get("hash.validation")
    return bool(digest) and digest == record.tags.get("hash.test")


def initial_state_notes(groups: dict[str, list[RunRecord]], keys: Sequence[str]) -> list[Note]:
    """Warnings if runs with the same seed had different initial weights or batch orders."""
    notes = []
    if not any(key.split(".")[0] == "model" for key in keys):
        notes += _mismatch_notes(groups, "initial weights", "hash.initial_weights")
    if not data_axes((record for group in groups.values() for record in group), keys):
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
    return [format_setting(record.params.get(name, UNSET)) for record in group]


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
