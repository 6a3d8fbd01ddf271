"""What a finished run recorded, as far as a script needs it: its configuration again, its history, its files."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnistlab.config import Config, ConfigError
from mnistlab.config.recorded import recorded_config
from mnistlab.tracking import history
from mnistlab.tracking.chosen_models import ChosenModel
from mnistlab.tracking.stores import StoreAddress

# Not of a training's numbers: how long it took, and what one class has.
NOT_COMPARED = ("epoch_seconds", "learning_rate")


@dataclass(frozen=True)
class RecordedRun:
    """A run that is handed over.

    chosen: what `run=` named; config: its settings; epochs: a row of metrics an epoch; test: loss and metrics on the
    test set; manifest: of images in files, path, class and split of each, in the order of the splits.
    """

    chosen: ChosenModel
    config: Config
    epochs: list[dict[str, float]]
    test: dict[str, float]
    manifest: list[dict[str, str]]

    @property
    def tags(self) -> Mapping[str, str]:
        return self.chosen.tags

    @property
    def folder(self) -> str:
        """Where the run wrote its files, which its configuration may name."""
        return str(self.config.paths.run or self.tags.get("run.folder", ""))

    @property
    def versions(self) -> dict[str, str]:
        """Package -> version, of what the numbers depend on."""
        names = ("python", "keras", "tensorflow", "numpy", "scikit-learn")
        return {name: self.tags[f"version.{name}"] for name in names if f"version.{name}" in self.tags}


def manifest_of(chosen: ChosenModel, store: StoreAddress) -> str:
    """The text of manifest.csv, from the run's folder or from the store; '' if it has none.

    It needs MLflow if the run's folder is not on this machine.
    """
    for folder in (chosen.file.resolve().parents[1], Path(chosen.tags.get("run.folder", ""))):
        if (folder / "metrics.jsonl").is_file():
            return _text(folder / "manifest.csv")
    if not chosen.run_id:
        return ""
    (run,) = history.with_ids(store, [chosen.run_id])
    return _text(history.artifact(store, run, "manifest.csv"))


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def recorded_run(chosen: ChosenModel, manifest: str) -> RecordedRun:
    """The run with its configuration made again.

    Raises:
        ConfigError: there is no record of the run, or it names code that the user does not trust.
    """
    if not {"source", "data", "model", "optimizer", "fit"} <= chosen.config.keys() or not chosen.epochs:
        raise ConfigError(
            f"{chosen.place} must be a run that mnistlab recorded, with its config.yaml and its epochs. "
            "Name a run: its id, its name or its folder."
        )
    config = recorded_config(chosen.config, chosen.place)
    config.paths.run = chosen.config.get("paths", {}).get("run")
    shown = [{name: value for name, value in row.items() if _is_compared(name)} for row in chosen.epochs]
    measured = {name.removeprefix("test_"): value for name, value in chosen.metrics.items() if name.startswith("test_")}
    test = {name: value for name, value in measured.items() if name in shown[0]}
    rows = [row for row in csv.DictReader(io.StringIO(manifest)) if row["split"] != "skipped"]
    return RecordedRun(chosen, config, shown, test, rows)


def _is_compared(name: str) -> bool:
    return name not in NOT_COMPARED and "." not in name
