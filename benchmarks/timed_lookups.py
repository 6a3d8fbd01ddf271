"""In a process of its own: the seconds of what mnistlab asks of a tracking store, as JSON.

`python -m benchmarks.timed_lookups STORE EXPERIMENT ROOT SWEEP ROUNDS`
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mnistlab.sweep import earlier, report
from mnistlab.tracking import history, lookups, mlflow_store, orphans
from mnistlab.tracking.stores import StoreAddress


def main() -> None:
    """Print {what: [seconds of each round]}."""
    uri, experiment, root, sweep, rounds = sys.argv[1:]
    artifacts = None if uri.startswith("http") else Path(root) / "mlruns" / "artifacts"
    store = StoreAddress(uri, experiment, artifacts)
    jobs = earlier.stored_sweep(store, sweep).jobs
    runs = history.with_ids(store, list(dict.fromkeys(job.run for job in jobs)))
    known = [lookups.Wanted(run.tags["fingerprint"], run.tags["fingerprint.request"]) for run in runs]
    half = [one if index % 2 else lookups.Wanted(f"none{index}", f"none{index}") for index, one in enumerate(known)]
    kind = lookups.Kind(runs[-1].params["model"], int(runs[-1].tags["batch_size"]), int(runs[-1].params["fit.epochs"]))
    asked: dict[str, Callable[[], object]] = {
        "lookup": lambda: lookups.earlier_runs(store, half),
        "lookup_one": lambda: lookups.earlier_runs(store, half[1:2]),
        "times": lambda: lookups.comparable_runs(store, [kind]),
        "name": lambda: mlflow_store.find_run_id(runs[0].name, store),
        "orphans": lambda: orphans.close_orphans(store, root),
        "records": lambda: report.records_of(store, earlier.stored_sweep(store, sweep).jobs),
    }
    print(json.dumps({name: [_seconds(call) for _ in range(int(rounds))] for name, call in asked.items()}))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
