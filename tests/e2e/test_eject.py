"""`python -m mnistlab.eject`: scripts of plain Keras that repeat the numbers of runs, without mnistlab."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TIMEOUT, Finished, environment
from PIL import Image

from mnistlab import eject, experiment
from mnistlab.config.compose import compose_config
from mnistlab.data import loading
from mnistlab.handover import reading_code, recorded, verification, writing
from mnistlab.runtime import errors
from mnistlab.tracking import chosen_models
from mnistlab.tracking.stores import StoreAddress

STRATEGIES = ("batch_gd", "sgd", "minibatch_gd", "momentum", "adagrad", "rmsprop", "adam")
DIGITS = ("source=mnist_5k", "data.limit=300")
CNN = ("model=cnn", "model.filters=[4,8]", "model.units=16", "callbacks=default", "optimizer.learning_rate=0.003")
OWN = ("source=npz", "source.path=own.npz", "data.class_mode=binary", "data.keep={0: 0.5}", "data.split=keras")
PICTURES = ("source=directory", "source.path=pictures", "data.image_size=[8,7]", "source.interpolation=bilinear")
REPEATED = {
    **{name: (*DIGITS, f"optimizer={name}") for name in STRATEGIES},
    "minibatch_gd": (*OWN, "optimizer=minibatch_gd"),
    "adagrad": (*DIGITS, "optimizer=adagrad", "data=notebook", "model.dropout=0.2"),
    "cnn": (*DIGITS, *CNN, "data=imbalanced", "data.class_weight=balanced", "callbacks.early_stopping.patience=1"),
    "folder": (*PICTURES, "source.loader=stream", "data.labels=integer"),
    "resnet": (*DIGITS, "model=resnet", "model.filters=[4]", "data=augmented", "schedule=one_cycle"),
}
RUNS = {**REPEATED, "guide": (*DIGITS, "data=notebook", "fit.engine=keras"), "own": OWN, "resident": PICTURES}
# Of loss and metrics. The engines add numbers in another order: equal within these in the first epochs.
TOLERANCE = {"rel": 1e-3, "abs": 1e-4}
RUN_ALL = """
import contextlib, io, os, runpy, sys
import matplotlib
import matplotlib.pyplot as plt
matplotlib.use("Agg")
for absent in ("mnistlab", "hydra", "omegaconf", "mlflow"):
    sys.modules[absent] = None  # importing it fails
with contextlib.suppress(ImportError):
    import mnistlab
    sys.exit("mnistlab can be imported")
for folder in sys.argv[1:]:
    os.chdir(folder)
    runpy.run_path("train.py", run_name="__main__")
    plt.close("all")
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of the runs."""
    folder = tmp_path_factory.mktemp("handed_over")
    generator = np.random.default_rng(0)
    for label in range(3):
        (folder / "pictures" / f"class_{label}").mkdir(parents=True)
        for index in range(25):
            pixels = generator.integers(0, 100, (9, 8, 3)) + label * 50
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / f"class_{label}" / f"{index:02}.png")
    labels = np.repeat([0, 1], 60)
    images = (generator.integers(0, 150, (120, 6, 5)) + labels[:, None, None] * 100).astype(np.uint8)
    np.savez(folder / "own.npz", x_train=images, y_train=labels)
    return folder


@pytest.fixture
def trained(root: Path, monkeypatch: pytest.MonkeyPatch):
    """Train a run of RUNS, or one with the words given, once; returns its folder."""
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)

    def train(name: str, *words: str) -> Path:
        folder = root / "runs" / "day" / name
        if not folder.exists():
            settings = [
                "tracking=none",
                f"paths.run={folder}",
                f"run.name={name}",
                "fit.epochs=2",
                "optimizer=momentum",
            ]
            experiment.run(compose_config([*settings, *(words or RUNS[name])]))
        return folder

    return train


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Run the command here, which has loaded TensorFlow already."""

    def run(*words: str) -> Finished:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["eject", *words])
        code = errors.run_command(eject._eject)
        return Finished(code, *capfd.readouterr())

    return run


@pytest.fixture
def ejected(trained, command, tmp_path: Path):
    """The folder of a run that was handed over."""

    def eject_run(name: str, *words: str) -> Path:
        done = command(f"run={trained(name, *words)}", f"to={tmp_path / name}")
        assert done.code == 0, done.err
        return tmp_path / name

    return eject_run


@pytest.mark.long
@pytest.mark.slow
def test_scripts_repeat_the_histories_and_models_of_their_runs(ejected, trained, root: Path) -> None:
    folders = {name: ejected(name) for name in REPEATED}
    command = [sys.executable, "-c", RUN_ALL, *map(str, folders.values())]
    done = subprocess.run(
        command, cwd=root, env=environment(root), capture_output=True, text=True, timeout=2 * TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout
    for name, folder in folders.items():
        expected, found = (json.loads((folder / file).read_text()) for file in ("recorded.json", "numbers.json"))
        assert len(found["epochs"]) == len(expected["epochs"]) > 1, name
        for row, again in zip(expected["epochs"], found["epochs"], strict=True):
            assert {key: again[key] for key in row} == pytest.approx(row, **TOLERANCE), name
        assert found["test"] == pytest.approx(expected["test"], **TOLERANCE), name
        assert set(expected["test"]) == {"loss", "accuracy"}
        assert (folder / "learning_curves.png").stat().st_size > 10_000
        assert (folder / "confusion_matrix.png").stat().st_size > 5_000
    for name in ("adam", "cnn", "adagrad"):
        ours = keras.models.load_model(folders[name] / "model.keras")
        theirs = keras.models.load_model(trained(name) / "model_files" / "model.keras")
        images = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1)).astype(np.uint8)
        scaled = images.astype(np.float32) / 255
        np.testing.assert_allclose(ours.predict(scaled, verbose=0), theirs.predict(images, verbose=0), atol=1e-3)


@pytest.mark.long
@pytest.mark.slow
def test_a_run_of_the_store_is_found_without_its_folder(train_here, command, tmp_path: Path) -> None:
    done = train_here(*DIGITS, "optimizer=momentum", "fit.epochs=2", "run.name=stored")
    assert done.code == 0, done.err
    (folder,) = tmp_path.glob("runs/*/*/config.yaml")
    rows = [json.loads(line)["metrics"] for line in (folder.parent / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(folder.parent)
    done = command("run=latest", f"to={tmp_path / 'script'}")
    assert done.code == 0, done.err
    assert "The latest run: stored (" in done.out
    epochs = json.loads((tmp_path / "script" / "recorded.json").read_text())["epochs"]
    assert [row["val_loss"] for row in epochs] == [row["val_loss"] for row in rows if "epoch_seconds" in row]


def test_the_script_shows_what_the_settings_did(ejected) -> None:
    folder = ejected("cnn")
    script = (folder / "train.py").read_text()
    roots = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(script))
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in getattr(node, "names", [])]
        )
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert roots == {"json", "math", "pathlib", "keras", "matplotlib", "numpy", "sklearn"}
    expected = """            keras.Input(INPUT_SHAPE),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
"""
    assert expected in script
    assert "{3: 0.1, 8: 0.1}.items()" in script
    assert "hold_out(train_labels, 0.1, generator)" in script
    assert 'compute_class_weight("balanced"' in script
    assert "optimizer = keras.optimizers.Adam(learning_rate=0.003)" not in script  # the run's optimizer is momentum
    assert "optimizer = keras.optimizers.SGD(learning_rate=0.003, momentum=0.9)" in script
    assert 'keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, restore_best_weights=True)' in script
    assert 'filepath="best_model.keras"' in script
    assert max(map(len, script.splitlines())) <= 120
    assert (folder / "requirements.txt").read_text().startswith("keras==")


@pytest.mark.long
def test_the_notebook_has_the_cells_of_the_script(ejected) -> None:
    folder = ejected("guide")
    notebook = json.loads((folder / "train.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert [cell["cell_type"] for cell in cells[:3]] == ["markdown", "markdown", "code"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(set(cell) == {"cell_type", "id", "metadata", "source", "outputs", "execution_count"}
               for cell in cells if cell["cell_type"] == "code")  # fmt: skip
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    script = (folder / "train.py").read_text()
    assert ast.dump(ast.parse(code)) == ast.dump(ast.Module(ast.parse(script).body[1:], []))
    titles = [cell["source"][0].strip() for cell in cells if cell["cell_type"] == "markdown"]
    assert "## Part 3: Build the network" in titles
    assert "As the guide does, the test images are also the validation images" in script


def test_image_files_are_listed_in_the_order_of_the_run(ejected, trained) -> None:
    folder = ejected("resident")
    listed = (folder / "images.csv").read_text().splitlines()
    manifest = [row.split(",") for row in (trained("resident") / "manifest.csv").read_text().splitlines()]
    assert listed == [",".join(row[:3]) for row in manifest]
    assert len(listed) == 1 + 75
    script = (folder / "train.py").read_text()
    assert 'color_mode="rgb", target_size=(8, 7), interpolation="bilinear"' in script
    assert "X_train = scaled(X_train)" in script
    assert "pillow" in (folder / "requirements.txt").read_text()


@pytest.mark.long
def test_initial_weights_of_another_run_lie_beside_the_script(ejected, trained) -> None:
    folder = ejected("continued", *DIGITS, f"init.from={trained('guide')}", "fit.epochs=1")
    assert 'model.load_weights("initial.weights.h5")' in (folder / "train.py").read_text()
    names: dict = {}
    code = (folder / "train.py").read_text().split("# %% Part 4.2: Compile")[0]
    verification.run_sections([writing.Section("", "", code)], folder, names)
    weights = keras.models.load_model(trained("guide") / "model_files" / "model.keras").get_weights()
    for ours, theirs in zip(names["model"].get_weights(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_arrays_that_only_mnistlab_reads_lie_beside_the_script(ejected, root: Path) -> None:
    labels = np.repeat(["cat", "dog"], 30)
    images = np.random.default_rng(1).integers(0, 4096, (60, 6, 5)).astype(np.uint16)
    np.savez(root / "texts.npz", pictures=images, y_train=labels)
    folder = ejected("texts", "source=npz", "source.path=texts.npz", "source.keys={x_train: pictures}")
    with np.load(folder / "data.npz") as arrays:
        assert arrays["x_train"].shape == (60, 6, 5, 1)
        assert arrays["y_train"].tolist() == [0] * 30 + [1] * 30
    assert 'CLASS_NAMES = ["cat", "dog"]' in (folder / "train.py").read_text()


def test_a_reading_with_other_images_is_noticed(trained) -> None:
    chosen = chosen_models.choose(str(trained("own")), StoreAddress("", "", None), "")
    run = recorded.recorded_run(chosen, recorded.manifest_of(chosen, StoreAddress("", "", None)))
    dataset = loading.load(run.config)
    names = {}
    for split, short in verification.NAMES.items():
        names |= {f"X_{short}": dataset.splits[split].images, f"{short}_labels": dataset.splits[split].labels}
    assert list(verification.data_differences(names, dataset)) == []
    turned = names["X_val"][::-1]
    assert list(verification.data_differences(names | {"X_val": turned}, dataset)) == [
        "the pixels of the validation images differ"
    ]
    fewer = {"X_train": names["X_train"][1:], "train_labels": names["train_labels"][1:]}
    assert list(verification.data_differences(names | fewer, dataset)) == ["the train images are others"]
    assert reading_code._cell('a "b", c') == '"a ""b"", c"'


def test_changed_data_are_refused(trained, command, root: Path, tmp_path: Path) -> None:
    file = root / "changing.npz"
    shutil.copy(root / "own.npz", file)
    run = trained("changing", "source=npz", f"source.path={file}", "fit.epochs=1")
    with np.load(file) as arrays:
        np.savez(file, x_train=255 - arrays["x_train"], y_train=arrays["y_train"])
    loading._prepared.cache_clear()
    loading._loaded.cache_clear()
    done = command(f"run={run}", f"to={tmp_path / 'script'}")
    assert (done.code, (tmp_path / "script").exists()) == (2, False)
    assert "The train and validation and test images are not those that changing was trained with" in done.err


@pytest.mark.long_after(1)
@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("ema", ["+optimizer.use_ema=true"], "The optimizer ends with an average of its weights (optimizer.use_ema)"),
        (
            "generator",
            ["source=directory", "source.path=pictures", "source.loader=generator", "data=augmented"],
            "source.loader=generator with data.augmentation: the random numbers of ImageDataGenerator cannot be",
        ),
        (
            "per_class",
            ["fit.metrics=[accuracy,{_target_: keras.metrics.F1Score}]", "save.monitor=val_f1_score"],
            "val_f1_score has a value for each class, and Keras's callbacks cannot monitor it.",
        ),
    ],
)
def test_what_keras_does_in_another_way_is_refused(trained, command, tmp_path, name, words, expected) -> None:
    source = [] if "source=directory" in words else DIGITS
    done = command(f"run={trained(name, *source, *words, 'fit.epochs=1')}", f"to={tmp_path / 'script'}")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert expected in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "to=FOLDER must name the folder for the script: to=my_script. Received: none."),
        (["to=full"], "to=full must be a new or an empty folder. Received: a folder with files."),
        (["to=full/file"], "to=full/file must be a folder. Received: a file."),
        (["to=new", "force=yes"], "force must be true or false. Received: yes."),
        (["too=new"], "too=new is not a setting. Choices: run, to, force, objective,"),
        (["to=new", "run=none.keras"], "Received: none.keras, which does not exist."),
        (["to=new", "run=bare.keras"], "run=bare.keras must be a run that mnistlab recorded"),
    ],
)
def test_mistakes_are_one_clear_line(command, root, tmp_path, monkeypatch, words, expected) -> None:
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    if "run=bare.keras" in words:
        keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]).save("bare.keras")
    done = command(*words)
    assert done.code == 2
    assert expected in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "new").exists()


def test_force_writes_beside_other_files(trained, command, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "train.py").write_text("old")
    done = command(f"run={trained('guide')}", f"to={tmp_path}", "force=true")
    assert done.code == 0, done.err
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "train.py").read_text().startswith('"""The run guide as plain Keras.')
    assert "Equal in the script and in the run: the images, their split, the initial weights" in done.out
