"""Image folders: mnistlab's loaders and Keras's ImageDataGenerator, measured side by side in one process.

Usage: python -m benchmarks.folders OUT.json ROUNDS [--full]     (`folders` below starts it)

Each comparison is repeated ROUNDS times; the median of the ratios is reported. --full: a larger stream, 10 GB of
decoded images with a memory budget of 1 GB.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Bench, Section, run_python
from benchmarks.data import make_digits, make_photos
from benchmarks.memory import resident_megabytes
from mnistlab.runtime import startup

Row = dict[str, Any]
BATCH = 32


def folders(bench: Bench) -> Section:
    """The loaders against ImageDataGenerator, in a separate process."""
    out = bench.folder / "folders.json"
    full = ["--full"] if bench.scale.name == "full" else []
    run_python(bench, "-m", "benchmarks.folders", str(out), str(bench.scale.folder_rounds), *full)
    rows: list[Row] = json.loads(out.read_text(encoding="utf-8"))
    return Section(
        "Image folders, against Keras's ImageDataGenerator",
        ["", "images/s", "beside", "images/s", "ratio"],
        [cells(row) for row in rows],
        [
            f"Medians of {bench.scale.folder_rounds} rounds in one process; the ratio is the median of the rounds' "
            "ratios. ImageDataGenerator runs with Python's default garbage collection, as in a notebook, mnistlab with "
            "the setting of its command. The network is a multinomial regression: the loading of images is measured."
        ],
        {row["figure"]: row["ratio"] for row in rows},
        {"rows": rows},
    )


def measure(out: Path, rounds: int, full: bool) -> None:
    """Measure everything and write the rows as JSON."""
    with startup.loading():
        importlib.import_module("mnistlab.training")
    with tempfile.TemporaryDirectory(prefix="mnistlab-bench-") as name:
        folder = Path(name)
        digits, photos = make_digits(folder / "digits"), make_photos(folder / "photos", 800)
        rows = []
        for kind, what, path, size, mode in (
            ("png", "28x28 PNG", digits, (28, 28), "grayscale"),
            ("jpeg", "400x300 JPEG to 150x150", photos, (150, 150), "rgb"),
        ):
            rows += compare_resident(kind, what, path, size, mode, rounds, folder)
            rows += [compare_stream(kind, what, path, size, mode, workers, rounds) for workers in (1, 2)]
        rows.append(stream_memory(folder, full))
    out.write_text(json.dumps(rows), encoding="utf-8")


def compare_resident(
    kind: str, what: str, path: Path, size: tuple[int, int], mode: str, rounds: int, caches: Path
) -> list[Row]:
    """The first pass (scan, check, hash, decode, cache), later epochs' batches, and later epochs of a training."""
    firsts, batches, trainings = [], [], []
    dataset = resident(path, size, caches)
    for _ in range(rounds):
        generator = with_default_collection(lambda: rate(lambda: iterate_generator(path, size, mode)))
        firsts.append((generator, rate(lambda: len(resident(path, size, caches).train))))
        generator = with_default_collection(lambda: rate(lambda: iterate_generator(path, size, mode)))
        batches.append((generator, rate(lambda: iterate_resident(dataset))))
        trainings.append(
            (with_default_collection(lambda: train_generator(path, size, mode, 1)), train_dataset(dataset))
        )
    return [
        row(f"folders.{kind}_first", f"resident, first pass, {what}", "one pass, 1 worker", firsts),
        row(f"folders.{kind}_batches", f"resident, batches of a later epoch, {what}", "one pass, 1 worker", batches),
        row(
            f"folders.{kind}_resident", f"resident, training epoch after the first, {what}", "fit, 1 worker", trainings
        ),
    ]


def compare_stream(
    kind: str, what: str, path: Path, size: tuple[int, int], mode: str, workers: int, rounds: int
) -> Row:
    """A training epoch from files, which are decoded in every epoch."""
    dataset = prepared(path, size, loader="stream", workers=workers, memory_budget_mb=64)
    pairs = [
        (with_default_collection(lambda: train_generator(path, size, mode, workers)), train_dataset(dataset))
        for _ in range(rounds)
    ]
    label = f"{workers} worker{'s' if workers > 1 else ''}"
    return row(f"folders.{kind}_stream_{workers}", f"stream, training epoch, {label}, {what}", f"fit, {label}", pairs)


def resident(path: Path, size: tuple[int, int], caches: Path) -> Any:
    """The folder loaded as by a run with an empty cache."""
    return prepared(path, size, loader="resident", cache=tempfile.mkdtemp(dir=caches))


def prepared(path: Path, size: tuple[int, int], **settings: Any) -> Any:
    from mnistlab.data import prepare
    from mnistlab.data.folders.source import directory

    images = directory(str(path), image_size=size, **settings)
    return prepare(images, test_fraction=0.01, validation_fraction=0.01, class_mode="sparse")


def generator_files(path: Path, size: tuple[int, int], mode: str) -> Any:
    import tensorflow as tf

    with contextlib.redirect_stdout(io.StringIO()):
        return tf.keras.preprocessing.image.ImageDataGenerator(rescale=1 / 255).flow_from_directory(
            path, target_size=size, color_mode=mode, batch_size=BATCH, class_mode="sparse"
        )


def with_default_collection(work: Callable[[], float]) -> float:
    """Run this without the frozen objects of mnistlab's command, which the garbage collector skips."""
    gc.unfreeze()
    try:
        return work()
    finally:
        gc.freeze()


def iterate_generator(path: Path, size: tuple[int, int], mode: str) -> int:
    """Read every batch once, without Keras's `fit`; returns the number of images."""
    files = generator_files(path, size, mode)
    return sum(len(files[index][0]) for index in range(len(files)))


def iterate_resident(dataset: Any) -> int:
    from mnistlab.data import epoch_order

    images, order = dataset.train.images, epoch_order(len(dataset.train), 0, 1)
    return sum(len(images[order[start : start + BATCH]]) for start in range(0, len(order), BATCH))


def train_generator(path: Path, size: tuple[int, int], mode: str, workers: int) -> float:
    """Images per second in the second epoch of Keras's `fit`, called as in the guide."""
    files = generator_files(path, size, mode)
    files.workers = workers
    epochs = EpochTimes()
    classes, channels = files.num_classes, 1 if mode == "grayscale" else 3
    model = small_network((*size, channels), classes, rescaled=True)
    model.fit(files, epochs=2, callbacks=[epochs.callback()], verbose=0)
    return files.samples / epochs.seconds[1]


def train_dataset(dataset: Any) -> float:
    """Images per second in the second epoch, trained as a run trains, with the fused engine if it can."""
    from mnistlab import training

    epochs = EpochTimes()
    model = small_network(dataset.image_shape, dataset.num_classes)
    plan = training.plan_fit(model, dataset, epochs=2, batch_size=BATCH, seed=0)
    training.fit(model, dataset, plan, callbacks=[epochs.callback()])
    return len(dataset.train) / epochs.seconds[1]


class EpochTimes:
    """Seconds of each epoch from its start to its last batch, without the validation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def callback(self) -> Any:
        import keras

        def start(epoch: int, logs: Any) -> None:
            self.started = self.last = time.perf_counter()

        def batch(step: int, logs: Any) -> None:
            self.last = time.perf_counter()

        return keras.callbacks.LambdaCallback(
            on_epoch_begin=start,
            on_train_batch_end=batch,
            on_epoch_end=lambda epoch, logs: self.seconds.append(self.last - self.started),
        )


def small_network(shape: tuple[int, ...], classes: int, rescaled: bool = False) -> Any:
    """A multinomial regression, so that the loading of images dominates.

    rescaled: the images are scaled already.
    """
    import keras

    from mnistlab.training import models

    keras.utils.clear_session()
    network = models.logistic(shape, classes)
    model = network if rescaled else models.with_preprocessing(network, shape, "unit")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def rate(work: Callable[[], int]) -> float:
    """Images per second of work that returns the number of images."""
    started = time.perf_counter()
    return work() / (time.perf_counter() - started)


def row(figure: str, ours: str, theirs: str, pairs: list[tuple[float, float]]) -> Row:
    """A row of the table: medians of images per second, and of the ratios within a pair (theirs, ours)."""
    return {
        "figure": figure,
        "measured": ours,
        "beside": theirs,
        "beside_per_second": statistics.median(pair[0] for pair in pairs),
        "ours_per_second": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(ours / theirs for theirs, ours in pairs),
        "pairs": pairs,
    }


def stream_memory(folder: Path, full: bool) -> Row:
    """Peak resident memory, children included, of an epoch on ten times the memory budget, in a separate process."""
    budget, size = (1024, (480, 640)) if full else (128, (150, 150))
    count = 10 * budget * 2**20 // (size[0] * size[1] * 3)
    photos = make_photos(folder / "many", count, (640, 480) if full else (400, 300), distinct=200)
    arguments = [str(photos), str(budget), *map(str, size)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.folders", "--only-stream", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    grown = measured["peak_mb"] - measured["before_mb"]
    before = (
        f"{measured['loaded_mb']:,.0f} MB before any training, {measured['before_mb']:,.0f} after one on 128 images"
    )
    return {
        "figure": "folders.stream_memory",
        "measured": f"stream, {count:,} images of {size[0]}x{size[1]}, {measured['decoded_mb']:,.0f} MB decoded",
        "beside": f"memory budget {budget} MB; {before}",
        "beside_per_second": None,
        "ours_per_second": measured["per_second"],
        "grown_mb": grown,
        "peak_mb": measured["peak_mb"],
        "ratio": grown / budget,
    }


def measure_memory(path: str, budget: str, height: str, width: str) -> None:
    """The child of `stream_memory`: a warm-up on few images, then the measured training."""
    size = (int(height), int(width))
    with contextlib.redirect_stdout(sys.stderr):
        dataset = prepared(Path(path), size, loader="stream", memory_budget_mb=float(budget))
        few = np.arange(4 * BATCH)
        small = dataclasses.replace(dataset, train=dataset.train.take(few), validation=dataset.train.take(few))
        loaded = resident_megabytes()
        train_dataset(small)
        before = resident_megabytes()
        peak = [before]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peak[0] = max(peak[0], resident_megabytes())

        thread = threading.Thread(target=watch)
        thread.start()
        per_second = train_dataset(dataset)
        done.set()
        thread.join()
    decoded = len(dataset.manifest) * int(np.prod(dataset.image_shape)) / 2**20
    measured = {"loaded_mb": loaded, "before_mb": before, "peak_mb": peak[0], "decoded_mb": decoded}
    measured["per_second"] = per_second
    print(json.dumps(measured))


def cells(row: Row) -> list[str]:
    """A row of the table."""
    memory = "grown_mb" in row
    theirs = "" if memory else f"{row['beside_per_second']:,.0f}"
    ratio = f"{row['grown_mb']:.0f} MB more, {row['ratio']:.2f} of the budget" if memory else f"{row['ratio']:.2f}x"
    return [row["measured"], f"{row['ours_per_second']:,.0f}", row["beside"], theirs, ratio]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1] == "--only-stream":
        measure_memory(*sys.argv[2:])
    else:
        measure(Path(sys.argv[1]), int(sys.argv[2]), "--full" in sys.argv)
