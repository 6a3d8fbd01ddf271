"""What came of each job of a sweep: its run in the store, or what is in the run's folder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnistlab.sweep import outcomes
from mnistlab.sweep.plan import Sweep, SweepJob
from mnistlab.sweep.results import JobResult, SweepResults, why_diverged
from mnistlab.tracking import history
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.recorder import wait_for_all


def find_results(sweep: Sweep) -> SweepResults:
    """Give each job its run: the one that it reuses, the one of this start, or that of an equal job."""
    sweep.store_errors |= wait_for_all()
    sweep.run_folders.clear()  # of an earlier round
    started = sweep.find(f"tags.`sweep.start` = '{sweep.start}'") if sweep.start else []
    runs = {run.tags["sweep.job"]: run for run in reversed(started)}  # the newest, of a job that was started twice
    first = sweep.jobs[0].config.sweep
    results: dict[str, JobResult] = {}
    for job in sweep.jobs:
        results[job.key] = _result(sweep, job, runs.get(job.key), results)
    jobs = list(results.values())
    question = (first.question, sweep.looks, sweep.ended, sweep.tuning, sweep.searched)
    return SweepResults(sweep.id, sweep.axes, first.objective, sweep.direction, list(first.targets), jobs, *question)


def _result(sweep: Sweep, job: SweepJob, run: StoredRun | None, results: dict[str, JobResult]) -> JobResult:
    result = JobResult(job.name, job.key, job.values, job.settings, status="", error="did not run")
    if job.same_as is not None:
        same = results[job.same_as.key]
        return replace(result, source=f"same as {same.name}", run=same.run, **_ending(same))
    if job.is_done and job.run is not None:
        parent_id = sweep.parent.run_id if sweep.parent else ""
        beneath = (job.run.tags.get("mlflow.parentRunId"), job.run.tags.get("sweep.job")) == (parent_id, job.key)
        result, run = replace(result, source="trained" if beneath else "reused"), job.run
    tags: Mapping[str, str] = run.tags if run else {}
    if outcomes.read(sweep.folder, "retried", job.key) is not None:
        result = replace(result, retries=1)
    failed, done = (outcomes.read(sweep.folder, kind, job.key) for kind in ("failures", "done"))
    if done is not None:
        sweep.run_folders.append(Path(done.folder))
    if run is not None and (run.status == "FINISHED" or done is None):
        known = (sweep.store_errors.get(run.run_id), run.tags.get("error"), "did not run")
        result = replace(result, run=run.run_id, status=run.status, metrics=run.metrics)
        result = replace(result, error=next(filter(None, known)))
    elif done is not None:  # the store does not have it, or not completely
        record = history.record_of_folder(Path(done.folder))
        tags = record.tags
        result = replace(result, run=done.folder, status="FINISHED", metrics=dict(record.metrics))
    if failed is not None and not job.is_done:
        status = result.status if result.status in ("FAILED", "KILLED") else failed.status
        return replace(result, status=status, error=failed.error)
    if result.status == "FINISHED":
        result = replace(result, error=why_diverged(tags, result.metrics, sweep.jobs[0].config.sweep.objective))
    return result


def _ending(result: JobResult) -> dict[str, Any]:
    return {"status": result.status, "error": result.error, "metrics": result.metrics}
