"""launch=submitit_local: the scripts of launch=slurm on this machine. `make test-launchers` installs submitit."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest
from conftest import Started, Store, run_command, wait_until
from launched import histories, job_rows
from omegaconf import OmegaConf

from mnistlab.config.compose import compose_config
from mnistlab.sweep.slurm import SubmititEngine

pytest.importorskip("submitit", reason="make test-launchers installs submitit")
pytestmark = pytest.mark.long

SWEEP = (
    *("--multirun", "source=mnist_5k", "data.limit=800", "fit.epochs=2", "save.formats=[]"),
    *("optimizer=sgd,momentum", "sweep.seeds=2"),
)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_numbers_are_those_of_one_process(tmp_path: Path) -> None:
    done = run_command(_made(tmp_path / "side"), *SWEEP, "launch=submitit_local")
    assert done.code == 0, done.err
    alone = run_command(_made(tmp_path / "alone"), *SWEEP, "tracking=none")
    assert alone.code == 0, alone.err
    assert len(histories(tmp_path / "side")) == 4
    assert histories(tmp_path / "side") == histories(tmp_path / "alone")
    store = Store(tmp_path / "side")
    (parent,), jobs = store.runs("parent"), store.runs("job")
    assert {run.info.status for run in (parent, *jobs)} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    assert len({run.data.tags["run.process"] for run in jobs}) == 4


def test_an_option_that_submitit_does_not_have_is_named(tmp_path: Path) -> None:
    done = run_command(tmp_path, *SWEEP, "launch=submitit_local", "+launch.options.partitoin=gpu")
    assert done.code != 0
    assert "launch.options" in done.out + done.err
    assert "partitoin" in done.out + done.err


def test_ctrl_c_stops_all_jobs(tmp_path: Path) -> None:
    words = (*SWEEP[:3], "fit.epochs=500", *SWEEP[4:], "launch=submitit_local", "launch.workers=2")
    started = Started(tmp_path, *words)
    wait_until(lambda: len(list(tmp_path.glob("runs/*/*-sweep/*/metrics.jsonl"))) == 2)
    os.kill(started.pid, signal.SIGINT)
    started.process.communicate(timeout=120)
    assert started.process.returncode == 130
    store = Store(tmp_path)
    assert {run.info.status for run in (*store.runs("parent"), *store.runs("job"))} == {"KILLED"}
    assert {row["status"] for row in job_rows(tmp_path)} <= {"KILLED", ""}


@pytest.mark.parametrize(("gpus", "seen"), [("1,3", "1,3"), (None, None)])
def test_a_job_sees_the_gpus_that_the_sweep_sees(gpus, seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's local executor would hide them all."""
    if gpus is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    composed = compose_config(["launch=submitit_local"])
    config = OmegaConf.create({"launch": dataclasses.asdict(composed.launch), "hydra": {"sweep": {"dir": "x"}}})
    assert SubmititEngine(config).variables == {"CUDA_VISIBLE_DEVICES": seen}
    config.launch.gpus = 1
    assert SubmititEngine(config).variables == {}
