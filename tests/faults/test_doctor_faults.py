"""The doctor on real faults: killed runs beside a live one, a relocation that is killed, a store that is read-only."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Store, environment, run_command, wait_until
from small_data import copy_empty_database

from mnistlab.tracking import mlflow_store
from mnistlab.tracking.stores import StoreAddress

pytestmark = pytest.mark.faults

ENDLESS = ("source=mnist_5k", "fit.epochs=100000")
DOCTOR = "mnistlab.doctor"


def test_it_closes_killed_runs_and_leaves_a_live_one(start, train, tmp_path) -> None:
    killed, live = (start(*ENDLESS, f"seed={seed}") for seed in (1, 2))
    for command in (killed, live):
        command.wait_for_line("epoch 2/")
    killed.kill_with_background()
    listed = train(module=DOCTOR)
    assert listed.code == 1, listed.err
    assert "1 runs are recorded as RUNNING, but their processes have ended" in listed.out
    assert f"its process {killed.pid} was killed or crashed" in listed.out
    assert str(live.pid) not in listed.out
    assert Store(tmp_path).statuses() == ["RUNNING", "RUNNING"]
    refused = train("relocate", module=DOCTOR)
    assert (refused.code, refused.err) == (0, "")  # nothing has moved, so there is nothing to refuse
    mended = train("--fix", module=DOCTOR)
    assert mended.code == 0, mended.out + mended.err
    runs = {run.data.params["seed"]: run for run in Store(tmp_path).runs()}
    assert {seed: run.info.status for seed, run in runs.items()} == {"1": "KILLED", "2": "RUNNING"}
    live.process.send_signal(signal.SIGINT)
    assert live.finish() == 130
    assert Store(tmp_path).statuses() == ["KILLED", "KILLED"]
    assert train(module=DOCTOR).code == 0


@pytest.fixture
def moved(tmp_path) -> Path:
    """A root that was moved, with so many runs that relocating them takes a moment."""
    old = tmp_path / "old"
    old.mkdir()
    file = copy_empty_database(old)
    store = StoreAddress(f"sqlite:///{file}", "mnistlab", old / "mlruns" / "artifacts")
    client, experiment_id = mlflow_store.open_store(store)
    run_id = client.create_run(experiment_id, tags={"run.process": "elsewhere:b:n:1:1"}).info.run_id
    client.log_text(run_id, "text", "file.txt")
    client.set_terminated(run_id, "FINISHED")
    with sqlite3.connect(file) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        row = dict(zip(columns, connection.execute("SELECT * FROM runs").fetchone(), strict=True))
        rows = [tuple({**row, "run_uuid": f"{number:032}"}.values()) for number in range(60_000)]
        connection.executemany(f"INSERT INTO runs VALUES ({', '.join('?' * len(columns))})", rows)
    connection.close()
    shutil.move(old, tmp_path / "new")
    return tmp_path / "new"


def places(root: Path) -> set[str]:
    connection = sqlite3.connect(root / "mlruns" / "mlflow.db")
    found = {place for (place,) in connection.execute("SELECT DISTINCT artifact_uri FROM runs")}
    connection.close()
    return found


def test_a_relocation_that_is_killed_has_changed_all_or_nothing(moved) -> None:
    database = moved / "mlruns" / "mlflow.db"
    (before,) = places(moved)
    pristine = database.read_bytes()
    seed = random.randrange(10**6)
    generator = random.Random(seed)
    ended = []
    for _ in range(8):
        for file in (moved / "mlruns").glob("mlflow*"):
            file.unlink()
        database.write_bytes(pristine)
        command = subprocess.Popen(
            [sys.executable, "-m", DOCTOR, "relocate"],
            env=environment(moved),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: list(moved.glob("mlruns/mlflow*.bak")) or list(moved.glob("mlruns/.mlflow*.bak*.half")))
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(timeout=generator.uniform(0, 1.5))
        command.kill()
        ended.append(command.wait())
        assert len(places(moved)) == 1, f"seed {seed}"
        for copy in (moved / "mlruns").glob("*.bak"):
            assert integrity(copy) == "ok", f"seed {seed}"
    print(f"seed {seed}: exit statuses {ended}")
    done = run_command(moved, "relocate", module=DOCTOR)
    assert done.code == 0, done.err
    assert places(moved) == {before.replace("/old/", "/new/")}
    assert integrity(database) == "ok"


def integrity(database: Path) -> str:
    connection = sqlite3.connect(database)
    (answer,) = connection.execute("PRAGMA quick_check").fetchone()
    connection.close()
    return answer


def test_a_read_only_store_is_examined_and_not_changed(moved) -> None:
    assert run_command(moved, "relocate", module=DOCTOR).code == 0
    leftover = moved / "runs" / ".report.html.xyz.half"
    leftover.parent.mkdir()
    leftover.touch()
    os.utime(leftover, (1, 1))
    if subprocess.run(["mount", "--bind", str(moved), str(moved)], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(moved)], check=True)
        listed = run_command(moved, module=DOCTOR)
        began = time.monotonic()
        refused = run_command(moved, "--fix", module=DOCTOR)
        seconds = time.monotonic() - began
    finally:
        subprocess.run(["umount", str(moved)], check=True)
    assert (listed.code, listed.err) == (1, "")
    assert f"1 unfinished files were left by processes that were killed (0 B)\n       0 B  {leftover}" in listed.out
    assert "Examined: 1 runs of 'mnistlab'" in listed.out
    assert refused.code == 2
    assert f"cannot be written: {moved}" in refused.err
    assert "Traceback" not in refused.err
    assert seconds < 60  # MLflow would try for 100
    assert run_command(moved, "--fix", module=DOCTOR).code == 0
    assert not leftover.exists()
