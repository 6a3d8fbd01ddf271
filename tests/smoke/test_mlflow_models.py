"""A model logged without Keras is what MLflow's own Keras flavor would have logged."""

from __future__ import annotations

import shutil

import keras
import mlflow
import numpy as np
import pytest
import yaml
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from mnistlab import tracking
from mnistlab.config import TrackingConfig
from mnistlab.tracking import stores


@pytest.fixture
def model():
    return keras.Sequential(
        [keras.Input((4, 4, 1), dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )


def files(folder) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_the_folder_is_mlflow_s_own(model, tmp_path) -> None:
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, 4, 4, 1))]), Schema([TensorSpec(np.dtype("float32"), (-1, 3))])
    )
    model.save(tmp_path / "saved.keras")
    tracking._KerasFile(tmp_path / "saved.keras", signature).save_model(str(tmp_path / "ours"), mlflow.models.Model())
    needed = (tmp_path / "ours" / "requirements.txt").read_text().split()
    mlflow.keras.save_model(model, str(tmp_path / "theirs"), signature=signature, pip_requirements=needed)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    for name in ("requirements.txt", "conda.yaml", "python_env.yaml", "data/keras_module.txt"):
        assert (tmp_path / "ours" / name).read_text() == (tmp_path / "theirs" / name).read_text()
    ours, theirs = (yaml.safe_load((tmp_path / who / "MLmodel").read_text()) for who in ("ours", "theirs"))
    for differing in ("model_uuid", "utc_time_created", "model_size_bytes"):
        ours.pop(differing), theirs.pop(differing)
    assert ours == theirs


def test_it_loads_as_a_keras_model_and_as_a_function(model, tmp_path) -> None:
    store = stores.address(TrackingConfig(backend="mlflow", uri=None, experiment="models"), str(tmp_path))
    stores.check_reachable(store)
    run_id, _ = tracking.open_run(store, "a run", {})
    file = tmp_path / "saved.keras"
    model.save(file)
    address = tracking.on_run(tracking.RunName(store, "a run", run_id), "log_model", file, (4, 4, 1), 3, True)
    assert tracking.open_store(store)[0].get_run(run_id).info.status == "RUNNING"
    tracking.on_run(tracking.RunName(store, "a run", run_id), "end", "FINISHED")
    assert not file.exists()
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1)).astype(np.uint8)
    expected = model.predict(images, verbose=0)
    with tracking._fluent_store(store.uri):
        np.testing.assert_array_equal(mlflow.keras.load_model(address).predict(images, verbose=0), expected)
        np.testing.assert_allclose(mlflow.pyfunc.load_model(address).predict(images), expected, rtol=1e-6)
    run = tracking.open_store(store)[0].get_run(run_id)
    assert run.data.tags["model.address"] == address
    assert [output.model_id for output in run.outputs.model_outputs] == [address.removeprefix("models:/")]


def test_a_failing_store_is_not_tried_again_and_its_run_has_not_finished(tmp_path) -> None:
    store = stores.address(TrackingConfig(backend="mlflow", uri=None, experiment="models"), str(tmp_path))
    stores.check_reachable(store)
    run_id, _ = tracking.open_run(store, "a run", {})
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one.txt").touch()
    (tmp_path / "mlruns" / "artifacts").write_text("in the way")
    with pytest.raises(Exception, match="mlruns/artifacts"):
        tracking.on_run(tracking.RunName(store, "a run", run_id), "log_folder", tmp_path / "files")
    with pytest.raises(Exception, match="mlruns/artifacts"):
        tracking.on_run(tracking.RunName(store, "a run", run_id), "end", "FINISHED")
    run = tracking.open_store(store)[0].get_run(run_id)
    assert run.info.status == "FAILED"
    assert "incomplete" in run.data.tags["error"]


def test_a_store_that_was_removed_is_made_anew(tmp_path) -> None:
    store = stores.address(TrackingConfig(backend="mlflow", uri=None, experiment="models"), str(tmp_path))
    for _ in range(2):
        stores.check_reachable(store)
        run_id, _ = tracking.open_run(store, "a run", {})
        tracking.on_run(tracking.RunName(store, "a run", run_id), "end", "FINISHED")
        (found,) = tracking.open_store(store)[0].search_runs([tracking.open_store(store)[1]])
        assert found.info.run_id == run_id
        shutil.rmtree(tmp_path / "mlruns")
