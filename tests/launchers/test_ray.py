"""launch=ray on real clusters of Ray on this machine. `make test-launchers` installs Ray."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Finished, Started, Store, environment, run_command, wait_until
from launched import histories, job_rows
from mlflow import MlflowClient
from tracking_servers import free_port, mlflow_server

from mnistlab.runtime.processes import is_running, parse_name

pytest.importorskip("ray", reason="make test-launchers installs Ray")
pytestmark = pytest.mark.long

RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
WORDS = (
    "--multirun",
    "source=mnist_5k",
    "data.limit=800",
    "save.formats=[]",
    "optimizer=sgd,momentum",
    "sweep.seeds=2",
)
SWEEP = (*WORDS, "fit.epochs=2")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("alone")
    done = run_command(root, *SWEEP, "tracking=none")
    assert done.code == 0, done.err
    return root


def test_a_local_cluster_gives_the_same_numbers(alone: Path, tmp_path: Path) -> None:
    done = run_command(tmp_path, *SWEEP, "launch=ray")
    assert done.code == 0, done.err
    assert re.search(r"The jobs run in \d+ processes?: .*(processors|jobs to run|GB of memory)", done.out)
    assert "epoch 1/2" not in done.out
    assert len(histories(tmp_path)) == 4
    assert histories(tmp_path) == histories(alone)
    store = Store(tmp_path)
    (parent,), jobs = store.runs("parent"), store.runs("job")
    assert {run.info.status for run in (parent, *jobs)} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    workers = int(re.search(r"The jobs run in (\d+)", done.out)[1])
    assert len({run.data.tags["run.process"] for run in jobs}) == workers
    again = run_command(tmp_path, *SWEEP, "launch=ray")
    assert again.code == 0, again.err
    assert "4 jobs, 4 of them done" in again.out


def killed_in_mid_job(root: Path, words: tuple[str, ...], times: int) -> Finished:
    """Run a sweep and kill the process of a job of momentum's after some epochs of its own, so many times."""
    started, num_rows = Started(root, *words), 0
    for _ in range(times):
        wait_until(lambda rows=num_rows: _running(root)[1] >= rows + 3)
        process, num_rows = _running(root)
        os.kill(process, signal.SIGKILL)
    out, _ = started.process.communicate(timeout=300)
    return Finished(started.process.returncode, started.output + out, "")


def _running(root: Path) -> tuple[int, int]:
    """The process of the job that is to be killed, and how many epochs it has recorded; 0 and 0 before it runs."""
    for file in root.glob("runs/*/*-sweep/*/status.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            name = json.loads(file.with_name("tags.json").read_text())["run.name"]
            process = parse_name(json.loads(file.read_text())["process"])
            if name == "momentum-seed0" and process is not None and is_running(process.pid, process.start):
                return process.pid, len(file.with_name("metrics.jsonl").read_text().splitlines())
    return 0, 0


LONG = ("--multirun", "source=mnist_5k", "optimizer=momentum,sgd", "fit.epochs=60", "save.formats=[]")


def test_a_killed_worker_s_job_runs_once_more_and_is_counted(tmp_path: Path) -> None:
    done = killed_in_mid_job(tmp_path, (*LONG, "seed=0,1", "launch=ray", "launch.workers=2"), times=1)
    assert done.code == 0, done.out
    assert "1 job was started twice, as a process was killed: momentum-seed0." in done.out
    rows = {row["job"]: row for row in job_rows(tmp_path)}
    assert {name: row["retries"] for name, row in rows.items() if row["retries"] != "0"} == {"momentum-seed0": "1"}
    assert {row["status"] for row in rows.values()} == {"FINISHED"}
    assert len(histories(tmp_path)["momentum-seed0"]) >= 60
    finished = [run for run in Store(tmp_path).runs("job") if run.data.tags["run.name"] == "momentum-seed0"]
    assert [run.info.status for run in finished if run.info.run_id == rows["momentum-seed0"]["run"]] == ["FINISHED"]


def test_a_job_whose_worker_is_killed_twice_has_failed(tmp_path: Path) -> None:
    done = killed_in_mid_job(tmp_path, (*LONG, "seed=0,1", "launch=ray", "launch.workers=1"), times=2)
    assert done.code == 1, done.out
    rows = {row["job"]: row for row in job_rows(tmp_path)}
    assert "killed or crashed twice" in rows["momentum-seed0"]["error"]
    assert {row["status"] for name, row in rows.items() if name != "momentum-seed0"} == {"FINISHED"}


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def cluster_on_another_disk(hidden: Path) -> Iterator[str]:
    """The address of a cluster whose only worker sees an empty folder in place of `hidden`."""
    port, ray = free_port(), str(Path(sys.executable).with_name("ray"))
    env = {**environment(hidden.parent), **RAY, "MLFLOW_DISABLE_TELEMETRY": "true"}
    env = {name: value for name, value in env.items() if not name.lower().endswith("_proxy")}  # of the tests
    common = ["--disable-usage-stats", "--object-store-memory=100000000", "--block"]
    head = [ray, "start", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", *common]
    other = (
        f"mount -t tmpfs tmpfs {hidden} && exec {ray} start --address=127.0.0.1:{port} --num-cpus=1 {' '.join(common)}"
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    processes = [subprocess.Popen(head, env=env, **quiet)]
    try:
        wait_until(lambda: _accepts(port))
        processes.append(subprocess.Popen(["unshare", "--mount", "sh", "-c", other], env=env, **quiet))
        nodes = "import ray, sys; ray.init(sys.argv[1], logging_level='error'); sys.exit(len(ray.nodes()) < 2)"
        count = [sys.executable, "-c", nodes, f"127.0.0.1:{port}"]
        wait_until(lambda: subprocess.run(count, env=env, capture_output=True, check=False).returncode == 0)
        yield f"127.0.0.1:{port}"  # Ray makes it the node's own address
    finally:
        for process in reversed(processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)


needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="a disk of its own needs root and unshare"
)


@needs_mounts
def test_a_node_with_another_disk_delivers_its_runs_through_the_server(alone: Path, tmp_path: Path) -> None:
    root, server = tmp_path / "root", tmp_path / "server"
    root.mkdir()
    server.mkdir()
    port = free_port()
    with mlflow_server(server, port), cluster_on_another_disk(root) as address:
        words = (*SWEEP, "launch=ray", f"launch.address={address}", f"paths.root={root}")
        refused = run_command(tmp_path, *words, **RAY)
        assert refused.code == 2
        assert (
            "does not share the disk of the sweep, so a run there needs a tracking server" in refused.out + refused.err
        )
        done = run_command(tmp_path, *words, f"tracking.uri=http://127.0.0.1:{port}", **RAY)
        named = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MNISTLAB_ROOT": str(root)}  # not of the node
        again = run_command(tmp_path, *words[:-1], "sweep.force=true", **named, **RAY)
        runs = MlflowClient(named["MLFLOW_TRACKING_URI"]).search_runs(["1"], "tags.`sweep.kind` = 'job'")
    assert done.code == 0, done.out
    assert again.code == 0, again.out
    assert len({run.info.run_id for run in runs}) == 2 * 4  # the second start trained all jobs again
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not histories(root)  # the runs' folders are on the other disk
    rows = job_rows(root)
    assert {row["status"] for row in rows} == {"FINISHED"}
    scores = {row["job"]: float(row["best_epoch_val_accuracy"]) for row in rows}
    assert scores == {name: history[-1]["best_epoch_val_accuracy"] for name, history in histories(alone).items()}
