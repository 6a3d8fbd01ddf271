"""One job of Hydra: a single run, or one run of a sweep. Its failure is kept, so that the other jobs go on."""

import json
import logging
import math
import shutil
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mnistlab.config import Config, ConfigError, SweepJobInfo, register
from mnistlab.config.compose import checked
from mnistlab.runtime import errors, exits, startup

log = logging.getLogger("mnistlab")

failures: list[tuple[str, BaseException]] = []  # of this process's jobs: overrides and error


def run_job(composed: DictConfig) -> float | None:
    """Hydra's job function. Returns the objective, for sweepers that optimize; None if the job failed."""
    register()  # a parallel launcher runs this in a new process
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    composed.paths.run = str(folder)
    user_groups = [source.path for source in job.runtime.config_sources if source.provider == "command-line"]
    config: Config | None = None
    try:
        config = checked(composed, list(job.overrides.task), dict(job.runtime.choices), next(iter(user_groups), None))
        planned = _read_plan(config)
        if not planned.get("runs", True):
            _remove_if_unused(folder)
            return math.nan if planned["objective"] is None else float(planned["objective"])
        if config.sweep_job.wait:  # otherwise the sweep has prepared this process
            prepare_process(config, close_orphans=config.sweep.plan is None)
        with startup.loading():
            from mnistlab.experiment import run

        exits.catch_signals()
        objective = run(config).objective
        _leave_result(config, "done", str(folder))
        return objective
    except (Exception, SystemExit) as error:  # a callable of the user's may call sys.exit
        failures.append((job.job.override_dirname, error))
        if config is not None:
            _leave_result(config, "failures", errors.describe(error))
        if isinstance(error, ConfigError):
            _remove_if_unused(folder)
            return None
        if not (folder / "traceback.txt").exists():  # it failed before the record was opened
            log.debug("failed", exc_info=True)
        print(f"The traceback is in {folder / (job.job.name + '.log')}", file=sys.stderr)
    return None


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
        background.submit(mlflow_store.prepare_store, store)
    if close_orphans:
        background.submit(orphans.close_orphans, store, config.paths.root)
    background.start()
    loading.prefetch(config)


def _read_plan(config: Config) -> dict[str, Any]:
    """This job's entry in the sweep's plan: its name, and whether it has to run. Empty outside a sweep."""
    if config.sweep.plan is None:
        return {}
    from mnistlab.runtime.processes import process_name
    from mnistlab.sweep.results import job_key

    file = Path(config.sweep.plan)
    plan = json.loads(file.read_text(encoding="utf-8"))
    key = job_key(config.overrides)
    entry: dict[str, Any] = plan["jobs"].get(key, {})
    if any((file.parent / kind / key).exists() for kind in ("done", "failures")):  # listed twice: optimizer=adam,adam
        entry |= {"runs": False}
    tags = {"sweep.id": plan["sweep"], "sweep.kind": "job", "sweep.job": key, "sweep.start": plan["start"]}
    if plan["parent"]:
        tags |= {"mlflow.parentRunId": plan["parent"], "sweep.parent": plan["parent"]}
    config.sweep_job = SweepJobInfo(entry.get("name", ""), tags, key, wait=plan["process"] != process_name())
    if entry.get("runs"):
        log.info("\n%s", entry["line"])
    return entry


def _leave_result(config: Config, kind: str, text: str) -> None:
    """Write how the job ended into the sweep's folder; the sweep may run in another process."""
    if config.sweep.plan and config.sweep_job.key:
        (Path(config.sweep.plan).parent / kind / config.sweep_job.key).write_text(text, encoding="utf-8")


def _remove_if_unused(folder: Path) -> None:
    """Remove the run folder that Hydra created, if it holds no run."""
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {".hydra", "train.log"}:
        shutil.rmtree(folder, ignore_errors=True)
