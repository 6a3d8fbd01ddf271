"""The plan of a sweep in words: what runs and why, which jobs are the same, how long it takes."""

from collections.abc import Iterator, Sequence

from mnistlab.config.run_names import option_settings
from mnistlab.sweep.estimate import expected_seconds
from mnistlab.sweep.names import name_of_value
from mnistlab.sweep.plan import Sweep, SweepJob
from mnistlab.sweep.questions import direction
from mnistlab.sweep.rates import WITHOUT_RANGE, Tuning
from mnistlab.sweep.searched import Search
from mnistlab.tracking.description import train_command

MAX_LISTED_JOBS = 60


def print_plan(sweep: Sweep, where: str = "") -> None:
    """Print what will run and why, which jobs are the same, about how long it will take, and where they run."""
    if sweep.sweeper:
        config = sweep.jobs[0].config
        better = f": {better} is better" if (better := direction(config)) else ""
        chosen = f"{sweep.sweeper} chooses the jobs by their {config.sweep.objective}{better}"
        print(f"Sweep over {' x '.join(sweep.axes)}: {chosen}.\n{where}", flush=True)
        return
    missing = [job for job in sweep.jobs if not job.is_done]
    num_done = len(sweep.jobs) - len(missing)
    if sweep.search:
        _print_search(sweep.search)
    else:
        print(f"Sweep over {' x '.join(sweep.axes)}: {len(sweep.jobs)} jobs, {num_done} of them done.")
    if sweep.tuning:
        _print_tuning(sweep.tuning)
    listed = sweep.jobs if sweep.jobs[0].config.sweep.dry_run else missing
    for job in listed[:MAX_LISTED_JOBS]:
        print(f"  {job.name:32} {_plan_of(job)}")
    if len(listed) > MAX_LISTED_JOBS:
        print(f"  ... and {len(listed) - MAX_LISTED_JOBS} more")
    for sentence in list(same_computations(sweep))[:MAX_LISTED_JOBS]:
        print(sentence)
    _print_expected_time(sweep, [job for job in missing if job.same_as is None])
    if where:
        print(where)
    print(flush=True)


def _print_search(search: Search) -> None:
    seeds = ", ".join(map(str, search.seeds))
    print(f"Search with {search.number} trials, on seed {search.trial_seed}:")
    for line in search.space.describe():
        print(f"  {line}")
    print(f"The best is then compared with the defaults on {'seeds' if len(search.seeds) > 1 else 'seed'} {seeds}.")


def _print_tuning(tuning: Tuning) -> None:
    seeds = ", ".join(map(str, tuning.seeds))
    print(
        f"Each optimizer gets {tuning.num_rates} learning rates, two of them chosen when the others are done, on seeds "
        f"{seeds}. Then it is compared at its best rate and at its default."
    )
    for option in tuning.options:
        if not option.has_range:
            print(
                f"{option.name} names no sweep.tune_range: a factor of {WITHOUT_RANGE} around its own, "
                f"{option.low:g} to {option.high:g}."
            )


def _plan_of(job: SweepJob) -> str:
    if job.run is None:
        return f"the same computation as {job.same_as.name}" if job.same_as else job.reason
    recorded = f", recorded as {job.run.name}" if job.run.name != job.name else ""
    return f"{job.reason}  (run {job.run.run_id}{recorded})"


def same_computations(sweep: Sweep) -> Iterator[str]:
    """A sentence for each pair of options that are one computation, whatever the seed."""
    said = set()
    for job in sweep.jobs:
        if job.same_as is None:
            continue
        names = tuple(_without_seed(one) for one in (job, job.same_as))
        if names not in said:
            said.add(names)
            given = _made_equal_by(job, job.same_as)
            yield f"{names[0]} is {names[1]}{f' with {given}' if given else ''}: one run serves both."


def _without_seed(job: SweepJob) -> str:
    values = {axis: value for axis, value in job.values.items() if axis != "seed"}
    return "-".join(name_of_value(axis, value) for axis, value in values.items()) or job.name


def _made_equal_by(job: SweepJob, other: SweepJob) -> str:
    """The settings by which two options that differ by themselves became the same: 'fit.batch_size=32'."""
    before, others = option_settings(job.config), option_settings(other.config)
    differ = [name for name in job.settings if name in before and name in others and before[name] != others[name]]
    given = {override.lstrip("+~").partition("=")[0] for override in job.config.overrides} - {*job.values}
    return ", ".join(f"{name}={job.settings[name]}" for name in differ if name in given)


def _print_expected_time(sweep: Sweep, jobs: Sequence[SweepJob]) -> None:
    seconds = [expected_seconds(job.settings, job.num_images, job.batch_size, sweep.finished) for job in jobs]
    known = [value for value in seconds if value is not None]
    if known:
        num_unknown = len(seconds) - len(known)
        others = "1 job" if num_unknown == 1 else f"{num_unknown} jobs"
        rest = f", not counting {others} without a comparable run" if num_unknown else ""
        print(f"Expected time: about {sum(known):.0f} s, estimated from earlier runs{rest}.")


def needs_repeats(sweep: Sweep) -> str:
    """What to do for a verdict after a sweep with one seed: the same jobs with as many seeds as it takes. The command
    names the packages that the user has trusted."""
    if sweep.sweeper:
        return (
            "A verdict needs repeats. mnistlab's own search (sweep.trials=30 in place of hydra/sweeper) compares the "
            "best that it finds with the defaults on other seeds."
        )
    kept = [word for word in sweep.words if not word.startswith("sweep.seeds=")]
    trust = [f"trust=[{','.join(sweep.trusted)}]"] if sweep.trusted else []
    command = train_command([*kept, *trust, "sweep.until=verdict"])
    return f"A verdict needs repeats. These runs are the first of them:\n  {command}"
