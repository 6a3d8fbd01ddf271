"""sweep=search through the real command: trials, early stops, the comparison with the defaults, going on later; and
sweeps of other sweepers."""

from __future__ import annotations

import csv
import json
import textwrap
from pathlib import Path

import pytest
import shared_servers
from conftest import Finished, Started, Store, run_command

SMALL = ("source=mnist_5k", "data.limit=300", "fit.epochs=3", "save.formats=[]")
SPACE = (
    *("sweep=search", "optimizer=adam,momentum", "model.dropout=interval(0,0.5)", "fit.batch_size=32,64"),
    *("model.units=[16]", "sweep.seeds=2", *SMALL),
)
NUM_TRIALS = 8


def trials(root: Path) -> list[dict[str, str]]:
    (file,) = root.glob("runs/sweeps/*/trials.csv")
    return list(csv.DictReader(file.read_text().splitlines()))


def jobs(root: Path) -> list[dict[str, str]]:
    (file,) = root.glob("runs/sweeps/*/jobs.csv")
    return list(csv.DictReader(file.read_text().splitlines()))


def run_folders(root: Path) -> set[Path]:
    return {file.parent for file in root.glob("runs/*/*-sweep/*/status.json")}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    root = tmp_path_factory.mktemp("search")
    return run_command(root, *SPACE, f"sweep.trials={NUM_TRIALS}"), root


def test_the_best_trial_is_compared_with_the_defaults_on_other_seeds(searched) -> None:
    done, root = searched
    assert done.code == 0, done.err
    (folder,) = (root / "runs" / "sweeps").iterdir()
    result = json.loads((folder / "comparison.json").read_text())
    assert sorted(option["name"] for option in result["options"]) == ["default", "found"]
    assert result["seeds"] == [0, 1]
    rows = trials(root)
    complete = [row for row in rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: float(row["best_epoch_val_accuracy"]))
    assert f"The best of {NUM_TRIALS} trials is trial{best['trial']}." in done.out
    (served,) = {job["run"] for job in jobs(root) if job["job"] == "found-seed0"}
    found = next(run.data.params for run in Store(root).runs("job") if run.info.run_id == served)
    seeds = {job["job"]: job["seed"] for job in jobs(root)}
    assert (seeds["default-seed1"], seeds["trial1"]) == ("1", "1000")
    assert {job["status"] for job in jobs(root)} == {"FINISHED"}
    assert [found["model.dropout"], found["optimizer"]] == [best["model.dropout"], best["optimizer"]]
    assert found["seed"] == "0"


def test_every_trial_is_a_row_and_a_run(searched) -> None:
    _, root = searched
    rows = trials(root)
    assert [row["trial"] for row in rows] == [str(number) for number in range(NUM_TRIALS)]
    assert rows[0]["optimizer"] == "adam"  # the defaults first
    assert float(rows[0]["model.dropout"]) == 0
    assert all(0 <= float(row["model.dropout"]) <= 0.5 for row in rows)
    assert {row["optimizer.momentum"] != "" for row in rows if row["optimizer"] == "adam"} == {False}
    assert {row["optimizer.momentum"] != "" for row in rows if row["optimizer"] == "momentum"} <= {True}
    store = Store(root)
    (parent,), runs = store.runs("parent"), store.runs("job")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["run.name"].startswith("search optimizer x ")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert {f"trial{number}" for number in range(NUM_TRIALS)} <= {run.data.tags["run.name"] for run in runs}


def test_a_trial_that_was_stopped_early_is_not_taken_for_a_whole_run(searched) -> None:
    _, root = searched
    stopped = {f"trial{row['trial']}": row for row in trials(root) if row["state"] == "pruned"}
    tags = [json.loads((folder / "tags.json").read_text()) for folder in run_folders(root)]
    assert {one["run.name"] for one in tags if one["fingerprint"].startswith("pruned-")} == {*stopped}
    for one in tags:
        if one["run.name"] in stopped:
            assert one["pruned_after_epoch"] == stopped[one["run.name"]]["stopped_after_epoch"]


def test_figures_and_files(searched) -> None:
    _, root = searched
    (folder,) = (root / "runs" / "sweeps").iterdir()
    for name in ("search_history", "search_importances", "search_parallel"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 5000
    page = (folder / "report.html").read_text()
    assert "The search" in page
    assert "Bergstra" in page


@pytest.mark.long
def test_the_same_command_runs_nothing_and_more_trials_go_on(searched) -> None:
    _, root = searched
    before, rows = run_folders(root), trials(root)
    again = run_command(root, *SPACE, f"sweep.trials={NUM_TRIALS + 1}")
    assert again.code == 0, again.err
    assert trials(root)[:NUM_TRIALS] == rows
    new = [json.loads((folder / "tags.json").read_text())["run.name"] for folder in run_folders(root) - before]
    assert [name for name in new if not name.startswith("found")] == [f"trial{NUM_TRIALS}"]


@pytest.mark.faults
def test_a_search_that_was_killed_goes_on_with_the_same_trials(searched, tmp_path: Path) -> None:
    _, root = searched
    words = (*SPACE, f"sweep.trials={NUM_TRIALS}")
    started = Started(tmp_path, *words)
    started.wait_for_line("[6/6] trial3")
    started.kill_with_background()
    done = run_command(tmp_path, *words)
    assert done.code == 0, done.err
    values = ["trial", "optimizer", "model.dropout", "fit.batch_size", "optimizer.learning_rate"]
    assert [[row[name] for name in values] for row in trials(tmp_path)] == [
        [row[name] for name in values] for row in trials(root)[:NUM_TRIALS]
    ]


@pytest.mark.long
def test_a_search_side_by_side(tmp_path: Path) -> None:
    done = run_command(tmp_path, *SPACE, "sweep.trials=6", "launch=joblib", "launch.workers=2")
    assert done.code == 0, done.err
    rows = trials(tmp_path)
    assert len(rows) == 6
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    assert len({run.data.tags["run.process"] for run in Store(tmp_path).runs("job")}) == 2


SWEEPER = '''
    from hydra.plugins.sweeper import Sweeper


    class TwoBatches(Sweeper):
        """Chooses jobs in two batches, the second by the results of the first."""

        def __init__(self, rates):
            self.rates = rates

        def setup(self, *, hydra_context, task_function, config):
            from hydra.core.plugins import Plugins

            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

        def sweep(self, arguments):
            fixed = [word for word in arguments if "interval" not in word]
            first = self.launcher.launch([[*fixed, f"optimizer.learning_rate={rate}"] for rate in self.rates], 0)
            best = max(first, key=lambda job: job.return_value)
            rate = float(best.overrides[-1].partition("=")[2]) / 2
            self.launcher.launch([[*fixed, f"optimizer.learning_rate={rate}"]], len(first))
'''


def write_sweeper(folder: Path, code: str) -> tuple[list[str], dict[str, str]]:
    """A sweeper as a plugin of Hydra: the words that choose it, and the environment in which it is found."""
    plugins, mine = folder / "plugins" / "hydra_plugins", folder / "mine" / "hydra" / "sweeper"
    plugins.mkdir(parents=True)
    mine.mkdir(parents=True)
    (plugins / "two_batches.py").write_text(textwrap.dedent(code))
    (mine / "two_batches.yaml").write_text("_target_: hydra_plugins.two_batches.TwoBatches\nrates: [0.01, 0.001]\n")
    words = ["--config-dir", str(folder / "mine"), "--multirun", "hydra/sweeper=two_batches"]
    return words, {"PYTHONPATH": str(plugins.parent)}


@pytest.mark.long
def test_another_sweeper_that_fails_leaves_a_parent_that_says_why(tmp_path: Path) -> None:
    words, variables = write_sweeper(
        tmp_path, SWEEPER.replace("fixed = [", "raise RuntimeError('no budget left')\n            fixed = [", 1)
    )
    done = run_command(tmp_path, *words, "optimizer.learning_rate=interval(0.001,0.1)", *SMALL, **variables)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    (parent,) = Store(tmp_path).runs("parent")
    assert parent.info.status == "FAILED"
    assert "no budget left" in parent.data.tags["error"]


def test_another_sweeper_ends_in_a_parent_with_its_jobs(tmp_path: Path) -> None:
    words, variables = write_sweeper(tmp_path, SWEEPER)
    secret = "run.name=http://me:canary@host"  # the files that jobs leave do not have it
    done = run_command(tmp_path, *words, secret, "optimizer.learning_rate=interval(0.001,0.1)", *SMALL, **variables)
    assert done.code == 0, done.err
    assert "canary" not in done.out
    assert "TwoBatches chooses the jobs by their best_epoch_val_accuracy: higher is better." in done.out
    assert "mnistlab's own search (sweep.trials=30 in place of hydra/sweeper)" in done.out
    store = Store(tmp_path)
    (parent,), runs = store.runs("parent"), store.runs("job")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["sweep.num_jobs"] == "3"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    rows = jobs(tmp_path)
    rates = [float(row["optimizer.learning_rate"]) for row in rows]
    assert rates[:2] == [0.01, 0.001]
    assert rates[2] in (0.005, 0.0005)
    assert [row["status"] for row in rows] == ["FINISHED"] * 3


@pytest.mark.slow
@pytest.mark.faults
def test_the_password_of_a_study_on_postgresql_reaches_the_jobs_and_stands_nowhere(tmp_path: Path) -> None:
    if not shared_servers.BINARIES:
        pytest.skip("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin (Debian's package postgresql)")
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install -e '.[server]'")
    database = shared_servers.Postgres()
    storage = f"postgresql+psycopg2://mlflow:{database.password}@127.0.0.1:{database.port}/postgres"
    try:
        words = (*SPACE, "sweep.trials=3", "sweep.pruner=hyperband", "launch=joblib")
        done = run_command(tmp_path, *words, f"sweep.storage={storage}")
        assert done.code == 0, done.err
        reported = database.run("psql", "-tA", "-d", "postgres", "-c", "SELECT count(*) FROM trial_intermediate_values")
    finally:
        database.stop()
    assert len(trials(tmp_path)) == 3
    assert int(reported) >= 3  # the jobs have reported their epochs
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file for file in files if database.password.encode() in file.read_bytes()] == []
    assert database.password not in done.out + done.err


@pytest.mark.long
def test_the_jobs_of_another_sweeper_run_side_by_side_and_are_shown(tmp_path: Path) -> None:
    words, variables = write_sweeper(tmp_path, SWEEPER)
    words += ["launch=joblib", "launch.workers=2"]
    done = run_command(tmp_path, *words, "optimizer.learning_rate=interval(0.001,0.1)", *SMALL, **variables)
    assert done.code == 0, done.err
    assert "The jobs run in 2 processes: launch.workers=2." in done.out
    shown = [line for line in done.out.splitlines() if line.startswith("[")]
    assert [line[:4] for line in shown] == ["[1] ", "[2] ", "[3] "]
    assert {line.split()[1] for line in shown[:2]} == {f"optimizer.learning_rate={rate}:" for rate in ("0.01", "0.001")}
    assert all("best_epoch_val_accuracy 0." in line for line in shown)
    assert {job["status"] for job in jobs(tmp_path)} == {"FINISHED"}
