"""launch=slurm on a real Slurm of this machine alone. It needs Debian's packages slurm-wlm and munge, and submitit:
`make test-launchers` installs the latter."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Started, Store, run_command, wait_until
from launched import histories, job_rows
from slurm_cluster import SlurmCluster, slurm_cluster

pytest.importorskip("submitit", reason="make test-launchers installs submitit")
pytestmark = pytest.mark.long

WORDS = ("--multirun", "source=mnist_5k", "data.limit=800", "save.formats=[]", "optimizer=sgd,momentum")
SWEEP = (*WORDS, "fit.epochs=2", "sweep.seeds=2")


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    with slurm_cluster() as cluster:
        yield cluster


def trained_epochs(root: Path) -> list[int]:
    """How many rows of metrics each job has."""
    return [len(file.read_text().splitlines()) for file in root.glob("runs/*/*-sweep/*/metrics.jsonl")]


def test_the_numbers_are_those_of_one_process(slurm: SlurmCluster, tmp_path: Path) -> None:
    side, alone = tmp_path / "side", tmp_path / "alone"
    side.mkdir()
    alone.mkdir()
    done = run_command(side, *SWEEP, "launch=slurm", **slurm.variables)
    assert done.code == 0, done.out + done.err
    here = run_command(alone, *SWEEP, "tracking=none")
    assert here.code == 0, here.err
    assert len(histories(side)) == 4
    assert histories(side) == histories(alone)
    store = Store(side)
    (parent,), jobs = store.runs("parent"), store.runs("job")
    assert {run.info.status for run in (parent, *jobs)} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    assert len({run.data.tags["run.process"] for run in jobs}) == 4
    assert len(list(side.glob("runs/sweeps/*/report.html"))) == 1
    assert "The jobs run on Slurm." in done.out
    ended = re.findall(r"^\[(\d)/4\] \S+: best_epoch_val_accuracy 0\.\d{4}  \d+\.\d s$", done.out, re.MULTILINE)
    assert ended == list("1234")
    assert "sacct" not in done.out + done.err  # there is no accounting
    assert slurm.jobs() == {}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("launch.options.slurm_partition=nope", "invalid partition specified: nope"),
        ("launch.job_gigabytes=90000", "Requested node configuration is not available"),
        ("launch.cpus=4000", "Requested node configuration is not available"),
        ("+launch.options.slurm_constraint=a100", "Invalid feature specification"),
        ("+launch.options.partitoin=main", "launch.options: Unavailable parameter(s): ['partitoin']"),
    ],
)
def test_what_slurm_refuses_is_one_line_and_makes_nothing(slurm, tmp_path: Path, word: str, message: str) -> None:
    refused = run_command(tmp_path, *SWEEP, "launch=slurm", word, **slurm.variables)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1), refused.out + refused.err
    assert refused.err.startswith("Error: ")
    assert message in refused.err
    assert [path for path in tmp_path.iterdir() if path.name != "keras"] == []


def test_a_controller_that_does_not_answer_is_one_line(slurm: SlurmCluster, tmp_path: Path) -> None:
    other = tmp_path / "slurm.conf"
    other.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", Path(slurm.variables["SLURM_CONF"]).read_text()))
    refused = run_command(tmp_path, *SWEEP, "launch=slurm", SLURM_CONF=str(other))
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert refused.err.startswith("Error: Slurm does not answer: ")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ((), "stopped by SIGTERM"),
        (("--signal=USR2",), "stopped by Slurm: its time limit"),  # as before the end of its time
        (("kill -9",), "ended without a result (FAILED); its output: "),
    ],
)
def test_a_job_that_is_stopped_runs_again_and_goes_on(slurm, tmp_path: Path, how: tuple[str, ...], reason: str) -> None:
    started = Started(
        tmp_path, *WORDS, "fit.epochs=100", "fit.checkpoint_percent=100", "launch=slurm", **slurm.variables
    )
    wait_until(lambda: min(trained_epochs(tmp_path), default=0) >= 3 and len(trained_epochs(tmp_path)) == 2)
    if how == ("kill -9",):
        os.kill(int(json.loads(_started(tmp_path)[0])["process"].split(":")[3]), signal.SIGKILL)
    else:
        slurm.run("scancel", *how, min(slurm.jobs(), key=int))
    assert started.finish() == 0, started.output
    (line,) = re.findall(
        r"^The process of a job was ended \((.*)\)\. The job runs again\.$", started.output, re.MULTILINE
    )
    assert reason in line
    assert sorted(re.findall(r"^\[(\d)/2\] (?:sgd|momentum): best_", started.output, re.MULTILINE)) == ["1", "2"]
    assert "KILLED" not in started.output
    assert re.search(
        r"^1 job was started twice, as a process was killed: (sgd|momentum)\.$", started.output, re.MULTILINE
    )
    assert sorted((row["status"], row["retries"]) for row in job_rows(tmp_path)) == [
        ("FINISHED", "0"),
        ("FINISHED", "1"),
    ]
    store = Store(tmp_path)
    assert store.statuses("parent") == ["FINISHED"]
    finished = [run for run in store.runs("job") if run.info.status == "FINISHED"]
    assert len(finished) == 2
    steps = [len(store.client.get_metric_history(run.info.run_id, "epoch/val_loss")) for run in finished]
    assert steps == [100, 100]
    (resumed,) = filter(None, (run.data.tags.get("resumed.epochs") for run in finished))
    assert int(resumed) >= 1  # the second attempt went on after the epoch of its checkpoint


def test_a_job_that_is_stopped_twice_has_failed(slurm: SlurmCluster, tmp_path: Path) -> None:
    started = Started(tmp_path, *WORDS[:-1], "optimizer=sgd", "fit.epochs=9000", "launch=slurm", **slurm.variables)
    stopped: set[str] = set()
    for _ in range(2):
        wait_until(lambda: time.sleep(0.5) or {*_started(tmp_path)} - stopped)
        (name,) = {*_started(tmp_path)} - stopped
        rows = sum(trained_epochs(tmp_path))
        wait_until(
            lambda rows=rows: sum(trained_epochs(tmp_path)) > rows
        )  # until then a signal ends it without a result
        stopped.add(name)
        slurm.run("scancel", *slurm.jobs())
    assert started.finish() == 1, started.output
    assert re.search(r"^  run +stopped by SIGTERM$", started.output, re.MULTILINE), started.output
    assert [(row["status"], row["retries"]) for row in job_rows(tmp_path)] == [("KILLED", "1")]
    assert Store(tmp_path).statuses("parent") == ["FAILED"]


def _started(root: Path) -> list[str]:
    """What says that a job has begun, one text for each attempt."""
    return [file.read_text() for file in root.glob("runs/sweeps/*/started/[!.]*")]


def test_ctrl_c_stops_the_jobs_that_run_and_those_that_wait(slurm: SlurmCluster, tmp_path: Path) -> None:
    words = (*WORDS[:-1], "optimizer=sgd,momentum,adam", "fit.epochs=9000", "launch=slurm")
    started = Started(tmp_path, *words, **slurm.variables)
    wait_until(lambda: len(trained_epochs(tmp_path)) == 2)
    assert sorted(slurm.jobs().values()) == ["PENDING", "RUNNING", "RUNNING"]
    os.kill(started.pid, signal.SIGINT)
    assert started.finish() == 130, started.output
    assert slurm.jobs() == {}
    store = Store(tmp_path)
    assert (store.statuses("parent"), store.statuses("job")) == (["KILLED"], ["KILLED", "KILLED"])
    assert sorted(row["status"] for row in job_rows(tmp_path)) == ["", "KILLED", "KILLED"]


def test_a_job_that_waits_says_why(slurm: SlurmCluster, tmp_path: Path) -> None:
    started = Started(tmp_path, *SWEEP, "launch=slurm", "launch.options.slurm_partition=closed", **slurm.variables)
    started.wait_for_line("4 jobs wait in Slurm's queue: PartitionDown.")
    os.kill(started.pid, signal.SIGINT)
    assert started.finish() == 130, started.output
    assert slurm.jobs() == {}
    assert started.output.count("wait in Slurm's queue") == 1
    assert Store(tmp_path).statuses("parent") == ["KILLED"]
    assert {row["status"] for row in job_rows(tmp_path)} == {""}
