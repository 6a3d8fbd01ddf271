"""The state of a sweep until a verdict after a round. It runs in the background process, which has MLflow and SciPy."""

from dataclasses import dataclass
from typing import Any

from mnistlab.config.metric_names import TIME_TO_TARGET
from mnistlab.sweep.report import records_of
from mnistlab.sweep.results import SweepResults
from mnistlab.tracking.stores import StoreAddress


@dataclass(frozen=True)
class RoundState:
    """After a round: the names of the jobs whose options need a further seed; the rankings as text; why the sweep can
    end, "" if it goes on."""

    open_jobs: list[str]
    text: str
    why: str


def look(store: StoreAddress | None, results: SweepResults) -> RoundState:
    """Compare the options after a round, within each data set."""
    from mnistlab import comparison
    from mnistlab.comparison.data_sets import group_by_data
    from mnistlab.comparison.race_text import round_text
    from mnistlab.comparison.records import group_by_option
    from mnistlab.comparison.sequential import Looks

    records = records_of(store, results.jobs, curves=TIME_TO_TARGET.fullmatch(results.objective) is not None)
    if not any(record.status == "FINISHED" for record in records):
        return RoundState([], "No run has finished.", "")
    direction: Any = results.direction
    looks = Looks(*(results.looks or (2, 2)))
    compared = comparison.compare_by_data(
        records,
        results.axes,
        results.objective,
        direction=direction,
        targets=(),
        resamples=0,
        question=results.question,
        looks=looks,
    )
    open_jobs, texts, reasons = [], [], []
    grouped = group_by_data(records, results.axes)
    for one, data in zip(compared, grouped.data_sets, strict=True):
        answer = one.answer
        if answer is None or not answer.rounds:
            continue
        last = answer.rounds[-1]
        texts.append(round_text(last, one.objective, f"{one.data}: " if len(compared) > 1 else ""))
        if answer.why:
            reasons.append(answer.why)
            continue
        groups = group_by_option(data.records, one.axis)
        open_jobs += [record.name for name in last.open for record in groups[name]]
    why = "" if open_jobs else "; ".join(dict.fromkeys(reasons))
    return RoundState(open_jobs, "\n".join(texts) or "No option can be compared.", why)
