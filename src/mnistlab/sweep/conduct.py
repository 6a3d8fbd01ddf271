"""Runs a sweep: plan, parent run, jobs, results, comparison. Whatever happens, the parent run ends truthfully."""

import contextlib
import functools
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mnistlab.config import ConfigError
from mnistlab.config.compose import Command
from mnistlab.data import loading
from mnistlab.runtime import exits, files, terminal
from mnistlab.runtime.processes import process_name
from mnistlab.sweep import ahead, launchers, outcomes
from mnistlab.sweep.collecting import find_results
from mnistlab.sweep.launching import LauncherFailed, close_lost_runs, forget_images, launch_jobs
from mnistlab.sweep.other_sweepers import adopt_jobs
from mnistlab.sweep.plan import Sweep, check_space, plan_sweep
from mnistlab.sweep.plan_text import needs_repeats, print_plan, same_computations
from mnistlab.sweep.report import ComparisonRequest, SweepComparison, write_comparison
from mnistlab.sweep.results import FILE_NAMES, SweepResults, jobs_markdown, write_results
from mnistlab.sweep.rounds import run_rounds
from mnistlab.sweep.search import run_search
from mnistlab.sweep.tuned import run_tuned
from mnistlab.sweep.worker import WORKER_LOCKS
from mnistlab.tracking import background, pages, servers
from mnistlab.tracking.description import SOURCE_TAGS, repeat_words
from mnistlab.tracking.recorder import Recorder, markdown_text
from mnistlab.tracking.reused_runs import ReusedRun, show_reused_runs
from mnistlab.tracking.run_proxy import open_run
from mnistlab.tracking.sync import sync_command, unsynced_run

MAX_DESCRIPTION_LENGTH = 7500  # MLflow keeps 8,000 characters of a tag
MAX_REPEAT_LENGTH = 2000
LINKED = {
    "report": "report.html",
    "final values": "figures/final_values.png",
    "validation loss": "figures/val_loss.png",
}


def run_sweep(command: Command, launch: Callable[[list[str]], object]) -> tuple[int, Sweep]:
    """Run a multirun from plan to report.

    Args:
        launch: starts Hydra with additional overrides; returns when all jobs have ended.

    Returns:
        The exit status, 0, or 1 if a job or the report failed; and the sweep.

    Raises:
        ConfigError: jobs that cannot work; nothing was started.
        KeyboardInterrupt: after the parent run was closed as KILLED and the report was written.
    """
    sweep = plan_sweep(command)
    sweep.words, sweep.trusted = command.words, command.trusted
    sweep.sweeper = "" if command.is_grid else command.sweeper_name
    how = launchers.choose(sweep, command)
    print_plan(sweep, how.why)
    if sweep.jobs[0].config.sweep.dry_run:
        return 0, sweep
    check_space(sweep)
    sweep.workers, sweep.shares = how.workers, how.shares
    if not how.workers and not sweep.jobs[0].config.sweep.isolate:
        ahead.plan(sweep.jobs)
    exits.catch_signals()

    def start(overrides: Sequence[str]) -> object:
        return launch([*overrides, *how.overrides])

    open_parent(sweep)
    status, error = "KILLED", "the sweep was stopped before all jobs had ended"
    try:
        _run_jobs(sweep, command, start)
        status = "FINISHED"
    except LauncherFailed as failed:
        status, error = "FAILED", str(failed)
        print(f"\nERROR: {failed}")
    except ConfigError as mistake:
        status, error = "FAILED", str(mistake)
        raise
    finally:
        try:
            close_lost_runs(sweep)
            results = find_results(sweep)
            record_results(sweep, results)
            if results.failures and status != "KILLED":
                print_failures(results)
            print_retries(results)
            failing = results.failures if sweep.jobs[0].config.sweep.diverged == "fail" else results.unfinished
            if failing and status == "FINISHED":
                status, error = "FAILED", f"{len(failing)} of {len(sweep.jobs)} jobs did not finish or diverged"
            report_error = compare_jobs(sweep, results)
            if report_error and status == "FINISHED":
                status, error = "FAILED", f"all jobs finished, but the report failed: {report_error}"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            close_parent(sweep, status, "" if status == "FINISHED" else error)
    return (0 if status == "FINISHED" else exits.FAILED), sweep


def _run_jobs(sweep: Sweep, command: Command, start: Callable[[list[str]], object]) -> None:
    """Run the jobs by the kind of the sweep; returns when all have ended. start: as `launch` of `run_sweep`."""
    try:
        if sweep.looks:
            run_rounds(sweep, command, start)
        elif sweep.tuning:
            run_tuned(sweep, command, start, sweep.tuning)
        elif sweep.search:
            run_search(sweep, command, start, sweep.search)
        elif not command.is_grid or not all(job.is_done for job in sweep.jobs):
            launch_jobs(sweep, lambda plan: start([*command.extra, f"sweep.plan={plan}"]))
    finally:
        forget_images(sweep.folder)
        if not command.is_grid:
            adopt_jobs(sweep, command)


def open_parent(sweep: Sweep) -> None:
    """Open the sweep's parent run: a new one, or that of an interrupted start of the same sweep."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    outcomes.forget_outage(sweep.folder)  # of an earlier start
    if sweep.address is None:
        return
    if reason := servers.outage(sweep.address.uri):
        outcomes.leave_outage(sweep.folder, reason)
    varied = sweep.search.space.settings if sweep.search else sweep.axes
    name = f"{'search' if sweep.search else 'sweep'} {' x '.join(varied)}"
    tags = {
        "run.name": name,
        "run.uid": uuid.uuid4().hex,
        "sweep.id": sweep.id,
        "sweep.kind": "parent",
        "sweep.axes": ", ".join(sweep.axes),
        "sweep.num_jobs": str(len(sweep.jobs)),
        "run.process": process_name(),
        **SOURCE_TAGS,
        "mlflow.note.content": repeat_words(sweep.words)[:MAX_REPEAT_LENGTH],
    }
    earlier = sweep.find(f"tags.`sweep.id` = '{sweep.id}' and tags.`sweep.kind` = 'parent'")
    run_id = None
    if not sweep.jobs[0].config.sweep.force:
        run_id = earlier[0].run_id if earlier else None
        tags["run.uid"] = files.read_json(sweep.folder / "tags.json").get("run.uid", tags["run.uid"])
    try:
        run, problem = open_run(sweep.address, name, tags, run_id)
    except ConfigError:
        with contextlib.suppress(OSError):
            sweep.folder.rmdir()  # it is empty: nothing was started
        raise
    sweep.parent = Recorder(sweep.folder, name, tags, run, sweep.address, problem)


def record_results(sweep: Sweep, results: SweepResults) -> None:
    """Record what came of each job before anything is made of it: files, the parent's description, reused runs."""
    write_results(results, sweep.folder)
    if sweep.parent is None:
        return
    counted = {"sweep.num_jobs": str(len(sweep.jobs)), "sweep.axes": ", ".join(sweep.axes)}
    sweep.parent.set_tags({"mlflow.note.content": _description(sweep, results), **counted})
    _record_data(sweep)
    for name in FILE_NAMES:
        sweep.parent.submit("log_file", (sweep.folder / name).resolve())
    reused = [
        ReusedRun(job.name, job.key, job.run, job.settings)
        for job in results.jobs
        if job.source != "trained" and job.status == "FINISHED" and not Path(job.run).is_absolute()
    ]
    if sweep.store is not None and sweep.parent.run_id and not sweep.parent.store_error:
        with _store_errors_printed(sweep):
            register = sweep.jobs[0].config.save.register
            background.call(show_reused_runs, sweep.store, sweep.parent.run_id, sweep.id, reused, register)


def _record_data(sweep: Sweep) -> None:
    """The data of the jobs as the parent run's inputs."""
    found = {}
    for folder in sweep.run_folders:
        if dataset := files.read_json(folder / "dataset.json"):
            digests = {split: facts["digest"] for split, facts in dataset["splits"].items()}
            found[str(digests)] = (dataset["name"], dataset["origin"], digests, dataset["splits"])
    for arguments in found.values():
        if sweep.parent is not None:
            sweep.parent.submit("log_dataset", *arguments)


def _description(sweep: Sweep, results: SweepResults, verdict: str = "") -> str:
    """The parent run's description in MLflow: verdict, command, equal computations, links, the table of the jobs."""
    lines = [
        *filter(None, [f"**{markdown_text(verdict)}**" if verdict else ""]),
        repeat_words(sweep.words)[:MAX_REPEAT_LENGTH],
        *same_computations(sweep),
    ]
    run = sweep.parent.store_run if sweep.parent else None
    experiment_id = run.experiment_id if run else ""
    if verdict and run is not None:
        page = functools.partial(pages.of_run, run.experiment_id, run.run_id)
        found = {name: file for name, file in LINKED.items() if (sweep.folder / file).is_file()}
        lines.insert(1, " · ".join(f"[{name}]({page(file)})" for name, file in found.items()))
    room = MAX_DESCRIPTION_LENGTH - sum(map(len, lines))
    return "\n\n".join([*lines, jobs_markdown(results, experiment_id, room)])


def print_failures(results: SweepResults) -> None:
    """Print every job that failed or diverged, with the first line of the cause."""
    num_failed, num_diverged = len(results.unfinished), len(results.failures) - len(results.unfinished)
    counted = ((num_failed, "failed"), (num_diverged, "diverged"))
    counts = [f"{number} of {len(results.jobs)} jobs {what}" for number, what in counted if number]
    print(f"\n{', '.join(counts)}:")
    for name, cause in results.failures.items():
        print(f"  {name:32} {cause[:200]}")


def print_retries(results: SweepResults) -> None:
    """Print which jobs were started twice."""
    if names := [job.name for job in results.jobs if job.retries]:
        counted = "1 job was" if len(names) == 1 else f"{len(names)} jobs were"
        print(f"\n{counted} started twice, as a process was killed: {', '.join(names)}.")


def compare_jobs(sweep: Sweep, results: SweepResults) -> str:
    """Compare the finished jobs, write the report, print the verdict. Returns why the report failed, or ''.

    A report that fails costs no training: the runs are recorded, and the same command makes only the report.
    """
    error_file = (sweep.folder / "report_error.txt").resolve()
    try:
        dataset = loading.load(sweep.jobs[0].config)
        test, shown = dataset.test, dataset.test.images
        if isinstance(shown, np.ndarray):
            shown = dataset.value_range.as_pixels(shown)
        width = terminal.width()
        request = ComparisonRequest(sweep.store, results, sweep.folder, shown, test.labels, width)
        comparison = background.call_or_run_here(write_comparison, request)
    except Exception as error:
        files.write_text(error_file, traceback.format_exc())
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        if sweep.parent is not None:
            sweep.parent.submit("log_file", error_file)
        print(
            f"\nERROR: the report failed: {reason}\n"
            f"The results of all jobs are recorded. The same command makes only the report, and so does\n"
            f"  python -m mnistlab.compare sweep={sweep.id}\nThe traceback is in {error_file}."
        )
        return reason
    error_file.unlink(missing_ok=True)
    if comparison is None:
        print("\nNo run has finished, so there is nothing to compare.")
        return ""
    for summary in comparison.summaries:
        print(f"\n{summary}")
    record_comparison(sweep, results, comparison)
    if len(sweep.jobs) > 1 and len({job.config.seed for job in sweep.jobs}) == 1:
        print(f"\n{needs_repeats(sweep)}")
    print(f"\n  report  {sweep.folder / 'report.html'}")
    if sweep.parent is not None and sweep.parent.store_run is not None and not sweep.parent.store_error:
        print(f"  open    {sweep.parent.store_run.how_to_view}")
    return ""


def record_comparison(sweep: Sweep, results: SweepResults, comparison: SweepComparison) -> None:
    """Write the comparison into the sweep's folder; verdict, best option and report to the parent run."""
    for pattern in ("plan-*.json", WORKER_LOCKS):
        for file in sweep.folder.glob(pattern):
            file.unlink()
    outcomes.forget_all(sweep.folder)
    if sweep.parent is None:
        return
    description = _description(sweep, results, comparison.tags["sweep.verdict"])
    sweep.parent.set_tags({**comparison.tags, "mlflow.note.content": description})
    if comparison.metrics:
        sweep.parent.log_metrics(comparison.metrics, 0)


def close_parent(sweep: Sweep, status: str, error: str) -> None:
    """End the parent run with the true status; error: why it is not FINISHED, or ''."""
    if sweep.parent is None:
        return
    if error:
        sweep.parent.set_tags({"error": error})
    else:
        sweep.parent.submit("remove_tag", "error")  # of an earlier start of the same sweep
    sweep.parent.end(status, files=not (sweep.folder / "report_error.txt").exists())  # no half of a report
    num_unsynced = sum(unsynced_run(folder) is not None for folder in (sweep.folder, *sweep.run_folders))
    if num_unsynced:
        reason = f" ({sweep.parent.store_error})" if sweep.parent.store_error else ""
        print(f"\n  not synced: {num_unsynced} runs of this sweep{reason}")
        print(f"  deliver them with: {sync_command(sweep.jobs[0].config.paths.root)}")


@contextlib.contextmanager
def _store_errors_printed(sweep: Sweep) -> Iterator[None]:
    """A store that fails at the end does not fail the sweep: the report is in the sweep's folder."""
    try:
        yield
    except Exception as error:
        print(f"WARNING: the tracking store failed ({error}); the report is in {sweep.folder}.")
