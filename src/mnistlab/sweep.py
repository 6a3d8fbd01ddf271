"""A multirun as one thing: planned, not done twice, under one parent run, and ended with a verdict.

The sweep plans in the process that starts it and hands each job its part through a file (`sweep.plan`), so it is the
same on whatever launcher the jobs run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnistlab import comparison, experiment, fingerprint, history, tracking
from mnistlab.comparison import RunRecord
from mnistlab.comparison.report import write_report
from mnistlab.config import Config, ConfigError, parameters
from mnistlab.preflight import Command

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
    """A sweep under way. store, client, experiment_id: None without tracking; parent: its run there."""

    jobs: list[Job]
    axes: list[str]
    folder: Path
    id: str
    store: tracking.StoreAddress | None = None
    client: Any = None
    experiment_id: str = ""
    parent: tracking.MlflowRun | None = None
    lost: dict[str, str] = field(default_factory=dict)


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
    status = "KILLED"
    try:
        if not all(job.is_done for job in sweep.jobs):
            launch([*command.extra, f"sweep.plan={write_plan(sweep)}"])
        status = "FAILED" if find_results(sweep) else "FINISHED"
    finally:
        failures = find_results(sweep)
        report(sweep, failures, status)
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
        sweep.store = tracking.address(first.tracking, first.paths.root)
        tracking.check_reachable(sweep.store)
        sweep.client, sweep.experiment_id = tracking.open_store(sweep.store)
        history.close_orphans(sweep.client, sweep.experiment_id)
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
    parts = fingerprint.fingerprint(config, experiment.dataset_of(config).digests)
    return Job(config, parts["fingerprint.config"], "-".join(values) or "run", parts)


def _short(axis: str) -> str:
    """What stands before a swept value in a name: nothing for a group, 'lr' for a learning rate."""
    last = axis.rpartition(".")[2]
    return "" if "." not in axis and axis != "seed" else {"learning_rate": "lr", "batch_size": "batch"}.get(last, last)


def _find_done(sweep: Sweep, force: bool) -> None:
    """Give each job that has a finished run with its fingerprint that run; say of the others why they run."""
    before = history.finished_by_config(sweep.client, sweep.experiment_id, [job.key for job in sweep.jobs])
    failed = {
        run.data.tags.get("fingerprint"): run.info.status.lower()
        for run in history.search(sweep.client, sweep.experiment_id, "attributes.status != 'FINISHED'")
    }
    for job in sweep.jobs:
        earlier = before.get(job.key, [])
        same = [run for run in earlier if run.data.tags.get("fingerprint") == job.fingerprint["fingerprint"]]
        if force:
            job.reason = "forced"
        elif same:
            job.run_id, job.reason = same[0].info.run_id, "done"
            job.objective = same[0].data.metrics.get(job.config.sweep.objective)
        elif earlier:
            job.reason = fingerprint.why_again(job.fingerprint, earlier[0].data.tags)
        elif job.fingerprint["fingerprint"] in failed:
            job.reason = f"{failed[job.fingerprint['fingerprint']]} before"


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
    if sweep.client is None:
        return None
    settings = parameters(job.config)
    alike = ("model", "optimizer", "fit.batch_size", "source", "data")
    condition = " and ".join(f"params.`{key}` = '{settings[key]}'" for key in alike if key in settings)
    found = sweep.client.search_runs(
        [sweep.experiment_id], f"{condition} and attributes.status = 'FINISHED'", max_results=1
    )
    if not found or "train_seconds" not in found[0].data.metrics:
        return None
    epochs = int(found[0].data.params.get("fit.epochs", 1))
    return float(found[0].data.metrics["train_seconds"]) / epochs * job.config.fit.epochs + 0.7


def open_parent(sweep: Sweep) -> None:
    """The sweep's one parent run: a new one, or that of an earlier, interrupted start of the same sweep."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    if sweep.client is None or sweep.store is None:
        return
    tags = {
        "sweep.id": sweep.id,
        "sweep.kind": "parent",
        "sweep.axes": ", ".join(sweep.axes),
        "sweep.num_jobs": str(len(sweep.jobs)),
        "run.process": history.process_name(),
        "mlflow.note.content": " ".join(dict.fromkeys(word for job in sweep.jobs for word in job.config.overrides))[
            :4000
        ],
    }
    name = f"sweep {' x '.join(sweep.axes)}"
    condition = f"tags.`sweep.id` = '{sweep.id}' and tags.`sweep.kind` = 'parent'"
    earlier = history.search(sweep.client, sweep.experiment_id, condition)
    if earlier and not sweep.jobs[0].config.sweep.force:
        sweep.parent = tracking.MlflowRun(
            sweep.client, sweep.experiment_id, sweep.store, name, tags, run_id=earlier[0].info.run_id
        )
    else:
        sweep.parent = tracking.MlflowRun(sweep.client, sweep.experiment_id, sweep.store, name, tags)


def write_plan(sweep: Sweep) -> Path:
    """The file that tells each job its name, its parent, and whether it is done."""
    file = sweep.folder / f"plan-{time.time_ns()}.json"
    content = {
        "sweep": sweep.id,
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
    said = {}
    for file in (sweep.folder / "failures").glob("*.json"):
        entry = json.loads(file.read_text(encoding="utf-8"))
        said[entry["key"]] = entry["cause"]
    runs: dict[str, Any] = {}
    if sweep.client is not None:
        for run in history.search(sweep.client, sweep.experiment_id, f"tags.`sweep.id` = '{sweep.id}'"):
            runs.setdefault(run.data.tags.get("fingerprint", ""), run)
    failures = {}
    for job in sweep.jobs:
        run = runs.get(job.fingerprint["fingerprint"])
        if run is not None and not (job.is_done and job.reason == "done"):
            job.run_id = run.info.run_id
        ended = run.info.status if run is not None else "FINISHED" if job.is_done else None
        if job.key in said:
            failures[job.name] = said[job.key]
        elif sweep.client is not None and job.reason != "done" and ended != "FINISHED":
            failures[job.name] = (run.data.tags.get("error") if run is not None else None) or "did not run"
    return failures


def records_of(sweep: Sweep) -> list[RunRecord]:
    """The jobs' runs as plain records, reused ones included."""
    if sweep.client is None:
        folders = [Path(file.read_text(encoding="utf-8")) for file in sorted(sweep.folder.glob("done/*"))]
        return [history.record_of_folder(folder) for folder in folders if (folder / "metrics.jsonl").is_file()]
    ids = dict.fromkeys(job.run_id for job in sweep.jobs if job.run_id)
    return [history.record_of(sweep.client, sweep.client.get_run(run_id)) for run_id in ids]


def report(sweep: Sweep, failures: dict[str, str], status: str) -> None:
    """Compare, write the report, show the verdict and every failure. A sweep cut short is compared as far as it got."""
    records = records_of(sweep)
    if failures and status != "KILLED":
        print(f"\n{len(failures)} of {len(sweep.jobs)} jobs failed:")
        for name, cause in failures.items():
            print(f"  {name:32} {cause[:200]}")
    if not any(record.status == "FINISHED" for record in records):
        print("\nNothing finished, so there is nothing to compare.")
        return
    settings = sweep.jobs[0].config.sweep
    images, labels = _test_images(sweep)
    compared = comparison.compare_by_data(records, sweep.axes, settings.objective, targets=settings.targets)
    write_report(compared, records, sweep.folder, images, labels)
    for one in compared:
        print()
        print(comparison.terminal_summary(one))
    _keep(sweep, compared)
    print(f"\n  report  {sweep.folder / 'report.html'}")
    if sweep.parent is not None:
        print(f"  open    {sweep.parent.viewing()}")


def _test_images(sweep: Sweep) -> tuple[Any, Any]:
    dataset = experiment.dataset_of(sweep.jobs[0].config)
    return dataset.test.images, dataset.test.labels


def _keep(sweep: Sweep, compared: Sequence[comparison.Comparison]) -> None:
    """The verdict, the best option and the report on the parent run."""
    summary = {
        "sweep": sweep.id,
        "axes": sweep.axes,
        "jobs": [{"name": job.name, "run_id": job.run_id, "reason": job.reason} for job in sweep.jobs],
        "comparisons": [json.loads(comparison.to_json(one)) for one in compared],
    }
    (sweep.folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=1), encoding="utf-8")
    if sweep.parent is None:
        return
    with _forgiving(sweep):
        runs = " ".join(job.run_id for job in sweep.jobs if job.run_id)
        sweep.parent.set_tags({"sweep.verdict": compared[0].verdict, "sweep.runs": runs})
        best = compared[0].options[0]
        if best.mean is not None:
            sweep.parent.set_tags({"sweep.best": best.name})
            sweep.parent.log_metrics({f"best_mean_{compared[0].objective}": best.mean}, 0, int(time.time() * 1000))
        child = max(
            (run for run in records_of(sweep) if compared[0].objective in run.metrics),
            key=lambda run: run.metrics[compared[0].objective] * (-1 if compared[0].direction == "lower" else 1),
            default=None,
        )
        if child is not None:
            value = child.metrics[compared[0].objective]
            sweep.parent.set_tags({"sweep.best_child": child.run_id, "sweep.best_child_name": child.name})
            sweep.parent.log_metrics({f"best_child_{compared[0].objective}": value}, 0, int(time.time() * 1000))
        for old in ("failures", "done"):
            for file in (sweep.folder / old).glob("*"):
                file.unlink()
        for file in sweep.folder.glob("plan-*.json"):
            file.unlink()
        sweep.parent.log_folder(sweep.folder)


def close_parent(sweep: Sweep, failures: dict[str, str], status: str) -> None:
    """End the parent run with the true status."""
    if sweep.parent is None:
        return
    with _forgiving(sweep):
        if failures:
            sweep.parent.set_tags({"error": f"{len(failures)} of {len(sweep.jobs)} jobs did not finish"})
        sweep.parent.end(status)


@contextlib.contextmanager
def _forgiving(sweep: Sweep) -> Iterator[None]:
    """A store that fails at the end takes nothing away: the report lies in the sweep's folder."""
    try:
        yield
    except Exception as error:
        print(f"WARNING: the tracking store failed ({error}); the report is in {sweep.folder}.")
