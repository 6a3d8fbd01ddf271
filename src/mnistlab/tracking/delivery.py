"""Delivers a run folder to the tracking store: what was recorded while the store was out of reach.

The run in the store is found by its tag `run.uid`, so that a creation whose answer was lost is not repeated. Everything
can be sent again: MLflow keeps a metric once for each time, step and value; parameters, files and models are compared
with what is there. So a delivery may be broken off at any point and be repeated.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnistlab.config import ConfigError, hide_secrets
from mnistlab.runtime import files
from mnistlab.tracking import entries, store_errors, sync
from mnistlab.tracking.mlflow_models import example_in
from mnistlab.tracking.mlflow_runs import MlflowRun
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

OWN_TAGS = ("run.id", "tracking.error")  # of the folder only
PASSING_TAGS = ("error", "error.type")  # not of a run that finished after all


class DeliveryUnderWay(RuntimeError):
    """Another process delivers this run."""


def deliver(folder: Path, store: StoreAddress) -> str:
    """Make the store have all of this run, and its sync.json say so; returns the run's id there.

    Raises:
        ConfigError: the folder holds no run, or the store cannot be used.
        DeliveryUnderWay; ServerSilent; any error of MLflow.
    """
    tags = files.read_json(folder / "tags.json")
    if not tags.get("run.uid"):
        raise ConfigError(f"There is no run to deliver in {folder}: tags.json with the tag run.uid is missing.")
    with _locked(folder):
        try:
            run_id: str = store_errors.until_unlocked(lambda: _deliver(folder, store, tags), hide_secrets(store.uri))
        except Exception as error:
            failure = store_errors.in_words(error, store.uri)
            sync.write_state(folder, store, None, " ".join(f"{failure}".split())[:300], synced=False)
            raise failure from error
        kept = {name: value for name, value in tags.items() if name != "tracking.error"}
        files.write_json(folder / "tags.json", {**kept, "run.id": run_id})
        sync.write_state(folder, store, run_id, "", synced=True)
    return run_id


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder; the system releases it when this process ends, however it does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DeliveryUnderWay(f"another process delivers {folder}") from error
    finally:
        os.close(handle)


def _deliver(folder: Path, store: StoreAddress, tags: Mapping[str, str]) -> str:
    client, experiment_id = open_store(store)
    status = files.read_json(folder / "status.json")
    name = str(tags.get("run.name", folder.name))
    sent_tags = {key: value for key, value in tags.items() if key not in OWN_TAGS}
    found = _find_run(client, experiment_id, tags)
    if found is None:
        started = int(status["started"] * 1000) if "started" in status else None
        found = client.create_run(experiment_id, started, entries.valid_tags(sent_tags), name)
    run = MlflowRun(client, experiment_id, store, name, {}, found.info.run_id)
    try:
        _complete(run, folder, found, {**sent_tags, **_parent(client, experiment_id, tags)})
    except Exception as error:
        if not store_errors.is_silent(error) and not store_errors.is_locked(error):
            with contextlib.suppress(Exception):
                run.set_tags({"error": f"this record is incomplete: {type(error).__name__}: {error}"})
                run.end("FAILED")
        raise
    ended = int(status["ended"] * 1000) if "ended" in status else None
    final = str(status.get("status", "KILLED"))
    run.end("KILLED" if final == "RUNNING" else final, ended)
    return run.run_id


def _complete(run: MlflowRun, folder: Path, found: Any, tags: Mapping[str, str]) -> None:
    """Send everything that the run in the store, as it was found there, lacks."""
    run.set_tags(tags)
    for key in PASSING_TAGS:
        if key in found.data.tags and key not in tags:
            run.client.delete_tag(run.run_id, key)
    run.complete_parameters(files.read_json(folder / "parameters.json"))
    run.log_rows(sync.read_rows(folder / "metrics.jsonl"))
    dataset = files.read_json(folder / "dataset.json")
    if dataset and not (found.inputs and found.inputs.dataset_inputs):
        digests = {split: facts["digest"] for split, facts in dataset["splits"].items()}
        run.log_dataset(dataset["name"], dataset["origin"], digests, dataset["splits"])
    _send_model(run, folder, found)
    run.log_folder(folder, _artifact_sizes(run.client, run.run_id))


def _find_run(client: Any, experiment_id: str, tags: Mapping[str, str]) -> Any:
    """The run that was created for this folder; None if there is none."""
    condition = f"tags.`run.uid` = '{tags['run.uid']}'"
    return next(iter(client.search_runs([experiment_id], condition, max_results=1)), None)


def _parent(client: Any, experiment_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """For a sweep's job: the tags that show it beneath the sweep's parent run, if that one is in the store."""
    if tags.get("sweep.kind") != "job":
        return {}
    condition = f"tags.`sweep.id` = '{tags.get('sweep.id')}' and tags.`sweep.kind` = 'parent'"
    found = client.search_runs([experiment_id], condition, max_results=1)
    return {"mlflow.parentRunId": found[0].info.run_id, "sweep.parent": found[0].info.run_id} if found else {}


def _send_model(run: MlflowRun, folder: Path, found: Any) -> None:
    """Log the saved model unless the store has it; what is left of a broken attempt is removed.

    found: the run as the store had it.
    """
    facts: Any = files.read_json(folder / "model.json")
    saved = [folder / "model_files" / "model.keras", folder / "mlflow_model.keras"]
    file = next((file for file in saved if file.is_file()), None)
    if file is None or not facts:
        return
    condition = f"source_run_id = '{run.run_id}'"
    for model in run.client.search_logged_models([run.experiment_id], filter_string=condition):
        if model.status == "READY":
            outputs = found.outputs.model_outputs if found.outputs else []
            if model.model_id not in {output.model_id for output in outputs}:
                run.add_model(model.model_id)
            run.register_model(model.model_id, facts.get("register"))
            return
        run.client.delete_logged_model(model.model_id)
    run.log_model(file, facts, file == saved[1], example_in(folder))


def _artifact_sizes(client: Any, run_id: str) -> dict[str, int]:
    """Path -> size in bytes of the run's artifacts."""
    sizes: dict[str, int] = {}
    folders = [""]
    while folders:
        for entry in client.list_artifacts(run_id, folders.pop() or None):
            if entry.is_dir:
                folders.append(entry.path)
            else:
                sizes[entry.path] = entry.file_size
    return sizes
