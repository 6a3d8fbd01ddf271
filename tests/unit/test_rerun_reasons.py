"""The reason to run again names what changed since an earlier run."""

from __future__ import annotations

import json

import pytest

from mnistlab.tracking.rerun_reasons import PARTS, reason_to_run_again

ENTRIES = {
    "modules": {"model.py": "11aa", "torch": "torch 2.6.0"},
    "files": {"init.from": "22bb start of mine.keras"},
    "data": {"train": "a", "validation": "b", "test": "c", "classes": "d", "loader": "resident"},
    "resolved": {"engine": "fused", "device": "cpu", "batch_size": "32", "saved_epoch": "best"},
    "code": {"data/dataset.py": "33cc", "data/sources.py": "44dd"},
    "libraries": {"keras": "3.15.1", "scipy": "1.17.1"},
}


def tags(**parts: dict[str, str | None]) -> dict[str, str]:
    """A fingerprint with ENTRIES, some of them replaced or, by None, left out."""
    entries = {part: {**ENTRIES[part], **parts.get(part, {})} for part in PARTS}
    kept = {part: {key: value for key, value in pairs.items() if value is not None} for part, pairs in entries.items()}
    stored = {f"fingerprint.{part}": json.dumps(pairs, sort_keys=True) for part, pairs in kept.items()}
    return {"fingerprint": str(hash(str(stored))), "fingerprint.settings": "ee55", **stored}


def reason(planned: dict[str, str], earlier: dict[str, str]) -> str:
    return reason_to_run_again(planned, earlier, "mine.npz")


@pytest.mark.parametrize(
    ("part", "entries", "expected"),
    [
        ("modules", {"model.py": "0"}, "your model.py changed"),
        ("modules", {"model.py": None}, "your model.py is new"),
        ("modules", {"nets/blocks.py": "0"}, "your nets/blocks.py is no longer used"),
        ("modules", {"torch": "torch 2.5.1"}, "torch changed: 2.5.1 -> 2.6.0"),
        ("modules", {"torch": None}, "torch is new"),
        ("modules", {"discord.py": "discord.py 2.3.2"}, "discord.py is no longer used"),  # a package of this name
        ("files", {"init.from": "0 start of mine.keras"}, "start of mine.keras changed"),
        ("files", {"init.from": None}, "start of mine.keras is new"),
        ("files", {"model.weights": "0 my.bin"}, "my.bin is no longer read"),
        ("files", {"init.from": "22bb other.keras"}, "new"),  # another name, the same content
        ("data", {"train": "x"}, "mine.npz changed (training images)"),
        ("data", {"train": "x", "validation": "y"}, "mine.npz changed (training, validation images)"),
        ("data", {"test": "x", "classes": "y"}, "mine.npz changed (test images); the classes of mine.npz changed"),
        ("data", {"loader": "stream"}, "the images are loaded differently: stream -> resident"),
        ("resolved", {"engine": "keras"}, "engine changed: keras -> fused"),
        ("resolved", {"batch_size": "64", "device": None},
         "batch size changed: 64 -> 32; device changed: unknown -> cpu"),
        ("resolved", {"saved_epoch": "last"}, "saved epoch changed: last -> best"),
        ("code", {"data/dataset.py": "0"}, "mnistlab changed: data/dataset.py"),
        ("code", {"data/dataset.py": "0", "removed.py": "0"}, "mnistlab changed: data/dataset.py and 1 more file"),
        ("code", {"data/dataset.py": "0", "data/sources.py": None, "removed.py": "0"},
         "mnistlab changed: data/dataset.py and 2 more files"),
        ("libraries", {"keras": "3.15.0"}, "keras changed: 3.15.0 -> 3.15.1"),
        ("libraries", {"scipy": None}, "scipy changed: not installed -> 1.17.1"),
    ],
)  # fmt: skip
def test_the_reason_names_what_changed(part: str, entries: dict[str, str | None], expected: str) -> None:
    earlier = tags(**{part: entries})
    assert reason(tags(), {**earlier, "fingerprint": tags()["fingerprint"]}) == expected


def test_reasons_are_joined_the_users_changes_first() -> None:
    earlier = tags(
        libraries={"keras": "3.15.0"},
        code={"data/dataset.py": "0"},
        resolved={"engine": "keras"},
        data={"train": "x"},
        files={"init.from": "0 start.keras"},
        modules={"model.py": "0", "torch": "torch 2.5.1"},
    )
    assert reason(tags(), earlier) == (
        "your model.py changed; torch changed: 2.5.1 -> 2.6.0; start of mine.keras changed; "
        "mine.npz changed (training images); engine changed: keras -> fused; mnistlab changed: data/dataset.py; "
        "keras changed: 3.15.0 -> 3.15.1"
    )


def test_many_changed_files_are_counted() -> None:
    def with_modules(count: int, value: str) -> dict[str, str]:
        return tags(modules={f"m{index}.py": value for index in range(count)})

    changed = [f"your m{index}.py changed" for index in range(4)]
    assert reason(with_modules(4, "1"), with_modules(4, "0")) == "; ".join(changed)
    assert reason(with_modules(9, "1"), with_modules(9, "0")) == (
        "; ".join([*changed[:3], "6 more of your files changed"])
    )
    assert reason(with_modules(9, "1"), with_modules(0, "0")) == (
        "your m0.py is new; your m1.py is new; your m2.py is new; 6 more of your files are new"
    )


def test_runs_of_earlier_versions_are_named_as_such() -> None:
    old = {"fingerprint.config": "1", "fingerprint.data": "2", "fingerprint.code": "{}", "fingerprint.libraries": "3"}
    for earlier in ({}, old, {**tags(), "fingerprint.data": "0123456789abcdef"}):
        assert reason(tags(), earlier) == "an earlier version of mnistlab recorded it"
    assert reason(tags(), tags()) == "new"
    assert reason(tags(), {**tags(), "fingerprint": "1", "fingerprint.settings": "2"}) == "its settings changed"


def test_a_part_that_was_cut_when_it_was_stored_is_compared_as_far_as_it_goes() -> None:
    modules = {f"module_{index:03}.py": f"{index:016x}" for index in range(300)}
    planned = tags(modules=modules)
    stored = planned["fingerprint.modules"][:8000]

    def earlier(text: str) -> dict[str, str]:
        return {**planned, "fingerprint": "other", "fingerprint.modules": text}

    unknown = "something changed in a part of its fingerprint that was too long to be stored"
    for length in range(7900, 8001):
        assert reason(planned, earlier(stored[:length])) == unknown
    assert reason(planned, earlier("{")) == unknown
    assert reason(planned, {**planned, "fingerprint.modules": stored}) == "new"
    edited = stored.replace(modules["module_007.py"], "0" * 16)
    assert reason(planned, earlier(edited)) == "your module_007.py changed"
