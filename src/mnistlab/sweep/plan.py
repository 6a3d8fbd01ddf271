"""A multirun as one thing: planned, not done twice, under one parent run, and ended with a verdict.

The sweep plans in the process that starts it and hands each job its part through a file (`sweep.plan`), so it is the
same on whatever launcher the jobs run. Whatever needs MLflow or draws is done in the second process: `history.py` finds
runs, `verdict.py` compares them and writes the report.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnistlab import experiment
from mnistlab.config import Config, ConfigError, parameters
from mnistlab.config.compose import Command
from mnistlab.data import loading
from mnistlab.runtime import background
from mnistlab.sweep import report
from mnistlab.tracking import fingerprint, history, provenance, stores
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.recorder import settle_all
from mnistlab.tracking.remote import RemoteRun
from mnistlab.tracking.stores import StoreAddress

SUMMARY_FILE = "sweep.json"


@dataclass
class Job:
    """One job of a sweep. reason: why it runs, or that it is done; run_id: of the run that is its result."""

    config: Config
    key: str
    name: str
    fingerprint: dict[str, str]
    reason: str = "new"
    run_id: str | None = None
    objective: float | None = None

    @property
    def is_done(self) -> bool:
        return self.run_id is not None


@dataclass
class Sweep:
    """A sweep under way. store: None without tracking; parent: its run there; lost: run id -> why its record is not
    complete in the store."""

    jobs: list[Job]
    axes: list[str]
    folder: Path
    id: str
    store: StoreAddress | None = None
    parent: RemoteRun | None = None
    lost: dict[str, str] = field(default_factory=dict)

    def find(self, condition: str, at_most: int = history.MOST_RUNS) -> list[StoredRun]:
        """Runs in the store, the newest first; none without tracking."""
        found: list[StoredRun] = (
            background.call_anywhere(history.find, self.store, condition, at_most) if self.store else []
        )
        return found


def conduct(command: Command, launch: Callable[[list[str]], None]) -> int:
    """Run a multirun from plan to report.

    Args:
        launch: starts Hydra with additional overrides; returns when all jobs have ended.

    Returns:
        The exit status: 0, or 1 if a job failed.

    Raises:
        ConfigError: jobs that cannot work; nothing was started then.
        KeyboardInterrupt: after the parent run was closed as KILLED and the report was written.
    """
    sweep = plan(command)
    settings = sweep.jobs[0].config.sweep
    say_plan(sweep)
    if settings.dry_run:
        return 0
    open_parent(sweep)
    ended = False
    try:
        if not all(job.is_done for job in sweep.jobs):
            launch([*command.extra, f"sweep.plan={write_plan(sweep)}"])
        ended = True
    finally:
        failures = find_results(sweep)
        status = ("FAILED" if failures else "FINISHED") if ended else "KILLED"
        try:
            report(sweep, failures, status)
        finally:
            close_parent(sweep, failures, status)
    return 1 if failures else 0


def plan(command: Command) -> Sweep:
    """Fingerprint every job, check that it can be built, and find those that are done.

    Raises:
        ConfigError: all that is wrong with any job.
    """
    configs = command.configs
    first = configs[0]
    jobs = [_job(config, command.swept) for config in examined(configs)]
    key = hashlib.sha256(" ".join(sorted(job.key for job in jobs)).encode()).hexdigest()[:12]
    axes = first.sweep.axes or [axis for axis in command.swept if axis != "seed"] or ["optimizer"]
    folder = Path(first.paths.root) / "runs" / "sweeps" / key
    sweep = Sweep(jobs, axes, folder, key)
    if first.tracking.backend == "mlflow":
        sweep.store = stores.address(first.tracking, first.paths.root)
        stores.check_reachable(sweep.store)
        background.call_anywhere(history.close_orphans, sweep.store)
        _find_done(sweep, force=first.sweep.force)
    return sweep


def examined(configs: Sequence[Config]) -> Sequence[Config]:
    """The same configurations, after each that differs in more than its seed was built as far as is cheap."""
    problems: dict[str, None] = {}
    seen = set()
    for config in configs if configs[0].sweep.preflight else ():
        key = json.dumps([value for name, value in sorted(parameters(config).items()) if name != "seed"], default=str)
        if key in seen:
            continue
        seen.add(key)
        try:
            experiment.examine(config)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))
    return configs


def _job(config: Config, swept: Sequence[str]) -> Job:
    settings = parameters(config)
    values = [f"{_short(axis)}{settings.get(axis)}" for axis in swept]
    parts = fingerprint.fingerprint(config, loading.load(config).digests)
    return Job(config, parts["fingerprint.config"], "-".join(values) or "run", parts)


def _short(axis: str) -> str:
    """What stands before a swept value in a name: nothing for a group, 'lr' for a learning rate."""
    last = axis.rpartition(".")[2]
    return "" if "." not in axis and axis != "seed" else {"learning_rate": "lr", "batch_size": "batch"}.get(last, last)


def _find_done(sweep: Sweep, force: bool) -> None:
    """Give each job that has a finished run with its fingerprint that run; say of the others why they run."""
    if sweep.store is None:
        return
    keys = {job.key for job in sweep.jobs}
    before, failed = background.call_anywhere(history.earlier_runs, sweep.store, keys)
    for job in sweep.jobs:
        earlier = before.get(job.key, [])
        same = [run for run in earlier if run.tags.get("fingerprint") == job.fingerprint["fingerprint"]]
        if force:
            job.reason = "forced"
        elif same:
            job.run_id, job.reason = same[0].run_id, "done"
            job.objective = same[0].metrics.get(job.config.sweep.objective)
        elif earlier:
            job.reason = fingerprint.why_again(job.fingerprint, earlier[0].tags)
        elif job.fingerprint["fingerprint"] in failed:
            job.reason = f"{failed[job.fingerprint['fingerprint']].lower()} before"


def say_plan(sweep: Sweep) -> None:
    """What will run and why, and about how long it will take."""
    missing = [job for job in sweep.jobs if not job.is_done]
    print(
        f"Sweep over {' x '.join(sweep.axes)}: {len(sweep.jobs)} jobs, {len(sweep.jobs) - len(missing)} of them done."
    )
    rows = sweep.jobs if sweep.jobs[0].config.sweep.dry_run else missing
    for job in rows[:60]:
        print(f"  {job.name:32} {job.reason}{f'  (run {job.run_id})' if job.run_id else ''}")
    if len(rows) > 60:
        print(f"  ... and {len(rows) - 60} more")
    seconds = [_expected_seconds(sweep, job) for job in missing]
    known = [value for value in seconds if value is not None]
    if known:
        unknown = len(seconds) - len(known)
        rest = f", and {unknown} jobs of which no earlier run tells" if unknown else ""
        print(f"About {sum(known):.0f} s, judging by earlier runs{rest}.")
    print(flush=True)


def _expected_seconds(sweep: Sweep, job: Job) -> float | None:
    """How long a job will take, from the newest finished run with its model, data and batch size."""
    settings = parameters(job.config)
    alike = ("model", "optimizer", "fit.batch_size", "source", "data")
    condition = " and ".join(f"params.`{key}` = '{settings[key]}'" for key in alike if key in settings)
    found = sweep.find(f"{condition} and attributes.status = 'FINISHED'", 1)
    if not found or "train_seconds" not in found[0].metrics:
        return None
    epochs = int(found[0].params.get("fit.epochs", 1))
    return found[0].metrics["train_seconds"] / epochs * job.config.fit.epochs + 0.7


def open_parent(sweep: Sweep) -> None:
    """The sweep's one parent run: a new one, or that of an earlier, interrupted start of the same sweep."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    if sweep.store is None:
        return
    words = dict.fromkeys(word for job in sweep.jobs for word in job.config.overrides)
    tags = {
        "sweep.id": sweep.id,
        "sweep.kind": "parent",
        "sweep.axes": ", ".join(sweep.axes),
        "sweep.num_jobs": str(len(sweep.jobs)),
        "run.process": provenance.process_name(),
        "mlflow.note.content": " ".join(words)[:4000],
    }
    earlier = sweep.find(f"tags.`sweep.id` = '{sweep.id}' and tags.`sweep.kind` = 'parent'")
    again = earlier[0].run_id if earlier and not sweep.jobs[0].config.sweep.force else None
    sweep.parent = RemoteRun(sweep.store, f"sweep {' x '.join(sweep.axes)}", tags, again)


def write_plan(sweep: Sweep) -> Path:
    """The file that tells each job its name, its parent, and whether it is done."""
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
    """Give each job its newest run; returns job name -> one-line cause for all that have not finished."""
    sweep.lost |= settle_all()
    said = {}
    for file in (sweep.folder / "failures").glob("*.json"):
        entry = json.loads(file.read_text(encoding="utf-8"))
        said[entry["key"]] = entry["cause"]
    runs: dict[str, StoredRun] = {}
    for run in sweep.find(f"tags.`sweep.id` = '{sweep.id}'"):
        runs.setdefault(run.tags.get("fingerprint", ""), run)
    failures = {}
    for job in sweep.jobs:
        newest = runs.get(job.fingerprint["fingerprint"])
        if newest is not None and not (job.is_done and job.reason == "done"):
            job.run_id = newest.run_id
        ended = newest.status if newest is not None else "FINISHED" if job.is_done else None
        if job.key in said:
            failures[job.name] = said[job.key]
        elif sweep.store is not None and job.reason != "done" and ended != "FINISHED":
            known = (sweep.lost.get(newest.run_id), newest.tags.get("error")) if newest is not None else ()
            failures[job.name] = next(filter(None, known), "did not run")
    return failures


def report(sweep: Sweep, failures: dict[str, str], status: str) -> None:
    """Compare, write the report, show the verdict and every failure. A sweep cut short is compared as far as it got."""
    if failures and status != "KILLED":
        print(f"\n{len(failures)} of {len(sweep.jobs)} jobs failed:")
        for name, cause in failures.items():
            print(f"  {name:32} {cause[:200]}")
    settings = sweep.jobs[0].config.sweep
    test = loading.load(sweep.jobs[0].config).test
    told = background.call_anywhere(
        report.reach,
        report.Question(
            store=sweep.store,
            run_ids=list(dict.fromkeys(job.run_id for job in sweep.jobs if job.run_id)),
            axes=sweep.axes,
            objective=settings.objective,
            targets=settings.targets,
            folder=sweep.folder,
            images=test.images,
            labels=test.labels,
        ),
    )
    if told is None:
        print("\nNothing finished, so there is nothing to compare.")
        return
    for summary in told.summaries:
        print(f"\n{summary}")
    _keep(sweep, told)
    print(f"\n  report  {sweep.folder / 'report.html'}")
    if sweep.parent is not None:
        print(f"  open    {sweep.parent.viewing()}")


def _keep(sweep: Sweep, told: report.Verdict) -> None:
    """The verdict, the best option and the report on the parent run."""
    summary = {
        "sweep": sweep.id,
        "axes": sweep.axes,
        "jobs": [{"name": job.name, "run_id": job.run_id, "reason": job.reason} for job in sweep.jobs],
        "comparisons": told.comparisons,
    }
    (sweep.folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=1), encoding="utf-8")
    for leftover in [*sweep.folder.glob("failures/*"), *sweep.folder.glob("done/*"), *sweep.folder.glob("plan-*.json")]:
        leftover.unlink()
    if sweep.parent is None:
        return
    with _forgiving(sweep):
        runs = " ".join(job.run_id for job in sweep.jobs if job.run_id)
        sweep.parent.set_tags({"sweep.runs": runs, **told.tags})
        if told.metrics:
            sweep.parent.log_metrics(told.metrics, 0, int(time.time() * 1000))
        sweep.parent.log_folder(sweep.folder)


def close_parent(sweep: Sweep, failures: dict[str, str], status: str) -> None:
    """End the parent run with the true status."""
    if sweep.parent is None:
        return
    with _forgiving(sweep):
        if failures:
            sweep.parent.set_tags({"error": f"{len(failures)} of {len(sweep.jobs)} jobs did not finish"})
        sweep.parent.end(status)
        sweep.parent.settle()


@contextlib.contextmanager
def _forgiving(sweep: Sweep) -> Iterator[None]:
    """A store that fails at the end takes nothing away: the report lies in the sweep's folder."""
    try:
        yield
    except Exception as error:
        print(f"WARNING: the tracking store failed ({error}); the report is in {sweep.folder}.")
