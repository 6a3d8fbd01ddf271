"""The benchmarks' own arithmetic, and that they time functions that exist. What they measure takes minutes."""

from __future__ import annotations

import ast
import builtins
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnistlab import config

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = Path(config.__file__).parent
sys.path.insert(0, str(PROJECT))

from benchmarks import epochs, machine, memory, report, stages  # noqa: E402
from benchmarks.common import Bench, ImageFile, Section, median, shown, times  # noqa: E402
from benchmarks.scale import DEFAULT  # noqa: E402


def defined(module: str) -> set[str]:
    """Names of a module's functions, of its classes' methods, and of what it imports."""
    tree = ast.parse((SOURCES / f"{module.rpartition('.')[2]}.py").read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize(("module", "name"), [entry[:2] for entry in stages.TIMED] + [stages.JOB])
def test_what_is_timed_exists(module: str, name: str) -> None:
    assert name in defined(module)


def test_a_stage_is_charged_without_the_stages_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 10.0, 10.5, 10.75])
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(clock))
    timers = stages.Stages()
    with timers.stage("outer"), timers.stage("inner"):
        pass
    timers.end_job()
    assert timers.jobs == [{stages.REST: 1.25, "outer": 2.5, "inner": 7.0}]
    assert not timers.seconds


def test_an_import_that_loads_something_is_charged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "not_loaded_before.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)
    timers = stages.Stages()
    stages.time_imports(timers)
    import json as known

    assert __import__("json", fromlist=["dumps"], level=0) is known
    assert "imports" not in timers.seconds
    from not_loaded_before import VALUE

    assert timers.seconds["imports"] > 0
    assert VALUE == 1
    assert known is json


def test_seconds_on_fewer_images_are_extrapolated_and_the_first_round_is_forgotten() -> None:
    one = epochs.Contender("notebook", 5_000)
    epochs.keep(one, 0, (9.0, 9.0), 60_000)
    epochs.keep(one, 1, (2.0, 3.0), 60_000)
    assert (one.training, one.whole) == ({1: 24.0}, {1: 36.0})
    without = epochs.Contender("jax", 60_000)
    epochs.keep(without, 1, (0.5, None), 60_000)
    assert (without.training, without.whole) == ({1: 0.5}, {})


def test_a_ratio_is_the_median_over_common_rounds() -> None:
    assert epochs.ratio({1: 8.0, 3: 12.0, 5: 90.0}, {1: 2.0, 2: 1.0, 3: 2.0, 5: 3.0}) == 6.0
    assert math.isnan(epochs.ratio({1: 8.0}, {2: 1.0}))


@pytest.mark.parametrize(
    ("at_most", "value", "verdict"),
    [
        (True, 1.1, "met"),
        (True, 1.11, "NOT MET"),
        (False, 1.1, "met"),
        (False, 1.0, "NOT MET"),
        (True, None, "not measured"),
        (True, math.nan, "not measured"),
    ],
)
def test_verdicts(at_most: bool, value: float | None, verdict: str) -> None:
    assert report.Goal("", "", 1.1, at_most).verdict(value) == verdict


def bench_at(folder: Path, num_train: int = 60_000) -> Bench:
    said = f"MNIST: {num_train:,} training and 10,000 test images"
    return Bench(ImageFile(folder / "mnist.npz", num_train, 10_000, said), DEFAULT, folder)


def test_the_report_tells_the_figures_and_no_path(tmp_path: Path) -> None:
    figures = {"batch32.faster_than_notebook": 12.345, "batch32.over_jax": 1.2}
    sections = {"batch32": Section("Epochs", ["", "s"], [["it", "1"]], ["A note."], figures, {"it": [1.0, math.nan]})}
    content = report.results(machine.facts(), bench_at(tmp_path), sections, {"run": "RuntimeError: no"}, 61.0)
    report.write(content, sections, tmp_path / "out")
    text = (tmp_path / "out" / "results.md").read_text()
    read = json.loads((tmp_path / "out" / "results.json").read_text())
    assert str(tmp_path) not in text + json.dumps(read)
    assert str(PROJECT) not in text + json.dumps(read)
    assert "| epoch at batch 32: faster than the notebook's `fit` | >= 9x | 12.3x | met |" in text
    assert "| epoch at batch 32: time / JAX scan | <= 1.1x | 1.2x | NOT MET |" in text
    assert "run could not be measured" in text
    assert "A note." in text
    assert read["sections"]["batch32"]["samples"] == {"it": [1.0, None]}


def test_memory_is_read_from_both_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import json, sys; json.dump([{'seconds': 1.0, 'megabytes': 500.0}] * 50, open(sys.argv[1], 'w'))"

    def start(bench: Bench, kind: str, root: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", program, str(root / "memory.json")])

    monkeypatch.setattr(memory, "start", start)
    section = memory.memory(bench_at(tmp_path))
    assert section.figures == {"memory.same_percent": 0.0, "memory.mix_percent": 0.0}
    assert section.rows[0] == ["the same job, other seeds", "500", "500", "500", "+0.0 %"]


def test_a_failed_process_is_told_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(bench: Bench, kind: str, root: Path) -> subprocess.Popen:
        (root / "said.txt").write_text("no room left")
        return subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"])

    monkeypatch.setattr(memory, "start", start)
    with pytest.raises(RuntimeError, match="memory, same: no room left"):
        memory.side_by_side(bench_at(tmp_path))


def test_goals_are_not_judged_on_other_images() -> None:
    sections = {"batch32": Section("", [], [], figures={"batch32.over_jax": 1.0})}
    assert {goal["verdict"] for goal in report.judged(sections, is_mnist=False)} == {"not judged"}
    assert {goal["verdict"] for goal in report.judged(sections, is_mnist=True)} == {"met", "not measured"}


def test_every_goal_is_measured_somewhere() -> None:
    told = "".join(file.read_text() for file in (PROJECT / "benchmarks").glob("*.py") if file.stem != "report")
    for goal in report.GOALS:
        section, figure = goal.figure.split(".")
        assert figure in told or f'.{re.sub("same|mix|png|jpeg", "{kind}", figure)}"' in told.replace(
            "{workers}", figure[-1]
        ), goal.figure
        assert f"{section}." in told or f'"{section}"' in told


def test_numbers_of_a_table() -> None:
    assert [shown(value) for value in (0.123, 12.34, 345.6, math.nan)] == ["0.12", "12.3", "346", "-"]
    assert [times(value) for value in (1.0, 80.42, math.nan)] == ["1.00x", "80.4x", "-"]
    assert math.isnan(median([]))


def test_the_command_line_loads_nothing_heavy() -> None:
    program = "import sys, benchmarks.__main__; print([name for name in ('tensorflow', 'jax') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
