"""The plan of a sweep: its jobs, checked; which of them are done or the same; why and how long the others will run."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnistlab import experiment
from mnistlab.config import Config, ConfigError, parameters
from mnistlab.config.compose import Command
from mnistlab.config.secrets import hidden
from mnistlab.data import loading
from mnistlab.runtime import errors, space
from mnistlab.sweep import preflight, questions
from mnistlab.sweep.names import name_of_value
from mnistlab.sweep.rates import LABELS, Tuning, first_rates, plan_tuning, with_rate
from mnistlab.sweep.results import job_key
from mnistlab.sweep.searched import SETTINGS, Search, Searched, plan_search
from mnistlab.tracking import background, fingerprint, history, lookups, orphans, servers, stores
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.lookups import EarlierRuns, Kind, Wanted
from mnistlab.tracking.recorder import Recorder
from mnistlab.tracking.stores import StoreAddress
from mnistlab.training.plan import resolve_batch_size


@dataclass
class SweepJob:
    """One job of a sweep: a combination of the swept values.

    key: identifies it within the sweep; values: swept setting -> value as this sweep asked for it; settings: all of
    them, resolved; data_name, num_images, batch_size: of its training; reason: why it runs, or 'done'; run: the run
    that is its result; folder: of that run, without a tracking store; same_as: an earlier job of the sweep that is the
    same computation, so that its run serves both; needed_space: folder -> bytes; compile_ahead: see `sweep.ahead`;
    trial: of a search, what `training.pruning` needs.
    """

    config: Config
    key: str
    name: str
    values: dict[str, Any]
    settings: dict[str, Any]
    fingerprint: dict[str, str]
    data_name: str
    num_images: int
    batch_size: int
    reason: str = "new"
    run: StoredRun | None = None
    folder: str = ""
    same_as: "SweepJob | None" = None
    needed_space: dict[Path, int] = field(default_factory=dict)
    compile_ahead: Callable[[], None] | None = None
    trial: dict[str, Any] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.reason == "done"


@dataclass
class Sweep:
    """A sweep that is under way.

    direction: 'higher' or 'lower' objectives are better; address: where it is recorded, None without tracking; store:
    the same while it answers, else None: then the results are those of the folders; parent: the record of the sweep;
    start: identifies this start of its jobs; words, trusted: of the command; sweeper: the class of the
    sweeper that chooses the jobs while it runs, '' if they are known before; finished: earlier runs, for estimates;
    store_errors: run id -> why its record is incomplete; run_folders: of the jobs that were trained; workers:
    processes that `launch` runs at a time, 0: none; shares: into how many parts they divide this machine's processors;
    search: that it makes; looks, ended, tuning, searched: as in `SweepResults`.
    """

    jobs: list[SweepJob]
    axes: list[str]
    direction: str
    folder: Path
    id: str
    address: StoreAddress | None = None
    store: StoreAddress | None = None
    parent: Recorder | None = None
    start: str = ""
    words: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    sweeper: str = ""
    finished: Sequence[StoredRun] = ()
    store_errors: dict[str, str] = field(default_factory=dict)
    run_folders: list[Path] = field(default_factory=list)
    workers: int = 0
    shares: int = 0
    looks: tuple[int, int] | None = None
    ended: str = ""
    tuning: Tuning | None = None
    search: Search | None = None
    searched: Searched | None = None

    @property
    def num_planned(self) -> int:
        """How many jobs may run: those that are known, and the trials of a search."""
        missing = sum(not job.is_done and job.same_as is None for job in self.jobs)
        return missing + (self.search.number + len(self.search.seeds) if self.search else 0)

    def find(self, condition: str) -> list[StoredRun]:
        """Runs in the store, the newest first; empty without tracking, and from now on if the store fails."""
        if self.store is None:
            return []
        try:
            if reason := servers.outage(self.store.uri):
                raise servers.ServerSilent(reason)
            found: list[StoredRun] = background.call_or_run_here(history.find, self.store, condition)
            return found
        except Exception as error:
            self.use_folders(errors.describe(error)[:300])
            return []

    def use_folders(self, reason: str) -> None:
        """Take all results from the runs' folders, because the store fails. Of a run without a folder here, none."""
        if self.store is not None:
            servers.note_outage(self.store.uri, reason)
            print(f"WARNING: the tracking store fails ({reason}). The results are taken from the runs' folders.")
        self.store = None
        for job in self.jobs:
            if job.run is not None:
                folder = job.run.tags.get("run.folder", "")
                job.run = replace(job.run, run_id=folder) if Path(folder, "metrics.jsonl").is_file() else None


def plan_sweep(command: Command) -> Sweep:
    """Check every job, find out what it computes, and which jobs are done or the same.

    Raises:
        ConfigError: the problems of all jobs.
    """
    first = command.configs[0]
    jobs, swept = check_jobs(command), _swept(command)
    axes = first.sweep.axes or [axis for axis in swept if axis != "seed"] or ["optimizer"]
    direction = questions.direction(first) or "higher"
    search = plan_search(command)
    if search is not None:  # the jobs that were checked are at the edges of its space
        jobs, axes = [_job(*one) for one in search.default_jobs(command)], [SETTINGS]
    asked = sorted(f"{job.name} {job.fingerprint['fingerprint.request']}" for job in jobs[: 1 if search else None])
    question = [] if first.sweep.question == "best" else [first.sweep.question]
    question += search.space.describe() if search else []
    question += [] if command.is_grid else command.words
    looks, tuning = None, None
    if first.sweep.tune:
        tuning = plan_tuning(command.configs)
        jobs += _first_tuning_jobs(command, tuning)
        question += ["tuned", str(tuning)]
    if first.sweep.until == "verdict":
        looks = (len({job.config.seed for job in jobs}), first.sweep.max_seeds)
        question += ["until a verdict", *map(str, looks)]
    key = fingerprint.hash_of([asked, axes, first.sweep.objective, direction, *question])[:12]
    sweep = Sweep(
        jobs, axes, direction, Path(first.paths.root) / "runs" / "sweeps" / key, key, looks=looks, tuning=tuning
    )
    sweep.search = search
    if first.tracking.backend == "mlflow":
        sweep.address = stores.checked_address(first.tracking, first.paths.root)
        _look_into_store(sweep, sweep.address, first)
    _find_same(sweep)
    return sweep


def add_jobs(
    sweep: Sweep, command: Command, configs: Sequence[Config], labels: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Add jobs with values that were checked, and find out which of them are done or the same.

    labels: of each job, what tells it from the others; without them the swept settings do.
    """
    swept = _labels(command)
    added = (
        [_job(*one) for one in zip(configs, labels, strict=True)] if labels else [_job(one, swept) for one in configs]
    )
    sweep.jobs += added
    if sweep.store is not None:
        _find_done(sweep, added, sweep.store, force=added[0].config.sweep.force)
    _find_same(sweep)


def check_jobs(command: Command) -> list[SweepJob]:
    """Build what can fail of each job before its training: data, model, optimizer, callbacks; find what it computes.

    Raises:
        ConfigError: the problems of all jobs.
    """
    swept = _swept(command)
    problems = list(questions.question_problems(command, swept)) if command.multirun else []
    return _jobs(command.configs, _labels(command), problems)


def _swept(command: Command) -> list[str]:
    return [key.lstrip("+~").split("@")[0] for key in command.swept]


def _labels(command: Command) -> list[str]:
    """The settings that name the jobs."""
    return list(LABELS) if command.multirun and command.configs[0].sweep.tune else _swept(command)


def _first_tuning_jobs(command: Command, tuning: Tuning) -> list[SweepJob]:
    bases = {config.choices["optimizer"]: config for config in reversed(command.configs)}
    configs = [
        with_rate(command, bases[option.name], rate, seed)
        for option in tuning.options
        for rate in first_rates(option, tuning.num_rates)
        for seed in tuning.seeds
    ]
    return [_job(config, LABELS) for config in configs]


def check_space(sweep: Sweep) -> None:
    """Check that there is room for all jobs that will run; raise ConfigError if not. Only jobs that the preflight has
    built are counted."""
    waiting = [job for job in sweep.jobs if not job.is_done and job.same_as is None]
    space.check_space(space.total(job.needed_space for job in waiting), f"This sweep ({len(waiting)} jobs to run)")


def _look_into_store(sweep: Sweep, store: StoreAddress, first: Config) -> None:
    """Close orphaned runs, and find the jobs that are done; if the store's server does not answer, say so."""
    if reason := servers.outage(store.uri):
        print(f"WARNING: the tracking server does not answer ({reason}).")
        print("The sweep runs and is recorded in folders; earlier runs of that server are not reused.")
        return
    sweep.store = store
    background.call_or_run_here(orphans.close_orphans, store, first.paths.root)
    _find_done(sweep, sweep.jobs, store, force=first.sweep.force)


def _jobs(configs: Sequence[Config], swept: Sequence[str], problems: Sequence[str]) -> list[SweepJob]:
    """The jobs in their order. They are checked data set by data set, so that each is loaded once.

    Raises:
        ConfigError: these problems and those of all jobs, each listed once.
    """
    found = dict.fromkeys(problems)
    checked: dict[str, preflight.Checked] = {}  # settings without the seed -> what the check found
    jobs: dict[int, SweepJob] = {}
    for index in sorted(range(len(configs)), key=lambda index: loading.settings_of(configs[index])):
        config = configs[index]
        different = json.dumps(
            [entry for entry in sorted(parameters(config).items()) if entry[0] != "seed"], default=str
        )
        try:
            if config.sweep.preflight and different not in checked:
                checked[different] = preflight.NOT_CHECKED
                checked[different] = preflight.check(config)
            jobs[index] = _job(config, swept)
            if different in checked:
                jobs[index].needed_space, jobs[index].compile_ahead = checked[different]
        except ConfigError as error:
            found.update(dict.fromkeys(error.problems))
    if found:
        raise ConfigError(list(found))
    return [jobs[index] for index in range(len(configs))]


def _job(config: Config, swept: Sequence[str] | Mapping[str, Any]) -> SweepJob:
    """swept: the settings that name the job, or the values under which it is known."""
    given = {override.lstrip("+~").partition("=")[0]: override.partition("=")[2] for override in config.overrides}
    run_folder = config.paths.run or "none"  # of a job only known when it starts
    settings = {
        name: value.replace(run_folder, "${paths.run}") if isinstance(value, str) else value
        for name, value in parameters(config).items()
    }
    # A mapping ('data.keep={3:0.1}') is no setting itself, its entries are: the value is then the text that was given.
    values = {axis: settings[axis] if axis in settings else hidden(given.get(axis), axis) for axis in swept}
    values = dict(swept) if isinstance(swept, Mapping) else values
    dataset = loading.load(config)
    return SweepJob(
        config=config,
        key=job_key(config.overrides),
        name="-".join(name_of_value(axis, value) for axis, value in values.items()) or "run",
        values=values,
        settings={**settings, **values},
        fingerprint=experiment.identity(config, dataset),
        data_name=Path(dataset.origin).name if dataset.origin.startswith("/") else dataset.name,
        num_images=len(dataset.train),
        batch_size=resolve_batch_size(config.fit.batch_size, len(dataset.train)),
    )


def _find_done(sweep: Sweep, jobs: Sequence[SweepJob], store: StoreAddress, force: bool) -> None:
    """Give each of these jobs the finished run that is the same computation; note for the others why they run."""
    wanted = [Wanted(job.fingerprint["fingerprint"], job.fingerprint["fingerprint.request"], job.key) for job in jobs]
    ask = background.call_or_run_here
    earlier: EarlierRuns = EarlierRuns() if force else ask(lookups.earlier_runs, store, wanted, sweep.id)
    for job in jobs:
        key = job.fingerprint["fingerprint"]
        asked = earlier.asked.get(job.fingerprint["fingerprint.request"])
        if force:
            job.reason = "forced"
        elif key in earlier.same:
            job.run, job.reason = _preferred(earlier.same[key], sweep.id, job.key), "done"
        elif key in earlier.unfinished:
            job.reason = f"{earlier.unfinished[key].lower()} before"
        elif asked:
            job.reason = fingerprint.reason_to_run_again(job.fingerprint, asked.tags, job.data_name)
    kinds = [
        Kind(job.config.choices["model"], job.batch_size, job.config.fit.epochs) for job in jobs if not job.is_done
    ]
    sweep.finished = ask(lookups.comparable_runs, store, kinds) if kinds else ()


def _preferred(runs: Sequence[StoredRun], sweep_id: str, key: str) -> StoredRun:
    """Of equal runs, the newest that was trained for this very job of this sweep, or else the newest."""
    mine = [run for run in runs if (run.tags.get("sweep.id"), run.tags.get("sweep.job")) == (sweep_id, key)]
    return (mine or runs)[0]


def _find_same(sweep: Sweep) -> None:
    """Let each computation run once: later jobs that are the same take the run of the first."""
    first_of: dict[str, SweepJob] = {}
    for job in sweep.jobs:
        first = first_of.setdefault(job.fingerprint["fingerprint"], job)
        if first is not job:
            job.same_as = first
