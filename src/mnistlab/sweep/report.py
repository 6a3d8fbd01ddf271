"""The comparison of a sweep's finished runs: report in its folder, text for the terminal, tags for its parent run.

It runs in the background process, which has MLflow, SciPy and matplotlib; request and answer are plain data.
"""

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
class ComparisonRequest:
    """What to compare and where to write the report.

    store: the tracking store with the runs; None: `<folder>/done` names the folders of the runs;
    axes, objective, targets: as in the `sweep` settings;
    terminal_width: columns, to style the text for a terminal; None: plain text;
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
    terminal_width: int | None = None


@dataclass(frozen=True)
class SweepComparison:
    """summaries: text for the terminal, one per data set; comparisons: as JSON; tags, metrics: for the parent run."""

    summaries: list[str]
    comparisons: list[Any]
    tags: dict[str, str]
    metrics: dict[str, float]


def write_comparison(request: ComparisonRequest) -> SweepComparison | None:
    """Compare the runs and write the report; None if no run has finished."""
    records = _records(request)
    if not any(record.status == "FINISHED" for record in records):
        return None

    from mnistlab import comparison
    from mnistlab.comparison.report import write_report

    compared = comparison.compare_by_data(records, request.axes, request.objective, targets=request.targets)
    write_report(compared, records, request.folder, request.images, request.labels)
    tags, metrics = _best(compared[0], records)
    return SweepComparison(
        summaries=[comparison.terminal_summary(one, terminal_width=request.terminal_width) for one in compared],
        comparisons=[json.loads(comparison.to_json(one)) for one in compared],
        tags={"sweep.verdict": compared[0].verdict, **tags},
        metrics=metrics,
    )


def _records(request: ComparisonRequest) -> "list[RunRecord]":
    """The runs of the jobs as plain records, including those that were reused."""
    store = request.store
    if store is None:
        folders = [Path(file.read_text(encoding="utf-8")) for file in sorted(request.folder.glob("done/*"))]
        return [history.record_of_folder(folder) for folder in folders if (folder / "metrics.jsonl").is_file()]
    return [history.record_of(store, run) for run in history.with_ids(store, request.run_ids)]


def _best(compared: "Comparison", records: "Sequence[RunRecord]") -> tuple[dict[str, str], dict[str, float]]:
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
