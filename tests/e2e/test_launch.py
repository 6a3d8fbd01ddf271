"""launch=joblib and launch=auto through the real command: the same numbers, side by side, and one readable output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Finished, Store, run_command
from launched import histories

WORDS = ("--multirun", "source=mnist_5k", "data.limit=800", "fit.epochs=2", "save.formats=[]")
SWEEP = (*WORDS, "optimizer=sgd,batch_gd", "sweep.seeds=2")


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    root = tmp_path_factory.mktemp("joblib")
    return run_command(root, *SWEEP, "launch=joblib", "launch.workers=2"), root


def test_the_numbers_are_those_of_one_process(launched, tmp_path: Path) -> None:
    done, root = launched
    assert done.code == 0, done.err
    alone = run_command(tmp_path, *SWEEP, "tracking=none")
    assert alone.code == 0, alone.err
    assert len(histories(root)) == 4
    assert histories(root) == histories(tmp_path)


def test_the_runs_are_children_of_one_sweep(launched) -> None:
    _, root = launched
    store = Store(root)
    (parent,), jobs = store.runs("parent"), store.runs("job")
    assert {run.info.status for run in (parent, *jobs)} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {parent.info.run_id}
    assert len({run.data.tags["run.process"] for run in jobs}) == 2
    assert "launch" not in parent.data.tags["sweep.axes"]
    (folder,) = (root / "runs" / "sweeps").iterdir()
    assert not [file.name for file in folder.iterdir() if file.name.startswith((".worker", "plan-", ".images"))]


def test_each_job_is_one_line_and_its_own_lines_are_in_its_log(launched) -> None:
    done, root = launched
    assert "The jobs run in 2 processes: launch.workers=2." in done.out
    lines = re.findall(r"^\[(\d)/4\] (\S+): best_epoch_val_accuracy 0\.\d{4}  \d+\.\d s$", done.out, re.MULTILINE)
    assert [number for number, _ in lines] == list("1234")
    assert {name for _, name in lines} == {*histories(root)}
    assert "epoch 1/2" not in done.out
    for log in root.glob("runs/*/*-sweep/*/train.log"):
        assert "epoch 1/2" in log.read_text()


@pytest.mark.long
def test_launched_or_not_is_the_same_computation(launched) -> None:
    _, root = launched
    again = run_command(root, *SWEEP, "launch=auto", "sweep.dry_run=true")
    assert again.code == 0, again.err
    assert "4 jobs, 4 of them done" in again.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("launch=joblib", "launch.workers=0"), "launch.workers must satisfy value >= 1. Received: 0."),
        (("launch=job_lib",), "launch=job_lib is not an option. Did you mean joblib?"),
        (("launch=joblib,auto",), "launch applies to the whole sweep and takes one value."),
        (("launch=joblib", "launch.workers=1,2"), "launch.workers applies to the whole sweep and takes one value."),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = run_command(tmp_path, *WORDS, "optimizer=sgd,adam", *words)
    assert done.code == 2
    assert message in done.err, done.err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/*-sweep"))


@pytest.mark.long
def test_auto_says_why_it_stays_in_this_process(tmp_path: Path) -> None:
    done = run_command(tmp_path, *WORDS, "optimizer=momentum,adam", "launch=auto", "sweep.dry_run=true")
    assert done.code == 0, done.err
    assert re.search(r"^The jobs run (one after the other )?in this process: ", done.out, re.MULTILINE)
