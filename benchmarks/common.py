"""What the sections share: the bench they measure on, what they give back, processes and medians."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.scale import Scale

PROJECT = Path(__file__).resolve().parents[1]
STRAY = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "MNISTLAB_ROOT")


@dataclass(frozen=True)
class ImageFile:
    """An .npz with x_train, y_train, x_test, y_test; said: what it is, in words, without its path."""

    path: Path
    num_train: int
    num_test: int
    said: str

    @property
    def is_mnist(self) -> bool:
        """Whether it has the size that the goals are stated for."""
        return (self.num_train, self.num_test) == (60_000, 10_000)


@dataclass(frozen=True)
class Bench:
    """images: to train on; scale: how much is measured; folder: for everything that is left behind."""

    images: ImageFile
    scale: Scale
    folder: Path

    def limit(self, images: int | None) -> int:
        """That many training images, or all there are."""
        return min(images or self.images.num_train, self.images.num_train)


@dataclass
class Section:
    """One table. figures: the numbers that goals are judged by; samples: every measured second, for the JSON."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    took_seconds: float = math.nan


def environment(**extra: str) -> dict[str, str]:
    """For a child: this project importable, quiet, telling nobody, with no tracking store but its own."""
    kept = {key: value for key, value in os.environ.items() if key not in STRAY}
    path = os.pathsep.join(filter(None, [str(PROJECT), kept.get("PYTHONPATH", "")]))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true", "MPLBACKEND": "agg"}
    return kept | quiet | {"PYTHONPATH": path} | extra


def python(bench: Bench, *words: str, **extra: str) -> float:
    """Run `python WORDS` to its end and return its seconds from start to exit.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=bench.folder,
        env=environment(**extra),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:3])} failed: {' '.join(done.stderr.split())[-500:]}")
    return seconds


def source_words(bench: Bench) -> list[str]:
    """The overrides that give mnistlab the same images, split as the notebook splits them."""
    return [f"source.path='{bench.images.path}'", "data=notebook"]


def median(values: Sequence[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(values) if values else math.nan


def shown(seconds: float) -> str:
    """Seconds for a table: two decimals below 10, one below 100."""
    if math.isnan(seconds):
        return "-"
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"


def times(ratio: float) -> str:
    """A ratio for a table."""
    return "-" if math.isnan(ratio) else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def spread(values: Sequence[float]) -> str:
    """Lowest to highest."""
    return f"{shown(min(values))}-{shown(max(values))}" if values else "-"
