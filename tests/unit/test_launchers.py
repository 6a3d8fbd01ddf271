"""Which launcher a sweep gets, with how many workers; what a worker may use."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import PROJECT, environment

from mnistlab.config import conf_folder
from mnistlab.config.compose import Command
from mnistlab.runtime import resources
from mnistlab.sweep import clusters, launchers
from mnistlab.sweep.results import job_key
from mnistlab.sweep.worker import share_of


@pytest.mark.parametrize(
    ("workers", "available", "expected"),
    [
        (2, [0, 1], [{0}, {1}]),
        (2, [0, 1, 2, 3, 4], [{0, 2, 4}, {1, 3}]),
        (3, [4, 7], [{4}, {7}, {4}]),
        (1, [0, 1], [{0, 1}]),
    ],
)
def test_the_workers_share_the_processors(workers: int, available: list[int], expected: list[set[int]]) -> None:
    assert [share_of(place, workers, available) for place in range(workers)] == expected


@pytest.mark.parametrize("name", sorted(file.stem for file in (conf_folder() / "launch").rglob("*.yaml")))
def test_a_launcher_s_own_overrides_do_not_change_a_job_s_key(name: str) -> None:
    """Otherwise the sweep would not find what its jobs have left."""
    command = Command(True, [], ["seed"], [], words=(f"launch={name}", "seed=1"))
    added = launchers._overrides("joblib" if name == "auto" else name, 2, command)
    assert added
    chosen = ("hydra/launcher=joblib", "hydra.launcher.batch_size=1") if name == "auto" else ()
    assert job_key([*command.words, *chosen, *added]) == job_key(["seed=1"])


def test_memory_and_processors_of_this_machine() -> None:
    assert len(resources.processors()) >= 1
    free = resources.available_gigabytes()
    assert free is None or 0 < free < 100_000


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1073741824\n")
    (tmp_path / "memory.current").write_text("536870912\n")
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    assert resources.available_gigabytes() == 0.5
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.available_gigabytes() != 0.5


WITHOUT_JOBLIB = """
    import sys
    from importlib.abc import MetaPathFinder

    class Missing(MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.startswith("hydra_plugins.hydra_joblib_launcher"):
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Missing())
    import pkgutil
    walk = pkgutil.walk_packages
    pkgutil.walk_packages = lambda *a, **k: (one for one in walk(*a, **k) if "joblib" not in one.name)
    iterate = pkgutil.iter_modules
    pkgutil.iter_modules = lambda *a, **k: (one for one in iterate(*a, **k) if "joblib" not in one.name)
    sys.argv = ["mnistlab.train", *sys.argv[1:]]
    from mnistlab.train import main
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch", "code", "message"),
    [
        ("joblib", 2, "joblib is not installed: pip install 'mnistlab[joblib]'. Received: launch=joblib."),
        ("auto", 0, "The jobs run in this process: pip install 'mnistlab[joblib]' to run several at a time."),
    ],
)
def test_a_missing_extra_is_named(launch: str, code: int, message: str, tmp_path: Path) -> None:
    words = ["--multirun", "source=mnist_5k", "optimizer=sgd,adam", f"launch={launch}", "sweep.dry_run=true"]
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT_JOBLIB), *words, f"paths.root={tmp_path}"]
    variables = {**environment(tmp_path), "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stdout + done.stderr


def test_the_extra_is_installed_here() -> None:
    assert clusters.is_installed("joblib")
