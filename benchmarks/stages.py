"""Where wall time goes: in the first run in a folder, a later one, one more job of a sweep, and in a whole sweep."""

from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.commands import new_folder
from benchmarks.common import Bench, Section, format_seconds, median, run_python, source_overrides
from benchmarks.timed_command import REST, STARTED

LABELS = {
    "Python": "the start of Python",
    "imports": "imports",
    "command line": "command line checked",
    "compose": "settings composed from files (Hydra)",
    "plan": "a sweep's plan: each option built once, finished runs looked up",
    "database": "the tracking store checked, the run opened",
    "data": "data: read, split, hashed, placed on the device",
    "model": "model and callbacks built",
    "compile": "compile",
    "train": "train, with validation",
    "evaluate": "evaluate on the test set",
    "record": "record: settings, metrics, tags, reports in the folder",
    "save": "save the model",
    "background": "waiting for the background process (MLflow, reports, figures)",
    "report": "a sweep's comparison and report",
    REST: "the rest: Hydra's folders and logs, seeds, the summary",
    "end": "the end of Python: libraries unloaded",
}
NOT_OVERHEAD = ("compile", "train")
NUM_SEEDS = 5
STRATEGIES = ("batch_gd", "sgd", "minibatch_gd", "momentum", "adagrad", "rmsprop", "adam")  # of sweep=optimizers
AFTER = "after the jobs"
SHOWN_SECONDS = 0.005


def stages(bench: Bench) -> Section:
    """A table of seconds by stage, and the seconds of a job beyond compiling and training."""
    root = new_folder(bench, "stages")
    first, later = (stage_seconds(bench, root)[0] for _ in range(2))
    jobs = stage_seconds(bench, root, "--multirun", f"seed=range(1,{NUM_SEEDS + 1})")[:-1]
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


def sweep_stages(bench: Bench) -> Section:
    """Where the seconds of the sweep of the seven strategies go, job by job; with a picture."""
    columns = stage_seconds(bench, new_folder(bench, "sweep-stages"), "sweep=optimizers")
    names = [*STRATEGIES, AFTER]
    total = sum(sum(column.values()) for column in columns)
    used = [name for name in LABELS if any(column.get(name, 0.0) >= SHOWN_SECONDS for column in columns)]
    rows = []
    for name in used:
        seconds = [column.get(name, 0.0) for column in columns]
        cells = [format_seconds(value) if value >= SHOWN_SECONDS else "" for value in seconds]
        rows.append([LABELS[name], *cells, format_seconds(sum(seconds)), f"{sum(seconds) / total:.0%}"])
    sums = [sum(column.values()) for column in columns]
    rows.append(["**all**", *(f"**{format_seconds(value)}**" for value in (*sums, total)), ""])
    return Section(
        "Where the seconds of the sweep of the seven strategies go",
        ["", *names, "all", "share"],
        rows,
        [
            "`python -m mnistlab.train sweep=optimizers data=notebook` in a new folder, each job from the end of the "
            "previous one to its end; the first has the start of the command, too. Timers as above; what the "
            "background process does meanwhile is not counted, only the waiting for it."
        ],
        {"sweep.beyond_training_share": 1 - sum(column.get("train", 0.0) for column in columns) / total},
        {"columns": dict(zip(names, columns, strict=True))},
        pictures={"sweep_stages.png": draw_stages(names, columns, used)},
    )


def draw_stages(names: Sequence[str], columns: Sequence[Mapping[str, float]], stages: Sequence[str]) -> bytes:
    """A bar for each column, of its seconds by stage one after the other; as PNG."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.35 * len(names) + 0.2 * len(stages)), layout="constrained")
    axes = figure.subplots()
    starts = [0.0] * len(names)
    for number, stage in enumerate(stages):
        seconds = [column.get(stage, 0.0) for column in columns]
        colour = colormaps["tab20"](number % 20)
        axes.barh(range(len(names)), seconds, left=starts, color=colour, label=LABELS[stage])
        starts = [start + value for start, value in zip(starts, seconds, strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="seconds", title="Where the seconds of a sweep go")
    figure.legend(loc="outside lower left", fontsize=8, frameon=False, ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def stage_seconds(bench: Bench, root: Path, *overrides: str) -> list[dict[str, float]]:
    """Seconds by stage of each job of a command, then of what follows the last. A single job, which is the only one in
    the list, includes the start and the exit of Python; otherwise the first has the start and the end the exit."""
    out = bench.folder / "stages.json"
    arguments = ["-m", "benchmarks.timed_command", str(out), *overrides, *source_overrides(bench), f"paths.root={root}"]
    total = run_python(bench, *arguments, **{STARTED: str(time.time())})
    timed: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    jobs = [Counter(job) for job in timed["jobs"]]
    if len(jobs) == 1:
        jobs[0].update(timed["after"])
    else:
        jobs.append(Counter(timed["after"]))
    jobs[-1]["end"] = max(0.0, total - sum(sum(job.values()) for job in jobs))
    return [dict(job) for job in jobs]
