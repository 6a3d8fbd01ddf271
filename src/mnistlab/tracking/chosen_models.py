"""The trained model that a command is told to use: `run=latest`, `run=best`, a run, a registered model or a file.

`choose` needs MLflow unless a file or folder is named. A command calls it in the background process.
"""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mnistlab.config import ConfigError, hide_secrets, objectives
from mnistlab.config.metric_names import metric_direction
from mnistlab.runtime.files import read_json
from mnistlab.tracking import history, initial_weights, mlflow_store, model_digests, stores, sync
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.stores import StoreAddress

SETTING = "run"
LATEST, BEST = "latest", "best"
OBJECTIVE = objectives.USUAL_OBJECTIVE
UNKNOWN_DIRECTION = "higher"
NUM_LISTED = 5
FEW = 10  # runs in a request for the latest


@dataclass(frozen=True)
class ChosenModel:
    """A trained model and what its run recorded.

    place: what named it, 'run=best', for messages; reason: how it was chosen, in a sentence; file: in Keras's format,
    equal to what the run saved; name: of the run, of the file for one without a run; dataset: as `data.describe`
    returns it; config: the run's config.yaml; epochs: the metrics of each. Without a run these and params, tags and
    metrics are empty.
    """

    place: str
    reason: str
    file: Path
    name: str
    run_id: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[Mapping[str, float]] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty if they are not known."""
        return tuple(self.dataset.get("class_names", ()))


@dataclass(frozen=True)
class _Candidate:
    """A finished run with a model. folder: of a run that is in no store, else None."""

    run: StoredRun
    folder: Path | None = None


def choose(
    named: str, store: StoreAddress, root: str, objective: str = OBJECTIVE, working_folder: str = "."
) -> ChosenModel:
    """Find the model that `run=` names, and fetch its file.

    Args:
        named: 'latest'; 'best', the run with the best value of `objective` among the finished runs with the validation
            images of the latest; a run's id, the first letters of it, its name, runs:/ID, the address of its page;
            models:/ID, models:/NAME/VERSION, models:/NAME@ALIAS; a .keras or .h5 file, the folder of a run.
        store: where the runs are recorded; it need not exist for a file or a folder.
        root: the folder of all results.
        working_folder: where a relative path starts.

    Raises:
        ConfigError: there is no such run or model, or its file is another than the run saved.
    """
    place = f"{SETTING}={named}"
    path = Path(working_folder) / Path(named).expanduser()
    is_address = named.startswith("models:/") or initial_weights.RUN_ADDRESS.fullmatch(named)
    if not is_address and (path.exists() or path.name.endswith(initial_weights.FILE_ENDINGS) or "/" in named):
        return _of_file(path, place)
    if named in (LATEST, BEST):
        candidates = _candidates(store, root, 1 if named == LATEST else None)
        if named == LATEST:
            return _of_candidate(candidates[0], place, _sentence("The latest run", candidates[0].run), store, root)
        return _best(candidates, objective, place, store, root)
    stores.check_exists(store)
    if named.startswith("models:/"):
        folder = _downloads(root) / re.sub(r"[^\w.@-]+", "_", named.removeprefix("models:/"))
        file = mlflow_store.download_logged_model(named, store, folder, SETTING)
        run_id = mlflow_store.run_of_model(named, store)
        if run_id is None:
            return ChosenModel(place, f"The model {named}, of no run.", file, named)
        (run,) = history.with_ids(store, [run_id])
        return _with_record(_of_run(run, place, file, f"The model {named}, of {_described(run)}."), store, run)
    address = initial_weights.RUN_ADDRESS.fullmatch(named)
    run_id = address[1] if address else mlflow_store.find_run_id(named, store, SETTING)
    try:
        (run,) = history.with_ids(store, [run_id])
    except Exception as error:
        raise ConfigError(f"{place}: no such run in {hide_secrets(store.uri)}.") from error
    path_in_run = address[2] if address and address[2] and "." in address[2].rpartition("/")[2] else None
    file = _file_of_run(run, place, store, root, path_in_run)
    return _with_record(_of_run(run, place, file, _sentence("The run", run)), store, run)


def _file_of_run(run: StoredRun, place: str, store: StoreAddress, root: str, path: str | None = None) -> Path:
    """The model's file in the run's folder if that is on this machine, else fetched from the store.

    path: of an artifact, if one was named.
    """
    folder = Path(run.tags.get("run.folder", "")) / model_digests.FOLDER
    if path is None and run.tags.get("run.folder") and folder.is_dir():
        with contextlib.suppress(ConfigError):
            file = initial_weights.file_in(folder, SETTING)
            model_digests.compare(file, run.tags.get(model_digests.digest_tag(file.name)), place)
            return file
    return mlflow_store.download_model_file(run.run_id, store, _downloads(root) / run.run_id, path, SETTING)


def _downloads(root: str) -> Path:
    return Path(root) / "runs" / "downloads"


def _candidates(store: StoreAddress, root: str, count: int | None) -> list[_Candidate]:
    """The finished runs with a model, of the store and of folders that belong to none; the newest first.

    count: of those in the store, the newest that are needed; None: all.
    """
    found: list[_Candidate] = []
    problem = None
    try:
        stores.check_exists(store)
        size = FEW if count else history.page_size(store)
        finished = history.pages(store, "attributes.status = 'FINISHED'", size)
        found += map(_Candidate, itertools.islice(filter(_is_usable, finished), count))
    except ConfigError as error:
        problem = error
    for file in sync.in_run_folders(root, "tags.json"):
        folder, tags = file.parent, read_json(file)
        if "run.id" not in tags and (run := _run_of_folder(folder, tags)) and _is_usable(run):
            found.append(_Candidate(run, folder))
    if not found:
        raise problem or ConfigError(
            "There is no finished run with a saved model yet. Train one: python -m mnistlab.train. Or name a file: "
            f"{SETTING}=model.keras."
        )
    return sorted(found, key=lambda one: -(one.run.started or 0.0))


def _is_usable(run: StoredRun) -> bool:
    """Whether a run finished and saved a whole model."""
    saved = {"model.address", *(model_digests.digest_tag(name) for name in ("model.keras", "model.h5"))}
    return history.is_training(run) and run.status == "FINISHED" and bool(saved & run.tags.keys())


def _run_of_folder(folder: Path, tags: dict[str, str]) -> StoredRun | None:
    status = read_json(folder / "status.json")
    rows = sync.read_rows(folder / "metrics.jsonl")
    metrics = {name: float(value) for row in rows for name, value in row["metrics"].items()}
    name, params = tags.get("run.name", folder.name), read_json(folder / "parameters.json")
    return StoredRun("", name, status.get("status", "RUNNING"), tags, params, metrics, "", status.get("started"))


def _best(candidates: Sequence[_Candidate], objective: str, place: str, store: StoreAddress, root: str) -> ChosenModel:
    """The run with the best objective among those that were validated on the same images as the latest."""
    objective = objectives.current_name(objective)
    measured = [one for one in candidates if objective in one.run.metrics]
    if not measured:
        chosen_by = (f"{objectives.BEST_EPOCH}val_", *objectives.EXTREMES)
        known = sorted({name for one in candidates for name in one.run.metrics if name.startswith(chosen_by)})
        raise ConfigError(f"{place}: no finished run has the metric {objective}. Choices: {', '.join(known)}.")
    validation = measured[0].run.tags.get("hash.validation")
    same = [one for one in measured if one.run.tags.get("hash.validation") == validation]
    sign = -1 if (metric_direction(objective) or UNKNOWN_DIRECTION) == "lower" else 1
    chosen = max(same, key=lambda one: sign * one.run.metrics[objective])  # of equal ones the newest
    images = chosen.run.tags.get("source.used", "the same data")
    others = f"; {len(measured) - len(same)} with other validation images were not compared" if same != measured else ""
    among = f"of {len(same)} finished runs validated on the same images of {images}{others}"
    by = f"{objective} {chosen.run.metrics[objective]:.4f}"
    reason = f"The best {among}; ranked by {by}: {_described(chosen.run)}."
    return _of_candidate(chosen, place, reason, store, root)


def _of_candidate(chosen: _Candidate, place: str, reason: str, store: StoreAddress, root: str) -> ChosenModel:
    if chosen.folder is not None:
        return dataclasses.replace(_of_file(chosen.folder, place), reason=reason)
    file = _file_of_run(chosen.run, place, store, root)
    return _with_record(_of_run(chosen.run, place, file, reason), store, chosen.run)


def _of_file(path: Path, place: str) -> ChosenModel:
    """The model in a file, or in the folder of a run or of its model files, with what the run's folder says."""
    file = initial_weights.file_in(path, SETTING) if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(
            f"{SETTING} must be a saved model's file, a run's id, name or folder, latest, best or models:/NAME. "
            f"Received: {place.partition('=')[2]}, which does not exist."
        )
    model_digests.check_file(file, place)
    folder = file.resolve().parents[1]
    tags = read_json(folder / "tags.json") if file.resolve().parent.name == model_digests.FOLDER else {}
    run = _run_of_folder(folder, tags) if tags else None
    if run is None:
        return ChosenModel(place, f"The file {path}; its run is not known.", file, path.stem)
    chosen = _of_run(run, place, file, _sentence("The model of the run", run))
    return dataclasses.replace(chosen, run_id=tags.get("run.id"), **_recorded(lambda name: folder / name))


def _of_run(run: StoredRun, place: str, file: Path, reason: str) -> ChosenModel:
    return ChosenModel(place, reason, file, run.name, run.run_id or None, run.params, run.tags, run.metrics)


def _with_record(chosen: ChosenModel, store: StoreAddress, run: StoredRun) -> ChosenModel:
    """The model with the files that its run recorded."""
    return dataclasses.replace(chosen, **_recorded(lambda name: history.artifact(store, run, name)))


def _recorded(file: Callable[[str], Path]) -> dict[str, Any]:
    """What a run's files say. file: gives the path of one, which may not exist."""
    rows = [row["metrics"] for row in sync.read_rows(file("metrics.jsonl"))]
    epochs = [{name: float(value) for name, value in row.items()} for row in rows if "epoch_seconds" in row]
    return {"dataset": read_json(file("dataset.json")), "config": _read_yaml(file("config.yaml")), "epochs": epochs}


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _sentence(what: str, run: StoredRun) -> str:
    return f"{what}: {_described(run)}."


def _described(run: StoredRun) -> str:
    accuracy = run.metrics.get(OBJECTIVE)
    measured = "" if accuracy is None else f", {OBJECTIVE} {accuracy:.4f}"
    return f"{run.name}{f' ({run.run_id[:8]})' if run.run_id else ''}{measured}"
