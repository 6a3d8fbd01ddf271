"""Runs on two logical CPU devices, by commands: record, repetition, saved model, and what is refused before a start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long
SETTINGS = ("source=mnist_5k", "data.limit=301", "fit.epochs=1", "model.dropout=0.2", "tracking=none")
TWO = ("fit.strategy=mirrored", "fit.cpu_devices=2")


def only_run(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("runs/2*/*/tags.json")
    tags: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return tags


def test_a_run_on_two_devices_is_recorded_repeated_and_evaluated(train, tmp_path: Path) -> None:
    done = train(*SETTINGS, *TWO)
    assert done.code == 0, done.err
    assert "Training with plain Keras: fit.strategy=mirrored, and the fused engine uses one device." in done.out
    tags = only_run(tmp_path)
    assert (tags["devices"], tags["engine"]) == ("2 CPU", "keras")
    assert json.loads(tags["fingerprint.resolved"])["strategy"] == "mirrored, 2 CPU"
    (folder,) = tmp_path.glob("runs/2*/*/")
    repeated = train(f"run={folder}", module="mnistlab.replay")
    assert repeated.code == 0, repeated.out + repeated.err
    assert "Equal to the bit in all 1 epochs" in repeated.out
    evaluated = train(f"run={folder}", "tracking=none", module="mnistlab.evaluate")
    assert evaluated.code == 0, evaluated.err
    row = next(line.split() for line in evaluated.out.splitlines() if line.split()[:1] == ["accuracy"])
    assert row[1] == row[2]
    ejected = train(f"run={folder}", "to=script", module="mnistlab.eject")
    assert ejected.code == 2
    assert "Error: fit.strategy=mirrored: where a batch cannot be divided evenly" in ejected.out + ejected.err
    assert not (tmp_path / "script").exists()


def test_a_sweep_compares_one_device_with_two(train, tmp_path: Path) -> None:
    done = train("--multirun", *SETTINGS[:3], SETTINGS[4], "fit.strategy=null,mirrored", "fit.cpu_devices=2")
    assert done.code == 0, done.out + done.err
    losses = {}
    for file in tmp_path.glob("runs/*/*-sweep/*/tags.json"):
        devices = json.loads(file.read_text(encoding="utf-8"))["devices"]
        rows = [json.loads(line) for line in file.with_name("metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        losses[devices] = rows[0]["metrics"]["loss"]
    assert set(losses) == {"1 CPU", "2 CPU"}
    assert losses["1 CPU"] == pytest.approx(losses["2 CPU"], rel=1e-5)


def test_another_number_of_devices_is_refused_before_a_job_starts(train, tmp_path: Path) -> None:
    done = train("--multirun", *SETTINGS, "fit.strategy=mirrored", "fit.cpu_devices=2,3")
    assert done.code == 2
    assert "all runs of a process must use the same devices. Received: 3 CPU after 2 CPU." in done.out + done.err
    assert not list(tmp_path.glob("runs/*/*/*/tags.json"))
