"""Runs whose process was killed: closed by the next start, each judged alone; live and foreign runs stay untouched."""

from __future__ import annotations

import json
import os
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import Store, wait_until
from small_data import copy_empty_database

from mnistlab.runtime.processes import process_name
from mnistlab.tracking import heartbeat, mlflow_runs, orphans
from mnistlab.tracking.stores import StoreAddress

ENDLESS = ("source=mnist_5k", "fit.epochs=100000")
ENDED = f"{socket.gethostname()}:{os.getpid()}:1"  # this number was another process's


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="seconds")


@pytest.fixture
def store(tmp_path: Path) -> StoreAddress:
    return StoreAddress(f"sqlite:///{copy_empty_database(tmp_path)}", "mnistlab", tmp_path / "artifacts")


def test_each_run_is_judged_alone(store, tmp_path) -> None:
    client, experiment_id = mlflow_runs.open_store(store)
    tags = {
        "killed": {"run.process": ENDED},
        "malformed": {"run.process": "what is this?"},
        "empty": {"run.process": ""},
        "live": {"run.process": process_name()},
        "foreign": {},
        "elsewhere": {"run.process": "elsewhere:b:n:1:1", "run.heartbeat": ago(minutes=2)},
        "silent": {"run.process": "elsewhere:b:n:1:1", "run.heartbeat": ago(minutes=20)},
        "unreadable": {"run.process": "elsewhere:b:n:1:1", "run.heartbeat": "yesterday"},
    }
    long_ago = int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1000)
    ids = {name: client.create_run(experiment_id, long_ago, one, name).info.run_id for name, one in tags.items()}
    listed = {orphan.name: orphan for orphan in orphans.orphaned_runs(store)}
    assert set(listed) == {"killed", "silent", "unreadable"}
    assert set(Store(tmp_path).statuses()) == {"RUNNING"}  # listing changes nothing
    assert sorted(orphans.close_orphaned_runs(store)) == sorted(ids[name] for name in listed)
    runs = {run.info.run_name: run for run in Store(tmp_path).runs()}
    assert {name for name, run in runs.items() if run.info.status == "KILLED"} == set(listed)
    assert runs["killed"].data.tags["error"] == (
        f"the run was not finished: its process {os.getpid()} was killed or crashed"
    )
    assert "on the machine elsewhere, has given no sign of life since" in runs["silent"].data.tags["error"]
    assert orphans.orphaned_runs(store) == []


def test_a_run_that_cannot_be_closed_keeps_no_other_from_it(store, tmp_path) -> None:
    client, experiment_id = mlflow_runs.open_store(store)
    run_id = client.create_run(experiment_id, tags={"run.process": ENDED}).info.run_id
    deleted = orphans.Orphan("deleted", "its process was killed", "0" * 32)
    assert orphans.close_orphaned_runs(store, [deleted, *orphans.orphaned_runs(store)]) == [run_id]


def test_an_open_run_gives_signs_of_life(store, monkeypatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "_threads", [])
    run_id, _, _ = mlflow_runs.open_run(store, "run", {})
    client, _ = mlflow_runs.open_store(store)
    try:
        first = client.get_run(run_id).data.tags["run.heartbeat"]
        wait_until(lambda: client.get_run(run_id).data.tags["run.heartbeat"] != first)
    finally:
        mlflow_runs._open_runs.clear()
    assert abs((datetime.fromisoformat(first) - datetime.now(UTC)).total_seconds()) < 3600


def test_the_folders_of_killed_runs_are_closed(tmp_path) -> None:
    contents = {
        "day/killed": {"status": "RUNNING", "process": ENDED, "started": 1.0},
        "day/live": {"status": "RUNNING", "process": process_name(), "started": 1.0},
        "day/finished": {"status": "FINISHED", "ended": 2.0},
        "day/old": {"status": "RUNNING"},
        "day/time-sweep/0": {"status": "RUNNING", "process": ENDED},
    }
    for name, status in contents.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "status.json").write_text(json.dumps(status))
    (tmp_path / "runs" / "day" / "torn").mkdir()
    (tmp_path / "runs" / "day" / "torn" / "status.json").write_text('{"status": "RUNN')
    (tmp_path / "runs" / "day" / "killed" / "tags.json").write_text('{"run.name": "adam"}')
    found = orphans.orphaned_folders(tmp_path)
    assert [orphan.name for orphan in found] == ["adam", "0"]
    closed = orphans.close_orphaned_folders(tmp_path)
    assert closed == [str(tmp_path / "runs" / name) for name in ("day/killed", "day/time-sweep/0")]
    reason = f"the run was not finished: its process {os.getpid()} was killed or crashed"
    status = json.loads((tmp_path / "runs/day/killed/status.json").read_text())
    assert (status["status"], status["error"], status["started"]) == ("KILLED", reason, 1.0)
    tags = json.loads((tmp_path / "runs/day/killed/tags.json").read_text())
    assert tags == {"run.name": "adam", "error": reason}
    assert orphans.orphaned_folders(tmp_path) == []
    assert json.loads((tmp_path / "runs/day/live/status.json").read_text()) == contents["day/live"]


@pytest.mark.faults
def test_the_next_start_closes_a_run_whose_processes_were_all_killed(start, train, tmp_path) -> None:
    """And leaves one alone that trains at the same time."""
    killed, live = (start(*ENDLESS, f"seed={seed}") for seed in (1, 2))
    for command in (killed, live):
        command.wait_for_line("epoch 2/")
    killed.kill_with_background()
    assert Store(tmp_path).statuses() == ["RUNNING", "RUNNING"]
    done = train("source=mnist_5k", "data.limit=400", "fit.epochs=1")
    assert done.code == 0, done.err
    runs = {run.data.params["seed"]: run for run in Store(tmp_path).runs()}
    assert {seed: run.info.status for seed, run in runs.items()} == {"0": "FINISHED", "1": "KILLED", "2": "RUNNING"}
    assert runs["1"].data.tags["error"].endswith(f"its process {killed.pid} was killed or crashed")
    live.process.send_signal(signal.SIGINT)
    assert live.finish() == 130
