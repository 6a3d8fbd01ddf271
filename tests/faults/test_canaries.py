"""Secrets that reach a run by every way are in no byte of what it leaves: folders, artifacts, database, output."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PROJECT
from mlflow import MlflowClient
from tracking_servers import free_port, mlflow_server, server_with_login

CALLBACK = """
import keras


class Upload(keras.callbacks.Callback):
    def __init__(self, api_key, url, note, fail=False):
        super().__init__()
        assert api_key.startswith("canary") and "canary" in url and "canary" in note  # the real values arrive
        self.given, self.fail = (api_key, url, note), fail

    def on_epoch_end(self, epoch, logs=None):
        if self.fail:
            raise RuntimeError(f"cannot reach {self.given}")
"""
OPTION = """# @package _global_
run: {name: "job-${oc.env:MY_NAME}"}
callbacks:
  upload:
    _target_: upload_of_mine.Upload
    api_key: canary-in-file-1
    url: "https://me:canary-in-url-2@host/x?token=canary-in-query-3&a=b"
    note: "${run.name} and ${oc.env:MY_NOTE}"
    fail: false
"""
SMALL = ("source=mnist_5k", "data.limit=400", "fit.epochs=1", "model=logistic", "data.validation=holdout")
WORDS = ("--config-dir", "mine", "experiment=secret", "trust=[upload_of_mine]", *SMALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MY_NAME", "canary-environment-4")
    monkeypatch.setenv("MY_NOTE", "canary with 'quotes' \"5\"")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "upload_of_mine.py").write_text(CALLBACK)
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "secret.yaml").write_text(OPTION)
    return tmp_path


def files_with_canaries(root: Path) -> list[str]:
    left = [file for name in ("runs", "mlruns") for file in (root / name).rglob("*") if file.is_file()]
    assert len(left) > 20
    return [str(file) for file in left if b"canary" in file.read_bytes() or "canary" in str(file.relative_to(root))]


@pytest.mark.faults
def test_a_run_a_failing_run_and_a_sweep_leave_no_secret(train_here, here: Path) -> None:
    done = train_here(*WORDS)
    assert done.code == 0, done.err
    failed = train_here(*WORDS, "callbacks.upload.fail=true", "callbacks.upload.api_key=canary-typed-6")
    assert failed.code == 1
    assert "cannot reach ('<hidden>', 'https://me:<hidden>@host" in failed.err
    sweep = train_here("--multirun", *WORDS, "callbacks.upload.api_key=canary-typed-6", "seed=0,1")
    assert sweep.code == 0, sweep.err
    outputs = "".join(one.out + one.err for one in (done, failed, sweep))
    assert "canary" not in outputs
    assert files_with_canaries(here) == []


@pytest.mark.faults
def test_a_parallel_sweep_and_a_store_with_a_password_leave_no_secret(train, here: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{here}:{os.environ.get('PYTHONPATH', '')}")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    sweep = train("--multirun", *joblib, *WORDS, "callbacks.upload.api_key=canary-typed-6", "seed=0,1")
    assert sweep.code == 0, sweep.err
    dead = train(*WORDS, "tracking.required=true", MLFLOW_TRACKING_URI="http://me:canary-store-7@127.0.0.1:9")
    assert "canary" not in sweep.out + sweep.err + dead.out + dead.err
    assert files_with_canaries(here) == []


@pytest.mark.faults
def test_a_login_is_used_and_left_nowhere(train, tmp_path: Path) -> None:
    port = free_port()
    with mlflow_server(tmp_path, port), server_with_login(port, "me", "canary-login-8") as (uri, passed):
        done = train(*SMALL, "tracking.required=true", MLFLOW_TRACKING_URI=uri)
        assert done.code == 0, done.err
        unsynced = train(*SMALL, "tracking=none")
        (folder,) = [
            file.parent for file in (tmp_path / "runs").glob("*/*/tags.json") if "tracking=none" in file.read_text()
        ]
        synced = train(str(folder), module="mnistlab.sync", MLFLOW_TRACKING_URI=uri)
        assert synced.code == 0, synced.out + synced.err
        client = MlflowClient(f"http://127.0.0.1:{port}")
        runs = client.search_runs([client.get_experiment_by_name("mnistlab").experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 2
        assert {len(run.outputs.model_outputs) for run in runs} == {1}
    assert any("artifacts" in path for path in passed)
    assert "canary" not in "".join(one.out + one.err for one in (done, unsynced, synced))
    assert "http://me:<hidden>@127.0.0.1" in done.out
    (tmp_path / "there").rename(tmp_path / "mlruns")  # the server's artifacts and its database
    (tmp_path / "server.db").rename(tmp_path / "mlruns" / "server.db")
    assert files_with_canaries(tmp_path) == []


UNCOMMITTED = """
API_KEY = "canary-in-code-1"
settings = {'db_password': 'canary-in-code-2', "url": "https://me:canary-in-code-3@host/"}
def connect(token="canary-in-code-4", retries=3):
    return retries + 1
"""
UNCOMMITTED_YAML = """
upload:
  password: canary-in-yaml-1
  access_key: 'canary-in-yaml-2'
  retries: 33
"""


def git(folder: Path, *words: str) -> None:
    author = ("-c", "user.name=me", "-c", "user.email=me@host")
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.faults
def test_secrets_in_uncommitted_files_are_not_in_the_recorded_difference(train, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", checkout)
    changed = {"mine.py": UNCOMMITTED, "mine.yaml": UNCOMMITTED_YAML, ".env": "\nMY_TOKEN=canary-in-env-1\nPORT=8080\n"}
    for name in changed:
        (checkout / name).write_text("\n")
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "start")
    for name, text in changed.items():
        (checkout / name).write_text(text)
    (checkout / "not_added.py").write_text("SECRET = 'canary-untracked'")
    done = train(*SMALL, PYTHONPATH=str(checkout / "src"))
    assert done.code == 0, done.err
    (difference,) = (tmp_path / "runs").glob("*/*/git.mnistlab.diff")
    text = difference.read_text()
    for kept in ("+API_KEY = <hidden>", "retries + 1", "+  password: <hidden>", "+  retries: 33", "+PORT=8080"):
        assert kept in text, text
    assert "canary" not in text + done.out + done.err
    assert files_with_canaries(tmp_path) == []
