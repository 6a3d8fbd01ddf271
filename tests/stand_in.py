"""Sweeps through the real command in this process, with a stand-in for the training: everything else is the real one.

The stand-in records what a training records: settings, fingerprint, data, curves. Its numbers are a function of the
fingerprint, so equal computations have equal numbers, and all others differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import absl.logging
import pytest
from small_data import copy_empty_database

from mnistlab import compare, experiment, train
from mnistlab.config import Config, objectives, parameters
from mnistlab.data import loading
from mnistlab.tracking import fingerprint, user_code
from mnistlab.tracking.description import open_record
from mnistlab.tracking.recorder import recording
from mnistlab.tracking.stores import StoreAddress

# Hydra closes all log handlers when it starts a job, and absl's then closes its stream, which is pytest's.
absl.logging.get_absl_handler().python_handler.stream = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")

REAL_RUN = experiment.run


def numbers(identity: str, epochs: int) -> list[float]:
    """Validation accuracies of the epochs, from 0.5 to 1, that this computation 'reaches'."""
    digits = hashlib.sha256(identity.encode()).hexdigest()
    return [0.5 + int(digits[3 * epoch : 3 * epoch + 3], 16) / 8192 for epoch in range(min(epochs, 20))]


def train_nothing(config: Config, on_open: Callable[[Path], object] = lambda folder: None) -> experiment.Result:
    """In place of `experiment.run`."""
    dataset = loading.load(config)
    with recording(open_record(config, dataset.name), config.sweep_job.wait) as record:
        on_open(record.folder)
        identity = experiment.identity(config, dataset)
        record.log_parameters(parameters(config))
        digests = {f"hash.{split}": digest for split, digest in dataset.digests.items()}
        record.set_tags(
            {
                **identity,
                **digests,
                "hash.data": fingerprint.hash_of(dataset.digests),
                "outcome": "trained",
                "num_training_images": len(dataset.train),
                "batch_size": json.loads(identity["fingerprint.resolved"])["batch_size"],
            }
        )
        accuracies = numbers(identity["fingerprint"], config.fit.epochs)
        names = {"loss", *config.fit.metrics}
        for epoch, value in enumerate(accuracies, start=1):
            row = {f"{prefix}{name}": value for prefix in ("", "val_") for name in names}
            record.log_metrics({**row, "learning_rate": 0.1, "epoch_seconds": 0.5}, epoch)
        best = max(accuracies)
        final = {f"best_epoch_{prefix}{name}": best for prefix in ("", "val_") for name in names}
        final |= objectives.extremes({f"val_{name}": accuracies for name in names})
        final |= {
            "best_epoch": 1,
            "train_seconds": 0.5 * len(accuracies),
            "steps_per_epoch": 10,
            "test_accuracy": best / 2,
        }
        record.log_metrics(final, len(accuracies))
    reading = experiment.CurveReading("good_fit", "")
    return experiment.Result(record.name, record.folder, record.run_id, [], 1, final, reading, best)


@dataclasses.dataclass
class Ended:
    """How a command in this process ended."""

    code: int
    out: str
    err: str


class Trainer:
    """Runs the training command with the stand-in, and knows what is in the tracking store of its root folder."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.root, self.monkeypatch, self.capfd, self.trains = root, monkeypatch, capfd, False
        file = copy_empty_database(root)
        self.store = StoreAddress(f"sqlite:///{file}", "mnistlab", root / "mlruns" / "artifacts")
        monkeypatch.setenv("MNISTLAB_ROOT", str(root))
        monkeypatch.setattr(experiment, "run", train_nothing)
        monkeypatch.chdir(root)

    def train_for_real(self) -> None:
        """From now on without the stand-in."""
        self.trains = True
        self.monkeypatch.setattr(experiment, "run", REAL_RUN)

    def __call__(self, *words: str, module: str = "mnistlab.train") -> Ended:
        """Run mnistlab.train or mnistlab.compare."""
        from mnistlab.runtime import errors
        from mnistlab.sweep import job

        loading._prepared.cache_clear()
        loading._loaded.cache_clear()
        experiment._warn_once.cache_clear()
        user_code._sources.clear()
        job.failures.clear()
        self.monkeypatch.setattr(sys, "argv", [module, *words])
        self.capfd.readouterr()
        code = errors.run_command(train._run if module == "mnistlab.train" else compare._compare)
        out, err = self.capfd.readouterr()
        return Ended(code, out, err)

    def runs(self) -> list[Any]:
        """All runs in the store, the newest first."""
        from mnistlab.tracking import history

        return history.find(self.store)

    def trained(self) -> dict[str, Any]:
        """The runs that trained, by their ids."""
        return {run.run_id: run for run in self.runs() if run.tags.get("sweep.kind") in (None, "job")}

    def sweep(self) -> dict[str, Any]:
        """What sweep.json says of the sweep that ran last."""
        file = max((self.root / "runs" / "sweeps").glob("*/sweep.json"), key=lambda file: file.stat().st_mtime_ns)
        return {**json.loads(file.read_text()), "folder": file.parent}
