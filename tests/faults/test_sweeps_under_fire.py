"""Jobs of a sweep that raise, exit, crash, are killed or need too much: the others run, and all are in the table."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import Started, Store, wait_until

from mnistlab.runtime.processes import is_running
from mnistlab.sweep.launching import KILLED

FAULTS = """
import os, signal, sys, time
import keras
import numpy as np


class Fault(keras.callbacks.Callback):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def on_epoch_end(self, epoch, logs=None):
        if self.kind == "exit":
            sys.exit(7)
        if self.kind == "memory_error":
            raise MemoryError("Unable to allocate 5 TiB")
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "end":
            os._exit(3)
        if self.kind == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.kind == "hoard":
            hoard = [np.ones(2**24) for _ in range(200)]
            time.sleep(1000)
        if self.kind.startswith("endless"):
            open(f"{os.environ['MNISTLAB_ROOT']}/{self.kind}-{os.getpid()}", "w").close()
            time.sleep(1000)
"""
SMALL = ("source=mnist_5k", "data.limit=400", "fit.epochs=1", "+callbacks.fault._target_=faults_of_mine.Fault")
PARALLEL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture(autouse=True)
def faults(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "faults_of_mine.py").write_text(FAULTS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))


def sweep_of(*kinds: str) -> tuple[str, ...]:
    """A sweep with a job for each kind of fault."""
    return ("--multirun", *SMALL, f"+callbacks.fault.kind={','.join(kinds)}")


def jobs_of(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of jobs.csv by the name of the job."""
    with next((folder / "runs" / "sweeps").glob("*/jobs.csv")).open() as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def statuses(jobs: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name.removeprefix("kind"): job["status"] for name, job in jobs.items()}


def error_of(jobs: dict[str, dict[str, str]], kind: str) -> str:
    return jobs[f"kind{kind}"]["error"]


def workers(folder: Path) -> list[int]:
    """The processes in which endless jobs are running."""
    return [int(file.name.rpartition("-")[2]) for file in folder.glob("endless*-*")]


def test_sys_exit_and_lack_of_memory_cost_one_job_each(train_here, tmp_path) -> None:
    done = train_here(*sweep_of("none", "exit", "memory_error", "last"))
    assert done.code == 1
    jobs = jobs_of(tmp_path)
    assert statuses(jobs) == {"none": "FINISHED", "exit": "FAILED", "memory_error": "FAILED", "last": "FINISHED"}
    assert error_of(jobs, "exit") == "SystemExit: code of this run called sys.exit(7)"
    assert error_of(jobs, "memory_error").startswith("out of memory: use a smaller fit.batch_size or a smaller model")
    assert "2 of 4 jobs failed:" in done.out
    runs = {run.info.run_name: run for run in Store(tmp_path).runs("job")}
    types = {name: run.data.tags.get("error.type") for name, run in runs.items() if run.info.status == "FAILED"}
    assert sorted(types.values()) == ["MemoryError", "SystemExit"]
    assert Store(tmp_path).statuses("parent") == ["FAILED"]


@pytest.mark.faults
def test_a_single_run_that_calls_sys_exit_has_failed(train_here, tmp_path) -> None:
    done = train_here(*SMALL, "+callbacks.fault.kind=exit")
    assert (done.code, "Traceback" in done.err) == (1, False)
    assert "SystemExit: code of this run called sys.exit(7)" in done.err
    assert Store(tmp_path).statuses() == ["FAILED"]


@pytest.mark.parametrize(("diverged", "code"), [("ok", 0), pytest.param("fail", 1, marks=pytest.mark.faults)])
def test_a_job_that_diverges_counts_as_failed_in_the_table(train_here, tmp_path, diverged, code) -> None:
    words = ("--multirun", "source=mnist_5k", "data.limit=400", "fit.epochs=1", "optimizer=minibatch_gd")
    done = train_here(*words, "optimizer.learning_rate=0.01,1e30", f"sweep.diverged={diverged}")
    assert done.code == code, done.err
    jobs = jobs_of(tmp_path)
    assert {name: job["status"] for name, job in jobs.items()} == {"lr0.01": "FINISHED", "lr1e+30": "FINISHED"}
    assert jobs["lr0.01"]["error"] == ""
    assert jobs["lr1e+30"]["error"].startswith("diverged at epoch 1, step ")
    assert "1 of 2 jobs diverged:" in done.out
    assert Store(tmp_path).statuses("parent") == ["FAILED" if code else "FINISHED"]


def test_limits_need_isolation(train_here) -> None:
    done = train_here(*sweep_of("none"), "sweep.job_max_seconds=5", "sweep.memory_gigabytes=2")
    assert done.code == 2
    assert (
        "sweep.job_max_seconds limits a job in a process of its own: add sweep.isolate=true. Received: 5." in done.err
    )
    assert "Received: 2." in done.err


@pytest.mark.faults
def test_isolated_jobs(train, tmp_path) -> None:
    """As jobs in the sweep's process, but a crash costs one job only."""
    kinds = ("none", "exit", "kill", "end", "crash", "hoard", "last")
    done = train(*sweep_of(*kinds), "sweep.isolate=true", "sweep.memory_gigabytes=4", timeout=900)
    assert done.code == 1, done.err
    jobs = jobs_of(tmp_path)
    assert statuses(jobs) == {kind: "FINISHED" if kind in ("none", "last") else "FAILED" for kind in kinds}
    assert error_of(jobs, "exit") == "SystemExit: code of this run called sys.exit(7)"
    assert error_of(jobs, "kill") == "the job's process was ended by SIGKILL: kill -9, or out of memory"
    assert error_of(jobs, "end") == "the job's process ended by itself with exit status 3"
    assert error_of(jobs, "crash") == "the job's process was ended by SIGSEGV"
    assert error_of(jobs, "hoard").endswith("GB of memory, more than sweep.memory_gigabytes=4")
    store = Store(tmp_path)
    assert store.statuses("job") == ["FAILED"] * 5 + ["FINISHED"] * 2
    errors = {run.data.tags.get("error") for run in store.runs("job") if run.info.status == "FAILED"}
    assert errors == {job["error"] for job in jobs.values() if job["error"]}
    assert store.statuses("parent") == ["FAILED"]
    again = train(*sweep_of("none", "last"), "sweep.dry_run=true")
    assert "2 jobs, 2 of them done" in again.out


@pytest.mark.faults
def test_an_isolated_job_that_takes_too_long_has_failed(train, tmp_path) -> None:
    done = train(*sweep_of("endless"), "sweep.isolate=true", "sweep.job_max_seconds=30")
    assert done.code == 1, done.err
    (job,) = jobs_of(tmp_path).values()
    assert (job["status"], job["error"]) == ("FAILED", "took longer than sweep.job_max_seconds=30")
    assert set(Store(tmp_path).statuses("job")) <= {"FAILED"}  # none, if the machine needed so long for the start
    assert Store(tmp_path).statuses("parent") == ["FAILED"]


@pytest.mark.faults
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_isolated_job_ends_with_the_sweep(start, tmp_path, stop, code) -> None:
    command: Started = start(*sweep_of("endless", "last"), "sweep.isolate=true")
    (worker,) = wait_until(lambda: workers(tmp_path))
    command.process.send_signal(stop)
    assert command.finish() == code, command.output
    wait_until(lambda: not is_running(worker))
    store = Store(tmp_path)
    wait_until(lambda: store.statuses("job") == ["KILLED"])
    if stop == signal.SIGINT:
        assert store.statuses("parent") == ["KILLED"]
        assert "Traceback" not in command.output


@pytest.mark.faults
def test_sys_exit_in_a_parallel_sweep(train, tmp_path) -> None:
    done = train(*sweep_of("none", "exit", "last"), *PARALLEL)
    assert done.code == 1, done.err
    assert statuses(jobs_of(tmp_path)) == {"none": "FINISHED", "exit": "FAILED", "last": "FINISHED"}
    assert Store(tmp_path).statuses("parent") == ["FAILED"]


@pytest.mark.faults
def test_a_worker_that_is_killed_costs_its_job_only(train, tmp_path) -> None:
    done = train(*sweep_of("one", "kill", "two", "three"), *PARALLEL)
    assert done.code == 1, done.err
    assert "Traceback" not in done.out + done.err
    jobs = jobs_of(tmp_path)
    assert statuses(jobs) == {"one": "FINISHED", "kill": "FAILED", "two": "FINISHED", "three": "FINISHED"}
    assert error_of(jobs, "kill") == KILLED
    store = Store(tmp_path)
    assert "RUNNING" not in store.statuses()
    assert store.statuses("job").count("FAILED") == 1
    assert store.statuses("job").count("FINISHED") == 3


@pytest.mark.faults
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_workers_do_not_outlive_a_parallel_sweep(start, tmp_path, stop, code) -> None:
    command: Started = start(*sweep_of("endless1", "endless2", "last"), *PARALLEL)
    both = wait_until(lambda: len(found := workers(tmp_path)) == 2 and found)
    stopped = time.monotonic()
    command.process.send_signal(stop)
    assert command.finish() == code, command.output
    wait_until(lambda: not any(map(is_running, both)))
    assert time.monotonic() - stopped < 60
    store = Store(tmp_path)
    wait_until(lambda: store.statuses("job") == ["KILLED", "KILLED"])
    if stop != signal.SIGKILL:
        assert store.statuses("parent") == ["KILLED"]
        assert "Traceback" not in command.output
        assert "leaked" not in command.output
    reasons = {run.data.tags["error"] for run in store.runs("job")}
    assert reasons == {"the process of the sweep has ended" if stop == signal.SIGKILL else "the sweep was stopped"}


@pytest.mark.faults
def test_isolated_jobs_in_a_parallel_sweep(train, tmp_path) -> None:
    done = train(*sweep_of("none", "kill", "last"), *PARALLEL, "sweep.isolate=true", "tracking=none")
    assert done.code == 1, done.err
    jobs = jobs_of(tmp_path)
    assert statuses(jobs) == {"none": "FINISHED", "kill": "FAILED", "last": "FINISHED"}
    assert error_of(jobs, "kill") == "the job's process was ended by SIGKILL: kill -9, or out of memory"
    assert float(jobs["kindnone"]["test_accuracy"]) > 0
    assert done.out.count("[2/3] kindkill") == 1


@pytest.mark.faults
def test_a_worker_that_gets_a_signal_costs_its_job_only(start, tmp_path) -> None:
    command: Started = start(*sweep_of("endless1", "two", "three"), *PARALLEL)
    (worker,) = wait_until(lambda: workers(tmp_path))
    os.kill(worker, signal.SIGTERM)
    assert command.finish() == 1, command.output
    jobs = jobs_of(tmp_path)
    assert statuses(jobs) == {"endless1": "KILLED", "two": "FINISHED", "three": "FINISHED"}
    assert error_of(jobs, "endless1") == "stopped by SIGTERM"
    assert json.loads(next(tmp_path.glob("runs/sweeps/*/sweep.json")).read_text())["jobs"]
