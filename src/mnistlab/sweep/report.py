"""The comparison of a sweep's finished runs: report in its folder, text for the terminal, tags for its parent run.

It runs in the background process, which has MLflow, SciPy and matplotlib; request and answer are plain data.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistlab.runtime.files import write_bytes
from mnistlab.sweep.rates import Tuning
from mnistlab.sweep.results import JobResult, SweepResults
from mnistlab.sweep.searched import DEFAULTS, FOUND, SETTINGS, Searched
from mnistlab.tracking import history
from mnistlab.tracking.stores import StoreAddress

if TYPE_CHECKING:
    from mnistlab.comparison import AcrossData, Comparison, RunRecord
    from mnistlab.comparison.search_summary import SearchSummary
    from mnistlab.comparison.tuned import Rates


@dataclass(frozen=True)
class ComparisonRequest:
    """What to compare and where to write the report.

    store: the tracking store with the runs, except those that the results name by their folder; None: there is none;
    images, labels: the test set, for the images that options disagree on; None: without that figure;
    terminal_width: columns, to style the text for a terminal; None: plain text.
    """

    store: StoreAddress | None
    results: SweepResults
    folder: Path
    images: Any = None
    labels: np.ndarray | None = None
    terminal_width: int | None = None


@dataclass(frozen=True)
class SweepComparison:
    """summaries: text for the terminal, first across the data sets if there are several, then one for each;
    tags, metrics: for the parent run."""

    summaries: list[str]
    tags: dict[str, str]
    metrics: dict[str, float]


def write_comparison(request: ComparisonRequest) -> SweepComparison | None:
    """Compare the runs and write the report; None if no run has finished."""
    results = request.results
    every = records = records_of(request.store, results.jobs)
    rates = _rates(results.tuning) if results.tuning else None
    if rates is not None:
        records = [record for record in every if rates.at_best(record)]
    if results.searched is not None:
        records = [record for record in every if record.params.get(SETTINGS) in (DEFAULTS, FOUND)]
    if not any(record.status == "FINISHED" for record in records):
        return None

    from mnistlab import comparison
    from mnistlab.comparison.curves import with_time_to_target
    from mnistlab.comparison.report import write_report
    from mnistlab.comparison.searched import with_search
    from mnistlab.comparison.sequential import Looks
    from mnistlab.comparison.tuned import with_tuning

    question: dict[str, Any] = {"direction": results.direction}
    if results.targets is not None:
        question["targets"] = results.targets
    records = with_time_to_target(records, results.objective)
    question["question"] = results.question
    if results.looks:
        question["looks"] = Looks(*results.looks)
    compared = comparison.compare_by_data(records, results.axes, results.objective, **question)
    if results.ended:
        compared = [_ended(one, results.ended) for one in compared]
    if results.searched is not None:
        compared = [with_search(one, _search_summary(results.searched)) for one in compared]
    if rates is not None:
        compared = [with_tuning(one, every, rates) for one in compared]
    write_report(compared, records, request.folder, request.images, request.labels, write_bytes)
    across = comparison.across_data(compared) if len(compared) > 1 else None
    width = request.terminal_width
    summaries = [comparison.terminal_summary(one, terminal_width=width) for one in compared]
    if across is not None:
        summaries.insert(0, comparison.terminal_summary_across(across, terminal_width=width))
    tags, metrics = _best(compared, across, records)
    return SweepComparison(summaries, tags, metrics)


def records_of(store: StoreAddress | None, jobs: Sequence[JobResult], curves: bool = True) -> "list[RunRecord]":
    """A record per job: the numbers of its run under the name and the settings that the sweep asked for.

    curves: with history and predictions. A job that failed before it had a run counts as failed; one that did not run
    at all is left out.
    """
    from mnistlab.comparison import RunRecord

    names = list(dict.fromkeys(job.run for job in jobs if job.run))
    folders = [name for name in names if store is None or Path(name).is_absolute()]
    runs = {name: history.record_of_folder(Path(name)) for name in folders}
    if store is not None:
        stored = [name for name in names if name not in runs]
        found = history.records_of(store, history.with_ids(store, stored), curves)
        runs |= {record.run_id: record for record in found}
    records = []
    for job in jobs:
        if job.run:
            run = runs[job.run]
            status: Any = "FAILED" if job.status == "FAILED" else run.status
            asked = job.settings or run.params
            records.append(dataclasses.replace(run, name=job.name, params=asked, status=status))
        elif job.status == "FAILED":
            records.append(RunRecord("", job.name, "FAILED", job.settings, tags={"error": job.error}))
    return records


def _rates(tuning: Tuning) -> "Rates":
    from mnistlab.comparison.tuned import Rates

    options = tuning.options
    best = {option.name: option.best for option in options}
    problems = {option.name: option.why for option in options if option.best is None}
    return Rates(tuning.num_rates, tuning.seeds, {option.name: option.default for option in options}, best, problems)


def _search_summary(searched: Searched) -> "SearchSummary":
    from mnistlab.comparison.search_summary import SearchSummary, TrialSummary

    content = dataclasses.asdict(searched)
    return SearchSummary(**{**content, "trials": [TrialSummary(**trial) for trial in content["trials"]]})


def _ended(compared: "Comparison", why: str) -> "Comparison":
    """With the reason why a sweep until a verdict ended before it."""
    if compared.answer is None or compared.answer.why:
        return compared
    return dataclasses.replace(compared, answer=dataclasses.replace(compared.answer, why=why))


def _best(
    compared: "Sequence[Comparison]", across: "AcrossData | None", records: "Sequence[RunRecord]"
) -> tuple[dict[str, str], dict[str, float]]:
    """The verdict, the best option (of each data set, if there are several) and the best single run."""
    objective, metrics = compared[0].objective, {}
    tags = {"sweep.verdict": across.verdict if across else compared[0].verdict}
    leaders = {one.data: one.options[0] for one in compared if one.options[0].mean is not None}
    if leaders:
        named = across is not None
        tags["sweep.best"] = ", ".join(
            f"{best.name} ({data})" if named else best.name for data, best in leaders.items()
        )
    for data, best in leaders.items():
        metrics[f"best_mean_{objective}{f'/{data}' if across else ''}"] = float(best.mean or 0.0)
    measured = [run for run in records if objective in run.metrics]
    if measured:
        sign = -1 if compared[0].direction == "lower" else 1
        child = max(measured, key=lambda run: sign * run.metrics[objective])
        tags |= {"sweep.best_child": child.run_id, "sweep.best_child_name": child.name}
        metrics[f"best_child_{objective}"] = child.metrics[objective]
    return tags, metrics
