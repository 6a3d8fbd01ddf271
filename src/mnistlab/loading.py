"""The data set of a configuration: loaded and prepared once per process, ahead of need while other things load."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from dataclasses import asdict

from mnistlab import sources
from mnistlab.build import build
from mnistlab.config import Config
from mnistlab.data import Dataset, prepare
from mnistlab.sources import Images

OF_THE_MODEL_OR_SOURCE = ("scaling", "rescale", "image_size", "target_size", "validation_split")

_ahead: list[threading.Thread] = []


def load(config: Config) -> Dataset:
    """The data set of this configuration, the same object for all jobs of the process that share it.

    Raises:
        ConfigError: there is no such data, or it cannot be prepared so.
    """
    while _ahead:
        _ahead.pop().join()
    return _load(config)


def _load(config: Config) -> Dataset:
    preparation = {key: value for key, value in asdict(config.data).items() if key not in OF_THE_MODEL_OR_SOURCE}
    return _prepared(json.dumps(config.source, sort_keys=True), json.dumps(preparation, sort_keys=True))


def prefetch(config: Config) -> None:
    """Begin to load in a thread; what goes wrong there is told by `load`. Sources that need Keras are left for later:
    two threads must not import it at once."""
    if not sources.loads_without_keras(config.source):
        return

    def begin() -> None:
        with contextlib.suppress(Exception):
            _load(config)

    thread = threading.Thread(target=begin, name="prefetch", daemon=True)
    thread.start()
    _ahead.append(thread)


@functools.lru_cache(maxsize=2)
def _prepared(source: str, preparation: str) -> Dataset:
    return prepare(_loaded(source), **json.loads(preparation))


@functools.lru_cache(maxsize=2)
def _loaded(source: str) -> Images:
    images: Images = build(json.loads(source), "source")
    return images
