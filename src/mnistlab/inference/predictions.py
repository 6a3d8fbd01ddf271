"""Predictions for picture files, one row each: as a table, as CSV, as JSON, as a contact sheet."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.inference import pictures
from mnistlab.inference.pictures import Prepared
from mnistlab.inference.trained_model import TrainedModel, ranked
from mnistlab.runtime import resources, terminal

COLUMNS = ("file", "class", "confidence", "runner_up", "runner_up_confidence", "problem")
MAX_SHOWN = 100  # pictures on a contact sheet
SHEET_COLUMNS = 6
MAX_ROWS = 200  # of the table on the terminal


@dataclass(frozen=True)
class Predictions:
    """files: the pictures, prepared or with their problem; probabilities: float32, shape (files, classes), NaN for a
    file that cannot be used."""

    files: tuple[Prepared, ...]
    probabilities: np.ndarray
    class_names: tuple[str, ...]

    @property
    def problems(self) -> list[Prepared]:
        """The files that cannot be used."""
        return [one for one in self.files if one.pixels is None]

    def rows(self) -> list[dict[str, Any]]:
        """One row per file with COLUMNS; without a prediction the values are None."""
        best = ranked(self.probabilities, 2)
        rows = []
        for one, order, shares in zip(self.files, best, self.probabilities, strict=True):
            values: list[Any] = [None] * 4
            if one.pixels is not None:
                values = [value for index in order for value in (self.class_names[index], float(shares[index]))]
            rows.append(dict(zip(COLUMNS, (str(one.file), *values, one.problem), strict=True)))
        return rows

    def as_json(self) -> str:
        """The rows with the probability of every class and what was done to the picture."""
        content = []
        for row, one, shares in zip(self.rows(), self.files, self.probabilities, strict=True):
            every = dict(zip(self.class_names, map(float, shares), strict=True)) if one.pixels is not None else None
            content.append({**row, "probabilities": every, "prepared": list(one.steps)})
        return json.dumps(content, indent=2)

    def as_csv(self) -> str:
        """The rows as comma-separated values, with a header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def as_table(self) -> str:
        """The rows for the terminal, at most MAX_ROWS, and what was done to how many pictures."""
        cells = []
        for row in self.rows()[:MAX_ROWS]:
            if row["problem"]:
                cells.append([row["file"], "-", "", row["problem"]])
                continue
            runner_up = f"{row['runner_up']} {row['runner_up_confidence']:.1%}"
            cells.append([row["file"], row["class"], f"{row['confidence']:.1%}", runner_up])
        lines = [terminal.table(["file", "class", "confidence", "runner-up"], cells)]
        if len(self.files) > MAX_ROWS:
            lines.append(f"... and {len(self.files) - MAX_ROWS:,} more; all: --csv or --json")
        return "\n".join(lines)

    def steps(self) -> list[str]:
        """What was done to the pictures: 'inverted: dark on light: 3 of 5 pictures'."""
        usable = len(self.files) - len(self.problems)
        counts = Counter(step for one in self.files for step in one.steps)
        return [f"{step}: {count:,} of {usable:,} pictures" for step, count in counts.most_common()]

    def sheet(self, trained: TrainedModel) -> tuple[np.ndarray, list[str], str, int, str]:
        """The arguments of `figures.image_grid` for the pictures as the model got them, at most MAX_SHOWN."""
        usable = [index for index, one in enumerate(self.files) if one.pixels is not None][:MAX_SHOWN]
        images = np.stack([np.asarray(self.files[index].pixels) for index in usable])
        rows = self.rows()
        captions = []
        for index in usable:
            name = self.files[index].file.name
            short = name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"
            captions.append(f"{short}\n{rows[index]['class']}  {rows[index]['confidence']:.1%}")
        title = f"{trained.chosen.name}: the pictures as the model gets them, with its prediction"
        return trained.input.value_range.as_pixels(images), captions, title, SHEET_COLUMNS, "gray"


def predict(trained: TrainedModel, files: Sequence[Path], invert: str = "auto", method: str = "resize") -> Predictions:
    """Prepare and predict each file; a file that cannot be used costs its own row.

    Args:
        invert, method: as `pictures.prepare` takes them.
    """
    with ThreadPoolExecutor(len(resources.processors())) as pool:
        prepared = tuple(pool.map(lambda file: pictures.prepare(file, trained.input, invert, method), files))
    usable = [index for index, one in enumerate(prepared) if one.pixels is not None]
    probabilities = np.full((len(prepared), len(trained.class_names)), np.nan, np.float32)
    if usable:
        probabilities[usable] = trained.probabilities(
            np.stack([np.asarray(prepared[index].pixels) for index in usable])
        )
    return Predictions(prepared, probabilities, trained.class_names)
