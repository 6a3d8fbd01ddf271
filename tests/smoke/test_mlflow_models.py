"""A model logged without Keras is what MLflow's own Keras flavor would have logged; failures of the store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.models.utils import _save_example
from mlflow.types import Schema, TensorSpec
from small_data import copy_empty_database, empty_database

from mnistlab.config import ConfigError, TrackingConfig
from mnistlab.tracking import mlflow_store, registry, stores
from mnistlab.tracking.mlflow_models import KerasFile, ModelFacts, fluent_store
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


FACTS: ModelFacts = {"input_shape": (4, 4, 1), "dtype": "uint8", "num_outputs": 3}
IMAGES = np.random.default_rng(0).integers(2, 256, (5, 4, 4, 1)).astype(np.uint8)


def test_the_folder_is_like_mlflow_s_but_for_the_loader(model, tmp_path) -> None:
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, 4, 4, 1))]), Schema([TensorSpec(np.dtype("float32"), (-1, 3))])
    )
    model.save(tmp_path / "saved.keras")
    (tmp_path / "example.json").write_text(json.dumps({"inputs": IMAGES[:1].tolist()}))
    ours_of = KerasFile(tmp_path / "saved.keras", FACTS, "a run", tmp_path / "example.json")
    ours_of.save_model(str(tmp_path / "ours"), mlflow.models.Model())
    needed = (tmp_path / "ours" / "requirements.txt").read_text().split()
    mlflow.keras.save_model(model, str(tmp_path / "theirs"), signature=signature, pip_requirements=needed)
    example = mlflow.models.Model()  # `save_model` of Keras cannot write one
    _save_example(example, IMAGES[:1], str(tmp_path / "theirs"))
    assert files(tmp_path / "ours") - files(tmp_path / "theirs") == {"code/mnistlab_raw_images.py", "data/images.json"}
    assert files(tmp_path / "theirs") <= files(tmp_path / "ours")
    for name in ("requirements.txt", "conda.yaml", "python_env.yaml", "data/keras_module.txt"):
        assert (tmp_path / "ours" / name).read_text() == (tmp_path / "theirs" / name).read_text()
    for name in ("input_example.json", "serving_input_example.json"):
        ours, theirs = (json.loads((tmp_path / of / name).read_text()) for of in ("ours", "theirs"))
        assert ours == theirs
    ours, theirs = (yaml.safe_load((tmp_path / name / "MLmodel").read_text()) for name in ("ours", "theirs"))
    assert ours.pop("saved_input_example_info") == example.saved_input_example_info
    for differing in ("model_uuid", "utc_time_created", "model_size_bytes"):
        ours.pop(differing), theirs.pop(differing)
    assert ours.pop("run_id") == "a run"
    function = ours["flavors"]["python_function"]
    assert (function.pop("code"), function.pop("loader_module")) == ("code", "mnistlab_raw_images")
    theirs["flavors"]["python_function"].pop("loader_module")
    assert ours == theirs


def test_it_loads_as_a_keras_model_and_as_a_function(model, store, run, tmp_path) -> None:
    file = tmp_path / "saved.keras"
    model.save(file)
    address = call_on_run(run, "log_model", file, FACTS, True)
    client, _ = open_store(store)
    assert client.get_run(run.run_id).info.status == "RUNNING"
    call_on_run(run, "end", "FINISHED")
    assert not file.exists()
    expected = model.predict(IMAGES, verbose=0)
    with fluent_store(store.uri):
        np.testing.assert_array_equal(mlflow.keras.load_model(address).predict(IMAGES, verbose=0), expected)
        np.testing.assert_allclose(mlflow.pyfunc.load_model(address).predict(IMAGES), expected, rtol=1e-6)
    stored = client.get_run(run.run_id)
    assert stored.data.tags["model.address"] == address
    assert [output.model_id for output in stored.outputs.model_outputs] == [address.removeprefix("models:/")]
    assert client.search_registered_models() == []


def test_a_model_is_registered_once(model, store, run, tmp_path) -> None:
    file = tmp_path / "saved.keras"
    model.save(file)
    address = call_on_run(run, "log_model", file, {**FACTS, "register": "small digits"}, False)
    assert address == "models:/small digits/1"
    client, _ = open_store(store)
    address = client.get_run(run.run_id).data.tags["model.address"]
    assert (
        call_on_run(run, "register_model", address.removeprefix("models:/"), "small digits") == "models:/small digits/1"
    )
    call_on_run(run, "end", "FINISHED")
    (version,) = registry.versions(client, "small digits")
    assert version == ("small digits", "1", address.removeprefix("models:/"), run.run_id)
    assert client.get_run(run.run_id).data.tags["model.registered"] == "models:/small digits/1"
    registry.set_alias(store, version, "champion")
    assert registry.target_of_alias(store, "small digits", "champion") == version
    assert registry.target_of_alias(store, "small digits", "challenger") is None
    assert registry.target_of_alias(store, "others", "champion") is None
    assert registry.names_of_run(store, run.run_id) == ["small digits"]
    with fluent_store(store.uri):
        loaded = mlflow.pyfunc.load_model("models:/small digits@champion")
    np.testing.assert_allclose(loaded.predict(IMAGES), model.predict(IMAGES, verbose=0), rtol=1e-6)
    with pytest.raises(ConfigError, match="alias=latest cannot be set"):
        registry.set_alias(store, version, "latest")


@pytest.fixture(scope="module")
def function(model, tmp_path_factory):
    """The model as MLflow loads a function, outside the store."""
    folder = tmp_path_factory.mktemp("function")
    model.save(folder / "saved.keras")
    KerasFile(folder / "saved.keras", FACTS, "a run").save_model(str(folder / "logged"), mlflow.models.Model())
    return mlflow.pyfunc.load_model(str(folder / "logged"))


FORMS: dict[str, Any] = {
    "with the axis of the channels": IMAGES,
    "without it": IMAGES[..., 0],
    "flat": IMAGES.reshape(5, 16),
    "floats": IMAGES.astype(np.float64),
    "nested lists": IMAGES.tolist(),
    "under a name": {"images": IMAGES[..., 0]},
    "a column of lists": pd.DataFrame({"image": list(IMAGES[..., 0].tolist())}),
    "a column of texts": pd.DataFrame({"image": [json.dumps(image.tolist()) for image in IMAGES]}),
    "a column a pixel": pd.DataFrame(IMAGES.reshape(5, 16), columns=[f"pixel{n}" for n in range(16)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_function_takes_images_in_every_form(model, function, form: str) -> None:
    np.testing.assert_allclose(function.predict(FORMS[form]), model.predict(IMAGES, verbose=0), rtol=1e-6)


@pytest.mark.parametrize("one", [IMAGES[0], IMAGES[0, ..., 0], IMAGES[0].ravel()], ids=["3D", "2D", "flat"])
def test_a_function_takes_one_image(model, function, one: np.ndarray) -> None:
    np.testing.assert_allclose(function.predict(one), model.predict(IMAGES[:1], verbose=0), rtol=1e-6)


def test_many_images_are_predicted_in_batches(model, function) -> None:
    many = np.tile(IMAGES, (110, 1, 1, 1))
    np.testing.assert_allclose(function.predict(many), model.predict(many, verbose=0), atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:, :3], r"shape \(n, 4, 4\) or \(n, 4, 4, 1\) or \(n, 16\). Received: \(5, 3, 4, 1\)"),
        (IMAGES[:0], r"Received: \(0, 4, 4, 1\)"),
        (IMAGES / 255, "must be raw, from 0 to 255. Received: values from 0 to 1. Multiply them by 255"),
        (IMAGES.astype(int) + 300, "must be from 0 to 255. Received: 302 to"),
        (IMAGES * np.nan, "not finite"),
        ({"one": IMAGES, "other": IMAGES}, "under one name. Received: one, other"),
        ([[1, 2], [3]], "must be numbers, all images of one shape"),
        (pd.DataFrame({"image": ["no numbers"]}), "nested lists of them. Received: 'no numbers'"),
    ],
    ids=["shape", "none", "scaled", "range", "nan", "names", "ragged", "text"],
)
def test_a_function_says_what_is_wrong_with_a_request(function, images: Any, message: str) -> None:
    with pytest.raises(MlflowException, match=message) as raised:
        function.predict(images)
    assert raised.value.get_http_status_code() == 400


def test_functions_of_others_are_checked_by_their_signature_as_before(model, function, tmp_path) -> None:
    signature = ModelSignature(Schema([TensorSpec(np.dtype("uint8"), (-1, 4, 4, 1))]))
    mlflow.keras.save_model(model, str(tmp_path / "theirs"), signature=signature, pip_requirements=[])
    function.predict(IMAGES[..., 0])
    with pytest.raises(MlflowException, match="Failed to enforce schema"):
        mlflow.pyfunc.load_model(str(tmp_path / "theirs")).predict(IMAGES[..., 0])


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
