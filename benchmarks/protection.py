"""What checkpoints cost: ten epochs of the guide's network with a checkpoint after each, against the same without."""

from __future__ import annotations

import json
import resource
from pathlib import Path

from benchmarks.commands import TRAIN, new_folder
from benchmarks.common import Bench, Section, format_range, format_seconds, median, run_python, source_overrides

SETTINGS = ("fit.epochs=10", "tracking=none")
WAYS = {"with": "fit.resume=auto", "without": "fit.resume=never"}
MEASURED = ("training", "the rest", "CPU")


def protection(bench: Bench) -> Section:
    """Pairs in alternating order, so that a machine that becomes slower or faster burdens both ways alike."""
    pairs: list[dict[str, dict[str, float]]] = []
    for index in range(bench.scale.protection_rounds):
        order = [*WAYS] if index % 2 == 0 else [*reversed(WAYS)]
        pairs.append({way: run_seconds(bench, WAYS[way]) for way in order})
    seconds = {(way, name): [pair[way][name] for pair in pairs] for way in WAYS for name in MEASURED}
    rows = [[f"`{setting}`", *(_cell(seconds[way, name]) for name in MEASURED)] for way, setting in WAYS.items()]
    training = [percent(pair, "training") for pair in pairs]
    cpu = [percent(pair, "CPU") for pair in pairs]
    beyond = [pair["with"]["the rest"] - pair["without"]["the rest"] for pair in pairs]
    return Section(
        "Checkpoints: ten epochs, a checkpoint after each, against none",
        ["", "seconds of training", "seconds of the rest", "CPU seconds of the command"],
        rows,
        [
            f"Medians (lowest-highest) of {len(pairs)} pairs in alternating order; untracked. The rest: from the start "
            f"of Python to its exit without the training. Of the pairs: training {median(training):+.1f} % "
            f"({min(training):+.1f} to {max(training):+.1f}), CPU time {median(cpu):+.1f} %, "
            f"the rest {median(beyond):+.2f} s."
        ],
        {"protection.training_percent": median(training), "protection.start_seconds": median(beyond)},
        {f"{way}, {name}": values for (way, name), values in seconds.items()},
    )


def _cell(seconds: list[float]) -> str:
    return f"{format_seconds(median(seconds))} ({format_range(seconds)})"


def percent(pair: dict[str, dict[str, float]], name: str) -> float:
    """How much more a run with checkpoints needs than its partner without."""
    return 100 * (pair["with"][name] / pair["without"][name] - 1)


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
