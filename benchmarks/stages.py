"""Where a run's wall time goes: the first run in a folder, a later one, and one more job of a sweep."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.commands import new_folder
from benchmarks.common import Bench, Section, format_seconds, median, run_python, source_overrides
from benchmarks.timed_command import REST, STARTED

LABELS = {
    "Python": "the start of Python",
    "imports": "imports",
    "command line": "command line composed and checked",
    "database": "the tracking store checked, the run opened",
    "data": "data: read, split, hashed, placed on the device",
    "model": "model and callbacks built",
    "compile": "compile",
    "train": "train, with validation",
    "evaluate": "evaluate on the test set",
    "record": "record: settings, metrics, tags, reports in the folder",
    "save": "save the model",
    "background": "waiting for the background process (MLflow, reports, figures)",
    REST: "the rest: Hydra, seeds, the summary",
    "end": "the end of Python: libraries unloaded",
}
NOT_OVERHEAD = ("compile", "train")
NUM_SEEDS = 5


def stages(bench: Bench) -> Section:
    """A table of seconds by stage, and the seconds of a job beyond compiling and training."""
    root = new_folder(bench, "stages")
    first, later = (stage_seconds(bench, root)[0] for _ in range(2))
    jobs = stage_seconds(bench, root, "--multirun", f"seed=range(1,{NUM_SEEDS + 1})")
    columns = [first, later, {name: median([job.get(name, 0.0) for job in jobs[1:]]) for name in LABELS}]
    rows = [[label, *(format_seconds(column.get(name, 0.0)) for column in columns)] for name, label in LABELS.items()]
    rows.append(["**all**", *(f"**{format_seconds(sum(column.values()))}**" for column in columns)])
    overheads = [overhead(job) for job in jobs[1:]]
    rows.append(["beyond compiling and training", *(format_seconds(overhead(column)) for column in columns[:2])])
    rows[-1].append(f"**{format_seconds(median(overheads))}**")
    return Section(
        "Where a run's wall time goes, in seconds (the default run with data=notebook)",
        ["", "first run in a new folder", "a later run", "one more job of a sweep"],
        rows,
        [
            "Timers around the functions that a run calls, added from outside; each stage without the stages "
            "inside it, imports wherever they happen. The first evaluation in a process compiles too, inside train. "
            f"One more job: medians of jobs 2 to {NUM_SEEDS} of a sweep over seeds in one process, each from the end "
            "of the previous job to its end."
        ],
        {"job.seconds_beyond_training": median(overheads), "run.later_beyond_training": overhead(columns[1])},
        {"first": [first], "later": [later], "jobs": jobs, "job_overhead_seconds": overheads},
    )


def overhead(column: dict[str, float]) -> float:
    """Seconds of all stages except compiling and training."""
    return sum(seconds for name, seconds in column.items() if name not in NOT_OVERHEAD)


def stage_seconds(bench: Bench, root: Path, *overrides: str) -> list[dict[str, float]]:
    """Seconds by stage of each job of a command; a single job includes the start and the exit of Python."""
    out = bench.folder / "stages.json"
    arguments = ["-m", "benchmarks.timed_command", str(out), *overrides, *source_overrides(bench), f"paths.root={root}"]
    total = run_python(bench, *arguments, **{STARTED: str(time.time())})
    timed: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    jobs = [Counter(job) for job in timed["jobs"]]
    if len(jobs) == 1:
        jobs[0].update(timed["after"])
        jobs[0]["end"] = max(0.0, total - sum(jobs[0].values()))
    return [dict(job) for job in jobs]
