"""The first step on people's own files: its loss is that of plain Keras on the pixels and classes that are meant."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from mnistlab import experiment, training
from mnistlab.config.compose import compose_config

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (12, 6, 6, 1), dtype=np.uint8)
GREY.flat[:2] = 0, 255
COLOUR = GENERATOR.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
INK = (GREY > 127).astype(np.uint8)
CLASSES = np.arange(12) % 3
WORDS = np.array(["cat", "dog", "owl"])

Case = tuple[list[str], np.ndarray]


FOUR = "x_train y_train x_test y_test"


def npz(folder: Path, images: np.ndarray, labels: np.ndarray, names: str = FOUR) -> list[str]:
    np.savez(folder / "own.npz", **dict(zip(names.split(), (images, labels, images, labels), strict=True)))
    return ["source=npz", f"source.path={folder}/own.npz"]


def numbers_from_1(folder: Path) -> Case:
    return npz(folder, GREY, CLASSES + 1), GREY / 255


def words_as_labels_channels_first(folder: Path) -> Case:
    return npz(folder, np.moveaxis(COLOUR, -1, 1), WORDS[CLASSES]), COLOUR / 255


def shares_of_255(folder: Path) -> Case:
    return npz(folder, (GREY / 255).astype(np.float32), CLASSES * 10 - 5), GREY / 255


def zeros_and_ones(folder: Path) -> Case:
    return npz(folder, INK.astype(bool), np.eye(3)[CLASSES]), INK.astype(float)


def flat_rows_under_usual_names(folder: Path) -> Case:
    names = "train_images train_labels test_images test_labels"
    return npz(folder, GREY.reshape(12, -1), CLASSES[:, np.newaxis], names), GREY / 255


def table(folder: Path) -> Case:
    header = ",".join(["label", *(f"pixel{index}" for index in range(36))])
    rows = [",".join(map(str, [label + 3, *image.ravel()])) for label, image in zip(CLASSES, GREY, strict=True)]
    (folder / "own.csv.gz").write_bytes(gzip.compress("\n".join([header, *rows]).encode()))
    return ["source=csv", f"source.path={folder}/own.csv.gz", f"source.test={folder}/own.csv.gz"], GREY / 255


def folders(folder: Path) -> Case:
    for split in ("training_set", "test_set"):
        for index, (label, image) in enumerate(zip(CLASSES, COLOUR, strict=True)):
            (folder / "own" / split / WORDS[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / "own" / split / WORDS[label] / f"{index:02}.png")
    return ["source=directory", f"source.path={folder}/own"], COLOUR / 255


CASES: list[Callable[[Path], Case]] = [
    numbers_from_1,
    words_as_labels_channels_first,
    shares_of_255,
    zeros_and_ones,
    flat_rows_under_usual_names,
    table,
    folders,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_first_step_has_the_loss_of_plain_keras(tmp_path, case) -> None:
    words, meant = case(tmp_path)
    settings = ["model.units=4", "fit.batch_size=all", "fit.epochs=1", "data.validation=test", "tracking=none"]
    config = compose_config([*words, *settings, f"paths.root={tmp_path}"])
    dataset = experiment.load_dataset(config)
    model = experiment.build_model(config, dataset)
    plain = keras.Sequential(
        [
            keras.Input(meant.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    plain.set_weights(model.get_weights())
    plain.compile(loss="categorical_crossentropy")
    expected = plain.evaluate(meant, np.eye(3)[CLASSES], verbose=0)
    plan = training.plan_fit(model, dataset, epochs=1, batch_size="all", seed=0)
    assert training.fit(model, dataset, plan).history[0]["loss"] == pytest.approx(expected, rel=1e-5)
