"""The manifest of a `Dataset` whose images are files: one row for each file, with its split, and duplicates marked."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnistlab.data.sources import Split

COLUMNS = ("path", "class", "split", "bytes", "width", "height", "mode", "sha256", "same_as", "reason")


def build_manifest(
    splits: Mapping[str, Split], skipped: Sequence[Mapping[str, str]]
) -> tuple[tuple[dict[str, Any], ...], list[str]]:
    """The manifest's rows, skipped files last, and notes on duplicates; both are empty if the images are arrays."""
    rows = [
        row | {"split": name}
        for name, split in splits.items()
        if not isinstance(split.images, np.ndarray)
        for row in split.images.rows()
    ]
    if not rows:
        return (), []
    notes = _mark_duplicates(rows)
    return (*rows, *({"split": "skipped", **row} for row in skipped)), notes


def _mark_duplicates(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Set `same_as` of repeated contents to the first file's path; returns notes on those in two splits or classes."""
    first: dict[str, dict[str, Any]] = {}
    duplicates: dict[str, list[str]] = {"split": [], "class": []}
    for row in rows:
        other = first.setdefault(row["sha256"], row)
        if other["path"] == row["path"]:
            continue
        row["same_as"] = other["path"]
        for column, pairs in duplicates.items():
            if other[column] != row[column]:
                pairs.append(f"{row['path']} ({row[column]}) = {other['path']} ({other[column]})")
    consequences = {"split": ", so the results look better than they are", "class": ""}
    return [
        f"Images identical to one in another {column}{consequences[column]}: {len(pairs):,} "
        f"({pairs[0]}{', ...' if len(pairs) > 1 else ''}). The column same_as of manifest.csv lists them all."
        for column, pairs in duplicates.items()
        if pairs
    ]


def manifest_csv(manifest: Sequence[Mapping[str, Any]]) -> str:
    """The manifest as a CSV table with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(manifest)
    return text.getvalue()
