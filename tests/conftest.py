"""What all tests share: quiet libraries, no network, small data, the real commands as subprocesses."""

from __future__ import annotations

import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from xdist.scheduler import LoadScopeScheduling

from mnistlab.config import hydra_internals

PROJECT = Path(__file__).resolve().parents[1]
CONF = PROJECT / "conf"

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
for stray in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "MNISTLAB_ROOT"):
    os.environ.pop(stray, None)


TIMEOUT = 300  # seconds: a hundred times what is usual, for a machine that is busy


@pytest.hookimpl(tryfirst=True)  # before the marks select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the later cases of tests with `long_after`."""
    seen: Counter[tuple[Path, str]] = Counter()
    for item in items:
        if marker := item.get_closest_marker("long_after"):
            key = (item.path, item.originalname)
            seen[key] += 1
            if seen[key] > marker.args[0]:
                item.add_marker("long")


class FilesThatShare(LoadScopeScheduling):
    """Gives each test to the worker that is free; all tests of a file whose fixtures are made once for the file go to
    one worker. (xdist 3.8's own `loadgroup` has no effect with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares_fixtures(file) else nodeid


@functools.cache
def _shares_fixtures(file: str) -> bool:
    return 'scope="module"' in (PROJECT / file).read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesThatShare:
    """The order in which workers get tests."""
    return FilesThatShare(config, log)


COMPOSED = hydra_internals.Composed()


@pytest.fixture(autouse=True)
def composing_quickly(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files of settings are read once for all tests of a process, as a command does for all its jobs: a sixth of the
    time of each configuration. Not in tests that are marked `hydra_itself`."""
    if request.node.get_closest_marker("hydra_itself"):
        yield
        return
    with hydra_internals.composing_files_once(COMPOSED):
        yield


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """The levels of the log as they were: a command that runs in this process sets them."""
    loggers = [logging.getLogger(name) for name in (None, "mnistlab")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Everything lands under the folder; nothing is downloaded; a crash prints where it happened."""
    blocked = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    local = {"NO_PROXY": "127.0.0.1,localhost", "KERAS_HOME": str(folder / "keras"), "MNISTLAB_ROOT": str(folder)}
    return {**os.environ, **blocked, **local, "PYTHONFAULTHANDLER": "1", **more}


def restore_interrupt() -> None:
    """In a child: let Ctrl-C interrupt it, also when the tests run under nohup, which has children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_command(
    folder: Path, *words: str, module: str = "mnistlab.train", timeout: float = TIMEOUT, **more: str
) -> Finished:
    """Run `python -m mnistlab.train` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::UserWarning:tensorflow", "-m", module, *words],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=timeout,
        preexec_fn=restore_interrupt,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


class Started:
    """A command that is running: watched line by line, stopped or killed."""

    def __init__(self, folder: Path, *words: str, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "mnistlab.train", *words],
            cwd=folder,
            env=environment(folder, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=restore_interrupt,
        )
        self.pid = self.process.pid
        self.output = ""

    def wait_for_line(self, start: str) -> None:
        assert self.process.stdout is not None
        limit = threading.Timer(TIMEOUT, self.process.kill)
        limit.start()
        try:
            for line in self.process.stdout:
                self.output += line
                if line.startswith(start):
                    return
        finally:
            limit.cancel()
        raise AssertionError(f"ended without a line {start!r}:\n{self.output}")

    def background_process(self) -> int:
        """The process id of the command's background process."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        (found,) = (child for child in children if b"'background'" in Path(f"/proc/{child}/cmdline").read_bytes())
        return int(found)

    def kill_with_background(self) -> None:
        """Kill the command and its background process with SIGKILL: nobody closes the run."""
        os.kill(self.background_process(), signal.SIGKILL)
        self.process.kill()
        self.finish()

    def finish(self) -> int:
        """Wait for the end; returns the exit status, negative for a signal."""
        self.output += self.process.communicate(timeout=TIMEOUT)[0]
        return self.process.returncode


def wait_until(condition: Callable[[], Any]) -> Any:
    """Poll until the condition holds; returns its value."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)
    return value


class Store:
    """The tracking store of a folder."""

    def __init__(self, folder: Path) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
        self.experiment = self.client.get_experiment_by_name("mnistlab")  # None before the first run

    def runs(self, kind: str | None = None) -> list:
        """All runs, or the sweeps' parents ('parent') or jobs ('job')."""
        condition = f"tags.`sweep.kind` = '{kind}'" if kind else ""
        if self.experiment is None:
            return []
        return self.client.search_runs([self.experiment.experiment_id], condition, max_results=1000)

    def statuses(self, kind: str | None = None) -> list[str]:
        return sorted(run.info.status for run in self.runs(kind))


@pytest.fixture
def train(tmp_path: Path):
    """Run `python -m mnistlab.train`, or another module, in `tmp_path`."""
    return functools.partial(run_command, tmp_path)


@pytest.fixture
def commands_here(monkeypatch, capfd):
    """Run commands in this process, which may have loaded TensorFlow already: `commands_here(root)(*words)`."""
    from stand_in import Trainer

    def commands(root: Path) -> Trainer:
        for name, value in environment(root).items():
            monkeypatch.setenv(name, value)
        trainer = Trainer(root, monkeypatch, capfd)
        trainer.train_for_real()
        return trainer

    return commands


@pytest.fixture
def train_here(commands_here, tmp_path: Path):
    """As `train`, in this process."""
    return commands_here(tmp_path)


@pytest.fixture
def start(tmp_path: Path):
    """Start `python -m mnistlab.train` in `tmp_path`; what still runs at the end of the test is killed."""
    started: list[Started] = []

    def begin(*words: str, **more: str) -> Started:
        started.append(Started(tmp_path, *words, **more))
        return started[-1]

    yield begin
    for command in started:
        command.process.kill()
        command.process.communicate()


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


@pytest.fixture
def each_call_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each fingerprint were another command's: a process keeps what it has read first of the user's modules."""
    from mnistlab.tracking import user_code

    class Forgetful(dict):
        def __contains__(self, key: object) -> bool:
            return False

    monkeypatch.setattr(user_code, "_sources", Forgetful())
