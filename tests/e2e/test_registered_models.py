"""Registered models: `save.register`, `python -m mnistlab.promote`, and MLflow's own model server."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import Finished, Store, environment, run_command, wait_until
from tracking_servers import free_port

from mnistlab import promote
from mnistlab.data import sources
from mnistlab.runtime import errors

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy of another test
GOOD, OTHER_DATA, BAD = "models:/digits/1", "models:/digits/2", "models:/digits/3"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four registered models: a good and a bad one of each of two divisions of the data."""
    folder = tmp_path_factory.mktemp("registered")
    words = ("source=mnist_5k", "optimizer=momentum", "fit.epochs=2", "save.register=digits")
    done = run_command(folder, "--multirun", *words, "optimizer.learning_rate=0.1,1e-6", "data.split_seed=0,1")
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def promoted(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Run the command here."""
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Finished:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["promote", *words])
        code = errors.run_command(promote._promote)
        out, err = capfd.readouterr()
        return Finished(code, out, err)

    return run


def version_of(root: Path, alias: str) -> str:
    return str(Store(root).client.get_model_version_by_alias("digits", alias).version)


def test_an_alias_moves_to_a_better_model_only(promoted, root: Path) -> None:
    done = promoted(f"run={BAD}")
    assert (done.code, "models:/digits@champion is version 3 now." in done.out) == (0, True), done.err
    done = promoted(f"run={GOOD}")
    assert done.code == 0, done.err
    assert "against version 3, " in done.out
    assert re.search(r"points \[\+\d+\.\d\d, \+\d+\.\d\d\] on 400 images \(p < 0\.001\)", done.out), done.out
    assert "models:/digits@champion is version 1 now, before that version 3." in done.out
    done = promoted(f"run={BAD}")
    assert done.code == 1
    assert "It is worse: models:/digits@champion stays version 1." in done.out
    assert version_of(root, "champion") == "1"
    done = promoted(f"run={GOOD}")
    assert (done.code, "is this model already: version 1." in done.out) == (0, True)
    done = promoted(f"run={BAD}", "force=true")
    assert (done.code, version_of(root, "champion")) == (0, "3")


def test_a_run_is_registered_under_another_name(promoted, root: Path) -> None:
    assert promoted("run=best", "name=others", "alias=a").code == 0
    found = Store(root).client.get_model_version_by_alias("others", "a")
    assert str(found.version) == "1"
    done = promoted("run=best", "alias=a")
    assert (done.code, "name=NAME must say which registered model is meant: " in done.err) == (2, True)
    assert "is registered as digits and as others." in done.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run=nosuch"], "Received: nosuch"),
        (["run=models:/nosuch/1"], "no such model in sqlite:///"),
        (["force=yes"], "force must be true or false. Received: yes."),
        (["alias=latest"], "alias must be a name of letters, digits, - and _, not latest or v1. Received: latest."),
        (["alias=v3"], "Received: v3."),
        (["runn=good"], "runn=good"),
        ([f"run={OTHER_DATA}", "name=digits", "alias=kept"], "validated on the same images. Received: mnist_5k"),
    ],
)
def test_mistakes_change_nothing(promoted, root: Path, words: list[str], expected: str) -> None:
    assert promoted(f"run={GOOD}", "alias=kept", "name=digits").code == 0
    done = promoted(*words)
    assert (done.code, expected in done.err) == (2, True), done.err
    assert version_of(root, "kept") == "1"


@pytest.fixture
def server(root: Path, tmp_path: Path) -> Iterator[str]:
    """MLflow's model server; its address."""
    variables = environment(root, MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlruns/mlflow.db")
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    port, log = free_port(), tmp_path / "server.log"
    address = f"http://127.0.0.1:{port}"
    command = ["mlflow", "models", "serve", "-m", GOOD, "--env-manager", "local", "-p", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=variables, cwd=root, start_new_session=True, stdout=output, stderr=subprocess.STDOUT
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return OPENER.open(f"{address}/ping", timeout=5).status == 200
        except (urllib.error.URLError, TimeoutError):
            return False

    try:
        wait_until(answers)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def post(address: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", content, {"Content-Type": kind})
    try:
        with OPENER.open(request) as answer:
            return answer.status, np.array(json.load(answer)["predictions"])
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["message"]


@pytest.mark.long
def test_the_model_server_takes_every_format(root: Path, server: str) -> None:
    images = np.asarray(sources.mnist_5k().test.images)[:100]
    expected = keras.models.load_model(good_model(root)).predict(images, verbose=0)
    grey, flat = images[..., 0], images.reshape(100, -1)
    named = [f"pixel{number}" for number in range(784)]
    wide = pd.DataFrame(flat, columns=named)
    parquet = io.BytesIO()
    wide.to_parquet(parquet)
    for body, *kind in (
        ({"inputs": images.tolist()},),
        ({"inputs": grey.tolist()},),
        ({"inputs": flat.tolist()},),
        ({"inputs": {"image": grey.tolist()}},),
        ({"instances": images.tolist()},),
        ({"instances": grey.tolist()},),
        ({"instances": [{"image": image.tolist()} for image in grey]},),
        ({"dataframe_split": {"columns": ["image"], "data": [[image.tolist()] for image in grey]}},),
        ({"dataframe_split": wide.to_dict(orient="split")},),
        ({"dataframe_records": [{"image": image.tolist()} for image in images]},),
        ({"dataframe_records": wide.to_dict(orient="records")},),
        (wide.to_csv(index=False).encode(), "text/csv"),
        (parquet.getvalue(), "application/vnd.apache.parquet"),
    ):
        status, found = post(server, body, *kind)
        assert status == 200, found
        np.testing.assert_allclose(found, expected, atol=1e-6)
    status, message = post(server, {"inputs": (grey / 255).tolist()})
    assert (status, "values from 0 to 1. Multiply them by 255" in message) == (400, True)
    status, message = post(server, {"inputs": grey[:, :5].tolist()})
    assert (status, "must have the shape (n, 28, 28)" in message) == (400, True)


def good_model(root: Path) -> Path:
    """The saved file of version 1."""
    run = Store(root).client.get_run(Store(root).client.get_model_version("digits", "1").run_id)
    return Path(run.data.tags["run.folder"]) / "model_files" / "model.keras"


@pytest.mark.long
def test_the_recorded_request_is_one_for_mlflow_models_predict(root: Path, tmp_path: Path) -> None:
    request = good_model(root).parents[1] / "serving_input_example.json"
    words = ["models", "predict", "-m", GOOD, "--env-manager", "local", "-i", request, "-o", tmp_path / "found.json"]
    done = subprocess.run(
        [Path(sys.executable).with_name("mlflow"), *words],
        env=environment(root, MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlruns/mlflow.db"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["predictions"]
    image = np.array(json.loads(request.read_text())["inputs"])
    expected = keras.models.load_model(good_model(root)).predict(image, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (np.asarray(sources.mnist_5k().train.images) == image[0]).all(axis=(1, 2, 3)).any()
