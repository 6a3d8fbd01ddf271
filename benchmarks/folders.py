"""Image folders: the three loaders beside Keras's ImageDataGenerator, measured side by side in one process.

Usage: python -m benchmarks.folders OUT.json REPEATS [--full]     (started by `folders` below)

Each comparison is made several times, one after the other, and the median of the ratios is given. --full: a larger
stream, 10 GB of decoded images within a budget of 1 GB.
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
from PIL import Image

from benchmarks.common import Bench, Section, python
from benchmarks.memory import resident_megabytes
from mnistlab.runtime import startup

Row = dict[str, Any]
BATCH = 32


def folders(bench: Bench) -> Section:
    """The loaders against ImageDataGenerator, in a process of their own."""
    out = bench.folder / "folders.json"
    full = ["--full"] if bench.scale.name == "full" else []
    python(bench, "-m", "benchmarks.folders", str(out), str(bench.scale.folder_rounds), *full)
    rows: list[Row] = json.loads(out.read_text(encoding="utf-8"))
    return Section(
        "Image folders, against Keras's ImageDataGenerator",
        ["", "images/s", "beside", "images/s", "ratio"],
        [cells(row) for row in rows],
        [
            f"Medians of {bench.scale.folder_rounds} rounds, one after the other in a process; the ratio is the median "
            "of each round's. ImageDataGenerator has Python's garbage collection as a notebook has it, mnistlab as its "
            "command sets it. A training is of multinomial regression: what is measured is the way of the images.",
        ],
        {row["figure"]: row["ratio"] for row in rows},
        {"rows": rows},
    )


def measure(out: Path, repeats: int, full: bool) -> None:
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
            rows += compare_resident(kind, what, path, size, mode, repeats, folder)
            rows += [compare_stream(kind, what, path, size, mode, workers, repeats) for workers in (1, 2)]
        rows.append(stream_memory(folder, full))
    out.write_text(json.dumps(rows), encoding="utf-8")


def make_digits(folder: Path) -> Path:
    """5,000 genuine digits as PNG files."""
    from mnistlab.data import sources
    from mnistlab.export import export

    export(sources.mnist_5k(), folder)
    for file in (folder / "test").glob("*/*.png"):
        file.rename(folder / "train" / file.parent.name / f"test_{file.name}")
    return folder / "train"


def make_photos(folder: Path, count: int, size: tuple[int, int] = (400, 300), distinct: int = 400) -> Path:
    """JPEG files of two classes, (width, height); beyond `distinct` they are links to the same contents."""
    generator = np.random.default_rng(0)
    files: list[Path] = []
    for index in range(count):
        file = folder / ("cat", "dog")[index % 2] / f"{index:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        if len(files) >= distinct:
            os.link(files[index % distinct], file)
            continue
        coarse = generator.integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        image = (image + generator.integers(-6, 7, image.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(file, quality=85)
        files.append(file)
    return folder


def compare_resident(
    kind: str, what: str, path: Path, size: tuple[int, int], mode: str, repeats: int, caches: Path
) -> list[Row]:
    """The first pass (scan, check, hash, decode, cache), later epochs' batches, and later epochs of a training."""
    firsts, batches, trainings = [], [], []
    dataset = resident(path, size, caches)
    for _ in range(repeats):
        generator = as_in_a_notebook(lambda: rate(lambda: iterate_generator(path, size, mode)))
        firsts.append((generator, rate(lambda: len(resident(path, size, caches).train))))
        generator = as_in_a_notebook(lambda: rate(lambda: iterate_generator(path, size, mode)))
        batches.append((generator, rate(lambda: iterate_resident(dataset))))
        trainings.append((as_in_a_notebook(lambda: train_generator(path, size, mode, 1)), train_dataset(dataset)))
    return [
        row(f"folders.{kind}_first", f"resident, first pass, {what}", "one pass, 1 worker", firsts),
        row(f"folders.{kind}_batches", f"resident, batches of a later epoch, {what}", "one pass, 1 worker", batches),
        row(
            f"folders.{kind}_resident", f"resident, training epoch after the first, {what}", "fit, 1 worker", trainings
        ),
    ]


def compare_stream(
    kind: str, what: str, path: Path, size: tuple[int, int], mode: str, workers: int, repeats: int
) -> Row:
    """A training epoch from files, decoded anew."""
    dataset = prepared(path, size, loader="stream", workers=workers, memory_budget_mb=64)
    pairs = [
        (as_in_a_notebook(lambda: train_generator(path, size, mode, workers)), train_dataset(dataset))
        for _ in range(repeats)
    ]
    said = f"{workers} worker{'s' if workers > 1 else ''}"
    return row(f"folders.{kind}_stream_{workers}", f"stream, training epoch, {said}, {what}", f"fit, {said}", pairs)


def resident(path: Path, size: tuple[int, int], caches: Path) -> Any:
    """The folder decoded for the first time, as a run with an empty cache does it."""
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


def as_in_a_notebook(work: Callable[[], float]) -> float:
    """Python's garbage collection as it is without mnistlab's command, which sets the libraries' objects apart."""
    gc.unfreeze()
    try:
        return work()
    finally:
        gc.freeze()


def iterate_generator(path: Path, size: tuple[int, int], mode: str) -> int:
    """One pass, without Keras's fit around it."""
    files = generator_files(path, size, mode)
    return sum(len(files[index][0]) for index in range(len(files)))


def iterate_resident(dataset: Any) -> int:
    from mnistlab.data import epoch_order

    images, order = dataset.train.images, epoch_order(len(dataset.train), 0, 1)
    return sum(len(images[order[start : start + BATCH]]) for start in range(0, len(order), BATCH))


def train_generator(path: Path, size: tuple[int, int], mode: str, workers: int) -> float:
    """Images per second of the second epoch of Keras's fit, as the guide writes it."""
    files = generator_files(path, size, mode)
    files.workers = workers
    times = EpochTimes()
    classes, channels = files.num_classes, 1 if mode == "grayscale" else 3
    model = small_network((*size, channels), classes, rescaled=True)
    model.fit(files, epochs=2, callbacks=[times.callback()], verbose=0)
    return files.samples / times.seconds[1]


def train_dataset(dataset: Any) -> float:
    """Images per second of the second epoch, the way a run trains: with the compiled engine if there is one."""
    from mnistlab import training

    times = EpochTimes()
    model = small_network(dataset.image_shape, dataset.num_classes)
    engine = {}
    if hasattr(training, "choose_engine"):
        engine["engine"] = training.choose_engine("auto", model, dataset, 4.0)
    training.fit(model, dataset, epochs=2, batch_size=BATCH, seed=0, callbacks=[times.callback()], **engine)
    return len(dataset.train) / times.seconds[1]


class EpochTimes:
    """Seconds of each epoch's training part: from its beginning to its last batch, without the validation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def callback(self) -> Any:
        import keras

        def begin(epoch: int, logs: Any) -> None:
            self.started = self.last = time.perf_counter()

        def batch(step: int, logs: Any) -> None:
            self.last = time.perf_counter()

        return keras.callbacks.LambdaCallback(
            on_epoch_begin=begin,
            on_train_batch_end=batch,
            on_epoch_end=lambda epoch, logs: self.seconds.append(self.last - self.started),
        )


def small_network(shape: tuple[int, ...], classes: int, rescaled: bool = False) -> Any:
    """Multinomial regression: what is measured is the way of the images, not the network."""
    import keras

    from mnistlab.training import models

    keras.utils.clear_session()
    network = models.logistic(shape, classes)
    model = network if rescaled else models.with_preprocessing(network, shape, "unit")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def rate(work: Callable[[], int]) -> float:
    started = time.perf_counter()
    return work() / (time.perf_counter() - started)


def row(figure: str, ours: str, theirs: str, pairs: list[tuple[float, float]]) -> Row:
    """Images per second of both, medians; the median of the ratios within a pair."""
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
    """A training epoch on ten times the memory budget, in a process of its own; its resident set, children included."""
    budget, size = (1024, (480, 640)) if full else (128, (150, 150))
    count = 10 * budget * 2**20 // (size[0] * size[1] * 3)
    photos = make_photos(folder / "many", count, (640, 480) if full else (400, 300), distinct=200)
    words = [str(photos), str(budget), *map(str, size)]
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.folders", "--only-stream", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(answer.stdout.splitlines()[-1])
    grown = said["peak_mb"] - said["before_mb"]
    before = f"{said['loaded_mb']:,.0f} MB before any training, {said['before_mb']:,.0f} after one on 128 images"
    return {
        "figure": "folders.stream_memory",
        "measured": f"stream, {count:,} images of {size[0]}x{size[1]}, {said['decoded_mb']:,.0f} MB decoded",
        "beside": f"memory budget {budget} MB; {before}",
        "beside_per_second": None,
        "ours_per_second": said["per_second"],
        "grown_mb": grown,
        "peak_mb": said["peak_mb"],
        "ratio": grown / budget,
    }


def measure_memory(path: str, budget: str, height: str, width: str) -> None:
    """The child of `stream_memory`: one warm training on few images, then the measured one."""
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
    said = {"loaded_mb": loaded, "before_mb": before, "peak_mb": peak[0], "decoded_mb": decoded}
    said["per_second"] = per_second
    print(json.dumps(said))


def cells(row: Row) -> list[str]:
    """A row of the table."""
    memory = "grown_mb" in row
    theirs = "" if memory else f"{row['beside_per_second']:,.0f}"
    ratio = f"{row['grown_mb']:.0f} MB more, {row['ratio']:.2f} of it" if memory else f"{row['ratio']:.2f}x"
    return [row["measured"], f"{row['ours_per_second']:,.0f}", row["beside"], theirs, ratio]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1] == "--only-stream":
        measure_memory(*sys.argv[2:])
    else:
        measure(Path(sys.argv[1]), int(sys.argv[2]), "--full" in sys.argv)
