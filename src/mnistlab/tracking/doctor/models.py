"""What is wrong with logged models: never completed, without files, or named by a run although MLflow has none such."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from mnistlab.runtime import files
from mnistlab.tracking.doctor.findings import Finding, mending
from mnistlab.tracking.doctor.runs import is_live, line
from mnistlab.tracking.doctor.store_view import StoreView
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.mlflow_internals import ModelRow
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.relocation import local_path

DESCRIPTION, KERAS_FILE = Path("MLmodel"), Path("data") / "model.keras"  # in the folder of a logged model


def findings(view: StoreView) -> Iterator[Finding]:
    """All findings about logged models of this project's runs."""
    if view.models is None:
        return
    runs = {run.run_id: run for run in view.runs}
    models = [model for model in view.models if model.run_id in runs and not is_live(runs[model.run_id])]
    yield from _half_logged(view, runs, models)
    yield from _without_files(view, runs, models)
    yield from _dangling(view, {f"models:/{model.model_id}" for model in view.models})


def _half_logged(view: StoreView, runs: dict[str, StoredRun], models: list[ModelRow]) -> Iterator[Finding]:
    half = [model for model in models if model.status != "READY"]
    if half:
        yield Finding(
            "logged models were never completed",
            [f"{model.model_id}  {model.status}  of {line(runs[model.run_id])}" for model in half],
            "they are deleted from MLflow's models; the runs and their files stay",
            mending(
                half,
                lambda model: open_store(view.store)[0].delete_logged_model(model.model_id),
                lambda model: model.model_id,
            ),
        )


def _without_files(view: StoreView, runs: dict[str, StoredRun], models: list[ModelRow]) -> Iterator[Finding]:
    lacks = {model: missing for model in models if (missing := _missing(view, model))}
    sources = {model: file for model in lacks if lacks[model] == KERAS_FILE if (file := _saved(runs[model.run_id]))}
    if sources:
        yield Finding(
            f"logged models lack their file {KERAS_FILE}",
            [f"{model.model_id}  of {line(runs[model.run_id])}" for model in sources],
            "the file is copied from the run's own files",
            mending(list(sources), lambda model: _restore(model, sources[model]), lambda model: model.model_id),
        )
    lost = [model for model in lacks if model not in sources]
    if lost:
        yield Finding(
            "logged models lack their files",
            [f"{model.model_id}  no {lacks[model]} in {model.location}" for model in lost],
            "restore them, or delete the models in MLflow; a run's model_files/ may have its model, too",
        )


def _missing(view: StoreView, model: ModelRow) -> Path | None:
    """The first file that a completed model lacks."""
    place = view.place(model.location)
    if model.status != "READY" or place is None:
        return None
    return next((name for name in (DESCRIPTION, KERAS_FILE) if not (place / name).is_file()), None)


def _saved(run: StoredRun) -> Path | None:
    """The model among the run's files."""
    places = [Path(run.tags.get("run.folder", "")), local_path(run.artifacts)]
    candidates = [place / "model_files" / "model.keras" for place in places if place and place.is_absolute()]
    return next((file for file in candidates if file.is_file()), None)


def _restore(model: ModelRow, source: Path) -> None:
    place = local_path(model.location)
    if place is not None:
        with files.replacing(place / KERAS_FILE) as half:
            shutil.copyfile(source, half)


def _dangling(view: StoreView, addresses: set[str]) -> Iterator[Finding]:
    found = [
        run
        for run in view.runs
        if (address := run.tags.get("model.address", "")).startswith("models:/m-")
        and address not in addresses
        and not is_live(run)
    ]
    if found:
        yield Finding(
            "runs name a logged model that MLflow does not have any more",
            [line(run, run.tags["model.address"]) for run in found],
            "the tag `model.address` is removed",
            mending(
                found,
                lambda run: open_store(view.store)[0].delete_tag(run.run_id, "model.address"),
                lambda run: run.run_id,
            ),
        )
