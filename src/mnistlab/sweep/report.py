"""A sweep's finished runs compared: the report in its folder, the words for the terminal, the facts for its parent run.

Done in the second process, which has what it takes (MLflow, SciPy, matplotlib); asked and answered in plain data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistlab.tracking import history
from mnistlab.tracking.stores import StoreAddress

if TYPE_CHECKING:
    from mnistlab.comparison import Comparison, RunRecord


@dataclass(frozen=True)
class Question:
    """What is to be compared, and where the answer goes.

    store: the tracking store that has the runs; None: the runs' folders are named in `<folder>/done`;
    axes, objective, targets: as in the `sweep` settings;
    images, labels: the test set, for the images that the best two disagree on.
    """

    store: StoreAddress | None
    run_ids: Sequence[str]
    axes: Sequence[str]
    objective: str
    targets: Sequence[float]
    folder: Path
    images: Any
    labels: np.ndarray


@dataclass(frozen=True)
class Verdict:
    """summaries: for the terminal, one a data set; comparisons: as JSON; tags, metrics: for the sweep's parent run."""

    summaries: list[str]
    comparisons: list[Any]
    tags: dict[str, str]
    metrics: dict[str, float]


def reach(question: Question) -> Verdict | None:
    """Compare the runs and write the report; None if no run has finished."""
    records = _records(question)
    if not any(record.status == "FINISHED" for record in records):
        return None

    from mnistlab import comparison
    from mnistlab.comparison.report import write_report

    compared = comparison.compare_by_data(records, question.axes, question.objective, targets=question.targets)
    write_report(compared, records, question.folder, question.images, question.labels)
    tags, metrics = _best(compared[0], records)
    return Verdict(
        summaries=[comparison.terminal_summary(one) for one in compared],
        comparisons=[json.loads(comparison.to_json(one)) for one in compared],
        tags={"sweep.verdict": compared[0].verdict, **tags},
        metrics=metrics,
    )


def _records(question: Question) -> list[RunRecord]:
    """The jobs' runs as plain records, reused ones included."""
    store = question.store
    if store is None:
        folders = [Path(file.read_text(encoding="utf-8")) for file in sorted(question.folder.glob("done/*"))]
        return [history.record_of_folder(folder) for folder in folders if (folder / "metrics.jsonl").is_file()]
    return [history.record_of(store, run) for run in history.with_ids(store, question.run_ids)]


def _best(compared: Comparison, records: Sequence[RunRecord]) -> tuple[dict[str, str], dict[str, float]]:
    """The best option and the best single run."""
    tags, metrics = {}, {}
    objective, best = compared.objective, compared.options[0]
    if best.mean is not None:
        tags["sweep.best"] = best.name
        metrics[f"best_mean_{objective}"] = best.mean
    measured = [run for run in records if objective in run.metrics]
    if measured:
        sign = -1 if compared.direction == "lower" else 1
        child = max(measured, key=lambda run: sign * run.metrics[objective])
        tags |= {"sweep.best_child": child.run_id, "sweep.best_child_name": child.name}
        metrics[f"best_child_{objective}"] = child.metrics[objective]
    return tags, metrics
