"""The folder with all that a run recorded, fetched from the tracking store if it is not on this machine.

`find` needs MLflow unless a folder is named. It is called in the background process.
"""

import json
from pathlib import Path

from mnistlab.config import ConfigError, hide_secrets
from mnistlab.runtime import files
from mnistlab.tracking import chosen_models, history, initial_weights, mlflow_store, model_digests, stores
from mnistlab.tracking.chosen_models import BEST, LATEST, SETTING, choose
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.stores import StoreAddress

MARK = "tags.json"  # every run's folder has one


def find(named: str, store: StoreAddress, root: str, objective: str, working_folder: str = ".") -> Path:
    """The folder of the run that is named as for `choose`. A run named by its id or name need not have a model.

    Raises:
        ConfigError: there is no such run, or it is a model of no run.
    """
    path = Path(working_folder) / Path(named).expanduser()
    if (path / MARK).is_file():
        return path.resolve()
    address = initial_weights.RUN_ADDRESS.fullmatch(named)
    if path.exists() or named in (LATEST, BEST) or named.startswith("models:/") or ("/" in named and not address):
        chosen = choose(named, store, root, objective, working_folder)
        if not chosen.tags:
            raise ConfigError(f"{chosen.reason.rstrip('.')}. Name a run: its id, name or folder, latest or best.")
        if chosen.run_id is None:
            return Path(chosen.tags["run.folder"])
        run_id = chosen.run_id
    else:
        stores.check_exists(store)
        run_id = address[1] if address else mlflow_store.find_run_id(named, store, SETTING)
    try:
        (run,) = history.with_ids(store, [run_id])
    except Exception as error:
        raise ConfigError(f"There is no run {run_id} in {hide_secrets(store.uri)}.") from error
    folder = Path(run.tags.get("run.folder", ""))
    return folder if (folder / MARK).is_file() else _fetched(run, store, root)


def _fetched(run: StoredRun, store: StoreAddress, root: str) -> Path:
    """The run's artifacts and its model in a folder that looks like the one it was recorded in."""
    client, _ = mlflow_store.open_store(store)
    folder = Path(root) / "runs" / "downloads" / run.run_id
    folder.mkdir(parents=True, exist_ok=True)
    client.download_artifacts(run.run_id, "", str(folder))
    files.write_text(folder / MARK, json.dumps({**run.tags, "run.id": run.run_id}, indent=2))
    files.write_text(folder / "status.json", json.dumps({"status": run.status, "started": run.started}, indent=2))
    if "model.address" in run.tags and not (folder / model_digests.FOLDER).is_dir():
        mlflow_store.download_model_file(run.run_id, store, folder / model_digests.FOLDER, None, chosen_models.SETTING)
    return folder.resolve()
