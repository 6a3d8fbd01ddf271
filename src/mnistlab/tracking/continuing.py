"""What changes when a command continues an earlier run: its folder, its log file, its entries in the tracking store."""

import dataclasses
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnistlab.config import Config, SweepJobInfo
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

PASSING_TAGS = ("error", "error.type", "outcome", "tracking.error")  # of an attempt that ended; the run goes on
HYDRAS_FILES = {".hydra", "train.log"}


def move_to(config: Config, folder: Path) -> None:
    """Let the configuration name an earlier run's folder as its own; the log goes on there, and the new folder goes."""
    new = config.paths.run
    if new and Path(new).resolve() != folder.resolve():
        _replace_in(config, new, str(folder))
        _continue_log(Path(new), folder)
        _remove_if_unused(Path(new))
    config.paths.run = str(folder)


def _replace_in(node: Any, old: str, new: str) -> Any:
    """The node with one text replaced by another in all its strings; dataclasses are changed in place."""
    if isinstance(node, str):
        return node.replace(old, new)
    if isinstance(node, dict):
        return {key: _replace_in(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_replace_in(value, old, new) for value in node]
    if dataclasses.is_dataclass(node) and not isinstance(node, SweepJobInfo):
        for entry in dataclasses.fields(node):
            setattr(node, entry.name, _replace_in(getattr(node, entry.name), old, new))
    return node


def _continue_log(new: Path, folder: Path) -> None:
    """Let the log files in the new folder go on in the earlier one, with what they hold."""
    root = logging.getLogger()
    for handler in root.handlers:
        if not isinstance(handler, logging.FileHandler) or Path(handler.baseFilename).parent != new.resolve():
            continue
        handler.flush()
        file = folder / Path(handler.baseFilename).name
        with file.open("a", encoding="utf-8") as earlier:
            earlier.write(Path(handler.baseFilename).read_text(encoding="utf-8"))
        handler.close()
        handler.baseFilename, handler.mode = str(file.resolve()), "a"  # it opens the file when it writes next


def _remove_if_unused(folder: Path) -> None:
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= HYDRAS_FILES:
        shutil.rmtree(folder, ignore_errors=True)


def tags_of(earlier: Mapping[str, str], new: Mapping[str, str], epoch: int) -> dict[str, str]:
    """The tags of a run that is continued after `epoch` epochs."""
    kept: dict[str, str] = {name: value for name, value in earlier.items() if name not in PASSING_TAGS}
    count, epochs = int(earlier.get("resumed.count", "0")) + 1, earlier.get("resumed.epochs", "")
    resumed = {"resumed.count": str(count), "resumed.epochs": ", ".join(filter(None, [epochs, str(epoch)]))}
    identity: dict[str, str] = {name: kept[name] for name in ("run.uid", "run.folder", "run.name") if name in kept}
    return {**kept, **new, **identity, **resumed}


# ---- in the background process --------------------------------------------------------------------------------------


def find_run(store: StoreAddress, uid: str) -> str | None:
    """The id of the run that is continued, None if the store does not have it; what its last attempt left goes."""
    client, experiment_id = open_store(store)
    condition = f"tags.`run.uid` = '{uid}'"
    found = client.search_runs([experiment_id], condition, max_results=1) if uid else []
    if not found:
        return None
    run = found[0]
    for tag in PASSING_TAGS:
        if tag in run.data.tags:
            client.delete_tag(run.info.run_id, tag)
    for model in client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"):
        client.delete_logged_model(model.model_id)
    return str(run.info.run_id)
