"""A sweep until a verdict: rounds of seeds for the options that are still in doubt.

Each round's decision follows from the scores alone. So the same command, after an interruption, finds its finished
runs, comes to the same decisions again, and goes on where it was.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mnistlab.config import Config, hydra_internals
from mnistlab.config.compose import Command, compose_config
from mnistlab.sweep import outcomes
from mnistlab.sweep.collecting import find_results
from mnistlab.sweep.launching import launch_jobs
from mnistlab.sweep.plan import Sweep, SweepJob, add_jobs, check_space
from mnistlab.sweep.round_state import RoundState, look
from mnistlab.tracking import background


def run_rounds(sweep: Sweep, command: Command, launch: Callable[[list[str]], object]) -> None:
    """Run rounds until the question is answered, hopeless, or a limit is reached.

    launch: starts Hydra with additional overrides; returns when all jobs have ended.
    """
    started = time.monotonic()
    first = sweep.jobs[0].config
    limit = first.sweep.max_seconds
    while True:
        run_missing(sweep, launch)
        results = find_results(sweep)
        state: RoundState = background.call_or_run_here(look, sweep.store, results)
        print(f"\n{state.text}", flush=True)
        if state.why or not state.open_jobs:
            reason = state.why or "no option is left that could be compared"
            print(f"\nThe sweep ends: {reason}.", flush=True)
            sweep.ended = "" if state.why else reason
            return
        if limit is not None and time.monotonic() - started > limit:
            sweep.ended = f"the time limit of {limit:g} s (sweep.max_seconds); the same command goes on"
            print(f"\nThe sweep ends: {sweep.ended}.", flush=True)
            return
        seed = max(job.config.seed for job in sweep.jobs) + 1
        add_jobs(sweep, command, [_with_seed(command, job, seed) for job in _of_first_seed(sweep, state.open_jobs)])
        check_space(sweep)


def run_missing(sweep: Sweep, launch: Callable[[list[str]], object]) -> None:
    """Launch the jobs that have no result yet. launch: as for `run_rounds`."""

    def start(plan: Path) -> object:
        left = [job for job in missing if not outcomes.has_ended(sweep.folder, job.key)]
        with hydra_internals.only_these_jobs([[*job.config.overrides, f"sweep.plan={plan}"] for job in left]):
            return launch([])

    done = {job.key for job in sweep.jobs if sweep.start and outcomes.has_ended(sweep.folder, job.key)}
    missing = [job for job in sweep.jobs if not job.is_done and job.same_as is None and job.key not in done]
    if missing:
        launch_jobs(sweep, start)


def _of_first_seed(sweep: Sweep, names: Sequence[str]) -> list[SweepJob]:
    """The jobs of the first seed whose option is that of one of these jobs."""
    wanted = {_option(job) for job in sweep.jobs if job.name in names}
    seed = sweep.jobs[0].config.seed
    return [job for job in sweep.jobs if job.config.seed == seed and _option(job) in wanted]


def _option(job: SweepJob) -> str:
    return repr([value for axis, value in job.values.items() if axis != "seed"])


def _with_seed(command: Command, job: SweepJob, seed: int) -> Config:
    overrides = [entry for entry in job.config.overrides if not entry.startswith("seed=")]
    return compose_config([*overrides, f"seed={seed}"], command.config_name, command.config_dir, typed=False)
