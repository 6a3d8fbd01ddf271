"""A sweep as a notebook uses it: its verdict, its runs, its figures."""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mnistlab.config.objectives import current_name
from mnistlab.notebook import html
from mnistlab.notebook.figures import Figures
from mnistlab.notebook.run import Run
from mnistlab.runtime import files

FIRST_FIGURE = "final_values"
SHOWN = {"option": "option", "mean": "mean", "interval_low": "from", "interval_high": "to", "num_seeds": "seeds"}
SHOWN |= {"test_accuracy": "test accuracy", "train_seconds": "seconds"}


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What a sweep found, read from its folder.

    Args:
        folder: of the sweep, `runs/sweeps/ID`; runs: of its jobs, in their order, without those that have no record;
            names: of the jobs of these runs.
    """

    folder: Path
    runs: tuple[Run, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """For `python -m mnistlab.compare sweep=ID`."""
        return self.folder.name

    @functools.cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """The content of comparison.json, with every pair of options: one for each data set."""
        found = sorted(
            self.folder.glob("*comparison.json"), key=lambda file: (file.name != "comparison.json", file.name)
        )
        return [json.loads(file.read_text(encoding="utf-8")) for file in found]

    @property
    def verdict(self) -> str:
        """Which option is better, by how much, or that they are not distinguishable yet."""
        across = files.read_json(self.folder / "across.json")
        first = self.comparisons[0]["verdict"] if self.comparisons else "No run has finished."
        return str(across.get("verdict", first))

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """A row per option, the best first: mean, sd and interval of the objective over the seeds, failures, times."""
        return self._csv("table.csv").set_index("option", drop=True) if self.comparisons else pd.DataFrame()

    @functools.cached_property
    def pairs(self) -> pd.DataFrame:
        """A row per pair of options: mean difference, interval, p value, decision."""
        return self._csv("pairs.csv")

    @functools.cached_property
    def jobs(self) -> pd.DataFrame:
        """A row per job: its values, its run, status and error; also of jobs that failed."""
        file = self.folder / "jobs.csv"
        return pd.read_csv(file, index_col="job") if file.is_file() else pd.DataFrame()

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """The history of all runs, one below the other; the index is (job, epoch)."""
        histories = {name: run.history for name, run in zip(self.names, self.runs, strict=True)}
        return pd.concat(histories, names=["job"]) if histories else pd.DataFrame()

    @property
    def best(self) -> Run:
        """The run with the best objective. It may owe that to luck: `verdict` says what is certain.

        Raises:
            ValueError: no run has finished.
        """
        question = files.read_json(self.folder / "sweep.json")
        objective = current_name(question.get("objective", ""))
        measured = [run for run in self.runs if math.isfinite(run.metrics.get(objective, math.nan))]
        if not measured:
            raise ValueError(f"no run of the sweep {self.id} has finished")
        sign = -1 if question.get("direction") == "lower" else 1
        return max(measured, key=lambda run: sign * run.metrics[objective])

    @property
    def figures(self) -> Figures:
        """The report's figures by name: `result.figures["val_loss"]`."""
        return Figures(self.folder / "figures")

    @property
    def report(self) -> Path:
        """The report as a page with all tables and figures."""
        return self.folder / "report.html"

    def _csv(self, name: str) -> pd.DataFrame:
        found = sorted(self.folder.glob(f"*{name}"), key=lambda file: (file.name != name, file.name))
        return pd.concat([pd.read_csv(file) for file in found], ignore_index=True) if found else pd.DataFrame()

    def __repr__(self) -> str:
        return f"SweepResult({self.id!r}, {len(self.jobs)} jobs: {self.verdict})"

    def _repr_html_(self) -> str:
        table = self.table.reset_index() if len(self.table) else self.table
        columns = [name for name in SHOWN if name in table and table[name].notna().any()]
        rows = [[_cell(value) for value in row] for row in table[columns].itertuples(index=False)] if columns else []
        figures = {name: figure.path for name, figure in self.figures.items()}
        others = "".join(html.image(file) for name, file in figures.items() if name != FIRST_FIGURE)
        failed = self.jobs[self.jobs["error"].notna()] if "error" in self.jobs else self.jobs[:0]
        errors: Sequence[Sequence[str]] = [[str(name), str(row["error"])[:200]] for name, row in failed.iterrows()]
        parts = [
            html.paragraph(self.verdict, bold=True),
            html.table([SHOWN[name] for name in columns], rows) if rows else "",
            html.table(["job without a result", "reason"], errors) if errors else "",
            html.image(figures[FIRST_FIGURE]) if FIRST_FIGURE in figures else "",
            html.folded("More figures", others),
            html.folded("Record", html.listed({"report": str(self.report), "sweep": self.id})),
        ]
        return f"<div>{''.join(parts)}</div>"


def _cell(value: Any) -> str:
    """A value of the table, as short as it is exact enough."""
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else f"{value:.4f}" if abs(value) < 1 else f"{value:.4g}"
