"""One job of Hydra: a single run, or one run of a sweep. Its failure is kept, so that the other jobs go on."""

import contextlib
import dataclasses
import json
import logging
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mnistlab.config import Config, ConfigError, SweepJobInfo, hide_secrets, register
from mnistlab.config.compose import checked
from mnistlab.runtime import errors, exits, startup, terminal
from mnistlab.runtime.processes import process_name
from mnistlab.sweep import outcomes, worker
from mnistlab.sweep.outcomes import Outcome

log = logging.getLogger("mnistlab")

failures: list[tuple[str, BaseException]] = []  # of this process's jobs: overrides and error
folders: list[Path] = []  # of this process's runs, also of those that failed after their record was opened


def run_job(composed: DictConfig) -> float | None:
    """Hydra's job function. Returns the objective, for sweepers that optimize; None if the job failed."""
    return run_here(composed, isolated=False)


def run_here(composed: DictConfig, isolated: bool = True) -> float | None:
    """Run a job, or let a process of its own run it. isolated: this is that process."""
    register()  # a parallel launcher runs this in a new process
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    composed.paths.run = str(folder)
    user_groups = [source.path for source in job.runtime.config_sources if source.provider == "command-line"]
    config: Config | None = None
    try:
        config = checked(composed, list(job.overrides.task), dict(job.runtime.choices), next(iter(user_groups), None))
        planned = _read_plan(config, announce=not isolated)
        if not planned.get("runs", True):
            _remove_if_unused(folder)
            return _objective(planned)
        return _run_planned(config, composed, isolated)
    except KeyboardInterrupt as error:
        if config is None or not _runs_for_another_process(config):
            raise
        _leave_failure(config, exits.stop_reason(error)[1], "KILLED")  # the sweep goes on with its other jobs
    except exits.TimeBudgetSpent as error:
        if config is not None and config.sweep.plan:
            _leave_failure(config, f"{error}; to be continued", "KILLED")
        log.info("The run is to be continued: %s. Run the same command again.", error)
    except (Exception, SystemExit) as error:  # a callable of the user's may call sys.exit
        failures.append((job.job.override_dirname, error))
        if config is not None:
            _leave_failure(config, errors.describe(error))
        elif composed.sweep.get("plan"):  # it is refused here, but not by the sweep: a package is missing
            _leave_refusal(Path(composed.sweep.plan).parent, list(job.overrides.task), errors.describe(error))
        if isinstance(error, ConfigError):
            _remove_if_unused(folder)
            return None
        folder = Path(config.paths.run or folder) if config else folder  # that of the run which is continued
        if not (folder / "traceback.txt").exists():  # it failed before the record was opened
            log.debug("failed", exc_info=True)
        print(f"The traceback is in {folder / (job.job.name + '.log')}", file=sys.stderr)
    finally:
        worker.set_busy(False)
        if config is not None and Path(config.paths.run or folder, "status.json").exists():
            folders.append(Path(config.paths.run or folder))
    return None


def _run_planned(config: Config, composed: DictConfig, isolated: bool) -> float | None:
    """Run a job that is not done yet, in this process or in one of its own; returns the objective."""
    folder, key = Path(config.paths.run or ""), config.sweep_job.key
    if _runs_for_another_process(config):
        worker.set_busy(True)
        worker.end_with(config.sweep_job.process)
        worker.take_share(Path(config.sweep.plan or ""))
    begun = Outcome(str(folder), process_name(), overrides=list(map(hide_secrets, config.overrides)))
    if config.sweep.plan:
        outcomes.leave(_sweep_folder(config), "started", key, begun)
        if config.sweep.isolate and not isolated:
            from mnistlab.sweep.isolation import run_isolated

            exits.catch_signals()
            return run_isolated(composed, config, _sweep_folder(config))
    if config.sweep_job.wait:  # otherwise the sweep has prepared this process
        prepare_process(config, close_orphans=config.sweep.plan is None)
    if _runs_for_another_process(config):
        from mnistlab.tracking import background

        background.submit(outcomes.note_if_killed, _sweep_folder(config).resolve(), key)
    with startup.loading():
        from mnistlab.experiment import run
        from mnistlab.sweep import ahead

    exits.catch_signals()
    ahead.start()

    def note_folder(opened: Path) -> None:
        if config.sweep.plan and opened != folder:  # an earlier run is continued
            outcomes.leave(_sweep_folder(config), "started", key, dataclasses.replace(begun, folder=str(opened)))

    objective = run(config, note_folder).objective
    if config.sweep.plan:
        done = Outcome(str(config.paths.run), process_name(), objective=objective)
        outcomes.leave(_sweep_folder(config), "done", key, done)
    return objective


def _runs_for_another_process(config: Config) -> bool:
    """Whether a sweep in another process waits for this job."""
    return config.sweep.plan is not None and config.sweep_job.wait


def _sweep_folder(config: Config) -> Path:
    return Path(config.sweep.plan or "").parent


def _leave_failure(config: Config, error: str, status: str = "FAILED") -> None:
    """Write why the job failed into the sweep's folder; the sweep may run in another process."""
    if config.sweep.plan and config.sweep_job.key:
        failure = Outcome(config.paths.run or "", process_name(), error, status)
        outcomes.leave(_sweep_folder(config), "failures", config.sweep_job.key, failure)


def _leave_refusal(sweep_folder: Path, overrides: Sequence[str], error: str) -> None:
    """Write why a job cannot run in this process at all."""
    from mnistlab.sweep.results import job_key

    outcomes.leave(sweep_folder, "failures", job_key(overrides), Outcome("", process_name(), error))


def prepare_process(config: Config, close_orphans: bool) -> None:
    """Check the tracking store; start the background process and the loading of the data while TensorFlow loads.

    Args:
        close_orphans: close the runs that killed commands left open. A sweep does it when it plans.
    """
    from mnistlab.data import loading
    from mnistlab.tracking import background, mlflow_store, orphans, stores

    store = None
    if config.tracking.backend == "mlflow":
        store = stores.checked_address(config.tracking, config.paths.root)
        if _outage(config, store.uri):  # the run is recorded in its folder
            store = None
        else:
            if config.sweep.plan is None:  # otherwise the sweep has asked
                stores.check_permission(store)
            background.submit(mlflow_store.prepare_store, store)
    if close_orphans:
        background.submit(orphans.close_orphans, store, config.paths.root)
    background.start()
    loading.prefetch(config)


def _outage(config: Config, uri: str) -> str:
    """Why the tracking server does not answer. Sweep and jobs tell each other, so that one of them waits for it."""
    from mnistlab.tracking import servers

    if not config.sweep.plan:
        return servers.outage(uri)
    folder = _sweep_folder(config)
    if told := outcomes.read_outage(folder):
        servers.note_outage(uri, told)
    elif reason := servers.outage(uri):
        outcomes.leave_outage(folder, reason)
    return servers.outage(uri)


def _read_plan(config: Config, announce: bool) -> dict[str, Any]:
    """This job's entry in the sweep's plan: its name, and whether it has to run. Empty outside a sweep.

    announce: log that the job starts.
    """
    if config.sweep.plan is None:
        return {}
    from mnistlab.sweep.results import job_key

    key = job_key(config.overrides)
    plan, entry = _entry(Path(config.sweep.plan), key)
    tags = {"sweep.id": plan["sweep"], "sweep.kind": "job", "sweep.job": key, "sweep.start": plan["start"]}
    if plan["parent"]:
        tags |= {"mlflow.parentRunId": plan["parent"], "sweep.parent": plan["parent"]}
    config.sweep_job = SweepJobInfo(
        entry.get("name", ""),
        tags,
        key,
        wait=plan["process"] != process_name(),
        process=plan["process"],
        trial=_with_storage(entry.get("trial", {}), config),
    )
    if config.sweep_job.wait and plan.get("workers"):
        terminal.silence()  # the sweep shows its jobs
    if entry.get("runs") and announce:
        log.info("\n%s", entry["line"])
    return entry


def _with_storage(trial: dict[str, Any], config: Config) -> dict[str, Any]:
    """What the job of a trial needs to know of its study, with the address that stands in the configuration."""
    return {**trial, "storage": trial["storage"] or config.sweep.storage} if trial else {}


def known_value(overrides: Sequence[str]) -> float | None:
    """The objective of a job that the sweep's plan does not let run, NaN if it has none; None: the job has to run."""
    files = [Path(word.partition("=")[2]) for word in overrides if word.startswith("sweep.plan=")]
    if not files or not files[-1].is_file():  # outside a sweep, or Hydra has escaped the file's name
        return None
    from mnistlab.sweep.results import job_key

    _, entry = _entry(files[-1], job_key(overrides))
    return None if entry.get("runs", True) else _objective(entry)


def _entry(file: Path, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The sweep's plan, and a job's entry in it."""
    plan = json.loads(file.read_text(encoding="utf-8"))
    entry: dict[str, Any] = plan["jobs"].get(key, {})
    if outcomes.has_ended(file.parent, key):  # listed twice: optimizer=adam,adam; or before a launcher's worker died
        entry |= {"runs": False}
    return plan, entry


def _objective(entry: dict[str, Any]) -> float:
    """The objective of a job that does not run, NaN if it has none."""
    return math.nan if entry.get("objective") is None else float(entry["objective"])


def _remove_if_unused(folder: Path) -> None:
    """Remove the run folder that Hydra created, if it holds no run."""
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {".hydra", "train.log"}:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()  # that of the day, if it is empty
