"""What a sweep reuses, what it runs again and why, what it shows in the store; with the stand-in for the training."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stand_in import Trainer, train_nothing
from test_sweep_properties import write_images

from mnistlab import experiment
from mnistlab.config import Config

BASE = ("source=npz", "source.path=a.npz", "sweep.preflight=false", "fit.epochs=2")
MODEL = """import layers_of_mine
import keras


def build(input_shape, num_outputs, output_activation, width=4):
    inputs = keras.Input(input_shape)
    hidden = layers_of_mine.dense(width)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_outputs, activation=output_activation)(hidden))
"""
LAYERS = """import keras


def dense(width):
    return keras.layers.Dense(width, activation='relu')
"""


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch, capfd) -> Trainer:
    write_images(tmp_path / "a.npz", 0)
    return Trainer(tmp_path, monkeypatch, capfd)


def options(trainer: Trainer) -> dict[str, dict[str, str]]:
    with (trainer.sweep()["folder"] / "table.csv").open() as file:
        return {row["option"]: row for row in csv.DictReader(file)}


def test_a_reused_run_has_the_label_that_this_sweep_asked_for(trainer: Trainer) -> None:
    assert trainer(*BASE, "optimizer=sgd", "fit.batch_size=32").code == 0
    (earlier,) = trainer.trained().values()
    words = ("--multirun", *BASE, "optimizer=sgd,minibatch_gd,adam")
    ended = trainer(*words)
    assert ended.code == 0, ended.err
    assert "3 jobs, 1 of them done" in ended.out
    table = options(trainer)
    assert set(table) == {"sgd", "minibatch_gd", "adam"}
    assert float(table["minibatch_gd"]["mean"]) == earlier.metrics["best_epoch_val_accuracy"]
    assert float(table["sgd"]["mean"]) != float(table["minibatch_gd"]["mean"])
    jobs = {job["name"]: job for job in trainer.sweep()["jobs"]}
    assert (jobs["minibatch_gd"]["run"], jobs["minibatch_gd"]["source"]) == (earlier.run_id, "reused")
    assert len(trainer.trained()) == 3
    listed = trainer(*words, "sweep.dry_run=true").out
    assert f"done  (run {earlier.run_id}, recorded as {earlier.name})" in listed


@pytest.mark.long
def test_a_sweep_of_one_seed_ends_with_the_command_for_more(trainer: Trainer) -> None:
    words = ("--multirun", *BASE, "optimizer=momentum,adam", "data.keep={3: 0.5}")
    ended = trainer(*words)
    (line,) = [line for line in ended.out.splitlines() if line.endswith("sweep.until=verdict")]
    start, *command = shlex.split(line)
    assert (start, command) == ("python", ["-m", "mnistlab.train", *words, "sweep.until=verdict"])
    listed = trainer(*command[2:], "sweep.dry_run=true").out
    assert "6 jobs, 2 of them done" in listed
    assert "sweep.until" not in trainer("--multirun", *BASE, "optimizer=momentum,adam", "sweep.seeds=2").out
    (parent,) = [run for run in trainer.runs() if run.tags.get("sweep.num_jobs") == "2"]
    assert f"Repeat: `python -m mnistlab.train {shlex.join(words)}`" in parent.tags["mlflow.note.content"]
    trusting = trainer("--multirun", *BASE, "optimizer=momentum,adam", "trust=[my_code]", "fit.epochs=3").out
    assert "fit.epochs=3 'trust=[my_code]' sweep.until=verdict" in trusting


def test_finished_jobs_are_not_run_again(trainer: Trainer) -> None:
    words = ("--multirun", *BASE, "optimizer=momentum,adam", "sweep.seeds=2")
    assert trainer(*words).code == 0
    more = (*words[:-1], "sweep.seeds=3")
    listed = trainer(*more, "sweep.dry_run=true").out
    assert "6 jobs, 4 of them done" in listed
    assert listed.count("done  (run ") == 4
    assert len(re.findall(r"seed2 +new", listed)) == 2
    assert len(trainer.trained()) == 4
    assert trainer(*more).code == 0
    assert len(trainer.trained()) == 6
    assert {row["num_seeds"] for row in options(trainer).values()} == {"3"}
    assert len([run for run in trainer.runs() if run.tags.get("sweep.kind") == "parent"]) == 2


@pytest.mark.long
def test_a_preset_without_tracking_ends_in_a_report(trainer: Trainer) -> None:
    ended = trainer(*BASE, "sweep=learning_rate", "optimizer=adam", "tracking=none")
    assert ended.code == 0, ended.err
    assert len(options(trainer)) == 7
    assert trainer.runs() == []


def test_equal_computations_run_once_and_that_is_said(trainer: Trainer) -> None:
    words = ("--multirun", *BASE, "fit.batch_size=32", "optimizer=batch_gd,sgd,minibatch_gd,adam", "sweep.seeds=2")
    ended = trainer(*words)
    assert ended.code == 0, ended.err
    assert "minibatch_gd is batch_gd with fit.batch_size=32: one run serves both." in ended.out
    assert "sgd is batch_gd with fit.batch_size=32: one run serves both." in ended.out
    assert len(trainer.trained()) == 4
    table = options(trainer)
    assert set(table) == {"batch_gd", "sgd", "minibatch_gd", "adam"}
    assert table["sgd"]["mean"] == table["batch_gd"]["mean"] == table["minibatch_gd"]["mean"]
    assert {row["num_seeds"] for row in table.values()} == {"2"}
    again = trainer(*words)
    assert "8 jobs, 8 of them done" in again.out
    assert "sgd is batch_gd with fit.batch_size=32" in again.out
    assert len(trainer.trained()) == 4


def test_two_values_that_are_written_differently_are_two_jobs_and_one_run(trainer: Trainer) -> None:
    ended = trainer("--multirun", *BASE, "fit.batch_size=all,1000,adam".replace(",adam", ""))
    assert ended.code == 0, ended.err
    assert "batch1000 is batchall: one run serves both." in ended.out
    assert [job["name"] for job in trainer.sweep()["jobs"]] == ["batchall", "batch1000"]
    assert len(trainer.trained()) == 1


def test_a_value_listed_twice_is_one_job(trainer: Trainer) -> None:
    ended = trainer("--multirun", *BASE, "optimizer=adam,adam,sgd")
    assert ended.code == 0, ended.err
    assert [job["name"] for job in trainer.sweep()["jobs"]] == ["adam", "sgd"]
    assert len(trainer.trained()) == 2


@pytest.mark.long
def test_the_parent_run_shows_all_results_and_marks_the_reused(trainer: Trainer) -> None:
    assert trainer(*BASE, "optimizer=adam").code == 0
    (earlier,) = trainer.trained().values()
    words = ("--multirun", *BASE, "optimizer=sgd,adam")
    assert trainer(*words).code == 0
    (parent,) = [run for run in trainer.runs() if run.tags.get("sweep.kind") == "parent"]
    entries = {run.name: run for run in trainer.runs() if run.tags.get("mlflow.parentRunId") == parent.run_id}
    assert set(entries) == {"sgd", "adam"}
    adam = entries["adam"]
    assert adam.run_id != earlier.run_id
    assert (adam.tags["sweep.kind"], adam.tags["reused.run_id"]) == ("reused", earlier.run_id)
    assert "nothing was trained for this entry" in adam.tags["mlflow.note.content"]
    assert (adam.metrics, adam.params["optimizer"]) == (earlier.metrics, "adam")
    assert "mlflow.parentRunId" not in trainer.trained()[earlier.run_id].tags  # the run itself is as it was
    description = parent.tags["mlflow.note.content"]
    assert (
        f"[{earlier.run_id[:8]}](#/experiments/1/runs/{earlier.run_id}?workflowType=machine_learning), reused"
        in description
    )
    assert f"runs/{entries['sgd'].run_id}?workflowType" in description
    # times are those of the training
    from mnistlab.tracking.mlflow_store import open_store

    client, _ = open_store(trainer.store)
    times = [client.get_run(run).info for run in (adam.run_id, earlier.run_id)]
    assert (times[0].start_time, times[0].end_time) == (times[1].start_time, times[1].end_time)
    assert len(client.get_metric_history(adam.run_id, "epoch/val_accuracy")) == 2
    # the entries are no training runs: they are neither reused nor compared
    assert "2 of them done" in trainer(*words).out
    assert trainer("--multirun", *BASE, "optimizer=sgd,adam,rmsprop").code == 0
    jobs = {job["name"]: job["run"] for job in trainer.sweep()["jobs"]}
    assert jobs["adam"] == earlier.run_id


def break_second_job(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The next sweep trains its first job and raises this error in the second."""
    calls: list[str] = []

    def run(config: Config, on_open: object) -> experiment.Result:
        calls.append(config.sweep_job.name)
        if len(calls) == 2:
            raise error
        return train_nothing(config)

    monkeypatch.setattr(experiment, "run", run)


STOPPED, BROKEN = KeyboardInterrupt(), OSError("broken on purpose")


@pytest.mark.long_after(1)
@pytest.mark.parametrize(
    ("tracking", "error"),
    [("mlflow", STOPPED), ("none", STOPPED), ("mlflow", BROKEN)],
    ids=["stopped", "none", "failed"],
)
def test_only_runs_of_this_start_are_its_results(
    trainer: Trainer, monkeypatch, error: BaseException, tracking: str
) -> None:
    """Earlier runs of the same sweep, obsolete by `force` or changed code, do not stand for jobs that did not run."""
    words = ("--multirun", *BASE, "optimizer=momentum,adam,rmsprop", f"tracking={tracking}")
    assert trainer(*words).code == 0
    break_second_job(monkeypatch, error)
    ended = trainer(*words, "sweep.force=true")
    stopped = isinstance(error, KeyboardInterrupt)
    assert ended.code == (130 if stopped else 1)
    jobs = {job["name"]: job for job in trainer.sweep()["jobs"]}
    assert (jobs["momentum"]["status"], jobs["momentum"]["error"]) == ("FINISHED", "")
    assert jobs["adam"]["run"] == ""
    assert jobs["adam"]["error"] == ("did not run" if stopped else "OSError: broken on purpose")
    table = options(trainer)
    failed = {name: row["num_failed"] for name, row in table.items()}
    assert failed == ({"momentum": "0"} if stopped else {"momentum": "0", "adam": "1", "rmsprop": "0"})
    assert {name for name, row in table.items() if row["mean"]} == {"momentum"} | (set() if stopped else {"rmsprop"})


@pytest.mark.long
def test_another_question_has_a_parent_run_of_its_own(trainer: Trainer) -> None:
    words = ("--multirun", *BASE, "optimizer=momentum,adam")
    assert trainer(*words).code == 0
    first = trainer.sweep()
    assert trainer(*words, "sweep.objective=best_epoch_val_loss").code == 0
    second = trainer.sweep()
    assert second["sweep"] != first["sweep"]
    assert [job["source"] for job in second["jobs"]] == ["reused", "reused"]
    assert [job["run"] for job in second["jobs"]] == [job["run"] for job in first["jobs"]]
    assert len(trainer.trained()) == 2
    assert trainer(*words, "sweep.targets=[0.5]").code == 0  # no other question: the same parent, nothing reused
    assert [job["source"] for job in trainer.sweep()["jobs"]] == ["trained", "trained"]


@pytest.mark.long
def test_the_run_folder_is_no_setting(trainer: Trainer) -> None:
    ended = trainer("--multirun", *BASE, "optimizer=momentum,adam", "callbacks=default")
    assert ended.code == 0, ended.err
    sweep = trainer.sweep()
    settings = {**sweep["settings"], **sweep["jobs"][0]["settings"]}
    assert settings["callbacks.model_checkpoint.filepath"].startswith("${paths.run}/")
    assert "filepath" not in (sweep["folder"] / "report.md").read_text()


@pytest.mark.long
@pytest.mark.parametrize(
    "rate",
    [
        ("optimizer.learning_rate={_target_:schedule_of_mine.rate,path:rate.csv}",),
        ("+schedule._target_=schedule_of_mine.constant", "+schedule.path=rate.csv"),
    ],
    ids=["learning_rate", "schedule"],
)
def test_the_file_of_a_schedule(rate: tuple[str, ...], trainer: Trainer, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(trainer.root))
    (trainer.root / "schedule_of_mine.py").write_text(
        "import keras\n\n"
        "def rate(path): return float(open(path).read())\n\n"
        "def constant(path): return keras.optimizers.schedules.ExponentialDecay(rate(path), 1, 1.0)\n"
    )
    (trainer.root / "rate.csv").write_text("0.01")
    words = ("--multirun", *BASE, *rate, "seed=0,1")
    assert trainer(*words).code == 0
    assert run_again(trainer, *words) == {}
    (trainer.root / "rate.csv").write_text("0.02")
    assert run_again(trainer, *words) == dict.fromkeys(("seed0", "seed1"), "rate.csv changed")


@pytest.mark.long
def test_a_report_that_fails_costs_no_training(trainer: Trainer) -> None:
    words = ("--multirun", *BASE, "optimizer=sgd,adam")
    assert trainer(*words).code == 0
    folder = trainer.sweep()["folder"]
    for file in (folder / "figures").iterdir():
        file.unlink()
    (folder / "figures").rmdir()
    (folder / "figures").write_text("in the way")
    runs = set(trainer.trained())

    failed = trainer(*words, "sweep.force=true")
    assert failed.code == 1
    assert "the report failed: " in failed.out
    assert "figures" in failed.out
    assert "The same command makes only the report" in failed.out
    assert "Traceback" not in failed.out + failed.err
    assert "Traceback" in (folder / "report_error.txt").read_text()
    assert len(trainer.trained()) == len(runs) + 2
    parent = next(run for run in trainer.runs() if run.tags.get("sweep.kind") == "parent")
    assert parent.status == "FAILED"
    assert parent.tags["error"].startswith("all jobs finished, but the report failed: ")
    assert {run.status for run in trainer.trained().values()} == {"FINISHED"}

    (folder / "figures").unlink()
    again = trainer(*words)
    assert again.code == 0, again.out
    assert "2 jobs, 2 of them done" in again.out
    assert (folder / "report.html").is_file()
    assert not (folder / "report_error.txt").exists()
    assert len(trainer.trained()) == len(runs) + 2
    parent = next(run for run in trainer.runs() if run.tags.get("sweep.kind") == "parent")
    assert (parent.status, parent.tags.get("error")) == ("FINISHED", None)


# ---- exactly the affected runs, after any one input is changed -------------------------------------------------------


@pytest.fixture
def own_code(trainer: Trainer, monkeypatch) -> Path:
    """A model function in model_of_mine.py, which imports layers_of_mine.py."""
    monkeypatch.syspath_prepend(str(trainer.root))
    (trainer.root / "model_of_mine.py").write_text(MODEL)
    (trainer.root / "layers_of_mine.py").write_text(LAYERS)
    (trainer.root / "unrelated.py").write_text("x = 1\n")
    (trainer.root / "mine" / "model").mkdir(parents=True)
    (trainer.root / "mine" / "model" / "own.yaml").write_text("_target_: model_of_mine.build\nwidth: 4\n")
    return trainer.root


def run_again(trainer: Trainer, *words: str) -> dict[str, str]:
    """Repeat a sweep; returns the names of the jobs that trained, with the reasons from the plan."""
    before = set(trainer.trained())
    ended = trainer(*words)
    assert ended.code == 0, ended.out + ended.err
    new = {run.name for run_id, run in trainer.trained().items() if run_id not in before}
    lines = [line.split(maxsplit=1) for line in ended.out.splitlines() if line.startswith("  ")]
    reasons = {line[0]: line[1].strip() for line in lines if len(line) == 2}
    return {name: reasons[name] for name in new}


def test_the_users_code(own_code: Path, trainer: Trainer) -> None:
    words = ("--config-dir", "mine", "--multirun", *BASE, "model=own,logistic", "trust=[model_of_mine]")
    assert trainer(*words).code == 0
    (own_code / "unrelated.py").write_text("x = 2\n")
    assert run_again(trainer, *words) == {}
    for changed in ("model_of_mine.py", "layers_of_mine.py"):
        (own_code / changed).write_text((own_code / changed).read_text() + "# changed\n")
        assert run_again(trainer, *words) == {"own": f"your {changed} changed"}


@pytest.mark.long
def test_the_file_to_start_from(trainer: Trainer) -> None:
    for name in ("start.keras", "other.keras"):
        (trainer.root / name).write_bytes(name.encode())
    words = ("--multirun", *BASE, "init.from=null,start.keras,other.keras")
    assert trainer(*words).code == 0
    (trainer.root / "start.keras").write_bytes(b"other weights")
    assert run_again(trainer, *words) == {"fromstart.keras": "start.keras changed"}
    (trainer.root / "other.keras").rename(trainer.root / "renamed.keras")  # the same content under another name
    assert run_again(trainer, "--multirun", *BASE, "init.from=null,renamed.keras") == {}


@pytest.mark.long
def test_the_arrays_of_an_npz_file(trainer: Trainer) -> None:
    write_images(trainer.root / "b.npz", 1)
    words = ("--multirun", "source=npz", "source.path=a.npz,b.npz", *BASE[2:])
    assert trainer(*words).code == 0
    write_images(trainer.root / "b.npz", 2)
    found = run_again(trainer, *words)
    assert list(found) == ["pathb.npz"]
    assert found["pathb.npz"].startswith("b.npz changed (train")


@pytest.mark.long
def test_the_pictures_of_a_folder(trainer: Trainer, make_folder) -> None:
    folders = [make_folder(name) for name in ("cats", "dogs")]
    words = ("--multirun", "source=directory", "source.path=cats,dogs", *BASE[2:])
    assert trainer(*words).code == 0
    picture = sorted(folders[0].rglob("*.png"))[0]
    Image.fromarray(255 - np.asarray(Image.open(picture))).save(picture)
    found = run_again(trainer, *words)
    assert list(found) == ["pathcats"]
    assert found["pathcats"].startswith("cats changed (")


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "name", "reason"),
    [
        ("fingerprint.libraries", "keras", "keras changed: 0.1 -> "),
        ("fingerprint.code", "data/dataset.py", "mnistlab changed: data/dataset.py"),
    ],
)
def test_libraries_and_mnistlab_itself(trainer: Trainer, part: str, name: str, reason: str) -> None:
    """The earlier run is given the tags that another version would have written."""
    from mnistlab.tracking.mlflow_store import open_store

    words = ("--multirun", *BASE, "optimizer=sgd,adam")
    assert trainer(*words).code == 0
    (run,) = [run for run in trainer.trained().values() if run.name == "sgd"]
    client, _ = open_store(trainer.store)
    earlier = json.loads(run.tags[part]) | {name: "0.1"}
    client.set_tag(run.run_id, part, json.dumps(earlier))
    client.set_tag(run.run_id, "fingerprint", "0")
    found = run_again(trainer, *words)
    assert list(found) == ["sgd"]
    assert found["sgd"].startswith(reason)


@pytest.mark.long
def test_engine_determinism_and_precision(trainer: Trainer) -> None:
    words = ("--multirun", *BASE, "optimizer=sgd,adam")
    assert trainer(*words).code == 0
    assert set(run_again(trainer, *words, "fit.engine=keras")) == {"sgd", "adam"}
    assert run_again(trainer, *words, "fit.engine=fused") == {}  # what auto chose
    assert set(run_again(trainer, *words, "deterministic=true")) == {"sgd", "adam"}
    assert set(run_again(trainer, *words, "fit.precision=mixed_bfloat16")) == {"sgd", "adam"}
    assert run_again(trainer, *words, "fit.precision=float32") == {}  # what null is


@pytest.mark.long
def test_what_has_no_effect_runs_nothing_again(trainer: Trainer) -> None:
    words = ("--multirun", *BASE, "optimizer=sgd,adam", "callbacks=default")
    assert trainer(*words).code == 0
    reordered = ("--multirun", "callbacks=default", "optimizer=adam,sgd", *reversed(BASE))
    assert run_again(trainer, *reordered) == {}
    harmless = (
        "sweep.objective=best_epoch_val_loss",
        "sweep.targets=[0.5]",
        "hydra/launcher=basic",
        "tracking.experiment=mnistlab",
    )
    assert run_again(trainer, *words, *harmless) == {}
    (trainer.root / "a.npz").rename(trainer.root / "moved.npz")
    moved = [word.replace("a.npz", "moved.npz") for word in words]
    assert run_again(trainer, *moved) == {}
