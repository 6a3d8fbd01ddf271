"""What the jobs of a sweep asked for and what came of them: `sweep.json`, which report and `mnistlab.compare` read.

A job is labelled by the values that this sweep gave it, never by what the run that serves it recorded: one stored run
may serve jobs of several sweeps, and several jobs of one sweep.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mnistlab.config.objectives import current_name
from mnistlab.runtime import files
from mnistlab.sweep.rates import TunedOption, Tuning
from mnistlab.sweep.searched import Searched, SearchTrial
from mnistlab.tracking import pages

FILE_NAME = "sweep.json"
# Overrides that say how a sweep runs, not what a job computes.
HOW_IT_RUNS = ("sweep.", "hydra.", "hydra/", "launch.", "launch=")
FILE_NAMES = (FILE_NAME, "jobs.csv")


@dataclass(frozen=True)
class JobResult:
    """One job and its run.

    values: swept setting -> value; settings: all settings by their dotted names, or none if only the run knows them;
    run: the id of its run, or the folder of a run without a tracking store, "" if there is none; source: 'trained',
    'reused' (an earlier run), or 'same as NAME' (another job of the sweep); status: of the run; error: why there is no
    finished run, or that it diverged; retries: how often it was started again because its process was killed.
    """

    name: str
    key: str
    values: dict[str, Any]
    settings: dict[str, Any]
    run: str = ""
    source: str = "trained"
    status: str = "FINISHED"
    error: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class SweepResults:
    """A sweep's jobs, and the question that it asked of them.

    direction: 'higher', 'lower', or 'auto', by the objective's name; targets: None: the comparison's own; question:
    as `sweep.question`; looks: of a sweep until a verdict, the seeds of its first round and those that it may have;
    ended: why such a sweep ended before its question was answered, if the comparison cannot know it; tuning: of a
    tuned sweep; searched: of a search.
    """

    sweep: str
    axes: list[str]
    objective: str
    direction: str
    targets: list[float] | None
    jobs: list[JobResult]
    question: str = "best"
    looks: tuple[int, int] | None = None
    ended: str = ""
    tuning: Tuning | None = None
    searched: Searched | None = None

    @property
    def failures(self) -> dict[str, str]:
        """Job name -> one-line cause, of the jobs without a finished run and of those that diverged."""
        return {job.name: job.error for job in self.jobs if job.error}

    @property
    def unfinished(self) -> dict[str, str]:
        """As `failures`, without the jobs that diverged."""
        return {job.name: job.error for job in self.jobs if job.error and job.status != "FINISHED"}


def job_key(overrides: Sequence[str]) -> str:
    """What identifies a job within its sweep: a hash of its overrides, in any order, without those that say how the
    sweep runs."""
    kept = sorted(entry for entry in overrides if not entry.lstrip("+").startswith(HOW_IT_RUNS))
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:16]


def write_results(results: SweepResults, folder: Path) -> None:
    """Write sweep.json and jobs.csv. Settings that all jobs share are written once."""
    shared = _shared([job.settings for job in results.jobs])
    content = asdict(results) | {"settings": shared}
    for job in content["jobs"]:
        job["settings"] = {name: value for name, value in job["settings"].items() if name not in shared}
    text = json.dumps(content, indent=1, default=str)
    files.write_text(folder / FILE_NAME, text)
    files.write_text(folder / "jobs.csv", jobs_csv(results))


def why_diverged(tags: Mapping[str, str], metrics: Mapping[str, float], objective: str) -> str:
    """In words, whether a finished run diverged, as the comparison counts it: '' if it did not."""
    if tags.get("outcome") == "diverged":
        at = {"epoch": tags.get("outcome.epoch", ""), "step": tags.get("outcome.step", "")}
        return f"diverged at {', '.join(f'{name} {value}' for name, value in at.items() if value)}".removesuffix(" at ")
    if not math.isfinite(metrics.get(objective, 0.0)):
        return f"diverged: {objective} is {metrics[objective]}"
    return ""


def read_results(file: Path) -> SweepResults:
    """Read sweep.json; metrics get their present names.

    Raises:
        ValueError, KeyError, TypeError, OSError: the file is missing, damaged, or of an earlier version.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    shared = content.pop("settings")
    jobs = [JobResult(**{**job, "settings": {**shared, **job["settings"]}}) for job in content.pop("jobs")]
    jobs = [replace(job, metrics={current_name(name): job.metrics[name] for name in job.metrics}) for job in jobs]
    if tuning := content.get("tuning"):
        options = [TunedOption(**option) for option in tuning["options"]]
        content["tuning"] = Tuning(**{**tuning, "options": options})
    if searched := content.get("searched"):
        trials = [SearchTrial(**trial) for trial in searched["trials"]]
        content["searched"] = Searched(**{**searched, "trials": trials})
    return SweepResults(**{**content, "objective": current_name(content["objective"])}, jobs=jobs)


def _shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that have the same value in all of these mappings."""
    first, *others = settings
    return {
        name: value for name, value in first.items() if all(name in other and other[name] == value for other in others)
    }


def jobs_csv(results: SweepResults) -> str:
    """A row per job: its values, the run that serves it, and that run's numbers. The trials of a search have no seed
    among their values."""
    varied = dict.fromkeys(name for job in results.jobs for name in job.values)
    header = ["job", *varied, results.objective, "test_accuracy", "train_seconds", "run", "source"]
    rows = [
        [
            job.name,
            *(job.values.get(name, job.settings.get(name)) for name in varied),
            *(job.metrics.get(name) for name in (results.objective, "test_accuracy", "train_seconds")),
            job.run,
            job.source,
            job.status,
            job.error,
            job.retries,
        ]
        for job in results.jobs
    ]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([[*header, "status", "error", "retries"], *rows])
    return buffer.getvalue()


def jobs_markdown(results: SweepResults, experiment_id: str, max_characters: int) -> str:
    """The table of the jobs for the parent run's description in MLflow, with a link to each run.

    max_characters: rows that exceed it are counted in a last line.
    """
    metrics = [results.objective, "test_accuracy", "train_seconds"]
    lines = [f"| job | {' | '.join(metrics)} | run |", f"|---|{'---:|' * len(metrics)}---|"]
    room = max_characters - sum(map(len, lines)) - 100
    for number, job in enumerate(results.jobs):
        row = _markdown_row(job, metrics, experiment_id)
        room -= len(row) + 1
        if room < 0:
            lines.append(f"\n... and {len(results.jobs) - number} more jobs: see the artifact jobs.csv.")
            break
        lines.append(row)
    return "\n".join(lines)


def _markdown_row(job: JobResult, metrics: Sequence[str], experiment_id: str) -> str:
    numbers = [f"{job.metrics[name]:.4g}" if name in job.metrics else "-" for name in metrics]
    link = f"[{job.run[:8]}]({pages.of_run(experiment_id, job.run)})" if job.run else ""
    link = job.run if Path(job.run).is_absolute() else link
    notes = ["" if job.source == "trained" else job.source, job.error[:100]]
    cells = [job.name, *numbers, ", ".join(filter(None, [link, *notes]))]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
