"""The plan of a sweep: its jobs, checked; which of them are done; why and for how long the others will run."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnistlab import experiment
from mnistlab.config import Config, ConfigError, parameters, suggest
from mnistlab.config.compose import Command
from mnistlab.data import loading
from mnistlab.tracking import background, fingerprint, history, stores
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.run_proxy import RunProxy
from mnistlab.tracking.stores import StoreAddress

MAX_LISTED_JOBS = 60
SECONDS_PER_JOB = 0.7  # besides the training: data, evaluation, saving


@dataclass
class SweepJob:
    """One job of a sweep. reason: why it runs, or 'done'; run_id: of the run that is its result."""

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
    """A sweep that is under way.

    store: None without tracking; parent: its run in the store; store_errors: run id -> why its record is incomplete.
    """

    jobs: list[SweepJob]
    axes: list[str]
    folder: Path
    id: str
    store: StoreAddress | None = None
    parent: RunProxy | None = None
    store_errors: dict[str, str] = field(default_factory=dict)

    def find(self, condition: str, max_runs: int = history.MAX_RUNS) -> list[StoredRun]:
        """Runs in the store, the newest first; empty without tracking."""
        if self.store is None:
            return []
        found: list[StoredRun] = background.call_or_run_here(history.find, self.store, condition, max_runs)
        return found


def plan_sweep(command: Command) -> Sweep:
    """Check every job, compute its fingerprint, and find those that are done.

    Raises:
        ConfigError: the problems of all jobs.
    """
    first = command.configs[0]
    check_jobs(command.configs)
    jobs = [_job(config, command.swept) for config in command.configs]
    key = hashlib.sha256(" ".join(sorted(job.key for job in jobs)).encode()).hexdigest()[:12]
    axes = first.sweep.axes or [axis for axis in command.swept if axis != "seed"] or ["optimizer"]
    folder = Path(first.paths.root) / "runs" / "sweeps" / key
    sweep = Sweep(jobs, axes, folder, key)
    if first.tracking.backend == "mlflow":
        sweep.store = stores.checked_address(first.tracking, first.paths.root)
        background.call_or_run_here(history.close_orphaned_runs, sweep.store)
        _find_done(sweep, sweep.store, force=first.sweep.force)
    return sweep


def check_jobs(configs: Sequence[Config]) -> None:
    """Check what the sweep will compare; build, as far as is cheap, each job that differs in more than its seed.

    Raises:
        ConfigError: the problems of all jobs, each listed once.
    """
    problems = dict.fromkeys(_comparison_problems(configs))
    checked = set()
    for config in configs if configs[0].sweep.preflight else ():
        key = json.dumps([value for name, value in sorted(parameters(config).items()) if name != "seed"], default=str)
        if key in checked:
            continue
        checked.add(key)
        try:
            experiment.check(config)
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(list(problems))


def _comparison_problems(configs: Sequence[Config]) -> Iterator[str]:
    """Why the runs could not be compared by `sweep.objective` and `sweep.axes`."""
    objective, axes = configs[0].sweep.objective, configs[0].sweep.axes or ()
    metrics = {name.lower() for config in configs for name in ("loss", *config.fit.metrics)}
    known = ["train_seconds", *(f"best_{prefix}{name}" for prefix in ("val_", "") for name in metrics)]
    if objective not in known:
        hint = suggest(objective.replace("test_", "best_val_"), known)
        yield f"sweep.objective must be a metric of a run, never of its test set. Received: {objective}.{hint}"
    settings = {name for config in configs for name in parameters(config)} - {"seed"}
    for axis in axes:
        if axis not in settings:
            hint = suggest(axis, settings).split(" Choices:")[0]
            yield f"sweep.axes must list settings other than the seed. Received: {axis}.{hint}"


def _job(config: Config, swept: Sequence[str]) -> SweepJob:
    settings = parameters(config)
    values = [f"{_short(axis)}{settings.get(axis)}" for axis in swept]
    hashes = fingerprint.fingerprint(config, loading.load(config).digests)
    return SweepJob(config, hashes["fingerprint.config"], "-".join(values) or "run", hashes)


def _short(axis: str) -> str:
    """The prefix of a swept value in a job's name: nothing for a group, 'lr' for a learning rate."""
    last = axis.rpartition(".")[2]
    return "" if "." not in axis and axis != "seed" else {"learning_rate": "lr", "batch_size": "batch"}.get(last, last)


def _find_done(sweep: Sweep, store: StoreAddress, force: bool) -> None:
    """Give each job the finished run with its fingerprint; note for the other jobs why they run."""
    keys = {job.key for job in sweep.jobs}
    finished, unfinished = background.call_or_run_here(history.earlier_runs, store, keys)
    for job in sweep.jobs:
        earlier = finished.get(job.key, [])
        same = [run for run in earlier if run.tags.get("fingerprint") == job.fingerprint["fingerprint"]]
        if force:
            job.reason = "forced"
        elif same:
            job.run_id, job.reason = same[0].run_id, "done"
            job.objective = same[0].metrics.get(job.config.sweep.objective)
        elif earlier:
            job.reason = fingerprint.reason_to_run_again(job.fingerprint, earlier[0].tags)
        elif job.fingerprint["fingerprint"] in unfinished:
            job.reason = f"{unfinished[job.fingerprint['fingerprint']].lower()} before"


def print_plan(sweep: Sweep) -> None:
    """Print what will run and why, and about how long it will take."""
    missing = [job for job in sweep.jobs if not job.is_done]
    num_done = len(sweep.jobs) - len(missing)
    print(f"Sweep over {' x '.join(sweep.axes)}: {len(sweep.jobs)} jobs, {num_done} of them done.")
    listed = sweep.jobs if sweep.jobs[0].config.sweep.dry_run else missing
    for job in listed[:MAX_LISTED_JOBS]:
        print(f"  {job.name:32} {job.reason}{f'  (run {job.run_id})' if job.run_id else ''}")
    if len(listed) > MAX_LISTED_JOBS:
        print(f"  ... and {len(listed) - MAX_LISTED_JOBS} more")
    seconds = [_expected_seconds(sweep, job) for job in missing]
    known = [value for value in seconds if value is not None]
    if known:
        num_unknown = len(seconds) - len(known)
        rest = f", not counting {num_unknown} jobs without an earlier run" if num_unknown else ""
        print(f"Expected time: about {sum(known):.0f} s, estimated from earlier runs{rest}.")
    print(flush=True)


def _expected_seconds(sweep: Sweep, job: SweepJob) -> float | None:
    """How long a job will take, from the newest finished run with its model, data and batch size."""
    settings = parameters(job.config)
    same = ("model", "optimizer", "fit.batch_size", "source", "data")
    condition = " and ".join(f"params.`{key}` = '{settings[key]}'" for key in same if key in settings)
    found = sweep.find(f"{condition} and attributes.status = 'FINISHED'", 1)
    if not found or "train_seconds" not in found[0].metrics:
        return None
    epochs = int(found[0].params.get("fit.epochs", 1))
    return found[0].metrics["train_seconds"] / epochs * job.config.fit.epochs + SECONDS_PER_JOB
