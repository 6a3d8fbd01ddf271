"""The benchmarks' arithmetic and formats, and that they time functions that exist. The measurements take minutes."""

from __future__ import annotations

import ast
import importlib
import json
import math
import operator
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mnistlab
from mnistlab.runtime import startup

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = Path(mnistlab.__file__).parents[1]
sys.path.insert(0, str(PROJECT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import checkouts, epochs, machine, memory, report, stages, timed_command  # noqa: E402
from benchmarks.common import Bench, ImageFile, Section, format_ratio, format_seconds, median, run_python  # noqa: E402
from benchmarks.scale import DEFAULT, QUICK  # noqa: E402


def defined(module: str) -> set[str]:
    """Names of a module's functions, of its classes' methods, and of what it imports; without importing TensorFlow."""
    path = SOURCES.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize(("module", "name"), [entry[:2] for entry in timed_command.TIMED] + [timed_command.JOB])
def test_timed_functions_exist(module: str, name: str) -> None:
    if module.startswith("mnistlab."):
        assert name in defined(module)
    else:
        assert callable(operator.attrgetter(name)(importlib.import_module(module)))


def test_a_stage_is_charged_without_the_stages_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 10.0, 10.5, 10.75])
    monkeypatch.setattr(timed_command.time, "perf_counter", lambda: next(clock))
    timers = timed_command.Stages()
    with timers.stage("outer"), timers.stage("inner"):
        pass
    timers.end_job()
    assert timers.jobs == [{timed_command.REST: 1.25, "outer": 2.5, "inner": 7.0}]
    assert not timers.seconds


def test_a_report_is_charged_with_its_waiting_for_the_background_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 4.0, 4.5])
    monkeypatch.setattr(timed_command.time, "perf_counter", lambda: next(clock))
    timers = timed_command.Stages()
    with timers.stage("report"), timers.stage("background"):
        pass
    timers.charge()
    assert timers.seconds == {timed_command.REST: 1.5, "report": 3.0}


@pytest.mark.parametrize("deferred", [False, True])
def test_the_execution_of_a_module_is_charged(deferred: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"not_imported_before_{deferred}"
    (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(startup, "DEFERRED", {name} if deferred else set())
    monkeypatch.setattr(sys, "meta_path", [startup.DeferringFinder(), *sys.meta_path])
    for loader, method in timed_command.LOADERS:
        monkeypatch.setattr(loader, method, getattr(loader, method))
    timers = timed_command.Stages()
    timed_command.time_imports(timers)
    importlib.import_module("json")
    assert "imports" not in timers.seconds
    module = importlib.import_module(name)
    assert ("imports" in timers.seconds) is not deferred
    assert module.VALUE == 1
    assert timers.seconds["imports"] > 0


def test_seconds_on_fewer_images_are_extrapolated_and_the_first_round_is_ignored() -> None:
    one = epochs.Contender("notebook", 5_000)
    epochs.record_epoch(one, 0, (9.0, 9.0), 60_000)
    epochs.record_epoch(one, 1, (2.0, 3.0), 60_000)
    assert (one.training, one.with_validation) == ({1: 24.0}, {1: 36.0})
    jax = epochs.Contender("jax", 60_000)
    epochs.record_epoch(jax, 1, (0.5, None), 60_000)
    assert (jax.training, jax.with_validation) == ({1: 0.5}, {})


def test_a_ratio_is_the_median_over_common_rounds() -> None:
    assert epochs.ratio({1: 8.0, 3: 12.0, 5: 90.0}, {1: 2.0, 2: 1.0, 3: 2.0, 5: 3.0}) == 6.0
    assert math.isnan(epochs.ratio({1: 8.0}, {2: 1.0}))


@pytest.mark.parametrize(
    ("at_most", "value", "status"),
    [
        (True, 1.1, "met"),
        (True, 1.11, "NOT MET"),
        (False, 1.1, "met"),
        (False, 1.0, "NOT MET"),
        (True, None, "not measured"),
        (True, math.nan, "not measured"),
    ],
)
def test_the_status_of_a_goal(at_most: bool, value: float | None, status: str) -> None:
    assert report.Goal("", "", 1.1, at_most).status(value) == status


def bench_at(folder: Path, num_train: int = 60_000) -> Bench:
    description = f"MNIST: {num_train:,} training and 10,000 test images"
    return Bench(ImageFile(folder / "mnist.npz", num_train, 10_000, description), DEFAULT, folder)


def test_the_report_has_the_figures_and_no_path(tmp_path: Path) -> None:
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


def test_the_stages_of_a_sweep_are_a_table_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [{"imports": 2.0, "compile": 1.0, "train": 3.0}, *[{"compile": 0.5, "train": 1.5}] * 6, {"report": 1.0}]
    monkeypatch.setattr(stages, "stage_seconds", lambda bench, root, *overrides: jobs)
    section = stages.sweep_stages(bench_at(tmp_path))
    assert yaml.safe_load((PROJECT / "conf" / "sweep" / "optimizers.yaml").read_text())["hydra"]["sweeper"][
        "params"
    ] == {"optimizer": ",".join(section.header[1:8])}
    rows = {row[0]: row[1:] for row in section.rows}
    assert rows["imports"] == ["2.00", *[""] * 7, "2.00", "11%"]
    assert rows["compile"] == ["1.00", *["0.50"] * 6, "", "4.00", "21%"]
    assert rows["**all**"] == ["**6.00**", *["**2.00**"] * 6, "**1.00**", "**19.0**", ""]
    assert section.figures["sweep.beyond_training_share"] == pytest.approx(7 / 19)
    content = report.results(machine.facts(), bench_at(tmp_path), {"sweep_stages": section}, {}, 61.0)
    report.write(content, {"sweep_stages": section}, tmp_path / "out")
    assert "![Where the seconds" in (tmp_path / "out" / "results.md").read_text()
    assert (tmp_path / "out" / "sweep_stages.png").read_bytes().startswith(b"\x89PNG")
    (picture,) = section.pictures.values()
    assert picture != stages.draw_stages(section.header[1:9], jobs[::-1], ["imports", "compile", "train", "report"])


def test_memory_is_read_from_both_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import json, sys; json.dump([{'seconds': 1.0, 'megabytes': 500.0}] * 50, open(sys.argv[1], 'w'))"

    def start(bench: Bench, kind: str, root: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", program, str(root / "memory.json")])

    monkeypatch.setattr(memory, "start", start)
    section = memory.memory(bench_at(tmp_path))
    assert section.figures == {"memory.same_percent": 0.0, "memory.mix_percent": 0.0}
    assert section.rows[0] == ["the same job, other seeds", "500", "500", "500", "+0.0 %"]


def test_a_failed_process_is_reported_with_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(bench: Bench, kind: str, root: Path) -> subprocess.Popen:
        (root / "output.txt").write_text("no space left")
        return subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"])

    monkeypatch.setattr(memory, "start", start)
    with pytest.raises(RuntimeError, match="memory, same: no space left"):
        memory.measure_kinds(bench_at(tmp_path))


def test_goals_are_not_checked_on_other_images() -> None:
    sections = {"batch32": Section("", [], [], figures={"batch32.over_jax": 1.0})}
    assert {goal["status"] for goal in report.check_goals(sections, is_mnist=False)} == {"not checked"}
    assert {goal["status"] for goal in report.check_goals(sections, is_mnist=True)} == {"met", "not measured"}


def test_every_goal_is_measured() -> None:
    source = "".join(
        file.read_text(encoding="utf-8") for file in (PROJECT / "benchmarks").glob("*.py") if file.stem != "report"
    )
    for goal in report.GOALS:
        section, figure = goal.figure.split(".")
        assert figure in source or f'.{re.sub("same|mix|png|jpeg", "{kind}", figure)}"' in source.replace(
            "{workers}", figure[-1]
        ), goal.figure
        assert f"{section}." in source or f'"{section}"' in source


def test_numbers_of_a_table() -> None:
    assert [format_seconds(value) for value in (0.123, 12.34, 345.6, math.nan)] == ["0.12", "12.3", "346", "-"]
    assert [format_ratio(value) for value in (1.0, 80.42, math.nan)] == ["1.00x", "80.4x", "-"]
    assert math.isnan(median([]))


def test_the_command_line_imports_nothing_heavy() -> None:
    program = "import sys, benchmarks.__main__; print([name for name in ('tensorflow', 'jax') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_sections_that_are_measured_by_default_need_no_other_checkout() -> None:
    assert not {"commands", "many_runs"} & set(command.parse([]).only)
    assert command.parse(["--only", "many_runs"]).only == ["many_runs"]
    assert command.parse(["--only", "commands", "--against", "."]).only == ["commands"]
    for arguments in (["--only", "commands"], ["--only", "run", "--against", "."]):
        with pytest.raises(SystemExit, match="2"):
            command.parse(arguments)


def test_two_checkouts_are_compared_in_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(bench: Bench, *arguments: str, interpreter: str, status: int) -> float:
        calls.append((interpreter, "sweep=optimizers" in arguments, status))
        return 3.0 if interpreter == str(PROJECT) else 2.0

    monkeypatch.setattr(checkouts, "find_interpreter", str)
    monkeypatch.setattr(checkouts, "run_python", run)
    bench = Bench(bench_at(tmp_path).images, QUICK, tmp_path, against=Path("other"))
    section = checkouts.commands(bench)
    assert [row[-1] for row in section.rows] == ["1.500 (1.50-1.50)"] * 4
    assert [interpreter for interpreter, sweep, _ in calls if sweep] == [str(PROJECT), "other", "other", str(PROJECT)]
    assert [status for *_, status in calls].count(2) == 4
    assert len({row[0] for row in section.rows}) == 4


def test_a_checkout_needs_an_environment(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="has no .venv with mnistlab"):
        checkouts.find_interpreter(tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    with pytest.raises(RuntimeError, match="not from its checkout"):
        checkouts.find_interpreter(tmp_path)


def test_a_command_must_end_with_the_expected_status(tmp_path: Path) -> None:
    program = ("-c", "import sys; sys.exit('no such setting')")
    assert run_python(bench_at(tmp_path), *program, status=1) > 0
    with pytest.raises(RuntimeError, match="no such setting"):
        run_python(bench_at(tmp_path), *program)
