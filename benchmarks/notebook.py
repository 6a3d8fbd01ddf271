"""The guide's notebook as a program: plain Keras, untracked. mnistlab's speed is stated relative to it.

Usage: python -m benchmarks.notebook default NPZ FOLDER        Parts 1 to 5 with adam; figure and report go to FOLDER
       python -m benchmarks.notebook seven NPZ OUT.json SGD    Part 4's seven strategies; SGD: the number of images for
                                                               batch size 1, which takes minutes on all of them
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import numpy as np

EPOCHS = 3


def build_model() -> keras.Model:
    """Part 3: the network."""
    import keras

    return keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def load(npz: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Part 2: scaled images and one-hot labels, x_train, y_train, x_test, y_test."""
    import keras
    import numpy as np

    with np.load(npz) as arrays:
        x_train, x_test = arrays["x_train"] / 255.0, arrays["x_test"] / 255.0
        y_train = keras.utils.to_categorical(arrays["y_train"], 10)
        y_test = keras.utils.to_categorical(arrays["y_test"], 10)
    return x_train, y_train, x_test, y_test


def default(npz: str, folder: str) -> None:
    """Adam for three epochs, then Part 5: confusion matrix and classification report as files."""
    import keras
    import matplotlib.pyplot as plt
    import seaborn as sns
    from sklearn.metrics import classification_report, confusion_matrix

    x_train, y_train, x_test, y_test = load(npz)
    model = build_model()
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=32, epochs=EPOCHS, validation_data=(x_test, y_test), verbose=0)
    predicted = model.predict(x_test, verbose=0).argmax(axis=1)
    truth = y_test.argmax(axis=1)
    sns.heatmap(confusion_matrix(truth, predicted), annot=True, fmt="d")
    plt.xlabel("Predicted")
    plt.ylabel("Truth")
    plt.savefig(Path(folder) / "confusion_matrix.png")
    (Path(folder) / "classification_report.txt").write_text(classification_report(truth, predicted), encoding="utf-8")


def strategies(num_images: int) -> dict[str, tuple[Callable[[], keras.Optimizer], int]]:
    """Part 4.3: name -> (optimizer, batch size)."""
    import keras

    return {
        "batch_gd": (lambda: keras.optimizers.SGD(0.01), num_images),
        "sgd": (lambda: keras.optimizers.SGD(0.01), 1),
        "minibatch_gd": (lambda: keras.optimizers.SGD(0.01), 32),
        "momentum": (lambda: keras.optimizers.SGD(0.01, momentum=0.9), 32),
        "adagrad": (lambda: keras.optimizers.Adagrad(0.01), 32),
        "rmsprop": (lambda: keras.optimizers.RMSprop(0.01), 32),
        "adam": (lambda: keras.optimizers.Adam(0.01), 32),
    }


def seven(npz: str, out: str, sgd_images: str) -> None:
    """Each strategy for three epochs; write the seconds of each `fit`. SGD validates on the same share of images."""
    x_train, y_train, x_test, y_test = load(npz)
    seconds = {}
    for name, (optimizer, batch_size) in strategies(len(x_train)).items():
        num_train = int(sgd_images) if name == "sgd" else len(x_train)
        num_test = len(x_test) * num_train // len(x_train)
        model = build_model()
        model.compile(optimizer=optimizer(), loss="categorical_crossentropy", metrics=["accuracy"])
        start = time.perf_counter()
        model.fit(
            x_train[:num_train],
            y_train[:num_train],
            batch_size=batch_size,
            epochs=EPOCHS,
            validation_data=(x_test[:num_test], y_test[:num_test]),
            verbose=0,
        )
        seconds[name] = time.perf_counter() - start
    Path(out).write_text(json.dumps(seconds), encoding="utf-8")


if __name__ == "__main__":
    {"default": default, "seven": seven}[sys.argv[1]](*sys.argv[2:])
