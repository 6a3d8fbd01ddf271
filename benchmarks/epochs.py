"""Epochs side by side: the contenders, a process each, take turns (A B C A B C), so that all see the same load."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.common import Bench, Section, environment, format_ratio, format_seconds, median
from benchmarks.contenders import Job
from benchmarks.machine import version

LABELS = {
    "notebook": "the notebook's `fit`",
    "keras_best": "Keras with its fastest settings",
    "keras_engine": "mnistlab, `fit.engine=keras`",
    "fused": "**mnistlab, `fit.engine=fused`**",
    "fused_floats": "mnistlab, `fit.engine=fused`, float32 images",
    "jax": "JAX scan",
    "torch": "PyTorch loop, one thread",
    "torch_threads": "PyTorch loop, a thread per core (the default)",
}
NEEDS = {"jax": ("jax", "optax"), "torch": ("torch",), "torch_threads": ("torch",)}
HEADER = ["", "measured on", "training, s", "with validation, s", "faster than the notebook", "time / JAX scan"]


@dataclass
class Contender:
    """num_images: of its epochs; slow: it takes part in every second round only.

    training, with_validation: round -> seconds of an epoch, extrapolated to all images. JAX and PyTorch only train.
    """

    name: str
    num_images: int
    slow: bool = False
    training: dict[int, float] = field(default_factory=dict)
    with_validation: dict[int, float] = field(default_factory=dict)


class ContenderProcess:
    """The process of a contender."""

    def __init__(self, name: str, job: Job) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", name, json.dumps(asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment(),
        )

    def epoch(self) -> tuple[float, float | None]:
        """Seconds of its next epoch: of the training, and with validation or None.

        Raises:
            RuntimeError: the process ended; with the end of its stderr.
        """
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process has no pipes")
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            training, with_validation = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            self.process.wait()
            self.errors.seek(0)
            output = " ".join(self.errors.read().split())[-500:]
            raise RuntimeError(f"the contender {self.name} ended: {output}") from None
        return training, with_validation

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def batch32(bench: Bench) -> Section:
    """The guide's minibatch_gd."""
    slow = bench.limit(bench.scale.slow_images_32)
    contenders = [
        Contender("notebook", bench.images.num_train, slow=True),
        Contender("keras_best", bench.images.num_train),
        Contender("keras_engine", slow, slow=True),
        Contender("fused", bench.images.num_train),
        Contender("fused_floats", bench.images.num_train),
        Contender("jax", bench.images.num_train),
        Contender("torch", bench.images.num_train, slow=True),
        Contender("torch_threads", bench.limit(bench.scale.threads_images_32), slow=True),
    ]
    return compare(bench, "An epoch at batch 32 (SGD)", "batch32", 32, contenders)


def batch1(bench: Bench) -> Section:
    """The guide's sgd."""
    slow = bench.limit(bench.scale.slow_images_1)
    contenders = [
        Contender("notebook", bench.limit(bench.scale.notebook_images_1), slow=True),
        Contender("keras_best", bench.limit(bench.scale.best_images_1)),
        Contender("keras_engine", slow, slow=True),
        Contender("fused", bench.images.num_train),
        Contender("jax", bench.images.num_train),
        Contender("torch", bench.limit(bench.scale.best_images_1), slow=True),
        Contender("torch_threads", bench.limit(bench.scale.threads_images_1), slow=True),
    ]
    return compare(bench, "An epoch at batch 1 (SGD)", "batch1", 1, contenders)


def adam(bench: Bench) -> Section:
    """The guide's adam, without the contenders that are slow in the other tables."""
    contenders = [
        Contender("notebook", bench.limit(bench.scale.adam_images), slow=True),
        Contender("keras_best", bench.images.num_train),
        Contender("fused", bench.images.num_train),
        Contender("jax", bench.images.num_train),
    ]
    return compare(bench, "An epoch at batch 32 (Adam)", "adam", 32, contenders, optimizer="adam")


def cnn(bench: Bench) -> Section:
    """The convolutional network on mnistlab's two engines."""
    images = bench.limit(bench.scale.cnn_images)
    contenders = [Contender("keras_engine", images), Contender("fused", images)]
    rounds = min(bench.scale.rounds, 4)
    measured = measure(bench, 32, contenders, rounds, model="cnn")
    section = Section(
        "An epoch of the cnn at batch 32 (SGD), mnistlab's two engines",
        ["", "measured on", "training, s", "with validation, s", "time / `fit.engine=keras`"],
        [
            [*cells(one, bench), format_ratio(ratio(one.training, measured["keras_engine"].training))]
            for one in measured.values()
        ],
        samples=samples(measured),
    )
    section.notes = notes(bench, measured)
    section.figures["cnn.fused_over_keras"] = ratio(measured["fused"].training, measured["keras_engine"].training)
    return section


def compare(
    bench: Bench, title: str, key: str, batch_size: int, contenders: Sequence[Contender], optimizer: str = "sgd"
) -> Section:
    """A table of all contenders whose libraries are installed, in ratios to the notebook and to the JAX scan."""
    installed = [one for one in contenders if all(version(library) for library in NEEDS.get(one.name, ()))]
    missing = [LABELS[one.name] for one in contenders if one not in installed]
    measured = measure(bench, batch_size, installed, bench.scale.rounds, optimizer=optimizer)
    jax = measured.get("jax", Contender("jax", 0))
    rows = [
        [*cells(one, bench), speedup(measured["notebook"], one), format_ratio(ratio(one.training, jax.training))]
        for one in measured.values()
    ]
    section = Section(title, HEADER, rows, notes(bench, measured), samples=samples(measured))
    section.notes.append(
        "Faster than the notebook: with validation, in brackets training alone. "
        "The notebook validates in batches of the training's size, mnistlab on all images at once. "
        "JAX and PyTorch only train; PyTorch counts no metrics."
    )
    if missing:
        section.notes.append(
            f"Not measured, because the library is not installed: {', '.join(missing)}. `pip install -e '.[bench]'`"
        )
    notebook, fused = measured["notebook"], measured["fused"]
    section.figures = {
        f"{key}.faster_than_notebook": ratio(notebook.with_validation, fused.with_validation),
        f"{key}.faster_than_notebook_training": ratio(notebook.training, fused.training),
        f"{key}.over_jax": ratio(fused.training, jax.training),
    }
    return section


def measure(
    bench: Bench,
    batch_size: int,
    contenders: Sequence[Contender],
    rounds: int,
    optimizer: str = "sgd",
    model: str = "mlp",
) -> dict[str, Contender]:
    """Let the contenders take turns. The first round, which also loads and compiles, is not counted."""
    processes = {}
    try:
        for one in contenders:
            num_test = max(1, bench.images.num_test * one.num_images // bench.images.num_train)
            job = Job(str(bench.images.path), one.num_images, num_test, batch_size, optimizer, model)
            processes[one.name] = ContenderProcess(one.name, job)
        for turn in range(rounds + 1):
            for one in contenders:
                if turn == 0 or turn % 2 or not one.slow:
                    record_epoch(one, turn, processes[one.name].epoch(), bench.images.num_train)
    finally:
        for process in processes.values():
            process.close()
    return {one.name: one for one in contenders}


def record_epoch(one: Contender, turn: int, seconds: tuple[float, float | None], num_train: int) -> None:
    """Add an epoch's seconds, extrapolated to all images; those of round 0 are ignored."""
    if turn == 0:
        return
    factor = num_train / one.num_images
    training, with_validation = seconds
    one.training[turn] = training * factor
    if with_validation is not None:
        one.with_validation[turn] = with_validation * factor


def ratio(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """The median of one / other over the rounds that both took part in; NaN without such rounds."""
    return median([one[turn] / other[turn] for turn in one if turn in other])


def speedup(notebook: Contender, one: Contender) -> str:
    """How many times faster than the notebook: with validation, in brackets training alone."""
    alone = format_ratio(ratio(notebook.training, one.training))
    return (
        f"{format_ratio(ratio(notebook.with_validation, one.with_validation))} ({alone})"
        if one.with_validation
        else f"({alone})"
    )


def cells(one: Contender, bench: Bench) -> list[str]:
    """A row's first cells: contender, share of the images, seconds."""
    share = "all" if one.num_images == bench.images.num_train else f"{one.num_images:,} images *"
    seconds = [format_seconds(median([*values.values()])) for values in (one.training, one.with_validation)]
    return [LABELS[one.name], share, *seconds]


def notes(bench: Bench, measured: Mapping[str, Contender]) -> list[str]:
    """Notes below the table: what the numbers are."""
    rounds = sorted({len(one.training) for one in measured.values()})
    lines = [
        f"Seconds are medians of {' or '.join(map(str, rounds))} interleaved epochs, after a first one that compiles."
    ]
    if any(one.num_images < bench.images.num_train for one in measured.values()):
        lines.append(
            f"\\* measured on fewer images, training and validation EXTRAPOLATED to {bench.images.num_train:,}."
        )
    return lines


def samples(measured: Mapping[str, Contender]) -> dict[str, dict]:
    """All measured seconds, extrapolated, for the JSON."""
    return {
        name: {
            "images": one.num_images,
            "training_seconds": [*one.training.values()],
            "with_validation_seconds": [*one.with_validation.values()],
        }
        for name, one in measured.items()
    }
