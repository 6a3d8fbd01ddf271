"""A recorded run as a notebook uses it."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from mnistlab.config import ConfigError, trust
from mnistlab.evaluation.summary import COLUMNS, metric_rows, other_epochs
from mnistlab.notebook import html
from mnistlab.notebook.figures import Figures
from mnistlab.runtime import files, startup
from mnistlab.tracking import initial_weights, model_digests, sync

if TYPE_CHECKING:
    import keras

FIRST_FIGURE = "learning_curves"


@dataclass(frozen=True, repr=False)
class Run:
    """What a run recorded, read from its folder when it is asked for.

    Args:
        folder: of the run; trusted: packages whose classes its model may need, as with `trust=` on the command line.
    """

    folder: Path
    trusted: tuple[str, ...] = ()

    @functools.cached_property
    def tags(self) -> dict[str, str]:
        """Provenance: data hashes, versions, what the curves show, ..."""
        return dict(files.read_json(self.folder / "tags.json"))

    @property
    def name(self) -> str:
        """As in MLflow."""
        return self.tags.get("run.name", self.folder.name)

    @property
    def id(self) -> str | None:
        """Of the run in MLflow; None if it is not tracked."""
        return self.tags.get("run.id")

    @property
    def status(self) -> str:
        """FINISHED, FAILED, KILLED (the same command continues it) or RUNNING."""
        return str(files.read_json(self.folder / "status.json").get("status", "RUNNING"))

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The whole configuration, nested as in `conf/`; `overrides` are the words that were given. Empty for a run
        that failed before it was recorded."""
        file = self.folder / "config.yaml"
        return dict(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """A row per epoch, from 1; columns as Keras names them: loss, val_loss, accuracy, learning_rate, ..."""
        rows = [row for row in sync.read_rows(self.folder / "metrics.jsonl") if "epoch_seconds" in row["metrics"]]
        index = pd.Index([row["step"] for row in rows], name="epoch", dtype="int64")
        return pd.DataFrame([row["metrics"] for row in rows], index=index).astype("float64")

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """The final metrics: best_epoch_val_accuracy, test_accuracy, ...; without those of each epoch."""
        rows = sync.read_rows(self.folder / "metrics.jsonl")
        final = [row["metrics"] for row in rows if "epoch_seconds" not in row["metrics"]]
        return {name: float(value) for metrics in final for name, value in metrics.items()}

    @property
    def figures(self) -> Figures:
        """Its figures by name: `run.figures["confusion_matrix"]`."""
        return Figures(self.folder / "figures")

    @functools.cached_property
    def model(self) -> "keras.Model":
        """The saved model, not compiled. It takes raw pixels: `run.model.predict(images)`.

        Raises:
            ConfigError: the run saved none, its file is damaged or another than the run saved, or it needs a class of
                a package that is not trusted.
        """
        folder = self.folder / model_digests.FOLDER
        if not folder.is_dir():
            raise ConfigError(f"The run {self.name} saved no model: {self._why_no_model()}.")
        with startup.loading():
            from mnistlab.training import model_files, saved_models
        file = initial_weights.file_in(folder, "run")
        model_digests.compare(file, self.tags.get(model_digests.digest_tag(file.name)), f"run={self.name}")
        with trust.trusting(self.trusted):
            return saved_models.load(file, model_files.read(file, "run"), "run")

    def _why_no_model(self) -> str:
        if self.tags.get("outcome") == "diverged":
            return "it diverged"
        return f"its status is {self.status}" if self.status != "FINISHED" else "save.formats was empty"

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the model's outputs."""
        return tuple(files.read_json(self.folder / "dataset.json").get("class_names", ()))

    @functools.cached_property
    def confusion_matrix(self) -> pd.DataFrame:
        """Numbers of test images: rows are the true classes, columns the predicted ones; empty without a test."""
        found = files.read_json(self.folder / "reports" / "confusion_matrix.json")
        names = found.get("class_names", [])
        matrix = pd.DataFrame(found.get("counts", []), index=names, columns=names)
        return matrix.rename_axis(index="class", columns="predicted")

    @functools.cached_property
    def predictions(self) -> pd.DataFrame:
        """A row per test image, in the order of the test set: `predicted`, the index of the class, and `confidence`,
        its probability; empty without a test."""
        file = self.folder / "reports" / "predictions.npz"
        if not file.is_file():
            return pd.DataFrame(columns=["predicted", "confidence"])
        with np.load(file, allow_pickle=False) as arrays:
            return pd.DataFrame(dict(arrays)).rename_axis("image")

    @property
    def report(self) -> str:
        """Precision, recall and F1 of each class, as text; empty without a test."""
        file = self.folder / "reports" / "classification_report.txt"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    @property
    def sentence(self) -> str:
        """What the learning curves show, or why there are none."""
        return self.tags.get("fit_reading.sentence") or self.tags.get("error", "")

    def __repr__(self) -> str:
        shown = [
            f"{name}={self.metrics[name]:.4f}"
            for name in ("best_epoch_val_accuracy", "test_accuracy")
            if name in self.metrics
        ]
        return f"Run({', '.join([repr(self.name), self.status, *shown, f'epochs={len(self.history)}'])})"

    def _repr_html_(self) -> str:
        rows = metric_rows(self.metrics)
        figures = {name: figure.path for name, figure in self.figures.items()}
        others = "".join(html.image(file) for name, file in figures.items() if name != FIRST_FIGURE)
        words = " ".join(map(str, self.settings.get("overrides") or ()))
        parts = [
            html.paragraph(f"{self.name} · {self.status} · {len(self.history)} epochs", bold=True),
            html.table(["", *COLUMNS], rows) if rows else "",
            *map(html.paragraph, other_epochs(self.metrics)),
            html.paragraph(self.sentence),
            html.image(figures[FIRST_FIGURE]) if FIRST_FIGURE in figures else "",
            html.folded("More figures", others),
            html.folded("Record", html.listed({"words": words, "run": self.id or "", "folder": str(self.folder)})),
        ]
        return f"<div>{''.join(parts)}</div>"
