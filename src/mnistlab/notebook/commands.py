"""The functions that notebooks call."""

from pathlib import Path
from typing import Any

from mnistlab.config import project_root, trust
from mnistlab.notebook import process, words
from mnistlab.notebook.run import Run
from mnistlab.notebook.sweep_result import SweepResult
from mnistlab.runtime import files
from mnistlab.sweep import command_line
from mnistlab.sweep.command_line import Ended
from mnistlab.tracking import background, chosen_models, recorder, run_folders, stores
from mnistlab.tracking.stores import StoreAddress


def train(*given: str, **settings: Any) -> Run:
    """Run one experiment in this process, as `python -m mnistlab.train` does, and record the same.

        run = train("optimizer=rmsprop", "fit.epochs=5")
        run = train(optimizer="rmsprop", fit={"epochs": 5})

    Args:
        given: words of the command line; `trust=[__main__]` allows callables of the notebook itself.
        settings: the same as Python values; mappings hold settings of their group.

    Raises:
        ConfigError: a mistake in the settings; nothing was recorded. Any other error is that of the training, recorded
            as FAILED; a KeyboardInterrupt is recorded as KILLED, and the same call continues it.
    """
    asked = words.of_run(given, settings)
    ended = _run(asked)
    if ended.failures:
        raise ended.failures[0][1]
    if ended.run is None:
        raise ValueError("no experiment was run: the words only ask for information")
    return Run(ended.run.resolve(), _trusted(asked))


def sweep(*given: str, **settings: Any) -> SweepResult:
    """Run a multirun in this process, as `python -m mnistlab.train --multirun` does, and compare its runs.

        compared = sweep("optimizer=sgd,adam", "sweep.seeds=5")
        compared = sweep(optimizer=["sgd", "adam"], sweep={"seeds": 5}, fit={"epochs": 5})

    A job that fails does not raise: `SweepResult.jobs` has its error.

    Args:
        given: words of the command line.
        settings: the same as Python values. A list, range or array holds the options of its setting; an option that is
            a list itself is written as a list within it.

    Raises:
        ConfigError: a mistake in the settings of a job; nothing was started.
    """
    asked = words.of_sweep(given, settings)
    ended = _run(asked)
    if ended.sweep is None:
        raise ValueError("no sweep was run: the words only ask for information")
    folder, store = ended.sweep.folder.resolve(), ended.sweep.address
    jobs = files.read_json(folder / "sweep.json").get("jobs", [])
    folders = {job["name"]: _folder_of(job["run"], store, str(folder.parents[2])) for job in jobs if job["run"]}
    return SweepResult(folder, tuple(Run(one, _trusted(asked)) for one in folders.values()), tuple(folders))


def _run(asked: list[str]) -> Ended:
    with process.of_a_command():
        try:
            return command_line.run(asked)
        finally:
            recorder.wait_for_all()  # a run that is returned is complete in the store, too


def _trusted(asked: list[str]) -> tuple[str, ...]:
    return tuple(sorted(trust.split_trust(asked)[1]))


def _folder_of(run: str, store: StoreAddress | None, root: str) -> Path:
    """The folder of a job's run: it is named by its folder, or by its id in the store."""
    if store is None or Path(run).is_absolute():
        return Path(run)
    found: Path = background.call(run_folders.find, run, store, root, chosen_models.OBJECTIVE)
    return found


def load_run(
    run: str | Path = chosen_models.LATEST,
    *,
    objective: str = chosen_models.OBJECTIVE,
    trusted: tuple[str, ...] = (),
    experiment: str | None = None,
    uri: str | None = None,
    root: str | None = None,
) -> Run:
    """A run that was recorded earlier.

    Args:
        run: 'latest'; 'best', the run with the best `objective` among the finished ones with the validation images of
            the latest; an id, the first letters of it, a name, a folder, models:/NAME@ALIAS.
        trusted: packages whose classes the model may need.
        experiment, uri, root: where the runs are; None: as for training (environment, else `<root>/mlruns`).

    Raises:
        ConfigError: there is no such run or store.
    """
    given = {"tracking.experiment": experiment, "tracking.uri": uri, "paths.root": root}
    store = stores.named_address({name: value for name, value in given.items() if value})
    here = str(Path.cwd())
    folder = background.call(run_folders.find, str(run), store, root or str(project_root()), objective, here)
    return Run(folder, trusted)
