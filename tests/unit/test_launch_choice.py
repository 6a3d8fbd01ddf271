"""What launch=auto and launch=joblib choose: `launchers.choose` on real plans and earlier runs in a real store."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.entities import Metric, Param
from small_data import copy_empty_database

from mnistlab.config import ConfigError, parameters
from mnistlab.config.compose import Command, check_command, parse_command_line
from mnistlab.data import loading
from mnistlab.runtime import resources
from mnistlab.sweep import clusters, launchers
from mnistlab.sweep.launchers import COPIES_OF_OWN_IMAGES, PROCESS_GIGABYTES, Launch, choose
from mnistlab.sweep.launching import share_images
from mnistlab.sweep.plan import Sweep, SweepJob
from mnistlab.tracking import lookups, mlflow_store
from mnistlab.tracking.stores import StoreAddress

WORDS = ("--multirun", "source=mnist_5k", "data.limit=300", "optimizer=momentum,adam", "sweep.seeds=3")
EARLIER = 1_700_000_000_000  # milliseconds since 1970


@functools.cache
def composed() -> Command:
    """The sweep without its settings of the launch, composed once: that takes most of the time."""
    return check_command(parse_command_line([*WORDS, "launch=auto"])[0])


class Case:
    """A sweep of six jobs with a store."""

    def __init__(self, root: Path, words: tuple[str, ...], **launch: object) -> None:
        self.address = StoreAddress(f"sqlite:///{copy_empty_database(root)}", "mnistlab", root / "artifacts")
        configs = [replace(one, launch=replace(one.launch, **launch)) for one in composed().configs]
        self.command = replace(composed(), configs=configs, words=(*composed().words, *words))
        first = self.command.configs[0]
        images = len(loading.load(first).train)
        self.jobs = [
            SweepJob(config, str(number), "", {}, parameters(config), {}, "", images, 32)
            for number, config in enumerate(self.command.configs)
        ]
        self.sweep = Sweep(self.jobs, ["optimizer"], "higher", root, "abc")

    def add_earlier_run(self, train_seconds: float) -> None:
        """A finished run of the same model with as many images and epochs."""
        client, experiment_id = mlflow_store.open_store(self.address)
        job = self.jobs[0]
        tags = {"num_training_images": str(job.num_images), "batch_size": "32"}
        run_id = client.create_run(experiment_id, EARLIER, tags).info.run_id
        settings = {
            key: value for key, value in job.settings.items() if re.match(r"(model|optimizer|fit\.epochs)", key)
        }
        values = {"time/train_seconds": train_seconds, "time/epoch_seconds": train_seconds / 3}
        metrics = [Metric(key, value, EARLIER, 1) for key, value in values.items()]
        client.log_batch(run_id, metrics, [Param(key, str(value)) for key, value in settings.items()])
        client.set_terminated(run_id, "FINISHED")
        self.sweep.finished = lookups.comparable_runs(self.address, [lookups.Kind("mlp", 32, 3)])
        assert [run.run_id for run in self.sweep.finished] == [run_id]

    def choose(self) -> Launch:
        return choose(self.sweep, self.command)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Case]:
    """Makes a sweep on a machine of four processors with 64 GB of free memory: `case(launch, *words,
    gigabytes=64, setting=value)`."""
    monkeypatch.setattr(resources, "processors", lambda: [0, 1, 2, 3])

    def make(name: str, *words: str, gigabytes: float = 64, **launch: object) -> Case:
        monkeypatch.setattr(resources, "available_gigabytes", lambda: gigabytes)
        return Case(tmp_path, words, name=name, **launch)

    return make


def test_auto_chooses_processes_for_long_jobs(case) -> None:
    made = case("auto")
    made.add_earlier_run(train_seconds=100)
    chosen = made.choose()
    assert (chosen.workers, chosen.shares) == (4, 4)
    # Six jobs of 100.7 s; in four processes at 75 % of their speed, 13 s after the start.
    assert chosen.why == "The jobs run in 4 processes: about 214 s in 4 processes, 604 s in this one."
    assert set(chosen.overrides) == {"hydra/launcher=joblib", "hydra.launcher.batch_size=1", "hydra.launcher.n_jobs=4"}


def test_auto_stays_in_this_process_for_short_jobs(case) -> None:
    made = case("auto")
    made.add_earlier_run(train_seconds=2)
    chosen = made.choose()
    assert (chosen.workers, chosen.shares, chosen.overrides) == (0, 0, ())
    assert chosen.why == "The jobs run in this process: about 18 s in 4 processes, 16 s in this one."


def test_auto_counts_only_the_jobs_that_are_to_run(case) -> None:
    made = case("auto")
    made.add_earlier_run(train_seconds=100)
    for job in made.jobs[1:]:
        job.reason = "done"
    chosen = made.choose()
    assert (chosen.workers, chosen.why) == (0, "The jobs run one after the other in this process: 1 job to run.")


def test_auto_needs_an_earlier_run_to_choose_processes(case) -> None:
    chosen = case("auto").choose()
    assert chosen.workers == 0
    assert chosen.why == "The jobs run in this process: there is no earlier run to tell how long they take."


def test_auto_starts_as_many_processes_as_there_is_memory_for(case) -> None:
    made = case("auto", job_gigabytes=10, gigabytes=25)
    made.add_earlier_run(train_seconds=100)
    chosen = made.choose()
    assert (chosen.workers, chosen.overrides[-1]) == (2, "hydra.launcher.n_jobs=2")
    assert chosen.why.startswith("The jobs run in 2 processes: about 416 s in 2 processes, 604 s in this one.")


def test_auto_with_memory_for_one_job_stays_in_this_process(case) -> None:
    made = case("auto", job_gigabytes=10, gigabytes=19)
    made.add_earlier_run(train_seconds=100)
    chosen = made.choose()
    assert chosen.workers == 0
    assert chosen.why == (
        "The jobs run one after the other in this process: 19.0 GB of memory are free, a job takes about 10.0."
    )


@pytest.mark.parametrize(
    ("settings", "gigabytes", "workers", "limit"),
    [
        ({}, 64, 4, "4 processors"),
        ({"cpus": 2}, 64, 2, "2 processors a job"),
        ({}, 3, 2, "3.0 GB of memory are free, a job takes about 1.3"),
        ({"job_gigabytes": 0.5}, 1.6, 3, "1.6 GB of memory are free, a job takes about 0.5"),
        ({"workers": 9}, 64, 6, "6 jobs to run"),
        ({"workers": 5}, 3, 5, "launch.workers=5"),
    ],
)
def test_joblib_s_processes_follow_from_the_smallest_limit(case, settings, gigabytes, workers, limit) -> None:
    chosen = case("joblib", gigabytes=gigabytes, **settings).choose()
    assert chosen.workers == workers
    assert chosen.why == f"The jobs run in {workers} processes: {limit}."
    assert chosen.overrides == (f"hydra.launcher.n_jobs={workers}",)


def test_a_number_of_processes_that_the_user_gives_to_hydra_stays(case) -> None:
    chosen = case("joblib", "hydra.launcher.n_jobs=3").choose()
    assert chosen == ((), 3, "The jobs run in 3 processes: hydra.launcher.n_jobs=3.", 3)


@pytest.mark.parametrize(("gpus", "workers"), [("0,1,2", 3), ("0", 1), ("", 1)])
def test_gpus_are_a_limit_where_a_job_needs_one(case, gpus: str, workers: int, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    chosen = case("ray", gpus=1.0).choose()
    number = len([one for one in gpus.split(",") if one])
    assert (chosen.workers, chosen.shares) == (workers, workers)
    assert chosen.why.endswith(f": {number} GPU{'s' * (number != 1)}, 1 a job.")


def test_a_sweep_that_goes_on_with_a_further_round_has_its_processes(case) -> None:
    """All jobs that are known are done: the command was stopped in its second round."""
    made = case("joblib", workers=2)
    for job in made.jobs:
        job.reason = "done"
    assert made.choose() == launchers.IN_THIS_PROCESS
    made.sweep.looks = (3, 9)
    assert made.choose() == (("hydra.launcher.n_jobs=2",), 2, "The jobs run in 2 processes: launch.workers=2.", 2)


def test_a_sweeper_that_chooses_the_jobs_has_as_many_processes_as_there_are_processors(case) -> None:
    made = case("joblib")
    made.command = replace(made.command, sweeper={"_target_": "plugin.OptunaSweeper"})
    assert made.choose().why == "The jobs run in 4 processes: 4 processors."
    auto = case("auto")
    auto.command = made.command
    assert auto.choose() == (
        (),
        0,
        "The jobs run in this process: the sweeper does not tell how many there will be.",
        0,
    )


@pytest.mark.parametrize(("workers", "at_a_time"), [(None, 8), (3, 3)])
def test_a_search_on_a_cluster_does_not_ask_for_all_trials_at_once(case, workers, at_a_time: int) -> None:
    made = case("slurm", workers=workers)
    made.sweep.search = SimpleNamespace(number=30, seeds=[1, 2])
    chosen = made.choose()
    assert chosen.workers == at_a_time
    assert chosen.why.startswith("The jobs run on Slurm")
    if workers is None:
        assert chosen.overrides == ("launch.workers=8",)
        assert chosen.why == "The jobs run on Slurm, 8 at a time: launch.workers chooses another number."


class WithoutJoblib(MetaPathFinder):
    """As if Hydra's joblib launcher were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.startswith("hydra_plugins.hydra_joblib_launcher"):
            raise ModuleNotFoundError(name)


def test_auto_without_joblib_stays_in_this_process_and_says_what_to_install(case, monkeypatch) -> None:
    made = case("auto")
    made.add_earlier_run(train_seconds=100)
    for name in [name for name in sys.modules if name.startswith("hydra_plugins.hydra_joblib_launcher")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutJoblib(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError):
        importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher")
    chosen = made.choose()
    assert chosen.workers == 0
    assert chosen.why == ("The jobs run in this process: pip install 'mnistlab[joblib]' to run several at a time.")
    with pytest.raises(ConfigError, match=r"joblib is not installed: pip install 'mnistlab\[joblib\]'"):
        clusters.check(case("joblib").command.configs[0].launch)


def shared_by(sweep: Sweep) -> int:
    """How many data sets are written for the processes of this sweep."""
    sweep.shares = 2
    return len(list(share_images(sweep).glob("*/dataset.pickle")))


def test_the_images_of_a_sweep_are_shared_if_the_disk_has_room_for_its_runs_too(case) -> None:
    made = case("joblib")
    made.jobs[0].needed_space = {made.sweep.folder: 10**18}
    assert shared_by(made.sweep) == 0
    made.jobs[0].reason = "done"  # it writes nothing
    assert shared_by(made.sweep) == 1


def test_each_process_of_a_sweep_with_many_data_sets_has_images_of_its_own(case) -> None:
    made = case("joblib", gigabytes=2)
    for number, job in enumerate(made.jobs[:2]):
        job.config = replace(job.config, data=replace(job.config.data, limit=200 + number))
    assert shared_by(made.sweep) == 0
    dataset = loading.load(made.jobs[2].config)
    size = dataset.resident_bytes
    assert size == sum(map(len, dataset.splits.values())) * 28 * 28
    needed = PROCESS_GIGABYTES + COPIES_OF_OWN_IMAGES * size / 1e9
    assert made.choose().why == (
        f"The jobs run in 1 process: 2.0 GB of memory are free, a job takes about {needed:.1f}."
    )


def test_processes_of_processes_are_refused(case) -> None:
    made = case("joblib")
    first = made.jobs[0]
    first.config = replace(first.config, sweep=replace(first.config.sweep, isolate=True))
    with pytest.raises(ConfigError, match="launch=joblib has processes of its own: leave out sweep.isolate=true"):
        made.choose()
