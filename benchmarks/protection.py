"""What checkpoints cost: ten epochs of the guide's network with a checkpoint after each, by default, and without."""

from __future__ import annotations

import json
import resource
from pathlib import Path

from benchmarks.commands import TRAIN, new_folder
from benchmarks.common import Bench, Section, format_range, format_seconds, median, run_python, source_overrides

SETTINGS = ("fit.epochs=10", "tracking=none")
WITHOUT = "fit.resume=never"
WAYS = {"fit.checkpoint_percent=100": "every epoch", "fit.checkpoint_percent=3": "default", WITHOUT: "none"}
MEASURED = ("training", "the rest", "CPU")


def protection(bench: Bench) -> Section:
    """Rounds in alternating order, so that a machine that becomes slower or faster burdens all ways alike."""
    rounds: list[dict[str, dict[str, float]]] = []
    for index in range(bench.scale.protection_rounds):
        order = [*WAYS] if index % 2 == 0 else [*reversed(WAYS)]
        rounds.append({way: run_seconds(bench, way) for way in order})
    seconds = {(way, name): [one[way][name] for one in rounds] for way in WAYS for name in MEASURED}
    rows = [[f"`{way}` ({WAYS[way]})", *(_cell(seconds[way, name]) for name in MEASURED)] for way in WAYS]
    every = next(iter(WAYS))
    beyond = {way: [one[way]["the rest"] - one[WITHOUT]["the rest"] for one in rounds] for way in WAYS}
    notes = [
        f"Against none, `{way}`: training {_range(rounds, way, 'training')}, CPU time {_range(rounds, way, 'CPU')}, "
        f"the rest {median(beyond[way]):+.2f} s."
        for way in WAYS
        if way != WITHOUT
    ]
    return Section(
        "Checkpoints: ten epochs of the guide's network, with and without",
        ["", "seconds of training", "seconds of the rest", "CPU seconds of the command"],
        rows,
        [
            f"Medians (lowest-highest) of {len(rounds)} rounds in alternating order; untracked. The rest: from the "
            "start of Python to its exit without the training.",
            *notes,
        ],
        {
            "protection.training_percent": median([percent(one, every, "training") for one in rounds]),
            "protection.start_seconds": median(beyond[every]),
        },
        {f"{way}, {name}": values for (way, name), values in seconds.items()},
    )


def _cell(seconds: list[float]) -> str:
    return f"{format_seconds(median(seconds))} ({format_range(seconds)})"


def _range(rounds: list[dict[str, dict[str, float]]], way: str, name: str) -> str:
    found = [percent(one, way, name) for one in rounds]
    return f"{median(found):+.1f} % ({min(found):+.1f} to {max(found):+.1f})"


def percent(one: dict[str, dict[str, float]], way: str, name: str) -> float:
    """How much more a run needs than its partner without checkpoints."""
    return 100 * (one[way][name] / one[WITHOUT][name] - 1)


def run_seconds(bench: Bench, setting: str) -> dict[str, float]:
    """The seconds of one command: of its training, of the rest, and of CPU time of all its processes."""
    root = new_folder(bench, "protection")
    before = cpu_seconds()
    total = run_python(bench, *TRAIN, *SETTINGS, setting, *source_overrides(bench), f"paths.root={root}")
    training = train_seconds(root)
    return {"training": training, "the rest": total - training, "CPU": cpu_seconds() - before}


def cpu_seconds() -> float:
    """Of the processes that this process has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def train_seconds(root: Path) -> float:
    """As the only run under this root has recorded it."""
    (file,) = (root / "runs").glob("*/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    (seconds,) = (row["metrics"]["train_seconds"] for row in rows if "train_seconds" in row["metrics"])
    return float(seconds)
