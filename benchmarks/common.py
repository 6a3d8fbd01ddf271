"""What the sections share: the bench they measure on, the table they return, processes, medians and formats."""

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
REMOVED_VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "MNISTLAB_ROOT",
    "PYTHONDONTWRITEBYTECODE",  # a user's second command finds compiled modules
)


@dataclass(frozen=True)
class ImageFile:
    """An .npz with x_train, y_train, x_test, y_test; description: its name and size, without its path."""

    path: Path
    num_train: int
    num_test: int
    description: str

    @property
    def is_mnist(self) -> bool:
        """Whether it has MNIST's size; the goals hold for MNIST only."""
        return (self.num_train, self.num_test) == (60_000, 10_000)


@dataclass(frozen=True)
class Bench:
    """images: to train on; scale: how much to measure; folder: for all files that are written; against: another
    checkout of mnistlab, for the section `commands`."""

    images: ImageFile
    scale: Scale
    folder: Path
    against: Path | None = None

    def limit(self, num_images: int | None) -> int:
        """This many training images, or all of them if there are fewer or it is None."""
        return min(num_images or self.images.num_train, self.images.num_train)


@dataclass
class Section:
    """One table. figures: the numbers that the goals limit; samples: every measured second, for results.json;
    seconds: how long the section took; pictures: file name -> PNG, written beside results.md."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    seconds: float = math.nan
    pictures: dict[str, bytes] = field(default_factory=dict)


def environment(**extra: str) -> dict[str, str]:
    """A child's environment: `benchmarks` importable, quiet libraries, no telemetry, the default tracking store."""
    kept = {key: value for key, value in os.environ.items() if key not in REMOVED_VARIABLES}
    path = os.pathsep.join(filter(None, [str(PROJECT), kept.get("PYTHONPATH", "")]))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true", "MPLBACKEND": "agg"}
    return kept | quiet | {"PYTHONPATH": path} | extra


def run_python(
    bench: Bench, *arguments: str, interpreter: str = sys.executable, status: int = 0, **variables: str
) -> float:
    """Run `python ARGUMENTS` and return its seconds from start to exit.

    Args:
        status: the expected exit status; variables: additional environment variables.

    Raises:
        RuntimeError: another exit status; with the end of its stderr.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [interpreter, *arguments],
        cwd=bench.folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(arguments[:3])} failed: {' '.join(done.stderr.split())[-500:]}")
    return seconds


def source_overrides(bench: Bench) -> list[str]:
    """The overrides that give mnistlab the same images, split as the notebook splits them."""
    return [f"source.path='{bench.images.path}'", "data=notebook"]


def median(values: Sequence[float]) -> float:
    """The median; NaN of an empty sequence."""
    return statistics.median(values) if values else math.nan


def format_seconds(seconds: float) -> str:
    """Seconds for a table: two decimals below 10, one below 100."""
    if math.isnan(seconds):
        return "-"
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"


def format_ratio(ratio: float) -> str:
    """A ratio for a table."""
    return "-" if math.isnan(ratio) else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def format_range(values: Sequence[float]) -> str:
    """The lowest and the highest number of seconds."""
    return f"{format_seconds(min(values))}-{format_seconds(max(values))}" if values else "-"
