"""A model logged without Keras is what MLflow's own Keras flavor would have logged; failures of the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
import yaml
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from small_data import copy_empty_database, empty_database

from mnistlab.config import TrackingConfig
from mnistlab.tracking import mlflow_store, stores
from mnistlab.tracking.mlflow_models import KerasFile, fluent_store
from mnistlab.tracking.mlflow_runs import RunReference, call_on_run, open_run
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return keras.Sequential(
        [keras.Input((4, 4, 1), dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )


@pytest.fixture
def store(tmp_path: Path) -> StoreAddress:
    address = stores.address(TrackingConfig(backend="mlflow", uri=None, experiment="models"), str(tmp_path))
    assert stores.sqlite_file(address.uri) == copy_empty_database(tmp_path)
    stores.check_reachable(address)
    return address


@pytest.fixture
def run(store: StoreAddress) -> RunReference:
    """A new run in the store."""
    return RunReference(store, "a run", open_run(store, "a run", {})[0])


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_the_folder_is_like_mlflow_s(model, tmp_path) -> None:
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, 4, 4, 1))]), Schema([TensorSpec(np.dtype("float32"), (-1, 3))])
    )
    model.save(tmp_path / "saved.keras")
    ours_of = KerasFile(tmp_path / "saved.keras", signature, "a run")
    ours_of.save_model(str(tmp_path / "ours"), mlflow.models.Model())
    needed = (tmp_path / "ours" / "requirements.txt").read_text().split()
    mlflow.keras.save_model(model, str(tmp_path / "theirs"), signature=signature, pip_requirements=needed)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    for name in ("requirements.txt", "conda.yaml", "python_env.yaml", "data/keras_module.txt"):
        assert (tmp_path / "ours" / name).read_text() == (tmp_path / "theirs" / name).read_text()
    ours, theirs = (yaml.safe_load((tmp_path / name / "MLmodel").read_text()) for name in ("ours", "theirs"))
    for differing in ("model_uuid", "utc_time_created", "model_size_bytes"):
        ours.pop(differing), theirs.pop(differing)
    assert ours.pop("run_id") == "a run"
    assert ours == theirs


def test_it_loads_as_a_keras_model_and_as_a_function(model, store, run, tmp_path) -> None:
    file = tmp_path / "saved.keras"
    model.save(file)
    address = call_on_run(run, "log_model", file, (4, 4, 1), 3, True)
    client, _ = open_store(store)
    assert client.get_run(run.run_id).info.status == "RUNNING"
    call_on_run(run, "end", "FINISHED")
    assert not file.exists()
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1)).astype(np.uint8)
    expected = model.predict(images, verbose=0)
    with fluent_store(store.uri):
        np.testing.assert_array_equal(mlflow.keras.load_model(address).predict(images, verbose=0), expected)
        np.testing.assert_allclose(mlflow.pyfunc.load_model(address).predict(images), expected, rtol=1e-6)
    stored = client.get_run(run.run_id)
    assert stored.data.tags["model.address"] == address
    assert [output.model_id for output in stored.outputs.model_outputs] == [address.removeprefix("models:/")]


def test_a_failing_store_is_not_tried_again_and_its_run_has_not_finished(store, run, tmp_path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one.txt").touch()
    (tmp_path / "mlruns" / "artifacts").write_text("a file where the folder should be")
    with pytest.raises(Exception, match="mlruns/artifacts"):
        call_on_run(run, "log_folder", tmp_path / "files")
    with pytest.raises(Exception, match="mlruns/artifacts"):
        call_on_run(run, "end", "FINISHED")
    stored = open_store(store)[0].get_run(run.run_id)
    assert stored.info.status == "FAILED"
    assert "incomplete" in stored.data.tags["error"]


def test_a_removed_store_is_created_again(store, run, tmp_path, monkeypatch) -> None:
    created = []

    def create(file: Path) -> None:
        created.append(shutil.copyfile(empty_database(), file))

    monkeypatch.setattr(mlflow_store, "_create_database", create)
    call_on_run(run, "end", "FINISHED")
    shutil.rmtree(tmp_path / "mlruns")
    stores.check_reachable(store)
    run_id, *_ = open_run(store, "another run", {})
    assert created == [tmp_path / "mlruns" / "mlflow.db"]
    call_on_run(RunReference(store, "another run", run_id), "end", "FINISHED")
    client, experiment_id = open_store(store)
    (found,) = client.search_runs([experiment_id])
    assert found.info.run_id == run_id
