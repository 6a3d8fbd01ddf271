"""A search: trials in a space of settings, each chosen from the scores of those before; then the best one against the
defaults, on seeds that no trial had.

The study is kept in a file, so the same command goes on after an interruption, and with a higher `sweep.trials` after
the end.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mnistlab.config import parameters
from mnistlab.config.compose import Command
from mnistlab.config.search_space import Value
from mnistlab.runtime import files
from mnistlab.sweep import outcomes, study
from mnistlab.sweep.plan import Sweep, SweepJob, add_jobs, check_space
from mnistlab.sweep.results import why_diverged
from mnistlab.sweep.rounds import run_missing
from mnistlab.sweep.searched import Search, Searched, SearchTrial
from mnistlab.sweep.study import Study, Trial
from mnistlab.tracking import background


def run_search(sweep: Sweep, command: Command, launch: Callable[[list[str]], object], search: Search) -> None:
    """Run the trials, as many at a time as there are workers, and the comparison.

    launch: starts Hydra with additional overrides; returns when all jobs have ended.
    """
    trials = _Trials(sweep, command, search)
    try:
        run_missing(sweep, launch)  # the defaults
        _run_trials(trials, sweep, search, launch)
        if (best := trials.best()) is not None:
            print(f"\n{trials.describe(best)}", flush=True)
            add_jobs(sweep, command, *zip(*search.found_jobs(command, best.values), strict=True))
            check_space(sweep)
            run_missing(sweep, launch)
    finally:
        sweep.searched = trials.record()


def _run_trials(trials: "_Trials", sweep: Sweep, search: Search, launch: Callable[[list[str]], object]) -> None:
    started, limit = time.monotonic(), search.base.sweep.max_seconds
    while waiting := trials.next(max(1, sweep.workers)):
        run_missing(sweep, launch)
        trials.tell(waiting)
        if limit is not None and time.monotonic() - started > limit:
            sweep.ended = f"the time limit of {limit:g} s (sweep.max_seconds); the same command goes on"
            print(f"\nThe search ends: {sweep.ended}.", flush=True)
            return


class _Trials:
    """The trials of a search and their jobs."""

    def __init__(self, sweep: Sweep, command: Command, search: Search) -> None:
        self._sweep, self._command, self._search = sweep, command, search
        self._study = Study(search.space, sweep.folder, f"mnistlab {sweep.id}", sweep.direction, search.base)
        self._jobs: dict[int, SweepJob] = {}
        self._tried: set[int] = set()  # in this start
        self._study.start(_defaults(search))
        recorded = sweep.find(f"tags.`sweep.id` = '{sweep.id}' and tags.`sweep.kind` = 'job'")
        runs = {run.tags.get("sweep.job"): run for run in reversed(recorded) if run.status == "FINISHED"}
        ended = [trial for trial in self._study.trials() if trial.state != "running"]
        self._add(ended)
        for job in [self._jobs[trial.number] for trial in ended]:
            if not job.is_done:  # it was stopped early, or its run was deleted: it is not run again
                job.reason, job.run = "done", runs.get(job.key)
        without_run = {id(job) for job in self._jobs.values() if job.run is None}
        sweep.jobs = [job for job in sweep.jobs if id(job) not in without_run]

    def _add(self, trials: Sequence[Trial]) -> None:
        """Add the jobs of these trials to the sweep; of those with equal values, the first alone."""
        if not trials:
            return
        made = [self._search.trial_job(self._command, trial.number, trial.values) for trial in trials]
        known = {job.key: job for job in self._sweep.jobs}
        num_before = len(self._sweep.jobs)
        add_jobs(self._sweep, self._command, *zip(*made, strict=True))
        added = self._sweep.jobs[num_before:]
        del self._sweep.jobs[num_before:]
        for trial, job in zip(trials, added, strict=True):
            if job.key not in known:
                known[job.key] = job
                self._sweep.jobs.append(job)
            self._jobs[trial.number] = known[job.key]
            known[job.key].trial = self._study.link(trial.number)

    def next(self, count: int) -> list[Trial]:
        """The trials to run next, at most `count`: those that were interrupted, then new ones; none at the end."""
        known = self._study.trials()
        waiting = [trial for trial in known if trial.state == "running" and trial.number not in self._tried][:count]
        new = min(count - len(waiting), self._search.number - len(known))
        waiting += [self._study.ask() for _ in range(new)]
        self._add(waiting)
        self._tried |= {trial.number for trial in waiting}
        return waiting

    def tell(self, trials: Sequence[Trial]) -> None:
        """Tell the study the scores of these trials. Those that failed or were interrupted stay open: the same command
        runs them again."""
        for trial in trials:
            found = _outcome(self._sweep, self._jobs[trial.number])
            if found is not None:
                self._study.tell(trial.number, found)

    def best(self) -> Trial | None:
        """The complete trial with the best score, of equal ones the first."""
        sign = 1 if self._sweep.direction == "higher" else -1
        scored = [trial for trial in self._study.trials() if trial.state == "complete" and trial.score is not None]
        return max(scored, key=lambda trial: sign * (trial.score or 0.0), default=None)

    def describe(self, best: Trial) -> str:
        """The outcome in a sentence or two."""
        states = [trial.state for trial in self._study.trials()]
        counted = ((states.count("pruned"), "stopped early"), (states.count("diverged"), "diverged"))
        others = ", ".join(f"{number} {what}" for number, what in counted if number)
        settings = " ".join(one.override(best.values[one.name]) for one in self._search.space.active(best.values))
        return (
            f"{len(states)} trials{f', {others}' if others else ''}. The best is trial {best.number} with "
            f"{self._search.base.sweep.objective} {best.score:.4f}: {settings}"
        )

    def record(self) -> Searched:
        """The trials as they are recorded."""
        base, best = self._search.base, self.best()
        trials = [
            SearchTrial(one.number, self._name(one), one.values, one.state, one.score, one.epochs)
            for one in self._study.trials()
        ]
        shares = background.call_or_run_here(study.importances, self._study.address, self._study.name)
        return Searched(
            [one.describe() for one in self._search.space.dimensions],
            base.sweep.sampler,
            base.sweep.pruner,
            self._search.trial_seed,
            trials,
            shares,
            best.number if best else None,
        )

    def _name(self, trial: Trial) -> str:
        return self._jobs[trial.number].name if trial.number in self._jobs else f"trial{trial.number}"


def _outcome(sweep: Sweep, job: SweepJob) -> float | None:
    """The score of a job, NaN if it diverged; None if it has failed or was interrupted."""
    job = job.same_as or job
    objective = job.config.sweep.objective
    done = outcomes.read(sweep.folder, "done", job.key)
    if done is not None:
        score = math.nan if done.objective is None else done.objective
        tags = files.read_json(Path(done.folder) / "tags.json")
        return math.nan if why_diverged(tags, {objective: score}, objective) else score
    if job.is_done and job.run is not None:
        diverged = why_diverged(job.run.tags, job.run.metrics, objective)
        return math.nan if diverged else job.run.metrics.get(objective, math.nan)
    return None


def _defaults(search: Search) -> dict[str, Value]:
    """The values of the defaults, as far as they are in the space."""
    settings, values = parameters(search.base), dict[str, Value]()
    for dimension in search.space.active(values):
        default = settings.get(dimension.setting)
        text = str(default).replace(" ", "")
        if text in dimension.choices:
            values[dimension.name] = text
        elif isinstance(default, int | float) and dimension.low <= default <= dimension.high:
            values[dimension.name] = default
    return values
