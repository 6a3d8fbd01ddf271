"""Memory of many jobs in one process: the same job with other seeds, and a mix of the seven optimizers.

Usage: python -m benchmarks.memory KIND NPZ FOLDER JOBS OUT.json     (one process; started by `memory` below)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.commands import new_folder
from benchmarks.common import Bench, Section, python, shown

KINDS = {
    "same": ("the same job, other seeds", ("adam",)),
    "mix": (
        "the seven optimizers in turn",
        ("batch_gd", "sgd", "minibatch_gd", "momentum", "adagrad", "rmsprop", "adam"),
    ),
}
EARLY = 10
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def memory(bench: Bench) -> Section:
    """Resident memory after job 10 and after the last."""
    roots = {kind: new_folder(bench, f"memory-{kind}") for kind in KINDS}

    def run(kind: str) -> list[dict[str, float]]:
        out = roots[kind] / "memory.json"
        words = [kind, str(bench.images.path), str(roots[kind]), str(bench.scale.jobs), str(out)]
        python(bench, "-m", "benchmarks.memory", *words)
        jobs: list[dict[str, float]] = json.loads(out.read_text(encoding="utf-8"))
        return jobs

    with ThreadPoolExecutor() as pool:  # memory, not time, is measured: both at once
        jobs = dict(zip(KINDS, pool.map(run, KINDS), strict=True))
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
            "Whole jobs (tracked, evaluated, drawn, saved) of one epoch, one after the other in a process. "
            f"The two processes ran at the same time, {' and '.join(seconds)} s."
        ],
        figures,
        jobs,
    )


def run_jobs(kind: str, npz: str, folder: str, num_jobs: int) -> list[dict[str, float]]:
    """Run them in this process; each one's seconds and the resident memory after it, in MB."""
    from mnistlab.experiment import run
    from mnistlab.preflight import compose_config

    optimizers = KINDS[kind][1]
    jobs = []
    for number in range(num_jobs):
        own = [f"optimizer={optimizers[number % len(optimizers)]}", f"seed={number}", f"paths.root={folder}"]
        begun = time.perf_counter()
        run(compose_config([f"source.path='{npz}'", "data=notebook", "fit.epochs=1", *own]))
        jobs.append({"seconds": time.perf_counter() - begun, "megabytes": resident_megabytes()})
    return jobs


def resident_megabytes() -> float:
    """Resident memory of this process."""
    table = Path("/proc/self/statm")
    if table.is_file():
        return int(table.read_text(encoding="utf-8").split()[1]) * PAGE_BYTES / 2**20
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    return int(said.stdout) / 2**10


if __name__ == "__main__":
    Path(sys.argv[5]).write_text(json.dumps(run_jobs(*sys.argv[1:4], int(sys.argv[4]))), encoding="utf-8")
