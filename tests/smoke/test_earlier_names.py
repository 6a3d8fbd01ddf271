"""Runs of earlier versions: best_val_accuracy was what is best_epoch_val_accuracy now, and no maximum was recorded."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from stand_in import Trainer

from mnistlab.config import ConfigError
from mnistlab.notebook.run import Run
from mnistlab.notebook.sweep_result import SweepResult
from mnistlab.tracking import chosen_models, history

SWEEP = ("--multirun", "source=npz", "source.path=a.npz", "optimizer=sgd,adam", "fit.epochs=3", "sweep.preflight=false")


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch, capfd, make_npz) -> Trainer:
    make_npz("a.npz", num_classes=10)
    return Trainer(tmp_path, monkeypatch, capfd)


def make_old(root: Path) -> None:
    """Give everything that is recorded below a root the names of earlier versions."""
    database = sqlite3.connect(root / "mlruns" / "mlflow.db")
    with database:
        for table in ("metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE key LIKE 'summary/max_%' OR key LIKE 'summary/min_%'")
            database.execute(
                f"UPDATE {table} SET key = replace(key, 'best_epoch_', 'best_') WHERE key LIKE '%best_epoch_%'"
            )
    database.close()
    for file in [*root.glob("runs/**/metrics.jsonl"), *root.glob("runs/**/sweep.json")]:
        text = re.sub(r'"(max|min)_val_\w+": [\d.]+,\s*', "", file.read_text()).replace("best_epoch_", "best_")
        assert not re.search("(max|min)_val|best_epoch_", text) and "best_val_accuracy" in text
        file.write_text(text)
    for file in root.glob("mlruns/**/sweep.json"):
        file.write_text(file.read_text().replace("best_epoch_", "best_"))


def verdict(text: str) -> str:
    return next(line for line in text.splitlines() if " best_epoch_" in line or " max_val_" in line)


def test_old_runs_are_compared_and_reused(trainer) -> None:
    done = trainer(*SWEEP, "sweep.seeds=2")
    assert done.code == 0
    before = verdict(done.out)
    make_old(trainer.root)
    compared = trainer(module="mnistlab.compare")  # the question that the old sweep asked
    assert verdict(compared.out) == before
    (old,) = {record.run_id: record for record in records(trainer) if record.name == "sgd-seed0"}.values()
    assert old.metrics["best_epoch_val_accuracy"] == old.metrics["max_val_accuracy"] == max(old.history["val_accuracy"])
    assert "best_val_accuracy" not in old.metrics
    for objective in ("max_val_accuracy", "best_val_accuracy"):
        filtered = trainer("filter=params.source = 'npz'", f"objective={objective}", module="mnistlab.compare")
        present = objective.replace("best_val", "best_epoch_val")
        assert verdict(filtered.out) == before.replace("best_epoch_val_accuracy", present)

    more = trainer(*SWEEP, "sweep.seeds=3")
    assert more.code == 0 and "6 jobs, 4 of them done" in more.out
    sweep = json.loads(newest(trainer.root, "sweep.json").read_text())
    assert [job["source"] for job in sweep["jobs"]].count("reused") == 4
    assert all(0.5 <= job["metrics"]["best_epoch_val_accuracy"] <= 1 for job in sweep["jobs"])
    rows = list(csv.DictReader(newest(trainer.root, "table.csv").read_text().splitlines()))
    assert [row["num_seeds"] for row in rows] == ["3", "3"]
    assert {row["counterpart"] for row in rows} == {"max_val_accuracy"} and all(row["counterpart_mean"] for row in rows)


def test_the_old_name_asks_the_same_question(trainer) -> None:
    """The same sweep: nothing runs again."""
    assert trainer(*SWEEP, "sweep.objective=best_epoch_val_loss").code == 0
    again = trainer(*SWEEP, "sweep.objective=best_val_loss")
    assert "2 jobs, 2 of them done" in again.out and "best_epoch_val_loss" in again.out
    assert len(list((trainer.root / "runs" / "sweeps").iterdir())) == 1


def test_old_folders_without_a_store_are_compared(trainer) -> None:
    done = trainer(*SWEEP, "sweep.seeds=2", "tracking=none")
    make_old(trainer.root)
    assert verdict(trainer(module="mnistlab.compare").out) == verdict(done.out)
    folders = [file.parent for file in sorted(trainer.root.glob("runs/*/*/*/metrics.jsonl"))]
    runs = tuple(map(Run, folders))
    assert all("best_epoch_val_accuracy=" in repr(run) for run in runs)
    best = SweepResult(newest(trainer.root, "sweep.json").parent, runs).best
    values = [run.metrics["best_epoch_val_accuracy"] for run in runs]
    assert best.metrics["best_epoch_val_accuracy"] == max(values)
    assert history.record_of_folder(folders[0]).metrics["max_val_accuracy"] == max(runs[0].history["val_accuracy"])


@pytest.mark.long
def test_the_best_model_among_old_and_new_runs(train_here, make_npz) -> None:
    file = make_npz("a.npz", per_class=40)
    words = ("source=npz", f"source.path={file}", "fit.epochs=2")
    assert train_here(*words, "optimizer=adam", "run.name=old").code == 0
    make_old(train_here.root)
    assert train_here(*words, "optimizer=sgd", "optimizer.learning_rate=1e-9", "run.name=new").code == 0
    for objective in ("best_epoch_val_loss", "best_val_loss"):
        chosen = chosen_models.choose("best", train_here.store, str(train_here.root), objective)
        assert chosen.name == "old" and "of 2 finished runs" in chosen.reason
        assert f"ranked by best_epoch_val_loss {chosen.metrics['best_epoch_val_loss']:.4f}: old (" in chosen.reason
    with pytest.raises(
        ConfigError, match=r"best_epoch_val_auc\. Choices: best_epoch_val_accuracy, best_epoch_val_loss,"
    ):
        chosen_models.choose("best", train_here.store, str(train_here.root), "best_val_auc")


def records(trainer: Trainer) -> list:
    return [history.record_of(trainer.store, run) for run in history.find(trainer.store) if history.is_training(run)]


def newest(root: Path, name: str) -> Path:
    return max(root.glob(f"runs/sweeps/*/{name}"), key=lambda file: file.stat().st_mtime_ns)


def test_a_run_records_the_saved_epoch_and_the_extremes(train_here, make_npz) -> None:
    """With save.which=last, best_epoch is the last one, and the maximum may be of another."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 6, 5), dtype=np.uint8)  # can only be learned by heart
    file = make_npz("a.npz", per_class=100, x_train=noise)
    words = ("source=npz", f"source.path={file}", "fit.epochs=6", "optimizer=adam", "optimizer.learning_rate=0.01")
    done = train_here(*words, "save.which=last", "fit.metrics=[accuracy,mse]")
    assert done.code == 0, done.err
    (run,) = train_here.runs()
    (record,) = records(train_here)
    accuracies, losses = record.history["val_accuracy"], record.history["val_loss"]
    assert (run.metrics["best_epoch"], run.metrics["best_epoch_val_loss"]) == (6, losses[-1])
    assert run.metrics["max_val_accuracy"] == max(accuracies) and run.metrics["min_val_loss"] == min(losses)
    assert run.metrics["min_val_mse"] == min(record.history["val_mse"])
    assert min(losses) != losses[-1] and np.isfinite(losses).all()
    assert f"min_val_loss {min(losses):.4f}" in done.out and "last epoch 6 of 6;" in done.out
    assert f"min_val_loss {min(losses):.4f}" in run.tags["mlflow.note.content"]
