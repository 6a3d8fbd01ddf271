"""Image folders through the real commands: exported, trained from, recorded; bad ones refused in words."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from mnistlab.tracking.stored_names import stored_metric


def shapes(root: Path, counts: dict[str, int]) -> Path:
    """JPEG files of mixed sizes, one class bright in its upper half, the other in its lower."""
    generator = np.random.default_rng(0)
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            height, width = generator.integers(30, 90, 2)
            pixels = generator.integers(0, 120, (height, width, 3), dtype=np.uint8)
            half = slice(0, height // 2) if label else slice(height // 2, height)
            pixels[half] += 120
            Image.fromarray(pixels).save(root / name / f"IMG_{index}.jpg", quality=85)
    return root


def run_folder(root: Path) -> Path:
    (folder,) = (root / "runs").glob("*/*")
    return folder


@pytest.mark.long
def test_exported_digits_train_to_the_accuracy_of_the_in_memory_run(train, tmp_path) -> None:
    exported = train("source=mnist_5k", "to=digits/", module="mnistlab.export")
    assert exported.code == 0, exported.err
    assert "4,000 training, 1,000 test images of mnist_5k in digits" in exported.out
    assert len(list((tmp_path / "digits" / "train" / "3").glob("*.png"))) == 400
    common = ("fit.epochs=1", "data.limit=1000", "deterministic=true")
    assert train("source=mnist_5k", *common, "tracking=none", "paths.root=memory").code == 0
    done = train("source=directory", "source.path=digits", *common)
    assert done.code == 0, done.err
    assert done.err == ""
    assert "source.loader=auto: resident, the decoded images take 4 MB" in done.out
    assert "Classes, in order: 0 0, 1 1" in done.out

    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("mnistlab").experiment_id])
    lines = (run_folder(tmp_path / "memory") / "metrics.jsonl").read_text().splitlines()
    expected = {name: value for line in lines for name, value in json.loads(line)["metrics"].items()}
    for name in ("loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy", "test_recall.7"):
        exact = "loss" not in name  # the engine's sums may end in another last bit
        assert run.data.metrics[stored_metric(name)] == (
            expected[name] if exact else pytest.approx(expected[name], rel=1e-5)
        ), name
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    rows = list(csv.DictReader((artifacts / "manifest.csv").read_text(encoding="utf-8").splitlines()))
    assert [sum(row["split"] == name for row in rows) for name in ("train", "validation", "test")] == [1000, 400, 1000]
    assert (artifacts / "figures" / "wrong_images.png").stat().st_size > 0


@pytest.mark.long
@pytest.mark.slow
def test_two_unequal_classes_of_jpeg_beyond_the_memory_budget(train_here, tmp_path) -> None:
    pets = shapes(tmp_path / "pets", {"low dogs": 30, "Straßenkätzchen": 90})
    (pets / "low dogs" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = train_here(
        *("source=directory", "source.path=pets", "source.memory_budget_mb=0.5", "source.on_bad_image=skip"),
        *("data.image_size=[40,40]", "data.class_mode=binary", "data=augmented", "data.class_weight=balanced"),
        *("model=cnn", "model.filters=[8]", "model.units=8", "fit.epochs=4", "tracking=none"),
        *("optimizer.learning_rate=0.003", "data.test_fraction=0.3"),
    )
    assert done.code == 0, done.err
    assert "source.loader=auto: stream" in done.out
    assert "Left out (source.on_bad_image=skip): 1 unusable images, low dogs/broken.jpg" in done.out
    folder = run_folder(tmp_path)
    assert (folder / "figures" / "augmented_images.png").stat().st_size > 0
    rows = list(csv.DictReader((folder / "manifest.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["path"] for row in rows if row["split"] == "skipped"] == ["low dogs/broken.jpg"]
    confusion = np.array(json.loads((folder / "reports" / "confusion_matrix.json").read_text())["counts"])
    assert confusion.sum(axis=1).tolist() == [27, 9]
    report = json.loads((folder / "reports" / "classification_report.json").read_text())
    assert report["accuracy"] > 0.8  # the loss weights and the columns of the probabilities are the right way round
    program = f"""
import keras, numpy as np
from PIL import Image
model = keras.models.load_model({str(folder / "model_files" / "model.keras")!r})
assert model.output_shape == (None, 1)
images = np.stack([np.asarray(Image.open(f"pets/low dogs/IMG_{{i}}.jpg").resize((40, 40))) for i in range(9)])
print("low dogs", float((model.predict(images, verbose=0) > 0.5).mean()))
"""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert float(answer.stdout.split()[-1]) > 0.6, answer.stderr  # class 1 of the sorted names


@pytest.mark.long
def test_the_guide_s_generator_with_its_own_split(train_here, tmp_path) -> None:
    shapes(tmp_path / "pets", {"cat": 20, "dog": 20})
    done = train_here(
        *("source=directory", "source.path=pets", "source.loader=generator", "data.image_size=[30,30]"),
        *("data.class_mode=binary", "data.split=keras", "data.validation_fraction=0.2", "fit.epochs=2"),
        *("+data.augmentation.rotation_range=5", "tracking=none", "fit.batch_size=8"),
    )
    assert done.code == 0, done.err
    assert "NOTE: data.split=keras leaves no test set" in done.out
    rows = csv.DictReader((run_folder(tmp_path) / "manifest.csv").read_text(encoding="utf-8").splitlines())
    # by file name, not by number: ImageDataGenerator sorts them as words
    expected = {f"{name}/IMG_{index}.jpg" for name in ("cat", "dog") for index in (0, 1, 10, 11)}
    assert {row["path"] for row in rows if row["split"] == "validation"} == expected


def test_the_saved_model_predicts_pictures_without_labels_as_the_docs_show(
    train_here, tmp_path, monkeypatch, capfd
) -> None:
    pets = shapes(tmp_path / "pets", {"cat": 20, "dog": 20})
    words = ("source=directory", "source.path=pets", "data.image_size=[30,30]", "fit.epochs=5", "tracking=none")
    assert train_here(*words).code == 0
    (tmp_path / "new").mkdir()
    for name in ("cat", "dog"):
        Image.open(pets / name / "IMG_1.jpg").save(tmp_path / "new" / f"{name}.png")
    docs = (Path(__file__).resolve().parents[2] / "docs" / "image-folders.md").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["predict.py", str(run_folder(tmp_path)), str(tmp_path / "new")])
    exec(docs.split("```python\n")[1].split("```")[0], {})
    printed = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert [line[:2] for line in printed] == [["cat.png", "cat"], ["dog.png", "dog"]]


def test_a_bad_folder_is_refused_before_training_and_leaves_no_run(train_here, tmp_path) -> None:
    pets = shapes(tmp_path / "pets", {"cat": 5, "dog": 5})
    (pets / "cat" / "zero.jpg").touch()
    (pets / "dog" / "cut.jpg").write_bytes((pets / "dog" / "IMG_0.jpg").read_bytes()[:700])
    (pets / "dog" / "notes.txt").touch()
    done = train_here("source=directory", "source.path=pets", "data.image_size=[30,30]", "source.loader=generator")
    assert done.code == 2
    assert done.err.startswith("Errors:")
    for words in ("zero.jpg is empty", "cut.jpg is truncated", "2 of 12 images cannot be used"):
        assert words in done.err
    assert "Traceback" not in done.out + done.err
    assert not list((tmp_path / "runs").glob("*/*/.hydra"))
