"""Runs a sweep: plan, parent run, jobs, comparison. Whatever happens to the jobs, the parent run ends truthfully."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mnistlab.config.compose import Command
from mnistlab.data import loading
from mnistlab.runtime import exits, terminal
from mnistlab.sweep.plan import Sweep, plan_sweep, print_plan
from mnistlab.sweep.report import ComparisonRequest, SweepComparison, write_comparison
from mnistlab.tracking import background, provenance
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.recorder import wait_for_all
from mnistlab.tracking.run_proxy import RunProxy


def run_sweep(command: Command, launch: Callable[[list[str]], int]) -> int:
    """Run a multirun from plan to report.

    Args:
        launch: starts Hydra with additional overrides; returns when all jobs have ended.

    Returns:
        The exit status: 0, or 1 if a job failed.

    Raises:
        ConfigError: jobs that cannot work; nothing was started.
        KeyboardInterrupt: after the parent run was closed as KILLED and the report was written.
    """
    sweep = plan_sweep(command)
    print_plan(sweep)
    if sweep.jobs[0].config.sweep.dry_run:
        return 0
    exits.catch_signals()
    open_parent(sweep)
    completed, failures, status = False, {}, "KILLED"
    try:
        if not all(job.is_done for job in sweep.jobs):
            launch([*command.extra, f"sweep.plan={write_plan(sweep)}"])
        completed = True
    finally:
        try:
            failures = find_results(sweep)
            status = ("FAILED" if failures else "FINISHED") if completed else "KILLED"
            compare_jobs(sweep, failures, status)
        finally:
            close_parent(sweep, failures, status)
    return 1 if failures else 0


def open_parent(sweep: Sweep) -> None:
    """Open the sweep's parent run: a new one, or that of an interrupted start of the same sweep."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    if sweep.store is None:
        return
    overrides = dict.fromkeys(override for job in sweep.jobs for override in job.config.overrides)
    tags = {
        "sweep.id": sweep.id,
        "sweep.kind": "parent",
        "sweep.axes": ", ".join(sweep.axes),
        "sweep.num_jobs": str(len(sweep.jobs)),
        "run.process": provenance.process_name(),
        "mlflow.note.content": " ".join(overrides)[:4000],
    }
    earlier = sweep.find(f"tags.`sweep.id` = '{sweep.id}' and tags.`sweep.kind` = 'parent'")
    run_id = earlier[0].run_id if earlier and not sweep.jobs[0].config.sweep.force else None
    sweep.parent = RunProxy(sweep.store, f"sweep {' x '.join(sweep.axes)}", tags, run_id)


def write_plan(sweep: Sweep) -> Path:
    """Write the file that tells each job its name, its parent run, and whether it is done."""
    file = sweep.folder / f"plan-{time.time_ns()}.json"
    content = {
        "sweep": sweep.id,
        "process": provenance.process_name(),
        "parent": sweep.parent.run_id if sweep.parent else None,
        "folder": str(sweep.folder),
        "jobs": {
            job.key: {
                "name": job.name,
                "run_id": job.run_id,
                "objective": job.objective,
                "line": f"[{number}/{len(sweep.jobs)}] {job.name}",
            }
            for number, job in enumerate(sweep.jobs, start=1)
        },
    }
    for name in ("failures", "done"):
        (sweep.folder / name).mkdir(parents=True, exist_ok=True)
        for old in (sweep.folder / name).iterdir():
            old.unlink()
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return file


def find_results(sweep: Sweep) -> dict[str, str]:
    """Give each job its newest run; returns job name -> one-line cause, for all jobs that have not finished."""
    sweep.store_errors |= wait_for_all()
    causes = {file.name: file.read_text(encoding="utf-8") for file in (sweep.folder / "failures").glob("*")}
    runs: dict[str, StoredRun] = {}
    for run in sweep.find(f"tags.`sweep.id` = '{sweep.id}'"):
        runs.setdefault(run.tags.get("fingerprint", ""), run)
    failures = {}
    for job in sweep.jobs:
        newest = runs.get(job.fingerprint["fingerprint"])
        if newest is not None and not (job.is_done and job.reason == "done"):
            job.run_id = newest.run_id
        status = newest.status if newest is not None else "FINISHED" if job.is_done else None
        if job.key in causes and job.reason != "done":
            failures[job.name] = causes[job.key]
        elif sweep.store is not None and job.reason != "done" and status != "FINISHED":
            known = (sweep.store_errors.get(newest.run_id), newest.tags.get("error")) if newest is not None else ()
            failures[job.name] = next(filter(None, known), "did not run")
    return failures


def compare_jobs(sweep: Sweep, failures: dict[str, str], status: str) -> None:
    """Compare the finished jobs, write the report, print the verdict and every failure."""
    if failures and status != "KILLED":
        print(f"\n{len(failures)} of {len(sweep.jobs)} jobs failed:")
        for name, cause in failures.items():
            print(f"  {name:32} {cause[:200]}")
    settings = sweep.jobs[0].config.sweep
    test = loading.load(sweep.jobs[0].config).test
    comparison = background.call_or_run_here(
        write_comparison,
        ComparisonRequest(
            store=sweep.store,
            run_ids=list(dict.fromkeys(job.run_id for job in sweep.jobs if job.run_id)),
            axes=sweep.axes,
            objective=settings.objective,
            targets=settings.targets,
            folder=sweep.folder,
            images=test.images,
            labels=test.labels,
            terminal_width=terminal.width(),
        ),
    )
    if comparison is None:
        print("\nNo run has finished, so there is nothing to compare.")
        return
    for summary in comparison.summaries:
        print(f"\n{summary}")
    record_comparison(sweep, comparison)
    print(f"\n  report  {sweep.folder / 'report.html'}")
    if sweep.parent is not None:
        print(f"  open    {sweep.parent.how_to_view}")


def record_comparison(sweep: Sweep, comparison: SweepComparison) -> None:
    """Write the comparison into the sweep's folder; verdict, best option and report to the parent run."""
    summary = {
        "sweep": sweep.id,
        "axes": sweep.axes,
        "jobs": [{"name": job.name, "run_id": job.run_id, "reason": job.reason} for job in sweep.jobs],
        "comparisons": comparison.comparisons,
    }
    (sweep.folder / "sweep.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    for leftover in [*sweep.folder.glob("failures/*"), *sweep.folder.glob("done/*"), *sweep.folder.glob("plan-*.json")]:
        leftover.unlink()
    if sweep.parent is None:
        return
    with _store_errors_printed(sweep):
        runs = " ".join(job.run_id for job in sweep.jobs if job.run_id)
        sweep.parent.submit("set_tags", {"sweep.runs": runs, **comparison.tags})
        if comparison.metrics:
            sweep.parent.submit("log_metrics", comparison.metrics, 0, int(time.time() * 1000))
        sweep.parent.submit("log_folder", sweep.folder.resolve())


def close_parent(sweep: Sweep, failures: dict[str, str], status: str) -> None:
    """End the parent run with the true status."""
    if sweep.parent is None:
        return
    with _store_errors_printed(sweep):
        if failures:
            sweep.parent.submit("set_tags", {"error": f"{len(failures)} of {len(sweep.jobs)} jobs did not finish"})
        sweep.parent.submit("end", status)
        sweep.parent.wait()


@contextlib.contextmanager
def _store_errors_printed(sweep: Sweep) -> Iterator[None]:
    """A store that fails at the end does not fail the sweep: the report is in the sweep's folder."""
    try:
        yield
    except Exception as error:
        print(f"WARNING: the tracking store failed ({error}); the report is in {sweep.folder}.")
