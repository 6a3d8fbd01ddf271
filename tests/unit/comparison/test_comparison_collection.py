"""No garbage is collected during a comparison; afterwards Python collects as before, also after an error."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic_runs import make_sweep

from mnistlab.comparison import RunRecord, compare
from mnistlab.comparison.report import write_report

seen: list[bool] = []


def watched(records: list[RunRecord]) -> Iterator[RunRecord]:
    for record in records:
        seen.append(gc.isenabled())
        yield record


@pytest.mark.parametrize("before", [True, False])
def test_collection_is_paused_and_then_as_before(before: bool, tmp_path: Path) -> None:
    records = make_sweep(["adam", "sgd"], 2)
    seen.clear()
    if not before:
        gc.disable()
    try:
        comparison = compare(watched(records))
        after = [gc.isenabled()]
        written: list[bool] = []
        write_report(comparison, records, tmp_path, write=lambda file, content: written.append(gc.isenabled()))
        after.append(gc.isenabled())
        with pytest.raises(ValueError, match="nothing to report"):
            write_report([], records, tmp_path)
        after.append(gc.isenabled())
    finally:
        gc.enable()
    assert seen and written and not any([*seen, *written])
    assert after == [before] * 3
