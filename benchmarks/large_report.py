"""The report of a sweep with 200 options on 10 seeds, from made-up runs: its seconds and its size.

`python -m benchmarks.large_report FOLDER` writes one and prints the seconds of the comparison and of the report.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.commands import new_folder
from benchmarks.common import Bench, Section, environment, format_seconds, median

OPTIONS, SEEDS, EPOCHS, IMAGES = 200, 10, 10, 10_000
OBJECTIVE = "best_epoch_val_accuracy"


def large_report(bench: Bench) -> Section:
    """A table of the seconds of comparing and reporting, and of the page's size."""
    found = []
    for _ in range(bench.scale.run_rounds):
        folder = new_folder(bench, "report")
        command = [sys.executable, "-m", "benchmarks.large_report", str(folder)]
        done = subprocess.run(command, cwd=bench.folder, env=environment(), capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    compare, write, processor = (median([one[name] for one in found]) for name in ("compare", "write", "processor"))
    megabytes = found[0]["megabytes"]
    seconds = [format_seconds(value) for value in (compare, write, processor)]
    return Section(
        "The report of 200 options x 10 seeds",
        ["", "compare, s", "write the report, s", "both, processor s", "report.html, MB"],
        [["2,000 runs", *seconds, f"{megabytes:.1f}"]],
        [f"Medians of {len(found)} rounds; made-up runs of {EPOCHS} epochs, with confusion matrices."],
        {"large_report.seconds": compare + write, "large_report.megabytes": megabytes},
        {"rounds": found},
    )


def main() -> None:
    """Compare and report once; print seconds and size as JSON."""
    from mnistlab.comparison import compare
    from mnistlab.comparison.report import write_report

    folder = Path(sys.argv[1])
    few = made_up_runs(3)
    write_report(compare(few, "model.dropout", OBJECTIVE), few, folder)  # loads fonts and SciPy
    records = made_up_runs(OPTIONS)
    before, started = time.process_time(), time.perf_counter()
    comparison = compare(records, "model.dropout", OBJECTIVE)
    compared = time.perf_counter()
    write_report(comparison, records, folder)
    written = time.perf_counter()
    megabytes = (folder / "report.html").stat().st_size / 1e6
    seconds = {"compare": compared - started, "write": written - compared, "processor": time.process_time() - before}
    print(json.dumps({**seconds, "megabytes": megabytes}))


def made_up_runs(num_options: int) -> list:
    """Runs of options that differ a little, and of seeds that differ by chance."""
    from mnistlab.comparison import RunRecord

    rng = np.random.default_rng(1)
    records = []
    for option in range(num_options):
        for seed in range(SEEDS):
            end = 0.9 + 0.08 * option / num_options + rng.normal(0, 0.004)
            accuracy = [float(end - 0.3 * np.exp(-epoch)) for epoch in range(EPOCHS)]
            loss = [4.8 * (1 - value) for value in accuracy]
            confusion = rng.poisson(IMAGES * (1 - end) / 90, (10, 10))
            np.fill_diagonal(confusion, round(IMAGES * end / 10))
            history = {"loss": loss, "accuracy": accuracy, "val_loss": loss, "val_accuracy": accuracy}
            rates = [0.01 * 0.9**epoch for epoch in range(EPOCHS)]
            metrics = {
                OBJECTIVE: accuracy[-1],
                "best_epoch": EPOCHS,
                "test_accuracy": accuracy[-1],
                "train_seconds": 5.0,
            }
            records.append(
                RunRecord(
                    f"{option}-{seed}",
                    f"option {option}, seed {seed}",
                    params={"model.dropout": option / num_options, "seed": seed, "fit.epochs": EPOCHS},
                    history={**history, "learning_rate": rates, "epoch_seconds": [0.5] * EPOCHS},
                    metrics={**metrics, "steps_per_epoch": 100, "train_seconds": 5.0},
                    tags={"outcome": "trained", "hash.data": "the same"},
                    confusion=confusion.tolist(),
                    class_names=tuple("0123456789"),
                )
            )
    return records


if __name__ == "__main__":
    main()
