"""The data set of a configuration: loaded and prepared once per process, in a thread while other libraries load."""

import functools
import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mnistlab.config import Config, ConfigError
from mnistlab.config.build import build
from mnistlab.data import shared
from mnistlab.data.dataset import Dataset, prepare
from mnistlab.data.sources import Images, loads_without_keras

log = logging.getLogger("mnistlab")

CLASS_MAPPINGS = ("class_weight", "keep")
NOT_OF_PREPARATION = ("scaling", "rescale", "image_size", "target_size", "validation_split")

KEPT = 2  # data sets in a process, the latest

_threads: list[threading.Thread] = []
_errors: dict[tuple[str, str], ConfigError] = {}  # raised in a thread
_shared: list[Path] = []  # the folder with data sets that another process has prepared for this one


def load(config: Config) -> Dataset:
    """The data set of this configuration, the same object for all jobs of the process that share it.

    Raises:
        ConfigError: the data cannot be loaded or prepared.
    """
    while _threads:
        _threads.pop().join()
    settings = settings_of(config)
    if settings in _errors:
        raise _errors.pop(settings)
    return _prepared(*settings)


def settings_of(config: Config) -> tuple[str, str]:
    """The settings of the source and those of its preparation, as JSON.

    Mappings of classes are lists of pairs there, because JSON has no numbers as keys, and 10 and "10" may differ.
    """
    preparation = {key: value for key, value in asdict(config.data).items() if key not in NOT_OF_PREPARATION}
    for name in CLASS_MAPPINGS:
        if isinstance(preparation[name], Mapping):
            preparation[name] = sorted(preparation[name].items(), key=lambda item: repr(item[0]))
    return json.dumps(config.source, sort_keys=True), json.dumps(preparation, sort_keys=True)


def share(config: Config, folder: Path) -> None:
    """Write the arrays of this configuration's data set into a folder, once, for processes that `use_shared` of it."""
    place, dataset = _place(folder, *settings_of(config)), load(config)
    mapped = any(isinstance(split.images, np.memmap) for split in dataset.splits.values())  # of the cache of a folder
    if dataset.resident and not mapped and not place.exists():
        shared.write(dataset, place)


def use_shared(folder: Path) -> None:
    """Take from this folder the data sets that another process has written there; others are loaded."""
    _shared[:] = [folder]


def _place(folder: Path, source: str, preparation: str) -> Path:
    return folder / hashlib.sha256(f"{source}\n{preparation}".encode()).hexdigest()[:16]


def prefetch(config: Config) -> None:
    """Start to load in a thread; `load` raises its errors. Sources that need Keras are loaded later, because two
    threads must not import Keras at once."""
    if not loads_without_keras(config.source):
        return

    def load_in_thread() -> None:
        try:
            _prepared(*settings_of(config))
        except ConfigError as error:
            _errors[settings_of(config)] = error
        except Exception as error:
            log.debug("loading in a thread failed, it is repeated: %r", error)

    thread = threading.Thread(target=load_in_thread, name="prefetch", daemon=True)
    thread.start()
    _threads.append(thread)


@functools.lru_cache(maxsize=KEPT)
def _prepared(source: str, preparation: str) -> Dataset:
    for folder in _shared:
        if (dataset := shared.read(_place(folder, source, preparation))) is not None:
            return dataset
    settings = json.loads(preparation)
    for name in CLASS_MAPPINGS:
        if isinstance(settings[name], list):
            settings[name] = dict(map(tuple, settings[name]))
    return prepare(_loaded(source), **settings)


@functools.lru_cache(maxsize=KEPT)
def _loaded(source: str) -> Images:
    images: Images = build(json.loads(source), "source")
    return images
