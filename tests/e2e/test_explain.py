"""`python -m mnistlab.explain`, and `explain=true` in a training."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import Finished, Store, environment, run_command
from PIL import Image

from mnistlab import evaluate, explain
from mnistlab.compare import load_runs
from mnistlab.data import sources
from mnistlab.evaluation import explanation
from mnistlab.runtime import errors
from mnistlab.tracking import chosen_models
from mnistlab.tracking.stores import named_address

FILES = {f"{name}.png" for name in explanation.FIGURES}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network for digits, which was explained at the end of its training."""
    folder = tmp_path_factory.mktemp("trained")
    words = ("source=mnist_5k", "optimizer=momentum", "fit.epochs=2", "explain=true")
    done = run_command(folder, *words)
    assert done.code == 0, done.err
    assert "Explained: expected calibration error 0." in done.out + done.err
    assert "nan" not in done.out
    return folder


@pytest.fixture
def command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Run the command here, which has loaded TensorFlow already."""
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, of=explain._explain) -> Finished:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["explain", *words])
        code = errors.run_command(of)
        out, err = capfd.readouterr()
        return Finished(code, out, err)

    return run


def few_digits(file: Path, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Save some test images in a file of arrays; an embedding of them takes no time."""
    test = sources.mnist_5k().test
    images, labels = np.asarray(test.images)[:: len(test) // count], test.labels[:: len(test) // count]
    np.savez(file, images=images, labels=labels)
    return images, labels


def by_hand(confidence: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error, bin by bin."""
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_a_training_draws_the_figures_and_measures_the_calibration(root: Path) -> None:
    store = Store(root)
    (run,) = [one for one in store.runs() if one.info.run_name.startswith("momentum")]
    assert "explain" not in run.info.run_name
    (folder,) = root.glob("runs/*/*/figures/../model_files/..")
    names = {entry.path for entry in store.client.list_artifacts(run.info.run_id, "figures")}
    assert {f"figures/{name}" for name in FILES} < names
    assert not (folder / "figures" / "error.txt").exists()
    with np.load(folder / "reports" / "predictions.npz") as predictions:
        confidence, predicted = predictions["confidence"], predictions["predicted"]
    expected = by_hand(confidence, predicted == sources.mnist_5k().test.labels)
    metrics = run.data.metrics
    assert metrics["test/expected_calibration_error"] == pytest.approx(expected, abs=1e-6)
    assert metrics["test/expected_calibration_error.low"] <= expected <= metrics["test/expected_calibration_error.high"]
    report = json.loads((folder / "reports" / "explanation.json").read_text())
    assert (report["left_out"], sum(row["images"] for row in report["bins"])) == ({}, 1000)


@pytest.mark.long
def test_an_explanation_is_recorded_under_its_run_and_is_no_training(command, root: Path, tmp_path: Path) -> None:
    store = Store(root)
    (before,) = [one for one in store.runs() if "run.kind" not in one.data.tags]
    images, labels = few_digits(tmp_path / "few.npz")
    done = command("run=best", "source=npz", "source.path=few.npz", "split=all")
    assert done.code == 0, done.err
    assert f": {len(images)} images of few" in done.out
    newest = store.runs()[0]
    assert newest.data.tags["run.kind"] == "explanation"
    assert newest.data.tags["mlflow.parentRunId"] == newest.data.tags["explanation.of"] == before.info.run_id
    assert newest.info.status == "FINISHED"
    names = {entry.path for entry in store.client.list_artifacts(newest.info.run_id, "figures")}
    assert names == {f"figures/{name}" for name in FILES}
    model = keras.models.load_model(next(root.glob("runs/*/*/model_files/model.keras")))
    shares = model.predict(images, verbose=0)
    expected = by_hand(shares.max(axis=1), shares.argmax(axis=1) == labels)
    assert newest.data.metrics["all/expected_calibration_error"] == pytest.approx(expected, abs=1e-6)
    assert newest.data.metrics["all/max_calibration_error"] >= expected
    after = store.client.get_run(before.info.run_id)
    assert (after.data.metrics, after.data.tags) == (before.data.metrics, before.data.tags)
    assert [run.run_id for run in load_runs(root=str(root))] == [before.info.run_id]
    for named in ("latest", "best"):
        assert chosen_models.choose(named, named_address({}), str(root)).run_id == before.info.run_id
    evaluated = command("source=npz", "source.path=few.npz", of=evaluate._evaluate)
    assert evaluated.code == 0, evaluated.err
    assert store.runs()[0].data.tags["run.kind"] == "evaluation"


def test_without_a_store_there_is_the_folder(command, root: Path, tmp_path: Path) -> None:
    few_digits(tmp_path / "few.npz")
    known = len(Store(root).runs())
    done = command("source=npz", "source.path=few.npz", "tracking=none")
    assert done.code == 0, done.err
    assert len(Store(root).runs()) == known
    folder = Path(re.search(r"^  figures +(\S+)$", done.out, re.MULTILINE)[1])
    assert folder.parent.parent == root / "runs" / "explanations"
    assert {file.name for file in folder.iterdir()} == FILES


def test_a_model_of_another_program_whose_outputs_are_no_probabilities(command, tmp_path: Path) -> None:
    few_digits(tmp_path / "few.npz")
    network = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Reshape((28, 28, 1)),
            keras.layers.DepthwiseConv2D(3, name="depthwise"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    network.save(tmp_path / "own.keras")
    done = command("run=own.keras", "source=npz", "source.path=few.npz", "tracking=none")
    assert done.code == 0, done.err
    assert "first_layer is left out: the first layer with weights, depthwise (" in done.out
    assert "drawn: saliency_right, saliency_wrong, reliability, confusions, embedding" in done.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit.epochs=3"], ["fit.epochs=3 is not a setting. Choices: run, split,"]),
        (["split=tset"], ["split must be one of auto, test, validation, train, all. Received: tset."]),
        (["run=nosuch"], ["run must be a saved model's file", "Received: nosuch"]),
        (["source=npz"], ["source.path must be given"]),
    ],
    ids=lambda words: words[0],
)
def test_mistakes_are_one_clear_line_each(command, words: list[str], expected: list[str]) -> None:
    done = command(*words)
    assert (done.code, done.out) == (2, "")
    assert [text for text in expected if text not in done.err] == []


PAGE = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")
DOCUMENTED = re.findall(r"^python -m mnistlab\.explain ([^#>\n]*)", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in DOCUMENTED if "source=" in line])
def test_documented_commands_run(command, line: str, tmp_path: Path) -> None:
    images, labels = few_digits(tmp_path / "mine.npz")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "photos" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / "photos" / str(label) / f"{number}.png")
    done = command(*shlex.split(line), "tracking=none")
    assert done.code == 0, done.err
    assert len(DOCUMENTED) >= 3
