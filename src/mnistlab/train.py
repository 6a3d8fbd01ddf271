"""The entry point: parse, check, hand over. Importing it loads neither TensorFlow, MLflow nor matplotlib."""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mnistlab.config import Config, ConfigError, SweepPart, conf_folder, register
from mnistlab.config.compose import check_command, checked, explain
from mnistlab.runtime import startup
from mnistlab.tracking.fingerprint import config_hash
from mnistlab.tracking.provenance import process_name

USER_MISTAKE = 2
STOPPED = (130, 143)  # by Ctrl-C, by SIGTERM
failures: list[tuple[str, Exception]] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the program is: a run that is told to stop ends as KILLED, not as RUNNING for ever."""


def job(composed: DictConfig) -> float | None:
    """One job of Hydra's: typed, then run. Returns the objective, for sweepers that optimize.

    A failure is kept rather than raised, so that the other jobs of a multirun go on.
    """
    started = HydraConfig.get()
    folder = Path(started.runtime.output_dir)
    composed.paths.run = str(folder)
    own_groups = [source.path for source in started.runtime.config_sources if source.provider == "command-line"]
    config: Config | None = None
    try:
        config = checked(
            composed, list(started.overrides.task), dict(started.runtime.choices), next(iter(own_groups), None)
        )
        part = _part_in_sweep(config)
        if part.get("run_id"):
            _remove_if_unused(folder)
            return math.nan if part["objective"] is None else float(part["objective"])
        if config.part.wait:  # else the sweep has begun all of it in this process
            _begin(config, mend=config.sweep.plan is None)
        with startup.loading():
            from mnistlab.experiment import run

        objective = run(config).objective
        _tell_sweep(config, "done", str(folder))
        return objective
    except Exception as error:
        failures.append((started.job.override_dirname, error))
        if config is not None:
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            _tell_sweep(config, "failures", json.dumps({"key": config_hash(config), "cause": cause}))
        if isinstance(error, ConfigError):
            _remove_if_unused(folder)
        else:
            if not (folder / "traceback.txt").exists():  # it failed before there was a record
                logging.getLogger("mnistlab").debug("failed", exc_info=True)
            print(f"The traceback is in {folder / (started.job.name + '.log')}", file=sys.stderr)
    return None


def _part_in_sweep(config: Config) -> dict[str, Any]:
    """What the sweep's plan says of this job: its name, parent, and its run if it is done. Empty outside a sweep."""
    if config.sweep.plan is None:
        return {}
    plan = json.loads(Path(config.sweep.plan).read_text(encoding="utf-8"))
    part: dict[str, Any] = plan["jobs"].get(config_hash(config), {})
    tags = {"sweep.id": plan["sweep"], "sweep.kind": "job"}
    if plan["parent"]:
        tags |= {"mlflow.parentRunId": plan["parent"], "sweep.parent": plan["parent"]}
    config.part = SweepPart(part.get("name", ""), tags, wait=plan["process"] != process_name())
    if part and not part["run_id"]:
        logging.getLogger("mnistlab").info("\n%s", part["line"])
    return part


def _tell_sweep(config: Config, kind: str, text: str) -> None:
    """Leave word for the sweep, which may have started this job in another process: how it ended."""
    if config.sweep.plan is not None:
        file = Path(config.sweep.plan).parent / kind / f"{config_hash(config)}.json"
        file.write_text(text, encoding="utf-8")


def _begin(config: Config, mend: bool) -> None:
    """Begin what can go on while TensorFlow loads; an unreachable tracking store is found before.

    mend: whether to close the runs that earlier, killed commands left open; a sweep does it when it plans.
    """
    from mnistlab import tracking
    from mnistlab.data import loading
    from mnistlab.runtime import background
    from mnistlab.tracking import history, stores

    if config.tracking.backend == "mlflow":
        store = stores.address(config.tracking, config.paths.root)
        stores.check_reachable(store)
        background.send(tracking.prepare_store, store)
        if mend:
            background.send(history.close_orphans, store)
    background.begin()
    loading.prefetch(config)


def _remove_if_unused(folder: Path) -> None:
    """Hydra makes the run's folder before the run can be refused: leave none behind that holds no run."""
    own = {".hydra", "train.log"}
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= own:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """`python -m mnistlab.train`, `mnistlab-train`. Exit status: 0 done, 1 a job failed, 2 a user's mistake,
    130 interrupted, 143 terminated."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us unformatted; _told formats them
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGTERM, _terminate)
    register()
    _leave(_told(_checked_command))


def _leave(status: int) -> NoReturn:
    """End the process. With TensorFlow loaded, Python's own way takes two seconds and more to take it apart; what is
    registered for the end is done and all output written, then the system may have the rest back at once."""
    if "tensorflow" not in sys.modules and status not in STOPPED:
        sys.exit(status)
    if status not in STOPPED or "joblib.externals.loky" in sys.modules:
        threading._shutdown()  # type: ignore[attr-defined]  # ends the processes of a parallel launcher, too
    if status in STOPPED and "mnistlab.runtime.background" in sys.modules:
        sys.modules["mnistlab.runtime.background"].forget()
    logging.shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _checked_command() -> int:
    arguments = get_args_parser().parse_args()
    starts_jobs = not (
        arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    )
    if not starts_jobs or arguments.config_path is not None or arguments.experimental_rerun is not None:
        _hydra()
        return _tell_failures()
    command = check_command(arguments)
    if not command.multirun:
        _hydra()
        return _tell_failures()
    _begin(command.configs[0], mend=False)
    with startup.loading():
        from mnistlab import sweep
    return sweep.conduct(command, _hydra)


def _hydra(extra: Sequence[str] = ()) -> None:
    """Hand over to Hydra, with further overrides."""
    sys.argv += extra
    hydra.main(config_path=str(conf_folder()), config_name="train", version_base="1.3")(job)()


def _told(command: Callable[[], int]) -> int:
    """Run the command; say what went wrong in words and give the exit status."""
    try:
        return command()
    except ConfigError as error:
        _say("Refused:", error.problems)
        return USER_MISTAKE
    except (HydraException, OmegaConfBaseException) as error:
        _say("Refused:", [explain(error, sys.argv[1:])])
        return USER_MISTAKE
    except KeyboardInterrupt as error:
        print("\nStopped.", file=sys.stderr)
        return STOPPED[isinstance(error, Terminated)]


def _tell_failures() -> int:
    """What a job refused or failed with, and the exit status."""
    for overrides, error in failures:
        if isinstance(error, ConfigError):
            _say("Refused:", error.problems)
        else:
            reason = " ".join(str(error).split())[:300]
            print(f"Failed: {overrides or 'the run'}: {type(error).__name__}: {reason}", file=sys.stderr)
    if not failures:
        return 0
    return USER_MISTAKE if all(isinstance(error, ConfigError) for _, error in failures) else 1


def _say(head: str, problems: list[str]) -> None:
    lines = [f"  - {problem}" for problem in problems] if len(problems) > 1 else problems
    print("\n".join([head, *lines]) if len(problems) > 1 else f"{head} {lines[0]}", file=sys.stderr)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    main()
