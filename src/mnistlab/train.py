"""The entry point: parse, check, hand over. Importing it loads neither TensorFlow, MLflow nor matplotlib."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mnistlab.config import Config, ConfigError, conf_folder, register
from mnistlab.preflight import check_command, checked, explain

USER_MISTAKE = 2
failures: list[tuple[str, Exception]] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the program is: a run that is told to stop ends as KILLED, not as RUNNING for ever."""


def job(composed: DictConfig) -> float | None:
    """One job of Hydra's: typed, then run. Returns the objective, for sweepers that optimize.

    A failure is kept in `failures` rather than raised, so that the other jobs of a multirun go on.
    """
    started = HydraConfig.get()
    folder = Path(started.runtime.output_dir)
    composed.paths.run = str(folder)
    own_groups = [source.path for source in started.runtime.config_sources if source.provider == "command-line"]
    try:
        config = checked(
            composed,
            list(started.overrides.task),
            dict(started.runtime.choices),
            next(iter(own_groups), None),
        )
        _check_store(config)
        with _silent_stderr():
            from mnistlab.experiment import run

        return run(config).objective
    except ConfigError as error:
        _remove_if_unused(folder)
        failures.append((started.job.override_dirname, error))
    except Exception as error:
        failures.append((started.job.override_dirname, error))
        print(f"The traceback is in {folder / (started.job.name + '.log')}", file=sys.stderr)
    return None


def _check_store(config: Config) -> None:
    """An unreachable tracking store is found before TensorFlow is loaded."""
    if config.tracking.backend == "mlflow":
        from mnistlab.tracking import address, check_reachable

        check_reachable(address(config.tracking, config.paths.root))


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Swallow what TensorFlow's C++ prints while it is imported; shown after all if the import fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


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
    sys.exit(_told(_checked_command))


def _checked_command() -> None:
    arguments = get_args_parser().parse_args()
    starts_jobs = not (
        arguments.help or arguments.hydra_help or arguments.cfg or arguments.info or arguments.shell_completion
    )
    if starts_jobs and arguments.config_path is None and arguments.experimental_rerun is None:
        check_command(arguments)
    hydra.main(config_path=str(conf_folder()), config_name="train", version_base="1.3")(job)()


def _told(command: Callable[[], Any]) -> int:
    """Run the command; say what went wrong in words and give the exit status."""
    try:
        command()
    except ConfigError as error:
        _say("Refused:", error.problems)
        return USER_MISTAKE
    except (HydraException, OmegaConfBaseException) as error:
        _say("Refused:", [explain(error, sys.argv[1:])])
        return USER_MISTAKE
    except KeyboardInterrupt as error:
        print("\nStopped.", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
    return _tell_failures()


def _tell_failures() -> int:
    """Every failed job, not just the first, with its one-line cause."""
    mistakes = [error for _, error in failures if isinstance(error, ConfigError)]
    if len(failures) == 1 and mistakes:
        _say("Refused:", mistakes[0].problems)
        return USER_MISTAKE
    for overrides, error in failures:
        reason = " ".join(str(error).split())[:300]
        print(f"Failed: {overrides or 'the run'}: {type(error).__name__}: {reason}", file=sys.stderr)
    return 1 if failures else 0


def _say(head: str, problems: list[str]) -> None:
    lines = [f"  - {problem}" for problem in problems] if len(problems) > 1 else problems
    print("\n".join([head, *lines]) if len(problems) > 1 else f"{head} {lines[0]}", file=sys.stderr)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    main()
