"""The real commands, each a process of its own: what they say, write, record and return."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

QUICK = ("source=mnist_5k", "data.limit=256", "fit.epochs=2")


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def runs(folder: Path, experiment: str = "mnistlab") -> list:
    store = client(folder)
    return store.search_runs([store.get_experiment_by_name(experiment).experiment_id])


def no_half_made_run(folder: Path) -> None:
    assert list((folder / "runs").glob("*/*/.hydra")) == []
    if (folder / "mlruns" / "mlflow.db").exists():
        assert runs(folder) == []


def test_one_run_is_recorded_evaluated_and_saved(train, tmp_path) -> None:
    done = train(
        *QUICK,
        "optimizer=rmsprop",
        "save.formats=[keras,h5,weights]",
        "callbacks=default",
        OC_SECRET="hunter2",
    )
    assert done.code == 0, done.err
    assert done.err == ""  # no chatter of TensorFlow's or MLflow's
    assert "epoch 2/2" in done.out
    assert "mlflow ui --backend-store-uri" in done.out
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "rmsprop-mnist_5k-limit256-epochs2-formats_keras,h5,weights-callbacks_default"
    assert run.info.run_id in done.out

    params = run.data.params
    assert params["optimizer"] == "rmsprop"
    assert params["optimizer.learning_rate"] == "0.01"
    assert params["fit.epochs"] == "2"
    assert params["model"] == "mlp"

    store = client(tmp_path)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "epoch_seconds"):
        assert [entry.step for entry in store.get_metric_history(run.info.run_id, name)] == [1, 2], name
    assert len(store.get_metric_history(run.info.run_id, "test_accuracy")) == 1
    losses = [entry.value for entry in store.get_metric_history(run.info.run_id, "val_loss")]
    assert run.data.metrics["best_epoch"] == 1 + int(np.argmin(losses))
    assert run.data.metrics["best_val_loss"] == min(losses)
    assert 0 <= run.data.metrics["test_f1.7"] <= 1

    tags = run.data.tags
    assert tags["source.used"] == "mnist_5k"
    assert tags["fit_reading"] in ("good fit", "overfitting", "underfitting")
    assert "optimizer=rmsprop" in tags["mlflow.note.content"]
    assert tags["version.keras"].startswith("3.")
    contexts = {entry.tags[0].value: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    assert set(contexts) == {"train", "validation", "test"}
    assert len(set(contexts.values())) == 3

    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    assert tmp_path in artifacts.parents
    for name in (
        "config.yaml",
        "train.log",
        "model_summary.txt",
        "metrics.jsonl",
        "figures/confusion_matrix.png",
        "figures/learning_curves.png",
        "figures/wrong_images.png",
        "reports/classification_report.txt",
        "reports/classification_report.json",
        "reports/classification_report_table.json",
        "model_files/model.keras",
        "checkpoints/best_model.keras",
    ):
        assert (artifacts / name).stat().st_size > 0, name
    report = json.loads((artifacts / "reports/classification_report.json").read_text())
    assert report["accuracy"] == pytest.approx(run.data.metrics["test_accuracy"])
    assert "epoch 2/2" in (artifacts / "train.log").read_text()

    # each saved file loads with plain Keras, without mnistlab, and predicts the same; so does the models:/ address
    program = f"""
import sys, numpy as np, keras, mlflow
images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
folder = {str(artifacts / "model_files")!r}
whole = keras.models.load_model(folder + "/model.keras")
h5 = keras.models.load_model(folder + "/model.h5")
other = keras.models.clone_model(whole)
other.load_weights(folder + "/model.weights.h5")
mlflow.set_tracking_uri("sqlite:///{tmp_path}/mlruns/mlflow.db")
served = mlflow.keras.load_model({tags["model.address"]!r})
signed = mlflow.pyfunc.load_model({tags["model.address"]!r})
answers = [model.predict(images, verbose=0) for model in (whole, h5, other, served)] + [signed.predict(images)]
assert all(np.allclose(answers[0], answer, rtol=1e-6) for answer in answers)
assert "mnistlab" not in sys.modules
print("equal")
"""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert answer.stdout.strip().endswith("equal"), answer.stderr


def test_multirun_records_each_job(train, tmp_path) -> None:
    done = train("--multirun", *QUICK, "optimizer=sgd,momentum,adam", "fit.epochs=1")
    assert done.code == 0, done.err
    jobs = [run for run in runs(tmp_path) if run.data.tags["sweep.kind"] == "job"]
    names = {run.data.params["optimizer"]: run for run in jobs}
    assert set(names) == {"sgd", "momentum", "adam"}
    assert {run.info.status for run in names.values()} == {"FINISHED"}
    assert names["sgd"].data.params["fit.batch_size"] == "1"
    assert names["sgd"].data.tags["batch_size"] == "1"


def test_a_failing_job_does_not_stop_the_others(train, tmp_path) -> None:
    (tmp_path / "mine" / "callbacks").mkdir(parents=True)
    (tmp_path / "breaking.py").write_text(
        "import keras\n\n\nclass Break(keras.callbacks.Callback):\n"
        "    def on_epoch_end(self, epoch, logs=None):\n        raise RuntimeError('broken on purpose')\n"
    )
    (tmp_path / "mine" / "callbacks" / "breaking.yaml").write_text("breaking: {_target_: breaking.Break}\n")
    done = train("--multirun", "--config-dir", "mine", *QUICK, "callbacks=breaking,none", PYTHONPATH=str(tmp_path))
    assert done.code == 1
    assert "RuntimeError: broken on purpose" in done.out
    assert "Traceback" not in done.err + done.out
    by_status = {run.info.status: run for run in runs(tmp_path) if run.data.tags["sweep.kind"] == "job"}
    assert set(by_status) == {"FAILED", "FINISHED"}
    failed = by_status["FAILED"]
    assert "broken on purpose" in failed.data.tags["error"]
    log = Path(failed.info.artifact_uri.removeprefix("file://")) / "train.log"
    assert "Traceback (most recent call last)" in log.read_text()
    assert "breaking.py" in log.read_text()


def test_without_tracking_the_folder_is_complete(train, tmp_path) -> None:
    done = train(*QUICK, "tracking=none", "paths.root=elsewhere")
    assert done.code == 0, done.err
    assert not (tmp_path / "mlruns").exists()
    (folder,) = (tmp_path / "elsewhere" / "runs").glob("*/*")
    for name in ("config.yaml", "metrics.jsonl", "figures/learning_curves.png", "model_files/model.keras"):
        assert (folder / name).is_file(), name
    assert not (tmp_path / "elsewhere" / "mlruns").exists()
    assert json.loads((folder / "status.json").read_text())["status"] == "FINISHED"


def test_deterministic_runs_have_identical_histories(train, tmp_path) -> None:
    histories = []
    for name in ("a", "b"):
        done = train(*QUICK, "deterministic=true", "tracking=none", f"paths.root={name}", "model.dropout=0.3")
        assert done.code == 0, done.err
        (folder,) = (tmp_path / name / "runs").glob("*/*")
        rows = [json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        histories.append([{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows])
    assert histories[0] == histories[1]


def test_without_cache_and_network_mnist_falls_back_and_says_so(train, tmp_path) -> None:
    done = train("data.limit=256", "fit.epochs=1")
    assert done.code == 0, done.err
    assert "EMBEDDED SUBSET mnist_5k" in done.out
    (run,) = runs(tmp_path)
    assert run.data.tags["source.used"] == "mnist_5k"
    assert "mnist_5k" in run.info.run_name
    assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {
        "mnist_5k-train",
        "mnist_5k-validation",
        "mnist_5k-test",
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["source.offline=error"], ["neither Keras's cache nor the network", "source=mnist_5k"]),
        (["source=npz", "source.path=nowhere.npz"], ["nowhere.npz", "does not exist"]),
        (["source=mnist_5k", "+optimizer.momentun=0.9"], ["optimizer.momentun is no argument", "Choices"]),
        (
            ["source=mnist_5k", "callbacks=early_stopping", "callbacks.early_stopping.monitor=val_acc"],
            ["val_accuracy"],
        ),
        (["source=mnist_5k", "save.monitor=nothing"], ["save.monitor must be a metric of the training"]),
        (["source=mnist_5k", "init.from=nowhere.keras"], ["nowhere.keras", "does not exist"]),
        (["tracking.uri=http://127.0.0.1:9"], ["tracking server does not answer", "tracking=none"]),
        (["paths.root=occupied"], ["cannot be written"]),
    ],
)
def test_bad_input_is_refused_in_words_and_leaves_no_run(train, tmp_path, words, expected) -> None:
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "mlruns").write_text("a file where a folder belongs")
    started = time.perf_counter()
    done = train(*words)
    assert done.code == 2
    assert done.err.startswith("Refused:")
    assert "Traceback" not in done.err + done.out
    assert [word for word in expected if word not in done.err] == []
    assert time.perf_counter() - started < 60
    no_half_made_run(tmp_path)
    no_half_made_run(tmp_path / "occupied") if (tmp_path / "occupied" / "runs").exists() else None


def test_a_damaged_npz_is_refused(train, tmp_path, make_npz) -> None:
    whole = make_npz()
    whole.write_bytes(whole.read_bytes()[:400])
    done = train("source=npz", f"source.path={whole}")
    assert (done.code, "truncated" in done.err) == (2, True)
    no_half_made_run(tmp_path)


def test_own_colour_images_with_two_named_classes(train, tmp_path, make_npz) -> None:
    file = make_npz(shape=(9, 7, 3), num_classes=2, class_names=np.array(["cat", "dog"]))
    done = train("source=npz", f"source.path={file}", "model=cnn", "fit.epochs=1", "fit.batch_size=1000")
    assert done.code == 0, done.err
    assert "more than the" in done.out
    (run,) = runs(tmp_path)
    assert "test_recall.dog" in run.data.metrics


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_killed_not_running(start, tmp_path, stop, code) -> None:
    process = start("source=mnist_5k", "fit.epochs=10000")
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.send_signal(stop)
    process.communicate(timeout=60)
    assert process.returncode == code
    (run,) = runs(tmp_path)
    assert run.info.status == "KILLED"


def second_process_of(process: subprocess.Popen) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = (
        child for child in children if b"mnistlab.runtime.background" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    return int(found)


def test_a_run_that_is_killed_outright_says_so_at_once(start, tmp_path) -> None:
    process = start("source=mnist_5k", "fit.epochs=10000")
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    process.kill()
    process.communicate(timeout=60)
    (run,) = runs(tmp_path)
    assert run.info.status == "KILLED"
    assert "without a word" in run.data.tags["error"]
    assert run.data.metrics["loss"] > 0


def test_a_signal_to_both_processes_ends_the_run_as_killed(start, tmp_path) -> None:
    process = start("source=mnist_5k", "fit.epochs=10000")
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    os.kill(second_process_of(process), signal.SIGTERM)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert {run.info.status for run in runs(tmp_path)} == {"KILLED"}


@pytest.mark.parametrize("seconds", [0.8, 1.6, 2.4])
def test_a_run_that_is_stopped_before_it_trains_leaves_none_running(start, tmp_path, seconds) -> None:
    process = start("source=mnist_5k", "fit.epochs=10000")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    if (tmp_path / "mlruns" / "mlflow.db").exists():
        assert {run.info.status for run in runs(tmp_path)} <= {"KILLED"}


def test_a_run_outlives_its_second_process(start, tmp_path) -> None:
    process = start("source=mnist_5k", "data.limit=256", "fit.epochs=300")
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("epoch 2/"):
            os.kill(second_process_of(process), signal.SIGKILL)
            break
    said.append(process.communicate(timeout=120)[0])
    assert process.returncode == 0, said
    (folder,) = (tmp_path / "runs").glob("*/*/status.json")
    folder = folder.parent
    assert json.loads((folder / "status.json").read_text())["status"] == "FINISHED"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 301
    assert (folder / "figures" / "confusion_matrix.png").stat().st_size > 1000
    assert (folder / "model_files" / "model.keras").exists()
    (run,) = runs(tmp_path)
    lost = "has ended" in json.loads((folder / "tags.json").read_text()).get("tracking.error", "")
    assert "".join(said).count("the tracking store failed") == lost
    assert run.info.status == ("FAILED" if lost else "FINISHED")  # what it was writing when it died may be lost
    assert lost or run.data.metrics["test_accuracy"] > 0


def test_init_from_a_run_and_from_a_file(train, tmp_path) -> None:
    assert train(*QUICK, "optimizer.learning_rate=0.001").code == 0
    (first,) = runs(tmp_path)
    saved = next((tmp_path / "runs").glob("*/*/model_files/model.keras"))
    for start in (first.info.run_id, str(saved)):
        done = train(*QUICK, "fit.epochs=1", "optimizer.learning_rate=0", f"init.from={start}")
        assert done.code == 0, done.err
    again, once_more = [run for run in runs(tmp_path) if run.info.run_id != first.info.run_id]
    for run in (again, once_more):
        assert run.data.metrics["test_loss"] == pytest.approx(first.data.metrics["test_loss"], rel=1e-5)
    done = train(*QUICK, "model.units=[7]", f"init.from={saved}")
    assert done.code == 2
    assert "(784, 7)" in done.err
    assert "(784, 128)" in done.err


def test_several_processes_create_one_store(tmp_path) -> None:
    words = [sys.executable, "-m", "mnistlab.train", *QUICK, "fit.epochs=1"]
    environment = {**os.environ, "MNISTLAB_ROOT": str(tmp_path), "MLFLOW_RUN_ID": "0" * 32}
    processes = [
        subprocess.Popen([*words, f"seed={seed}"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for seed in range(3)
    ]
    outputs = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len(runs(tmp_path)) == 3
    assert client(tmp_path).search_runs(["0"]) == []  # nothing in Default
    with sqlite3.connect(tmp_path / "mlruns" / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_a_tracking_server_is_used_and_its_death_ends_nothing(train, tmp_path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"),
            "--backend-store-uri",
            f"sqlite:///{tmp_path}/server.db",
            "--artifacts-destination",
            str(tmp_path / "there"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(port)
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mnistlab.train",
                "source=mnist_5k",
                "fit.epochs=400",
                "fit.batch_size=400",
            ],
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
                "MNISTLAB_ROOT": str(tmp_path),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("epoch 3/"):
                break
        assert "MLFLOW_TRACKING_URI=http://127.0.0.1" in said
        os.killpg(server.pid, signal.SIGKILL)
        said += process.communicate(timeout=170)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert process.returncode == 0, said
    assert said.count("WARNING: the tracking store failed") == 1
    (folder,) = (tmp_path / "runs").glob("*/*")
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 401
    assert (folder / "model_files" / "model.keras").is_file()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the tracking server did not start")
