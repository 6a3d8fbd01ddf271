"""`python -m mnistlab.predict` and `python -m mnistlab.evaluate` with a model that was trained by a command."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import Finished, Store, environment, run_command
from PIL import Image

from mnistlab import evaluate, explain, predict, replay
from mnistlab.compare import load_runs
from mnistlab.data import sources
from mnistlab.runtime import errors

COMMANDS = {
    "predict": predict._predict,
    "evaluate": evaluate._evaluate,
    "explain": explain._explain,
    "replay": replay._replay,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network for digits."""
    folder = tmp_path_factory.mktemp("trained")
    done = run_command(folder, "source=mnist_5k", "optimizer=momentum", "fit.epochs=4", "run.name=digits")
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Run a command here, which has loaded TensorFlow already."""
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: str) -> Finished:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", [name, *words])
        code = errors.run_command(COMMANDS[name])
        out, err = capfd.readouterr()
        return Finished(code, out, err)

    return run


def digits() -> tuple[np.ndarray, np.ndarray]:
    test = sources.mnist_5k().test
    return np.asarray(test.images), test.labels


IMAGES, LABELS = digits()
CHOSEN = np.concatenate([np.flatnonzero(np.equal(LABELS, digit))[:3] for digit in range(10)])


def model_file(root: Path) -> Path:
    (file,) = root.glob("runs/*/*/model_files/model.keras")
    return file


def saved_as_scans(folder: Path) -> None:
    """Dark digits somewhere on large grey pages."""
    for number, index in enumerate(CHOSEN):
        page = Image.new("L", (500, 400), 200)
        digit = Image.fromarray(255 - IMAGES[index, ..., 0]).resize((200, 200), Image.Resampling.BICUBIC)
        page.paste(digit.point(lambda value: value * 200 // 255), (40 + 8 * number, 30 + 5 * number))
        page.save(folder / f"{number:02}-{LABELS[index]}.png")


@pytest.mark.long
def test_scans_are_predicted_and_a_bad_file_costs_its_own_row(command, root: Path, tmp_path: Path) -> None:
    saved_as_scans(tmp_path)
    (tmp_path / "30-bad.png").write_bytes(b"no picture")
    done = command("predict", "run=digits", "images=*.png", "prepare=mnist", "--json")
    assert done.code == 1
    rows = json.loads(done.out)
    assert len(rows) == 31
    right = [row["class"] == row["file"][3] for row in rows[:30]]
    assert sum(right) >= 26
    assert rows[30]["class"] is None
    assert rows[30]["problem"].startswith("is not an image of a format that is read here")
    assert "inverted: 30 of 30 pictures" in done.err
    assert "WARNING: 30-bad.png is not an image" in done.err
    (sheet,) = root.glob("runs/predictions/*/contact_sheet.png")
    with Image.open(sheet) as image:
        assert image.width > 500 and image.height > 800


def test_pictures_of_the_model_s_size_are_predicted_as_they_are(command, root: Path, tmp_path: Path) -> None:
    for number, index in enumerate(CHOSEN):
        Image.fromarray(IMAGES[index, ..., 0]).save(tmp_path / f"{number:02}.png")
    expected = keras.models.load_model(model_file(root)).predict(IMAGES[CHOSEN], verbose=0)
    done = command("predict", "images=.", "sheet=none", "--json")
    assert (done.code, list(root.glob("runs/predictions/*-none"))) == (0, [])
    rows = json.loads(done.out)
    found = np.array([list(row["probabilities"].values()) for row in rows])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert all(row["prepared"] == [] for row in rows)
    done = command("predict", "images=.", f"sheet={tmp_path}/sheets/all.png", "--csv")
    table = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["class"] for row in table] == [str(one) for one in expected.argmax(axis=1)]
    assert [float(row["confidence"]) for row in table] == pytest.approx(expected.max(axis=1).tolist(), abs=1e-6)
    assert [row["runner_up"] for row in table] == [str(one) for one in np.argsort(-expected, axis=1)[:, 1]]
    assert (tmp_path / "sheets" / "all.png").is_file()
    done = command("predict", "00.png", "run=best", "sheet=none")
    assert f"{expected[0].max():.1%}" in done.out
    assert "The best of 1 finished runs validated on the same images of mnist_5k; ranked by best_epoch_val" in done.out
    assert ": digits (" in done.out


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("predict", [], ["images=FILES must name the pictures", "Received: none."]),
        ("predict", ["images=*.bmp"], ["Received: *.bmp, which does not exist."]),
        ("predict", ["a.png", "--jsn", "prepare=minst"], ["prepare must be one of resize", "--jsn is not a flag"]),
        ("predict", ["a.png", "--json", "--csv"], ["--json and --csv exclude each other"]),
        ("predict", ["a.png", "runn=best"], ["runn=best is not a setting. Choices: run, images,"]),
        ("predict", ["a.png", "run=nosuch"], ["run must be a saved model's file", "Received: nosuch"]),
        ("predict", ["a.png", "run=ffffffffffffffffffffffffffffffff"], ["no such run in sqlite:///"]),
        ("predict", ["a.png", "run=models:/nosuch@champion"], ["no such model in sqlite:///"]),
        ("predict", ["a.png", "run=none.keras"], ["Received: none.keras, which does not exist."]),
        ("predict", ["a.png", "run=a.png/"], ["a.png is no model of Keras"]),
        (
            "predict",
            ["a.png", "run=best", "objective=best_epoch_val_auc"],
            ["no finished run has the metric best_epoch_val_auc"],
        ),
        ("evaluate", ["fit.epochs=3"], ["fit.epochs=3 is not a setting. Choices: run, split,"]),
        ("evaluate", ["split=tset"], ["split must be one of auto, test, validation, train, all. Received: tset."]),
        ("evaluate", ["source=npz"], ["source.path must be given"]),
        ("evaluate", ["source=nosuch"], ["source=nosuch is not an option"]),
    ],
)
def test_mistakes_are_one_clear_line_each(command, name: str, words: list[str], expected: list[str], tmp_path) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    done = command(name, *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error")
    assert [text for text in expected if text not in done.err] == []


def test_an_evaluation_is_recorded_under_its_run_which_stays_as_it_is(command, root: Path) -> None:
    store = Store(root)
    (before,) = [run for run in store.runs() if run.data.tags.get("run.kind") != "evaluation"]
    done = command("evaluate")
    assert done.code == 0, done.err
    assert "digits: 1,000 images of mnist_5k" in done.out
    (after,) = [run for run in store.runs() if run.data.tags.get("run.kind") != "evaluation"]
    assert (after.data.metrics, after.data.tags, after.info.end_time) == (
        before.data.metrics,
        before.data.tags,
        before.info.end_time,
    )
    newest = store.runs()[0]
    assert newest.data.tags["mlflow.parentRunId"] == before.info.run_id
    assert newest.info.status == "FINISHED"
    for metric in ("test/loss", "test/accuracy", "test/f1.macro", "test_recall/7"):
        assert newest.data.metrics[metric] == pytest.approx(before.data.metrics[metric], abs=1e-6)
    names = {entry.path for entry in store.client.list_artifacts(newest.info.run_id, "figures")}
    assert names == {"figures/confusion_matrix.png", "figures/wrong_images.png"}
    assert [run.run_id for run in load_runs(root=str(root))] == [before.info.run_id]
    done = command("evaluate", "split=train", "tracking=none")
    assert "WARNING: These are the images that the model was trained on" in done.out
    assert store.runs()[0].info.run_id == newest.info.run_id


def test_classes_are_matched_by_their_names(command, root: Path, tmp_path: Path) -> None:
    kept = np.isin(LABELS, [3, 8, 5])
    images, labels = IMAGES[kept][..., 0], LABELS[kept].astype(str)
    np.savez(tmp_path / "some.npz", images=images, labels=labels)
    done = command("evaluate", "run=latest", "source=npz", "source.path=some.npz", "split=all", "tracking=none")
    assert done.code == 0, done.err
    assert "Without images: 0, 1, 2, 4, 6, 7, 9." in done.out
    (folder,) = (file.parent for file in root.glob("runs/evaluations/*/tags.json") if "some" in file.read_text())
    found = json.loads((folder / "metrics.jsonl").read_text())["metrics"]
    model = keras.models.load_model(model_file(root))
    expected = (model.predict(IMAGES[kept], verbose=0).argmax(axis=1) == LABELS[kept]).mean()
    assert found["all_accuracy"] == pytest.approx(expected, abs=1e-6)
    np.savez(tmp_path / "odd.npz", images=images, labels=np.where(labels == "3", "three", labels))
    done = command("evaluate", "source=npz", "source.path=odd.npz")
    assert done.code == 2
    assert "odd has three, which run=latest does not know: it has 0, 1, 2, 3" in done.err
    np.savez(tmp_path / "small.npz", images=images[:, ::2, ::2], labels=labels)
    done = command("evaluate", "source=npz", "source.path=small.npz")
    assert done.code == 2
    assert "The images must have the shape that the model takes, 28x28x1. Received: 14x14x1, of small." in done.err


def test_image_folders_are_read_in_the_model_s_size(command, tmp_path: Path) -> None:
    for index in CHOSEN:
        folder = tmp_path / "photos" / str(LABELS[index])
        folder.mkdir(parents=True, exist_ok=True)
        large = Image.fromarray(IMAGES[index, ..., 0]).resize((56, 56), Image.Resampling.NEAREST).convert("RGB")
        large.save(folder / f"{index}.png")
    done = command("evaluate", "source=directory", "source.path=photos", "tracking=none")
    assert done.code == 0, done.err
    assert "digits: 30 images of photos" in done.out


def test_a_run_is_repeated_to_the_bit(command, root: Path) -> None:
    done = command("replay", "run=digits")
    assert done.code == 0, done.out + done.err
    assert "Code, libraries and data are those of the run." in done.out
    assert "Equal to the bit in all 4 epochs: accuracy, loss, val_accuracy, val_loss, learning_rate." in done.out
    (folder,) = root.glob("runs/replays/*")
    assert not (folder / "model_files" / "model.keras").exists()
    assert [run for run in Store(root).runs() if "replays" in run.data.tags["run.folder"]] == []


def test_a_repetition_names_the_first_difference(command, root: Path, tmp_path: Path) -> None:
    run = model_file(root).parents[1]
    shutil.copytree(run, tmp_path / "copy")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[2]["metrics"]["val_loss"] *= 1.0000001
    (tmp_path / "copy" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tags = json.loads((run / "tags.json").read_text())
    libraries = json.loads(tags["fingerprint.libraries"]) | {"keras": "3.0.0"}
    tags |= {"fingerprint.libraries": json.dumps(libraries), "fingerprint": "0"}
    (tmp_path / "copy" / "tags.json").write_text(json.dumps(tags))
    done = command("replay", f"run={tmp_path / 'copy'}")
    assert done.code == 1, done.err
    assert f"Differs from then: keras changed: 3.0.0 -> {keras.__version__}." in done.out
    assert f"first in epoch 3 of 4, where val_loss was {rows[2]['metrics']['val_loss']!r}" in done.out
    shutil.copy(model_file(root), tmp_path / "alone.keras")
    done = command("replay", "run=alone.keras")
    assert (done.code, "run=alone.keras has no record of its epochs" in done.err) == (2, True)


PAGE = (Path(__file__).parents[2] / "docs" / "using-models.md").read_text(encoding="utf-8")
DOCUMENTED = re.findall(r"^python -m mnistlab\.((?:predict|evaluate) [^#>\n]*)", PAGE, re.MULTILINE)


@pytest.mark.long_after(2)
@pytest.mark.parametrize("line", DOCUMENTED)
def test_documented_commands_run(command, line: str, tmp_path: Path) -> None:
    for index in CHOSEN:
        digit = Image.fromarray(255 - IMAGES[index, ..., 0])
        for file in (f"scans/{index}.png", f"folder/deep/{index}.png", f"photos/{LABELS[index]}/{index}.png"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            digit.save(tmp_path / file)
    digit.resize((300, 300)).convert("RGB").save(tmp_path / "photo.jpg")
    np.savez(tmp_path / "mine.npz", images=IMAGES[CHOSEN], labels=LABELS[CHOSEN])
    name, *words = shlex.split(line)
    done = command(name, *words, *(["tracking=none"] if name == "evaluate" else []))
    assert done.code == 0, done.err
    assert len(DOCUMENTED) >= 5


def test_a_model_of_another_program(command, tmp_path: Path) -> None:
    network = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
    network.save(tmp_path / "own.keras")
    network.save_weights(tmp_path / "own.weights.h5")
    Image.fromarray(IMAGES[0, ..., 0]).save(tmp_path / "digit.png")
    done = command("predict", "digit.png", "run=own.keras", "--json", "sheet=none")
    assert done.code == 0, done.err
    logits = network.predict(IMAGES[:1, ..., 0] / np.float32(255), verbose=0)[0]
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    found = list(json.loads(done.out)[0]["probabilities"].values())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "it gets pixels from 0 to 1" in done.err
    assert "The classes have no names: they are numbered from 0 to 9." in done.err
    done = command("predict", "digit.png", "run=own.weights.h5")
    assert (done.code, "has the weights of a model only" in done.err) == (2, True)
    odd = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    odd.save(tmp_path / "odd.keras")
    done = command("predict", "digit.png", "run=odd.keras")
    assert (done.code, "must take pictures of one size" in done.err) == (2, True)


@pytest.mark.long
@pytest.mark.parametrize("shape", [(784,), (28, 28), (28, 28, 1)], ids=str)
def test_a_model_of_another_program_is_evaluated_and_explained(command, tmp_path: Path, shape: tuple[int, ...]) -> None:
    network = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    network.save(tmp_path / "own.keras")
    expected = (network.predict(IMAGES.reshape(-1, *shape) / np.float32(255), verbose=0).argmax(1) == LABELS).mean()
    for name in ("evaluate", "explain"):
        done = command(name, "run=own.keras", "source=mnist_5k", "tracking=none")
        assert done.code == 0, done.err
        folder = Path(re.findall(r"(?:folder|figures) +(\S+)", done.out)[-1])
        assert list((folder / "figures" if name == "evaluate" else folder).glob("*.png"))
        if name == "evaluate":
            assert f"{expected:.4f}" in done.out
