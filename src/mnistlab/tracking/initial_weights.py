"""The file of the model to start from (`init.from`): a path, or a run or model of the tracking store."""

import functools
import re
from pathlib import Path

from mnistlab.config import Config, ConfigError
from mnistlab.tracking import background, mlflow_store, model_digests, stores
from mnistlab.tracking.stores import StoreAddress

FILE_ENDINGS = (".keras", ".h5")
IN_FOLDERS = ("model.keras", "model.h5", "model.weights.h5", "model_files")  # the preferred one first
# Also the page of a run, with what follows a question mark, or of one of its artifacts.
RUN_ADDRESS = re.compile(r"(?:runs:/|.*/runs/)([0-9a-f]{32})(?:/(?:artifacts/)?([^?]*))?(?:\?.*)?")


def initial_weights_file(config: Config) -> Path:
    """The file that `init.from` names; a model in the store is fetched once per process.

    `init.from` is a file, the folder of a run or of its model files, a run's id, the first letters of its id, its name
    (the newest finished run counts), runs:/ID, runs:/ID/FILE, the address of a run's page, or models:/...

    Raises:
        ConfigError: there is no such run or model, several runs have such an id, or the file is another than the run
            saved.
    """
    start_from = str(config.init["from"])
    file = Path(start_from).expanduser()
    if file.is_dir():
        file = file_in(file)
        model_digests.check_file(file, f"init.from={start_from}")
        return file
    is_address = start_from.startswith("models:/") or RUN_ADDRESS.fullmatch(start_from)
    if not is_address and (file.is_file() or file.name.endswith(FILE_ENDINGS) or "/" in start_from):
        if not file.is_file():
            raise ConfigError(
                f"init.from must be a saved model's file or the id of a run. Received: {file}, which does not exist."
            )
        model_digests.check_file(file, f"init.from={start_from}")
        return file
    store = stores.checked_address(config.tracking, config.paths.root)
    return _fetched(start_from, store, config.paths.root)


def file_in(folder: Path, setting: str = "init.from") -> Path:
    """The file of a saved model in a folder, or in the folder of a run. setting: what named it, for the message.

    Raises:
        ConfigError: there is none.
    """
    for name in IN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    if (folder / "model_files").is_dir():
        return file_in(folder / "model_files", setting)
    if (folder / "saved_model.pb").is_file():
        raise ConfigError(
            f"{setting}={folder} is a SavedModel of TensorFlow, whose layers cannot be told. Save the model with "
            "Keras: model.save('NAME.keras')."
        )
    raise ConfigError(
        f"{setting}={folder} is a folder without a saved model. It must have one of {', '.join(IN_FOLDERS[:3])}, "
        "or be the folder of a run that saved one (save.formats)."
    )


@functools.cache
def _fetched(start_from: str, store: StoreAddress, root: str) -> Path:
    downloads = Path(root).resolve() / "runs" / "downloads"
    if start_from.startswith("models:/"):
        folder = downloads / re.sub(r"[^\w.@-]+", "_", start_from.removeprefix("models:/"))
        logged: Path = background.call(mlflow_store.download_logged_model, start_from, store, folder)
        return logged
    address = RUN_ADDRESS.fullmatch(start_from)
    run_id = address[1] if address else background.call(mlflow_store.find_run_id, start_from, store)
    path = address[2] if address and address[2] and "." in address[2].rpartition("/")[2] else None
    saved: Path = background.call(mlflow_store.download_model_file, run_id, store, downloads / run_id, path)
    return saved
