"""`python -m mnistlab.doctor`: lists what is wrong, changes nothing without --fix, mends it with it; relocates."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Store, environment
from small_data import copy_empty_database

from mnistlab import doctor, experiment
from mnistlab.config.compose import compose_config
from mnistlab.runtime import errors
from mnistlab.runtime.processes import process_name
from mnistlab.tracking import mlflow_store, sync
from mnistlab.tracking.initial_weights import initial_weights_file
from mnistlab.tracking.mlflow_models import fluent_store
from mnistlab.tracking.stores import StoreAddress

ENDED = f"{socket.gethostname()}:{os.getpid()}:1"  # this number was another process's
FOLDER = Path("runs/2026-01-01/10-00-00")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A root with one real run, which the tests copy."""
    root = tmp_path_factory.mktemp("original") / "root"
    root.mkdir()
    copy_empty_database(root)
    settings = ("source=mnist_5k", "data.limit=200", "fit.epochs=1", "save.formats=[keras,weights]")
    experiment.run(compose_config([*settings, f"paths.root={root}", f"paths.run={root / FOLDER}"]))
    (root / FOLDER / ".hydra").mkdir()
    return root


@pytest.fixture
def root(original, tmp_path) -> Path:
    """A copy of the root, relocated."""
    copied = copy(original, tmp_path / "root")
    assert examine_in(copied, "relocate")[0] == 0
    (backup,) = (copied / "mlruns").glob("*.bak")
    backup.unlink()
    return copied


def copy(root: Path, to: Path) -> Path:
    """Copy a root as `cp -r` does, when nothing writes to it."""
    with sqlite3.connect(root / "mlruns" / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return Path(shutil.copytree(root, to, ignore=shutil.ignore_patterns("*.bak")))


def examine_in(root: Path, *words: str) -> tuple[int, str]:
    """Run the command in this process; returns its exit status and what it printed."""
    before, sys.argv = sys.argv, ["doctor", f"paths.root={root}", *words]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = errors.run_command(doctor._doctor)
    finally:
        sys.argv = before
    return code, printed.getvalue()


def tree(root: Path) -> dict[str, bytes]:
    """The bytes of all files, without those that readers of a database share."""
    files = [file for file in root.rglob("*") if file.is_file() and file.suffix not in (".db-shm", ".db-wal")]
    return {str(file): file.read_bytes() for file in files}


def client_of(root: Path) -> tuple[mlflow.MlflowClient, str]:
    return mlflow_store.open_store(store_of(root))


def store_of(root: Path) -> StoreAddress:
    return StoreAddress(f"sqlite:///{root}/mlruns/mlflow.db", "mnistlab", root / "mlruns" / "artifacts")


def the_run(root: Path) -> mlflow.entities.Run:
    (run,) = [run for run in Store(root).runs() if run.info.status == "FINISHED"]
    return run


def test_a_healthy_root_is_left_alone(root) -> None:
    before = tree(root)
    for words in ((), ("--fix",)):
        code, text = examine_in(root, *words)
        assert (code, text.count("\n\n")) == (0, 1), text
        assert "Examined: 1 runs of 'mnistlab'" in text
        assert "1 run folders" in text
        assert text.endswith("Healthy: nothing is wrong.\n")
    assert tree(root) == before


def test_it_lists_what_is_wrong_and_mends_it(root) -> None:
    client, experiment_id = client_of(root)
    run = the_run(root)
    run_id, artifacts = run.info.run_id, Path(run.info.artifact_uri.removeprefix("file://"))

    def create(name: str, experiment: str = experiment_id, **tags: str) -> str:
        return client.create_run(experiment, run_name=name, tags=tags).info.run_id

    dead = create("dead", **{"run.process": ENDED})
    untouched = [create("live", **{"run.process": process_name()}), create("foreign"), create("foreign", "0")]
    stray = create("stray", "0", **{"run.process": ENDED})
    client.set_terminated(stray, "FINISHED")
    (artifacts / "reports" / "predictions.npz").unlink()
    half = client.create_logged_model(experiment_id, "model", source_run_id=run_id).model_id
    client.create_logged_model(experiment_id, "model", source_run_id=untouched[0])  # of a live run: not touched
    (model_id,) = [output.model_id for output in run.outputs.model_outputs]
    model_file = artifacts.parents[1] / "models" / model_id / "artifacts" / "data" / "model.keras"
    saved = model_file.read_bytes()
    model_file.unlink()
    dangling = create("dangling", **{"run.process": ENDED, "model.address": "models:/m-" + "0" * 32})
    client.set_terminated(dangling, "FINISHED")
    (root / FOLDER / "parameters.json").write_text('{"seed": ')
    torn_job = root / "runs" / "sweeps" / "one" / "done" / "abc"
    torn_job.parent.mkdir(parents=True)
    torn_job.write_text("{")
    (root / FOLDER / "checkpoint").mkdir()
    (root / FOLDER / "checkpoint" / "a.npz").write_bytes(b"0" * 5000)
    leftover, recent = root / FOLDER / ".tags.json.xyz.half", root / FOLDER / ".status.json.xyz.half"
    for file in (leftover, recent):
        file.touch()
    os.utime(leftover, (time.time() - 7200,) * 2)
    sync.write_state(root / FOLDER, store_of(root), run_id, "the server did not answer", synced=False)
    for number in (1, 2):
        same = create(f"same{number}", fingerprint="0123456789abcdef", **{"run.process": ENDED})
        client.set_terminated(same, "FINISHED")

    before = tree(root)
    code, text = examine_in(root)
    assert code == 1
    expected = [
        f"1 runs are recorded as RUNNING, but their processes have ended\n  dead  {dead}  its process",
        f"1 runs are in MLflow's experiment 'Default' instead of 'mnistlab'\n  stray  {stray}",
        f"1 runs lack artifacts that their folders have\n  {run.info.run_name}  {run_id}  {root / FOLDER}",
        f"1 logged models were never completed\n  {half}  PENDING  of {run.info.run_name}",
        f"1 logged models lack their file data/model.keras\n  {model_id}  of",
        f"1 runs name a logged model that MLflow does not have any more\n  dangling  {dangling}",
        f"2 JSON files are damaged, as after a full disk or a power failure\n  {root / FOLDER / 'parameters.json'}",
        f"1 run folders are not completely in the tracking store\n  {run.info.run_name}  {root / FOLDER}  the",
        "1 computations were done more than once",
        f"1 unfinished files were left by processes that were killed (0 B)\n       0 B  {leftover}",
        f"1 checkpoints of finished runs are left (5 kB)\n      5 kB  {root / FOLDER / 'checkpoint'}",
    ]
    for part in expected:
        assert part in text, text
    assert text.count("--fix: ") == len(expected) - 1
    assert tree(root) == before

    code, text = examine_in(root, "--fix")
    assert code == 0, text
    assert text.endswith("Examined again: nothing is wrong any more.\n")
    runs = {name: client.get_run(name) for name in (dead, stray, dangling, run_id, *untouched)}
    assert runs[dead].info.status == "KILLED"
    assert "was killed or crashed" in runs[dead].data.tags["error"]
    assert {runs[name].info.status for name in untouched} == {"RUNNING"}
    assert runs[untouched[2]].info.experiment_id == "0"
    assert runs[stray].info.experiment_id == experiment_id
    assert "model.address" not in runs[dangling].data.tags
    assert (artifacts / "reports" / "predictions.npz").read_bytes() == (
        root / FOLDER / "reports" / "predictions.npz"
    ).read_bytes()
    assert model_file.read_bytes() == saved
    assert half not in {model.model_id for model in client.search_logged_models([experiment_id])}
    assert len(client.search_logged_models([experiment_id])) == 2
    assert json.loads((root / FOLDER / "sync.json").read_text())["synced"] is True
    assert json.loads((root / FOLDER / "parameters.json").read_text())["seed"] == 0
    assert (torn_job.exists(), torn_job.with_name("abc.damaged").exists()) == (False, True)
    assert (leftover.exists(), recent.exists(), (root / FOLDER / "checkpoint").exists()) == (False, True, False)

    code, text = examine_in(root, "--fix")
    assert code == 0
    assert "--fix: " not in text
    assert "done now: " not in text


@pytest.mark.parametrize("name", ["plain", "with space, ünïcode % and #"])
def test_models_load_and_artifacts_are_listed_after_a_move(name, original, tmp_path, monkeypatch) -> None:
    old = copy(original, tmp_path / "old")
    assert examine_in(old, "relocate")[0] == 0
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    address = the_run(old).data.tags["model.address"]
    with fluent_store(store_of(old).uri):
        expected = mlflow.keras.load_model(address).predict(images, verbose=0)
    new = copy(old, tmp_path / name)
    shutil.rmtree(old)
    code, text = examine_in(new)
    assert code == 1
    assert f"the old place (1 of experiments, 1 of runs, 1 of logged_models, 1 of tags)\n  {old}/mlruns -> " in text
    assert "what helps: python -m mnistlab.doctor relocate" in text
    before = tree(new)
    code, text = examine_in(new, "relocate")
    assert code == 0
    assert f"{old}/mlruns -> {new}/mlruns" in text
    assert "4 addresses changed: 1 of experiments, 1 of runs, 1 of logged_models, 1 of tags" in text
    (backup,) = (new / "mlruns").glob("mlflow.*.bak")
    with sqlite3.connect(backup) as connection:
        assert str(old) in connection.execute("SELECT artifact_uri FROM runs").fetchone()[0]
    connection.close()
    run = the_run(new)
    client, _ = client_of(new)
    assert {entry.path for entry in client.list_artifacts(run.info.run_id)} >= {"model_files", "reports", "figures"}
    assert run.data.tags["run.folder"] == str(new / FOLDER)
    assert json.loads((new / FOLDER / "tags.json").read_text())["run.folder"] == str(new / FOLDER)
    assert json.loads((new / FOLDER / "sync.json").read_text())["store"] == store_of(new).uri
    with fluent_store(store_of(new).uri):
        np.testing.assert_array_equal(mlflow.keras.load_model(address).predict(images, verbose=0), expected)
        np.testing.assert_allclose(mlflow.pyfunc.load_model(address).predict(images), expected, rtol=1e-6)
    monkeypatch.setenv("MNISTLAB_ROOT", str(new))
    for start in (run.info.run_id, address):
        file = initial_weights_file(compose_config([f"init.from={start}"]))
        assert file.is_relative_to(new)
        assert file.stat().st_size > 100_000
    settled = tree(new)
    assert examine_in(new, "relocate") == (0, "Nothing to relocate: no address names an old place of these files.\n")
    assert tree(new) == settled
    assert set(before) <= set(settled)
    assert examine_in(new)[0] == 0


def test_a_copy_does_not_read_from_where_it_was_copied(root, tmp_path) -> None:
    copied = copy(root, tmp_path / "copy")
    link = tmp_path / "link"
    link.symlink_to(copied)
    code, text = examine_in(copied)
    assert (code, "addresses in the store name the old place" in text) == (1, True), text
    assert examine_in(link, "relocate")[0] == 0  # a root that is named by a symbolic link, with a slash at its end
    for file in (root / "mlruns" / "artifacts").rglob("*"):
        if file.is_file():
            file.write_bytes(b"not the copy's")
    with fluent_store(store_of(copied).uri):
        model = mlflow.keras.load_model(the_run(copied).data.tags["model.address"])
        assert mlflow.pyfunc.load_model(the_run(copied).data.tags["model.address"]) is not None
    assert model.count_params() == 101_770
    assert str(root) in the_run(root).info.artifact_uri  # the original was not changed
    assert examine_in(Path(f"{link}/"))[0] == 0


def test_files_that_stand_in_the_old_folder_only_are_not_lost(root, tmp_path) -> None:
    copied = copy(root, tmp_path / "copy")
    client, experiment_id = client_of(copied)  # a run after the copy: its experiment is still in the old folder
    late = client.create_run(experiment_id, tags={"run.process": ENDED}).info
    client.log_text(late.run_id, "text", "file.txt")
    client.set_terminated(late.run_id, "FINISHED")
    code, text = examine_in(copied, "relocate")
    assert code == 1
    assert f"1 have their files only in the old folder, and keep their addresses:\n  {late.artifact_uri}" in text
    assert str(copied) in the_runs_place(copied, "mnist_5k")
    place = Path(late.artifact_uri.removeprefix("file://"))
    shutil.copytree(place, copied / place.relative_to(root))
    assert examine_in(copied, "relocate")[0] == 0
    assert str(copied) in client_of(copied)[0].get_run(late.run_id).info.artifact_uri


def the_runs_place(root: Path, part: str) -> str:
    (run,) = [run for run in Store(root).runs() if part in run.info.run_name]
    return run.info.artifact_uri


def test_nothing_is_relocated_while_a_run_trains(root, tmp_path) -> None:
    copied = copy(root, tmp_path / "copy")
    client, experiment_id = client_of(copied)
    run_id = client.create_run(experiment_id, run_name="at work", tags={"run.process": process_name()}).info.run_id
    code, text = examine_in(copied, "relocate")
    assert (code, "A run is training now: at work." in text) == (2, True), text
    assert str(root) in client.get_run(run_id).info.artifact_uri
    assert list((copied / "mlruns").glob("*.bak")) == []


def test_mistakes_and_stores_that_cannot_be_read_are_clear(tmp_path) -> None:
    code, text = examine_in(tmp_path, "--fixx")
    assert (code, "--fixx is not a setting" in text) == (2, True)
    code, text = examine_in(tmp_path / "nowhere")
    assert (code, "paths.root must be a folder that exists" in text) == (2, True)
    code, text = examine_in(tmp_path, "relocate", "tracking.uri=http://127.0.0.1:9")
    assert (code, "Traceback" in text) == (2, False)
    code, text = examine_in(tmp_path, "relocate")
    assert (code, "There are no runs yet" in text) == (2, True)
    code, text = examine_in(tmp_path, "--fix")
    assert (code, text) == (0, f"Nothing to examine: {tmp_path} has no runs, neither runs/ nor mlruns/.\n")
    assert list(tmp_path.iterdir()) == []
    code, text = examine_in(tmp_path, "tracking.uri=http://127.0.0.1:9")
    assert (code, "The tracking server does not answer: http://127.0.0.1:9" in text) == (1, True)
    file = copy_empty_database(tmp_path)
    damaged = bytearray(file.read_bytes())
    damaged[8192:200_000] = b"\x07" * (200_000 - 8192)
    file.write_bytes(damaged)
    for words in ((), ("--fix",)):
        code, text = examine_in(tmp_path, *words)
        assert (code, f"1 store cannot be read\n  {file}: " in text, "move it away" in text) == (1, True, True), text
    assert file.read_bytes() == damaged
    assert examine_in(tmp_path, "relocate")[0] == 2
    with contextlib.closing(sqlite3.connect(tmp_path / "older.db")) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id, name)")
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
        connection.commit()
    code, text = examine_in(tmp_path, f"tracking.uri=sqlite:///{tmp_path}/older.db")
    assert (code, "written by an older MLflow" in text, "move it away" in text) == (1, True, False), text


def test_a_locked_database_is_said(root, monkeypatch) -> None:
    monkeypatch.setattr("mnistlab.tracking.mlflow_internals.BUSY_SECONDS", 0.1)
    connection = sqlite3.connect(root / "mlruns" / "mlflow.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("BEGIN EXCLUSIVE")
    code, text = examine_in(root)
    connection.close()
    assert (code, "database is locked" in text, "end the process that keeps it locked" in text) == (1, True, True)


def test_the_command_is_quick_and_loads_nothing_heavy(root) -> None:
    heavy = "[name for name in ('tensorflow', 'keras', 'mlflow', 'matplotlib') if name in sys.modules]"
    code = f"import sys\nfrom mnistlab.doctor import main\ntry: main()\nfinally: print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(root), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "[]", "")
