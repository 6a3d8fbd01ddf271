"""Where a run's wall time goes: the first run in a folder, a later one, and one more job of a sweep."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.commands import new_folder
from benchmarks.common import Bench, Section, median, python, shown, source_words
from benchmarks.stages import REST, STARTED

ORDER = {
    "Python": "the start of Python",
    "imports": "imports",
    "command line": "command line composed and checked",
    "database": "the tracking store checked, the run opened",
    "data": "data: read, split, hashed, placed",
    "model": "model and callbacks built",
    "compile": "compile",
    "train": "train, with validation",
    "evaluate": "evaluate on the test set",
    "record": "record: settings, metrics, tags, reports in the folder",
    "save": "save the model",
    "second": "waiting for the second process (MLflow, reports, figures)",
    REST: "the rest: Hydra, seeds, the summary",
    "end": "the end of Python: libraries unloaded",
}
NOT_OVERHEAD = ("compile", "train")
SEEDS = 5


def stages(bench: Bench) -> Section:
    """A table of seconds by stage, and what a job costs beyond compiling and training."""
    root = new_folder(bench, "stages")
    first, later = ([*measured(bench, root).values()] for _ in range(2))
    jobs = measured(bench, root, "--multirun", f"seed=range(1,{SEEDS + 1})")
    further = [jobs[key] for key in list(jobs)[1:]]
    columns = [first[0], later[0], {name: median([job.get(name, 0.0) for job in further]) for name in ORDER}]
    rows = [[label, *(shown(column.get(name, 0.0)) for column in columns)] for name, label in ORDER.items()]
    rows.append(["**all**", *(f"**{shown(sum(column.values()))}**" for column in columns)])
    costs = [sum(job.values()) - sum(job.get(name, 0.0) for name in NOT_OVERHEAD) for job in further]
    rows.append(["beyond compiling and training", *(shown(overhead(column)) for column in columns[:2])])
    rows[-1].append(f"**{shown(median(costs))}**")
    return Section(
        "Where a run's wall time goes, in seconds (the default run with data=notebook)",
        ["", "first run in a new folder", "a later run", "one more job of a sweep"],
        rows,
        [
            "Timers around the functions that a run calls, put there from outside; each stage without the stages "
            "inside it, imports wherever they happen. The first evaluation in a process compiles too, inside train. "
            f"One more job: medians of jobs 2 to {SEEDS} of a sweep over seeds in one process, from the end of the "
            "job before to its own."
        ],
        {"job.seconds_beyond_training": median(costs), "run.later_beyond_training": overhead(columns[1])},
        {"first": first, "later": later, "jobs": list(jobs.values()), "job_costs_seconds": costs},
    )


def overhead(column: dict[str, float]) -> float:
    """Seconds of all stages but compiling and training."""
    return sum(seconds for name, seconds in column.items() if name not in NOT_OVERHEAD)


def measured(bench: Bench, root: Path, *words: str) -> dict[int, dict[str, float]]:
    """Stages' seconds of each job of a command; a single job has all from the start of Python to its exit."""
    out = bench.folder / "stages.json"
    own = ["-m", "benchmarks.stages", str(out), *words, *source_words(bench), f"paths.root={root}"]
    whole = python(bench, *own, **{STARTED: str(time.time())})
    told: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    jobs = [Counter(job) for job in told["jobs"]]
    jobs[-1].update(told["after"] if len(jobs) == 1 else {})
    if len(jobs) == 1:
        jobs[0]["end"] = max(0.0, whole - sum(jobs[0].values()))
    return {number: dict(job) for number, job in enumerate(jobs, start=1)}
