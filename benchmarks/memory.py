"""Memory of many jobs in one process: the same job with other seeds, and a mix of the seven optimizers.

Usage: python -m benchmarks.memory KIND NPZ FOLDER JOBS OUT.json     (one process; started by `memory` below)
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.commands import new_folder
from benchmarks.common import Bench, Section, environment, shown

KINDS = {
    "same": ("the same job, other seeds", ("adam",)),
    "mix": (
        "the seven optimizers in turn",
        ("batch_gd", "sgd", "minibatch_gd", "momentum", "adagrad", "rmsprop", "adam"),
    ),
}
EARLY = 10


def memory(bench: Bench) -> Section:
    """Resident memory after job 10 and after the last."""
    jobs = side_by_side(bench)  # memory, not time, is measured
    last = bench.scale.jobs
    rows, figures = [], {}
    for kind, (label, _) in KINDS.items():
        megabytes = [job["megabytes"] for job in jobs[kind]]
        grown = (megabytes[-1] - megabytes[EARLY - 1]) / megabytes[EARLY - 1] * 100
        figures[f"memory.{kind}_percent"] = grown
        rows.append([label, *(f"{megabytes[job - 1]:,.0f}" for job in (1, EARLY, last)), f"{grown:+.1f} %"])
    seconds = [shown(sum(job["seconds"] for job in jobs[kind])) for kind in KINDS]
    return Section(
        f"Resident memory over {last} jobs in one process, in MB",
        ["", "after job 1", f"after job {EARLY}", f"after job {last}", f"growth from job {EARLY}"],
        rows,
        [
            "Whole jobs (tracked, evaluated, drawn, saved) of one epoch, one after the other in a process; the memory "
            "of the second process, which records and draws, is counted in. "
            f"The two processes ran at the same time, {' and '.join(seconds)} s."
        ],
        figures,
        jobs,
    )


def side_by_side(bench: Bench) -> dict[str, list[dict[str, float]]]:
    """What `run_jobs` tells of every kind, each in a process of its own, all at once.

    Raises:
        RuntimeError: one failed; with the end of what it said.
    """
    roots = {kind: new_folder(bench, f"memory-{kind}") for kind in KINDS}
    with contextlib.ExitStack() as ending:
        processes = {kind: start(bench, kind, root) for kind, root in roots.items()}
        for process in processes.values():
            ending.callback(process.wait)
            ending.callback(process.kill)
        for kind, process in processes.items():
            if process.wait():
                said = (roots[kind] / "said.txt").read_text(encoding="utf-8")
                raise RuntimeError(f"memory, {kind}: {' '.join(said.split())[-500:]}")
    return {kind: json.loads((root / "memory.json").read_text(encoding="utf-8")) for kind, root in roots.items()}


def start(bench: Bench, kind: str, root: Path) -> subprocess.Popen:
    """Start the process of one kind; what it says goes into a file, its numbers into another."""
    words = [kind, str(bench.images.path), str(root), str(bench.scale.jobs), str(root / "memory.json")]
    with (root / "said.txt").open("w", encoding="utf-8") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.memory", *words],
            cwd=bench.folder,
            env=environment(),
            stdout=said,
            stderr=said,
        )


def run_jobs(kind: str, npz: str, folder: str, num_jobs: int) -> list[dict[str, float]]:
    """Run them in this process; each one's seconds and the resident memory after it, in MB."""
    from mnistlab.config.compose import compose_config
    from mnistlab.experiment import run

    optimizers = KINDS[kind][1]
    jobs = []
    for number in range(num_jobs):
        own = [f"optimizer={optimizers[number % len(optimizers)]}", f"seed={number}", f"paths.root={folder}"]
        begun = time.perf_counter()
        run(compose_config([f"source.path='{npz}'", "data=notebook", "fit.epochs=1", *own]))
        jobs.append({"seconds": time.perf_counter() - begun, "megabytes": resident_megabytes()})
    return jobs


def resident_megabytes() -> float:
    """Resident memory of this process and its children, mnistlab's second process among them."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children")
    if not children.is_file():  # not Linux
        said = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True).stdout
        rows = [tuple(map(int, line.split())) for line in said.splitlines()]
        return sum(rss for pid, parent, rss in rows if own in (pid, parent)) / 2**10
    pages = 0
    for process in (str(own), *children.read_text(encoding="utf-8").split()):
        with contextlib.suppress(OSError, IndexError):  # it has just ended
            pages += int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    Path(sys.argv[5]).write_text(json.dumps(run_jobs(*sys.argv[1:4], int(sys.argv[4]))), encoding="utf-8")
