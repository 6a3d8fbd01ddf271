"""Memory of many jobs in one process: the same job with other seeds, and a mix of the seven optimizers.

Usage: python -m benchmarks.memory KIND NPZ FOLDER JOBS OUT.json     (one process; `memory` below starts it)
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
from benchmarks.common import Bench, Section, environment, format_seconds

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
    jobs = measure_kinds(bench)
    num_jobs = bench.scale.memory_jobs
    rows, figures = [], {}
    for kind, (label, _) in KINDS.items():
        megabytes = [job["megabytes"] for job in jobs[kind]]
        grown = (megabytes[-1] - megabytes[EARLY - 1]) / megabytes[EARLY - 1] * 100
        figures[f"memory.{kind}_percent"] = grown
        rows.append([label, *(f"{megabytes[job - 1]:,.0f}" for job in (1, EARLY, num_jobs)), f"{grown:+.1f} %"])
    seconds = [format_seconds(sum(job["seconds"] for job in jobs[kind])) for kind in KINDS]
    return Section(
        f"Resident memory over {num_jobs} jobs in one process, in MB",
        ["", "after job 1", f"after job {EARLY}", f"after job {num_jobs}", f"growth from job {EARLY}"],
        rows,
        [
            "Complete jobs (tracked, evaluated, drawn, saved) of one epoch, one after the other in a process. "
            "The memory of the background process, which records and draws, is included. "
            f"Both kinds ran at the same time, {' and '.join(seconds)} s."
        ],
        figures,
        jobs,
    )


def measure_kinds(bench: Bench) -> dict[str, list[dict[str, float]]]:
    """The result of `run_jobs` for each kind, in separate processes at the same time: no times are compared.

    Raises:
        RuntimeError: one failed; with the end of its output.
    """
    roots = {kind: new_folder(bench, f"memory-{kind}") for kind in KINDS}
    with contextlib.ExitStack() as ending:
        processes = {kind: start(bench, kind, root) for kind, root in roots.items()}
        for process in processes.values():
            ending.callback(process.wait)
            ending.callback(process.kill)
        for kind, process in processes.items():
            if process.wait():
                output = (roots[kind] / "output.txt").read_text(encoding="utf-8")
                raise RuntimeError(f"memory, {kind}: {' '.join(output.split())[-500:]}")
    return {kind: json.loads((root / "memory.json").read_text(encoding="utf-8")) for kind, root in roots.items()}


def start(bench: Bench, kind: str, root: Path) -> subprocess.Popen:
    """Start the process of one kind; it writes memory.json, and its output goes to output.txt."""
    arguments = [kind, str(bench.images.path), str(root), str(bench.scale.memory_jobs), str(root / "memory.json")]
    with (root / "output.txt").open("w", encoding="utf-8") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.memory", *arguments],
            cwd=bench.folder,
            env=environment(),
            stdout=output,
            stderr=output,
        )


def run_jobs(kind: str, npz: str, folder: str, num_jobs: int) -> list[dict[str, float]]:
    """Run the jobs in this process; the seconds of each and the resident memory after it, in MB."""
    from mnistlab.config.compose import compose_config
    from mnistlab.experiment import run

    optimizers = KINDS[kind][1]
    jobs = []
    for number in range(num_jobs):
        overrides = [f"optimizer={optimizers[number % len(optimizers)]}", f"seed={number}", f"paths.root={folder}"]
        started = time.perf_counter()
        run(compose_config([f"source.path='{npz}'", "data=notebook", "fit.epochs=1", *overrides]))
        jobs.append({"seconds": time.perf_counter() - started, "megabytes": resident_megabytes()})
    return jobs


def resident_megabytes() -> float:
    """Resident memory of this process and its children, among them mnistlab's background process."""
    this = os.getpid()
    children = Path(f"/proc/{this}/task/{this}/children")
    if not children.is_file():  # not Linux
        command = ["ps", "-A", "-o", "pid=,ppid=,rss="]
        processes = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [tuple(map(int, line.split())) for line in processes.splitlines()]
        return sum(rss for pid, parent, rss in rows if this in (pid, parent)) / 2**10
    pages = 0
    for process in (str(this), *children.read_text(encoding="utf-8").split()):
        with contextlib.suppress(OSError, IndexError):  # it has ended
            pages += int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    Path(sys.argv[5]).write_text(json.dumps(run_jobs(*sys.argv[1:4], int(sys.argv[4]))), encoding="utf-8")
