"""What the jobs of a launched sweep have left, for the tests of the launchers."""

from __future__ import annotations

import csv
import json
from pathlib import Path


def histories(root: Path) -> dict[str, list[dict[str, float]]]:
    """Job -> its metrics, row by row, without the seconds."""
    found = {}
    for file in root.glob("runs/*/*-sweep/*/metrics.jsonl"):
        rows = [json.loads(line)["metrics"] for line in file.read_text().splitlines()]
        name = json.loads(file.with_name("tags.json").read_text())["run.name"]
        found[name] = [{key: value for key, value in row.items() if "seconds" not in key} for row in rows]
    return found


def job_rows(root: Path) -> list[dict[str, str]]:
    """The rows of jobs.csv of the only sweep."""
    (file,) = root.glob("runs/sweeps/*/jobs.csv")
    return list(csv.DictReader(file.read_text().splitlines()))
