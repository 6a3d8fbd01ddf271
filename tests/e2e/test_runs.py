"""Single runs through the real command: what they print, write, record and return."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Finished, Store, run_command

from mnistlab.config import Config, ConfigError
from mnistlab.config.compose import compose_config
from mnistlab.tracking.initial_weights import initial_weights_file
from mnistlab.tracking.mlflow_models import fluent_store

QUICK = ("source=mnist_5k", "data.limit=256", "fit.epochs=2")


def assert_no_run(folder: Path) -> None:
    assert list((folder / "runs").glob("*/*/.hydra")) == []
    if (folder / "mlruns" / "mlflow.db").exists():
        assert Store(folder).runs() == []


def test_one_run_is_recorded_evaluated_and_saved(train, tmp_path) -> None:
    done = train(
        *QUICK, "optimizer=rmsprop", "save.formats=[keras,h5,weights]", "callbacks=default", OC_SECRET="hunter2"
    )
    assert done.code == 0, done.err
    assert done.err == ""  # neither TensorFlow nor MLflow prints anything
    assert "epoch 2/2" in done.out
    assert "mlflow ui --backend-store-uri" in done.out
    store = Store(tmp_path)
    assert store.experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    (run,) = store.runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "rmsprop-mnist_5k-limit256-epochs2-formats_keras,h5,weights-callbacks_default"
    assert run.info.run_id in done.out

    params = run.data.params
    assert params["optimizer"] == "rmsprop"
    assert params["optimizer.learning_rate"] == "0.01"
    assert params["fit.epochs"] == "2"
    assert params["fit.batch_size"] == run.data.tags["batch_size"] == "32"
    assert params["model"] == "mlp"

    per_epoch = [f"epoch/{name}" for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")]
    for name in (*per_epoch, "time/epoch_seconds"):
        assert [entry.step for entry in store.client.get_metric_history(run.info.run_id, name)] == [1, 2], name
    assert len(store.client.get_metric_history(run.info.run_id, "test/accuracy")) == 1
    losses = [entry.value for entry in store.client.get_metric_history(run.info.run_id, "epoch/val_loss")]
    assert run.data.metrics["summary/best_epoch"] == 1 + int(np.argmin(losses))
    assert run.data.metrics["summary/best_epoch_val_loss"] == min(losses)
    assert 0 <= run.data.metrics["test_f1/7"] <= 1

    tags = run.data.tags
    assert tags["source.used"] == "mnist_5k"
    assert tags["fit_reading"] in ("good fit", "overfitting", "underfitting", "too few epochs to tell")
    note = tags["mlflow.note.content"]
    assert f"| accuracy | {run.data.metrics['train/accuracy']:.4f} |" in note
    assert "Repeat: `python -m mnistlab.train source=mnist_5k" in note and "optimizer=rmsprop" in note
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    figure = f"{page}/artifacts/figures/learning_curves.png?workflowType=machine_learning"
    assert f"{page}?workflowType=machine_learning" in done.out
    assert f"[learning curves]({figure})" in note
    assert json.loads(tags["record.version"])["keras"].startswith("3.")
    assert len(params) <= 25 and len(tags) <= 36, (params, tags)  # 10 of the parameters are those of the callbacks
    sections = {name.partition("/")[0] for name in run.data.metrics}
    assert sections == {"epoch", "summary", "test", "test_f1", "test_precision", "test_recall", "time", "train"}
    assert sum(name.startswith("epoch/") for name in run.data.metrics) == len(per_epoch)
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
    assert report["accuracy"] == pytest.approx(run.data.metrics["test/accuracy"])
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


@pytest.fixture(scope="module")
def untracked(tmp_path_factory) -> tuple[Finished, Path]:
    """A deterministic run without tracking; returns how it ended and its root folder."""
    root = tmp_path_factory.mktemp("untracked")
    return run_command(root, *DETERMINISTIC, "paths.root=elsewhere"), root


DETERMINISTIC = (*QUICK, "deterministic=true", "tracking=none", "model.dropout=0.3")


def rows_of(root: Path) -> list[dict[str, float]]:
    (file,) = (root / "runs").glob("*/*/metrics.jsonl")
    return [json.loads(line)["metrics"] for line in file.read_text().splitlines()]


@pytest.mark.long
def test_without_tracking_the_folder_is_complete(untracked) -> None:
    done, root = untracked
    assert done.code == 0, done.err
    (folder,) = (root / "elsewhere" / "runs").glob("*/*")
    for name in ("config.yaml", "metrics.jsonl", "figures/learning_curves.png", "model_files/model.keras"):
        assert (folder / name).is_file(), name
    assert not (root / "mlruns").exists()
    assert not (root / "elsewhere" / "mlruns").exists()
    assert json.loads((folder / "status.json").read_text())["status"] == "FINISHED"


@pytest.mark.long
def test_deterministic_runs_have_identical_histories(untracked, train, tmp_path) -> None:
    done = train(*DETERMINISTIC)
    assert done.code == 0, done.err
    histories = [
        [{name: value for name, value in row.items() if not name.endswith("seconds")} for row in rows_of(root)]
        for root in (tmp_path, untracked[1] / "elsewhere")
    ]
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_init_from_a_file(untracked, train_here, tmp_path) -> None:
    saved = next((untracked[1] / "elsewhere" / "runs").glob("*/*/model_files/model.keras"))
    done = train_here(*DETERMINISTIC, "fit.epochs=1", "optimizer.learning_rate=0", f"init.from={saved}")
    assert done.code == 0, done.err
    trained = rows_of(untracked[1] / "elsewhere")[-1]
    assert rows_of(tmp_path)[-1]["test_loss"] == pytest.approx(trained["test_loss"], rel=1e-5)
    done = train_here(*QUICK, "model.units=[7]", f"init.from={saved}")
    assert done.code == 2
    assert "(784, 7)" in done.err
    assert "(784, 128)" in done.err


def from_run(root: Path, reference: str) -> Config:
    return compose_config([f"paths.root={root}", f"init.from='{reference}'"])


@pytest.mark.long
@pytest.mark.slow
def test_init_from_a_run(train_here, tmp_path) -> None:
    shown = train_here(*QUICK, "optimizer.learning_rate=0.001", "run.name=mine").out
    (first,) = Store(tmp_path).runs()
    assert first.info.run_name == "mine"
    run_id = first.info.run_id
    places = {line.split()[0]: line.split()[-1] for line in shown.splitlines() if line.startswith("  ")}
    assert places["model"].startswith("models:/m-")
    references = [run_id, run_id[:6], "mine", f"runs:/{run_id}", f"runs:/{run_id}/model_files/model.keras"]
    references += [places["model"], places["open"], places["folder"], f"{places['folder']}/model_files"]
    with fluent_store(f"sqlite:///{tmp_path}/mlruns/mlflow.db"):
        mlflow.register_model(places["model"], "digits")
    Store(tmp_path).client.set_registered_model_alias("digits", "champion", "1")
    references += ["models:/digits/1", "models:/digits@champion"]
    contents = {initial_weights_file(from_run(tmp_path, reference)).read_bytes() for reference in references}
    assert contents == {(Path(places["folder"]) / "model_files" / "model.keras").read_bytes()}
    for reference in ("mind", run_id[:3], "runs:/" + "0" * 32, "models:/m-0", f"runs:/{run_id}/model_files/none.h5"):
        with pytest.raises(ConfigError, match=r"^init\.from"):
            initial_weights_file(from_run(tmp_path, reference))
    with pytest.raises(ConfigError, match="no such run in .* Did you mean mine?"):
        initial_weights_file(from_run(tmp_path, "mind"))
    done = train_here(*QUICK, "fit.epochs=1", "optimizer.learning_rate=0", "init.from=mine")
    assert done.code == 0, done.err
    (second,) = (run for run in Store(tmp_path).runs() if run.info.run_id != first.info.run_id)
    assert second.data.metrics["test/loss"] == pytest.approx(first.data.metrics["test/loss"], rel=1e-5)


def test_without_cache_and_network_mnist_is_replaced_with_a_warning(train_here, tmp_path) -> None:
    done = train_here("data.limit=256", "fit.epochs=1")
    assert done.code == 0, done.err
    assert "EMBEDDED SUBSET mnist_5k" in done.out
    (run,) = Store(tmp_path).runs()
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
        (["source=mnist_5k", "+optimizer.momentun=0.9"], ["optimizer.momentun is not an argument", "Choices"]),
        (["source=mnist_5k", "callbacks=early_stopping", "callbacks.early_stopping.monitor=val_acc"], ["val_accuracy"]),
        (["source=mnist_5k", "save.monitor=nothing"], ["save.monitor must be a metric of the training"]),
        (["source=mnist_5k", "init.from=nowhere.keras"], ["nowhere.keras", "does not exist"]),
        (
            ["tracking.uri=http://127.0.0.1:9", "tracking.required=true"],
            ["tracking server does not answer", "tracking=none"],
        ),
        (["paths.root=occupied"], ["cannot be written"]),
    ],
)
def test_a_mistake_is_explained_and_leaves_no_run(train_here, tmp_path, words, expected) -> None:
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "mlruns").write_text("a file where a folder belongs")
    done = train_here(*words)
    assert done.code == 2
    assert done.err.startswith("Error")
    assert "Traceback" not in done.err + done.out
    assert [word for word in expected if word not in done.err] == []
    assert_no_run(tmp_path)
    assert_no_run(tmp_path / "occupied") if (tmp_path / "occupied" / "runs").exists() else None


def test_a_damaged_npz_is_an_error(train_here, tmp_path, make_npz) -> None:
    whole = make_npz()
    whole.write_bytes(whole.read_bytes()[:400])
    done = train_here("source=npz", f"source.path={whole}")
    assert (done.code, "truncated" in done.err) == (2, True)
    assert_no_run(tmp_path)


def test_the_users_colour_images_with_two_named_classes(train_here, tmp_path, make_npz) -> None:
    file = make_npz(shape=(9, 7, 3), num_classes=2, class_names=np.array(["cat", "dog"]))
    done = train_here("source=npz", f"source.path={file}", "model=cnn", "fit.epochs=1", "fit.batch_size=1000")
    assert done.code == 0, done.err
    assert "more than the" in done.out
    (run,) = Store(tmp_path).runs()
    assert "test_recall/dog" in run.data.metrics


def test_a_moved_target_of_a_saved_configuration_is_answered_with_the_new_one(train_here, tmp_path) -> None:
    done = train_here("source._target_=mnistlab.sources.mnist_5k")
    assert done.code == 2
    assert "mnistlab.data.sources.mnist_5k" in done.err
    assert_no_run(tmp_path)


def test_flags_stand_anywhere_on_the_command_line(train_here, tmp_path) -> None:
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    gentle = "_target_: keras.optimizers.SGD\nlearning_rate: 0.003\n"
    (tmp_path / "mine" / "optimizer" / "gentle.yaml").write_text(gentle)
    words = ("optimizer=gentle", "--multirun", "seed=0,1", "--config-dir", "mine", *QUICK, "sweep.dry_run=true")
    done = train_here(*words)
    assert done.code == 0, done.err
    assert "2 jobs, 0 of them done" in done.out
