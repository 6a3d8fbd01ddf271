"""The measured sections as Markdown and JSON, and which goals are met."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Bench, Section

QUIET_LOAD = 0.5
BUSY = "**Other work was running at the start: these figures are not reliable.**"


@dataclass(frozen=True)
class Goal:
    """A limit of a measured number. figure: its name; at_most: whether the limit is the highest or the lowest value."""

    text: str
    figure: str
    limit: float
    at_most: bool
    unit: str = "x"

    def status(self, value: float | None) -> str:
        """'met', 'NOT MET' or 'not measured'."""
        if value is None or math.isnan(value):
            return "not measured"
        return "met" if (value <= self.limit if self.at_most else value >= self.limit) else "NOT MET"

    def format(self, value: float | None) -> str:
        """A value with its unit."""
        return "-" if value is None or math.isnan(value) else f"{value:.3g}{self.unit}"

    @property
    def required(self) -> str:
        """The limit as text."""
        return f"{'<=' if self.at_most else '>='} {self.limit:g}{self.unit}"


GOALS = (
    Goal("epoch at batch 32: faster than the notebook's `fit`", "batch32.faster_than_notebook", 9, False),
    Goal("epoch at batch 32: time / JAX scan", "batch32.over_jax", 1.1, True),
    Goal("epoch at batch 1: faster than the notebook's `fit`", "batch1.faster_than_notebook", 80, False),
    Goal("epoch at batch 1: time / JAX scan", "batch1.over_jax", 1.1, True),
    Goal("sweep of the seven: faster than the notebook's untracked seven", "sweep.faster_than_notebook", 20, False),
    Goal("default run, the first in a new folder: time / the notebook's", "run.first_over_notebook", 0.5, True),
    Goal("default run, a later run in it: time / the notebook's", "run.later_over_notebook", 0.5, True),
    Goal("a job beyond compiling and training", "job.seconds_beyond_training", 0.7, True, " s"),
    Goal("memory growth, the same job", "memory.same_percent", 10, True, " %"),
    Goal("memory growth, the seven optimizers in turn", "memory.mix_percent", 10, True, " %"),
    Goal("a checkpoint after every epoch: training time", "protection.training_percent", 3, True, " %"),
    Goal("checkpoints: time of a command besides its training", "protection.start_seconds", 0.3, True, " s"),
    Goal("one `mnistlab.predict`: time / importing TensorFlow", "predict.over_import", 1.5, True),
    Goal("10,000 images from memory, the first time", "predict.seconds_from_memory", 1, True, " s"),
    Goal("the report of 200 options x 10 seeds", "large_report.seconds", 5, True, " s"),
    Goal("its page", "large_report.megabytes", 5, True, " MB"),
    Goal("cnn: fused / keras engine (1 plus noise)", "cnn.fused_over_keras", 1.05, True),
    Goal("folders: resident epoch / ImageDataGenerator's, 28x28 PNG", "folders.png_resident", 10, False),
    Goal("folders: resident epoch / ImageDataGenerator's, 400x300 JPEG", "folders.jpeg_resident", 10, False),
    Goal("folders: the first pass / ImageDataGenerator's, PNG", "folders.png_first", 1.7, False),
    Goal("folders: the first pass / ImageDataGenerator's, JPEG", "folders.jpeg_first", 1.7, False),
    Goal("folders: stream / ImageDataGenerator, 1 worker each, PNG", "folders.png_stream_1", 1.5, False),
    Goal("folders: stream / ImageDataGenerator, 2 workers each, PNG", "folders.png_stream_2", 1.5, False),
    Goal("folders: stream / ImageDataGenerator, 1 worker each, JPEG", "folders.jpeg_stream_1", 1.5, False),
    Goal("folders: stream / ImageDataGenerator, 2 workers each, JPEG", "folders.jpeg_stream_2", 1.5, False),
    Goal("folders: memory of a stream, beyond TensorFlow's / its budget", "folders.stream_memory", 1.2, True),
)


def results(
    facts: Mapping[str, Any], bench: Bench, sections: Mapping[str, Section], failed: Mapping[str, str], seconds: float
) -> dict[str, Any]:
    """The content of results.json."""
    return {
        "machine": dict(facts),
        "images": bench.images.description,
        "mode": bench.scale.name,
        "seconds": round(seconds),
        "goals": check_goals(sections, bench.images.is_mnist),
        "sections": {name: round_numbers(_without_pictures(section)) for name, section in sections.items()},
        "failed": dict(failed),
    }


def _without_pictures(section: Section) -> dict[str, Any]:
    return {name: value for name, value in asdict(section).items() if name != "pictures"}


def check_goals(sections: Mapping[str, Section], is_mnist: bool) -> list[dict[str, str]]:
    """A row for every goal. Goals are not checked on images other than MNIST's 70,000."""
    figures = {name: value for section in sections.values() for name, value in section.figures.items()}
    return [
        {
            "goal": goal.text,
            "required": goal.required,
            "measured": goal.format(figures.get(goal.figure)),
            "status": goal.status(figures.get(goal.figure)) if is_mnist else "not checked",
        }
        for goal in GOALS
    ]


def round_numbers(content: Any) -> Any:
    """The content with numbers rounded to five digits, and None for NaN and infinity, which JSON does not have."""
    if isinstance(content, Mapping):
        return {key: round_numbers(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [round_numbers(value) for value in content]
    if isinstance(content, float):
        return float(f"{content:.5g}") if math.isfinite(content) else None
    return content


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column aligned left, the others right."""
    alignment = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, alignment, *rows))


def goals_table(goals: Sequence[Mapping[str, str]]) -> str:
    """The goals, the measured values and whether they are met."""
    return markdown_table(["", "goal", "measured", "status"], [[*goal.values()] for goal in goals]) + "\n"


def section_text(section: Section) -> str:
    """A section as Markdown."""
    table = markdown_table(section.header, section.rows)
    return "\n\n".join([f"## {section.title}", table, *section.notes]) + "\n"


def _with_pictures(section: Section) -> str:
    shown = [f"![{section.title}]({name})" for name in section.pictures]
    return "\n\n".join([section_text(section).rstrip(), *shown])


def write(content: Mapping[str, Any], sections: Mapping[str, Section], folder: Path) -> None:
    """Write results.md, its pictures and results.json into this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = content["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    head = [
        "# Measured",
        f"`python -m benchmarks`, {content['mode']} mode, {machine['date']}, {content['seconds'] / 60:.0f} minutes. "
        f"{content['images']}.",
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gigabytes']} GB, {machine['system']}, "
        f"load {machine['load_before']} before the start. Python {machine['python']}, {libraries}.",
        *([BUSY] if (machine["load_before"] or 0) > QUIET_LOAD else []),
        "## Goals",
        goals_table(content["goals"]).rstrip(),
        *(f"**{name} could not be measured:** {reason}" for name, reason in content["failed"].items()),
    ]
    text = "\n\n".join([*head, *(_with_pictures(section) for section in sections.values())])
    for section in sections.values():
        for name, picture in section.pictures.items():
            (folder / name).write_bytes(picture)
    (folder / "results.md").write_text(text + "\n", encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"Written: {folder / 'results.md'} and results.json")
