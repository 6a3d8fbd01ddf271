"""Runs the jobs of a sweep in processes that Ray, Slurm or submitit start, and follows each by itself.

A job whose process is killed is started once more, and goes on from its checkpoint. A process on a node that does not
share this machine's disk gets the sweep's plan with the job, and its outcome comes back with the result; its run
reaches the store through the tracking server.
"""

import dataclasses
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from omegaconf import DictConfig, open_dict

from mnistlab.config import ConfigError, hide_secrets, project_root, register
from mnistlab.runtime import exits, files, processes
from mnistlab.sweep import job as sweep_job
from mnistlab.sweep import outcomes
from mnistlab.sweep.outcomes import Kind, Outcome
from mnistlab.sweep.results import job_key
from mnistlab.tracking import orphans

POLL_SECONDS = 0.2
PASSED_ON = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MNISTLAB_TRUST")
NOT_SHARED = ".not-shared"  # in the sweep's folder on a node that does not share the disk
ENDINGS: tuple[Kind, ...] = ("started", "done", "failures")


class Crashed(Exception):
    """The process of a job was killed, or its node was lost."""


@dataclass(frozen=True)
class Request:
    """What Hydra gives to a launcher."""

    hydra_context: Any
    task_function: Any
    config: DictConfig


@dataclass(frozen=True)
class Task:
    """A job for another process. plan, plan_text: the file of the sweep's plan and what it holds; key: of the job;
    variables: of the environment, for a process that does not inherit them, None: not to be there; attempt: 1 or 2."""

    hydra_context: Any
    task_function: Any
    config: DictConfig
    singletons: Mapping[Any, Any]
    plan: str
    plan_text: str
    key: str
    variables: Mapping[str, str | None] = field(default_factory=dict)
    attempt: int = 1


@dataclass(frozen=True)
class Ended:
    """What comes back from a job: Hydra's result, the files of its outcome by kind. stopped: by a signal."""

    result: JobReturn
    outcome: dict[Kind, str]
    stopped: bool = False


class Engine(Protocol):
    """What starts the processes. limit: at a time; variables: of the environment, as in `Task`."""

    limit: int | None
    variables: dict[str, str | None]

    def submit(self, task: Task) -> Any:
        """Start a job; returns a handle."""

    def finished(self, handles: Sequence[Any], seconds: float) -> Iterable[Any]:
        """Those that have ended, waited for at most so long."""

    def waiting(self, handles: Sequence[Any]) -> str:
        """Why none of these jobs runs, in a sentence for the user; '' if one does or that is not known."""

    def result(self, handle: Any) -> Ended:
        """What a job has left. Raises Crashed."""

    def cancel(self, handles: Sequence[Any]) -> None:
        """Stop these jobs."""


def launch(request: Request, job_overrides: Sequence[Sequence[str]], first_number: int) -> list[JobReturn]:
    """Run these jobs; returns when all have ended."""
    from mnistlab.sweep.clusters import engine_of

    numbered = dict(enumerate(job_overrides, start=first_number))
    done = {number: value for number, job in numbered.items() if (value := sweep_job.known_value(job)) is not None}
    results = {
        number: JobReturn(numbered[number], status=JobStatus.COMPLETED, _return_value=value)
        for number, value in done.items()
    }
    tasks = {number: _task(request, job, number) for number, job in numbered.items() if number not in done}
    if tasks:
        engine = engine_of(request.config)
        tasks = {number: dataclasses.replace(task, variables=engine.variables) for number, task in tasks.items()}
        results |= _run(engine, tasks)
    return [results[number] for number in numbered]


def _task(request: Request, overrides: Sequence[str], number: int) -> Task:
    config = request.hydra_context.config_loader.load_sweep_config(request.config, list(overrides))
    with open_dict(config):
        config.hydra.job.id = f"job_{number}"
        config.hydra.job.num = number
    plan = Path(config.sweep.plan)
    text = plan.read_text(encoding="utf-8")
    state = Singleton.get_state()
    return Task(request.hydra_context, request.task_function, config, state, str(plan), text, job_key(overrides))


def variables_passed_on() -> dict[str, str | None]:
    """Of this process's environment, what says where runs are recorded and which packages are trusted. An address with
    a password stays here: it would be kept by the cluster."""
    values = {name: os.environ.get(name) for name in PASSED_ON} | {"MNISTLAB_ROOT": project_root()}
    return {name: value for name, value in values.items() if value is None or hide_secrets(value) == value}


def _run(engine: Engine, tasks: Mapping[int, Task]) -> dict[int, JobReturn]:
    """Keep as many jobs running as the engine allows, until all have ended."""
    waiting, running, results = deque(tasks.items()), dict[Any, tuple[int, Task]](), dict[int, JobReturn]()
    limit, told = engine.limit or len(tasks), ""
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                number, task = waiting.popleft()
                running[engine.submit(task)] = (number, task)
            for handle in engine.finished(list(running), POLL_SECONDS):
                number, task = running.pop(handle)
                ended = _end_of(engine, handle, task)
                if isinstance(ended, Task):
                    waiting.appendleft((number, ended))
                else:
                    results[number] = ended
            if running and (why := engine.waiting(list(running))) not in ("", told):
                print(why, flush=True)
                told = why
    except BaseException:
        engine.cancel(list(running))
        raise
    return results


def _end_of(engine: Engine, handle: Any, task: Task) -> JobReturn | Task:
    """The result of a job that has ended; or the task of its second attempt, if its process was killed or stopped."""
    folder = Path(task.plan).parent
    try:
        ended = engine.result(handle)
    except Crashed as crash:
        again = task.attempt == 1 and not outcomes.has_ended(folder, task.key)
        return _again(task, crash) if again else _given_up(task, crash)
    if ended.stopped and task.attempt == 1 and "done" not in ended.outcome:
        failed = outcomes.parse(ended.outcome.get("failures", "")) or Outcome(error="stopped")
        return _again(task, Crashed(failed.error))
    return _received(task, ended)


def _received(task: Task, ended: Ended) -> JobReturn:
    """Keep the outcome where the sweep looks for it."""
    folder = Path(task.plan).parent
    for kind, text in ended.outcome.items():
        if not (folder / kind / task.key).is_file():
            files.write_text(folder / kind / task.key, text)
    return ended.result


def _again(task: Task, crash: Crashed) -> Task:
    """The task for its second attempt, when the processes of the first are gone."""
    folder = Path(task.plan).parent
    (folder / "failures" / task.key).unlink(missing_ok=True)  # what is shown of the job does not end here
    outcomes.wait_until_gone(folder, [task.key])
    started = outcomes.read(folder, "started", task.key)
    if started is not None and outcomes.is_elsewhere(started):  # a lost node cannot close its run
        orphans.end_folder(Path(started.folder), "KILLED", str(crash))
    print(f"\nThe process of a job was ended ({crash}). The job runs again.", flush=True)
    outcomes.forget(folder, task.key)
    outcomes.leave(folder, "retried", task.key, Outcome(error=str(crash)))
    return dataclasses.replace(task, attempt=2)


def _given_up(task: Task, crash: Crashed) -> JobReturn:
    folder = Path(task.plan).parent
    done = outcomes.read(folder, "done", task.key)
    if done is None and outcomes.read(folder, "failures", task.key) is None:
        started = outcomes.read(folder, "started", task.key) or Outcome()
        error = f"its process was killed or crashed twice: {crash}"
        outcomes.leave(folder, "failures", task.key, Outcome(started.folder, error=error))
    value = done.objective if done else None
    return JobReturn(task_name=task.key, status=JobStatus.COMPLETED, _return_value=value)


# ---- in the other process -------------------------------------------------------------------------------------------


def run_there(task: Task) -> Ended:
    """Run a job in this process, which Ray or submitit has started."""
    for name, value in task.variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    register()  # what the configuration refers to: the project's folder
    folder = Path(task.plan).parent
    _write_plan(task, folder)
    setup_globals()
    Singleton.set_state(dict(task.singletons))
    result = run_job(
        hydra_context=task.hydra_context,
        task_function=task.task_function,
        config=task.config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    left = {kind: folder / kind / task.key for kind in ENDINGS}
    outcome = {kind: file.read_text(encoding="utf-8") for kind, file in left.items() if file.is_file()}
    return Ended(result, outcome, stopped=exits.is_stopping())


def _write_plan(task: Task, folder: Path) -> None:
    """Where this node does not share the disk of the sweep: write the plan, which may have grown, and remove what an
    earlier start or attempt of the job has left here."""
    if not Path(task.plan).is_file():
        _check_delivery(task.config)
        files.write_text(folder / NOT_SHARED, "")
    if (folder / NOT_SHARED).is_file():
        files.write_text(Path(task.plan), task.plan_text)
        outcomes.forget(folder, task.key)


def _check_delivery(config: DictConfig) -> None:
    """Raise ConfigError if nobody but this node would ever see the run."""
    from mnistlab.tracking import servers, stores

    store = stores.address(config.tracking, config.paths.root)
    if config.tracking.backend != "mlflow" or not servers.is_server(store.uri):
        raise ConfigError(
            f"{processes.process_name().partition(':')[0]} does not share the disk of the sweep, so a run there needs "
            f"a tracking server: tracking=server tracking.uri=http://HOST:5000. Received: {store.uri}."
        )
