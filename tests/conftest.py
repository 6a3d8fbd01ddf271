"""What all tests share: quiet libraries, no network, small data, the real commands as subprocesses."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
CONF = PROJECT / "conf"

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for stray in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "MNISTLAB_ROOT"):
    os.environ.pop(stray, None)


@dataclass
class Finished:
    code: int
    out: str
    err: str


@pytest.fixture
def train(tmp_path: Path):
    """Run `python -m mnistlab.train` in a process of its own; everything lands under `tmp_path`, nothing downloads."""

    def run(*words: str, timeout: float = 180, module: str = "mnistlab.train", **environment: str) -> Finished:
        blocked = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
        done = subprocess.run(
            [sys.executable, "-W", "ignore::UserWarning:tensorflow", "-m", module, *words],
            cwd=tmp_path,
            env={
                **os.environ,
                **blocked,
                "NO_PROXY": "127.0.0.1,localhost",
                "KERAS_HOME": str(tmp_path / "keras"),
                "MNISTLAB_ROOT": str(tmp_path),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start(tmp_path: Path):
    """Begin `python -m mnistlab.train` as `train` runs it, to be watched line by line, stopped or killed."""

    def begin(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "mnistlab.train", *words],
            cwd=tmp_path,
            env={**os.environ, "MNISTLAB_ROOT": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


@pytest.fixture
def make_npz(tmp_path: Path):
    """Write an .npz with learnable images: class k is brighter than class k - 1. Returns its path."""

    def make(
        name: str = "own.npz",
        *,
        num_classes: int = 3,
        shape: tuple[int, ...] = (6, 5),
        per_class: int = 20,
        seed: int = 0,
        **replaced: np.ndarray | None,
    ) -> Path:
        generator = np.random.default_rng(seed)
        arrays: dict[str, np.ndarray | None] = {}
        for part in ("train", "test"):
            labels = np.repeat(np.arange(num_classes), per_class)
            noise = generator.integers(0, 200 // num_classes, (len(labels), *shape))
            brightness = (labels * 200 // num_classes).reshape(-1, *[1] * len(shape))
            arrays[f"x_{part}"] = (noise + brightness).astype(np.uint8)
            arrays[f"y_{part}"] = labels
        arrays |= replaced
        file = tmp_path / name
        np.savez_compressed(file, **{key: value for key, value in arrays.items() if value is not None})
        return file

    return make


@pytest.fixture
def make_folder(tmp_path: Path):
    """Write PNG files of noise by class, NAME/class_0/00.png; returns the folder."""

    def make(name: str = "own", *, num_classes: int = 2, shape: tuple[int, ...] = (6, 5), per_class: int = 30) -> Path:
        generator = np.random.default_rng(0)
        for label in range(num_classes):
            folder = tmp_path / name / f"class_{label}"
            folder.mkdir(parents=True)
            for index in range(per_class):
                pixels = generator.integers(0, 100, shape) + label * 150 // num_classes
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.png")
        return tmp_path / name

    return make
