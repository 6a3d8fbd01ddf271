"""Why an earlier run of the same request cannot be used: two fingerprints compared, the differences named."""

import json
from collections.abc import Iterator, Mapping, Sequence

PARTS = ("modules", "files", "data", "resolved", "code", "libraries")  # JSON objects, in the order of the reasons
SPLITS = {"train": "training", "validation": "validation", "test": "test"}
MAX_NAMED = 3  # of the user's files that changed

Changes = Mapping[str, tuple[str | None, str | None]]


def reason_to_run_again(planned: Mapping[str, str], earlier: Mapping[str, str], data_name: str) -> str:
    """Why an earlier run cannot be used: 'your model.py changed; keras changed: 3.15.0 -> 3.15.1'.

    Args:
        planned: what `fingerprint` returns for the planned run.
        earlier: the tags of a finished run of the same request.
        data_name: what the user calls the data: a file, a folder or a source.

    Returns:
        the differences, joined by '; '; 'new' if there is none.
    """
    if not all(earlier.get(f"fingerprint.{part}", "").startswith("{") for part in PARTS):
        return "an earlier version of mnistlab recorded it"
    changes = {part: _changes(planned[f"fingerprint.{part}"], earlier[f"fingerprint.{part}"]) for part in PARTS}
    reasons = [
        *_file_reasons({name: pair for name, pair in changes["modules"].items() if not _is_version(pair)}),
        *_version_reasons({name: pair for name, pair in changes["modules"].items() if _is_version(pair)}),
        *_input_reasons(changes["files"]),
        *_data_reasons(changes["data"], data_name),
        *_value_reasons(changes["resolved"]),
        *_code_reasons(list(changes["code"])),
        *_value_reasons(changes["libraries"], missing="not installed"),
    ]
    if not reasons and planned["fingerprint.settings"] != earlier.get("fingerprint.settings"):
        reasons.append("its settings changed")
    if not reasons and planned["fingerprint"] != earlier.get("fingerprint"):
        reasons.append("something changed in a part of its fingerprint that was too long to be stored")
    return "; ".join(reasons) or "new"


def _changes(planned: str, earlier: str) -> Changes:
    """Name -> value before and now, None without one, where these differ. Both are JSON, the earlier one may be cut."""
    now, before = _entries(planned), _entries(earlier)
    if not earlier.endswith("}"):  # names are sorted: those after the cut are unknown
        now = {name: value for name, value in now.items() if name <= max(before, default="")}
    pairs = {name: (before.get(name), now.get(name)) for name in sorted({*before, *now})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _entries(text: str) -> dict[str, str]:
    """The entries of a JSON object; if it was cut when it was stored, those that are complete."""
    for candidate in (text, text.rpartition(", ")[0] + "}"):
        try:
            return {name: str(value) for name, value in json.loads(candidate).items()}
        except (ValueError, AttributeError):
            continue
    return {}


def _is_version(pair: tuple[str | None, str | None]) -> bool:
    """Whether an entry of the modules is an installed package, 'torch 2.6.0', not the hash of a file."""
    return any(" " in (value or "") for value in pair)


def _file_reasons(changes: Changes) -> Iterator[str]:
    """Of the user's own modules: those that changed first."""
    changed = [name for name, (before, now) in changes.items() if before and now]
    new = [name for name, (before, _) in changes.items() if not before]
    removed = [name for name, (_, now) in changes.items() if not now]
    for names, change, of_several in (
        (changed, "changed", "changed"),
        (new, "is new", "are new"),
        (removed, "is no longer used", "are no longer used"),
    ):
        named = names if len(names) <= MAX_NAMED + 1 else names[:MAX_NAMED]
        yield from (f"your {name} {change}" for name in named)
        if names[len(named) :]:
            yield f"{len(names) - len(named)} more of your files {of_several}"


def _version_reasons(changes: Changes) -> Iterator[str]:
    for name, (before, now) in changes.items():
        versions = [value and value.rpartition(" ")[2] for value in (before, now)]
        if before and now:
            yield f"{name} changed: {versions[0]} -> {versions[1]}"
        else:
            yield f"{name} is {'new' if now else 'no longer used'}"


def _input_reasons(changes: Changes) -> Iterator[str]:
    """Of files that are read besides the data. Values: a hash and the file's name; the name alone is no difference."""
    for before, now in changes.values():
        hashes, names = zip(*((value or " ").split(" ", 1) for value in (before, now)), strict=True)
        if hashes[0] != hashes[1]:
            change = "changed" if all(hashes) else "is new" if hashes[1] else "is no longer read"
            yield f"{names[1] or names[0]} {change}"


def _data_reasons(changes: Changes, data_name: str) -> Iterator[str]:
    splits = [word for split, word in SPLITS.items() if split in changes]
    if splits:
        yield f"{data_name} changed ({', '.join(splits)} images)"
    if "classes" in changes:
        yield f"the classes of {data_name} changed"
    if "loader" in changes:
        yield "the images are loaded differently: {} -> {}".format(*changes["loader"])


def _value_reasons(changes: Changes, missing: str = "unknown") -> Iterator[str]:
    for name, (before, now) in changes.items():
        yield f"{name.replace('_', ' ')} changed: {before or missing} -> {now or missing}"


def _code_reasons(files: Sequence[str]) -> Iterator[str]:
    if files:
        more = f" and {len(files) - 1} more file{'s' if files[2:] else ''}" if files[1:] else ""
        yield f"mnistlab changed: {files[0]}{more}"
