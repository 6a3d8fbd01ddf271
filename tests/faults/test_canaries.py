"""Secrets that reach a run by every way are in no byte of what it leaves: folders, artifacts, database, output."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    monkeypatch.setenv("PYTHONPATH", f"{here}:{__import__('os').environ.get('PYTHONPATH', '')}")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    sweep = train("--multirun", *joblib, *WORDS, "callbacks.upload.api_key=canary-typed-6", "seed=0,1")
    assert sweep.code == 0, sweep.err
    dead = train(*WORDS, "tracking.required=true", MLFLOW_TRACKING_URI="http://me:canary-store-7@127.0.0.1:9")
    assert "canary" not in sweep.out + sweep.err + dead.out + dead.err
    assert files_with_canaries(here) == []
