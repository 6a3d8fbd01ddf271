"""Sweeps over options and data with real trainings: what is compared, what is said not to be, what is run again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import Finished, Store, run_command

pytestmark = pytest.mark.long

SMALL = ("source=mnist_5k", "data.limit=400", "fit.epochs=2")


def sweep_folder(root: Path) -> Path:
    return max((root / "runs" / "sweeps").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)


def table(file: Path) -> dict[str, dict[str, str]]:
    with file.open() as text:
        return {row["option"]: row for row in csv.DictReader(text)}


@pytest.fixture(scope="module")
def by_data(tmp_path_factory) -> tuple[Finished, Path, tuple[str, ...]]:
    """A sweep over optimizers and data sets, two seeds each."""
    root = tmp_path_factory.mktemp("by_data")
    words = ("--multirun", *SMALL, "optimizer=momentum,adam", "data=default,imbalanced", "sweep.seeds=2")
    return run_command(root, *words), root, words


@pytest.mark.long
def test_options_are_compared_within_each_data_set(by_data) -> None:
    done, root, _ = by_data
    assert done.code == 0, done.out + done.err
    folder = sweep_folder(root)
    jobs = json.loads((folder / "sweep.json").read_text())["jobs"]
    assert len(jobs) == 8
    tables = {next(iter(found.values()))["data"]: found for found in map(table, folder.glob("*table.csv"))}
    assert set(tables) == {"default", "imbalanced"}
    for data, found in tables.items():
        assert set(found) == {"momentum", "adam"}
        for option, row in found.items():
            values = {"optimizer": option, "data": data}
            mine = [job["metrics"] for job in jobs if {k: job["values"][k] for k in values} == values]
            assert float(row["mean"]) == pytest.approx(
                sum(one["best_epoch_val_accuracy"] for one in mine) / 2, rel=1e-9
            )
    assert "default and imbalanced were not compared with each other: their training images differ" in done.out
    (parent,) = Store(root).runs("parent")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["sweep.axes"] == "optimizer, data"
    assert "default" in parent.data.tags["sweep.verdict"]
    across = json.loads((folder / "across.json").read_text())
    assert sorted(across["data"]) == ["default", "imbalanced"]


@pytest.mark.long
@pytest.mark.slow
def test_the_same_again_trains_nothing_and_compare_says_the_same(by_data, commands_here) -> None:
    done, root, words = by_data
    run = commands_here(root)
    num_runs = len(Store(root).runs())
    again = run(*words)
    assert again.code == 0, again.err
    assert "8 jobs, 8 of them done" in again.out
    assert len(Store(root).runs()) == num_runs
    verdict = done.out.split("\n  report  ")[0].splitlines()[-1]
    assert verdict in again.out
    compared = run(f"paths.root={root}", module="mnistlab.compare")
    assert compared.code == 0, compared.err
    assert "8 runs" in compared.out
    assert verdict in compared.out
    filtered = run("filter=params.seed = '0'", "axis=optimizer,data", module="mnistlab.compare")
    assert filtered.code == 0, filtered.err
    assert "4 runs" in filtered.out


def test_compare_creates_no_store(tmp_path) -> None:
    done = run_command(tmp_path, f"paths.root={tmp_path}/other", module="mnistlab.compare")
    assert (done.code, "Traceback" in done.err) == (2, False)
    assert f"There are no runs yet: the tracking store {tmp_path}/other/mlruns/mlflow.db does not exist." in done.err
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.long
@pytest.mark.slow
def test_a_sweep_without_tracking_can_be_compared_again(train_here, tmp_path) -> None:
    words = ("--multirun", *SMALL, "tracking=none", "fit.batch_size=32", "optimizer=sgd,minibatch_gd,adam")
    done = train_here(*words)
    assert done.code == 0, done.err
    assert "minibatch_gd is sgd with fit.batch_size=32: one run serves both." in done.out
    found = table(sweep_folder(tmp_path) / "table.csv")
    assert set(found) == {"sgd", "minibatch_gd", "adam"}
    assert found["sgd"]["mean"] == found["minibatch_gd"]["mean"]
    compared = train_here(module="mnistlab.compare")
    assert compared.code == 0, compared.err
    assert "2 runs" in compared.out
    assert Store(tmp_path).runs() == []
