"""Sweeps whose jobs run in one process or side by side: what starting a job costs, and what a sweep gains."""

from __future__ import annotations

import importlib.util

from benchmarks.commands import TRAIN, new_folder
from benchmarks.common import Bench, Section, format_seconds, median, run_python, source_overrides

LAUNCHERS = {"one process": (), "launch=joblib": ("launch=joblib",), "launch=auto": ("launch=auto",)}
OTHERS = {"launch=ray": "ray", "launch=submitit_local": "submitit"}  # as far as they are installed
FEW, MANY = 2, 8  # jobs
# Fractions of a second each: what is left is what a job costs besides its training.
SHORT = ("--multirun", "optimizer=momentum", "data.limit=1000", "fit.epochs=1", "save.formats=[]")
LONG = ("sweep=optimizers", "sweep.seeds=2", "fit.epochs=10")


def launchers(bench: Bench) -> Section:
    """A table of seconds for each launcher."""
    rounds = range(bench.scale.sweep_rounds)
    installed = {name: (name,) for name, module in OTHERS.items() if importlib.util.find_spec(module)}
    measured = {**LAUNCHERS, **installed}
    few, many, long = ({name: [] for name in measured} for _ in range(3))
    for _ in rounds:
        for name, words in measured.items():
            few[name].append(seconds(bench, *SHORT, f"seed=range({FEW})", *words))
            many[name].append(seconds(bench, *SHORT, f"seed=range({MANY})", *words))
            long[name].append(seconds(bench, *LONG, *words))
    rows = []
    for name in measured:
        per_job = (median(many[name]) - median(few[name])) / (MANY - FEW)
        ratio = median(long["one process"]) / median(long[name])
        start = median(few[name]) - FEW * per_job
        rows.append([name, *map(format_seconds, (start, per_job, median(long[name]))), f"{ratio:.2f}"])
    return Section(
        "Launchers",
        ["", "start and end", "one more short job", "seven strategies x 2 seeds, 10 epochs", "times as fast"],
        rows,
        [
            f"Seconds, medians of {len(rounds)} rounds in turn, each sweep in a new folder. A short job has 1,000 "
            f"images and one epoch; its seconds are the difference between sweeps of {FEW} and of {MANY} jobs."
        ],
        {"launch.joblib_faster": median(long["one process"]) / median(long["launch=joblib"])},
        {"few": few, "many": many, "long": long},
    )


def seconds(bench: Bench, *words: str) -> float:
    """Seconds of a sweep in a new folder."""
    root = new_folder(bench, "launch")
    return run_python(bench, *TRAIN, *words, *source_overrides(bench), f"paths.root={root}")
