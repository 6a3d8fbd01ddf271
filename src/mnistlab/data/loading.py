"""The data set of a configuration: loaded and prepared once per process, ahead of need while other things load."""

from __future__ import annotations

import functools
import json
import logging
import threading
from dataclasses import asdict

from mnistlab.config import Config, ConfigError
from mnistlab.config.build import build
from mnistlab.data import Dataset, prepare, sources
from mnistlab.data.sources import Images

log = logging.getLogger("mnistlab")

OF_THE_MODEL_OR_SOURCE = ("scaling", "rescale", "image_size", "target_size", "validation_split")

_ahead: list[threading.Thread] = []
_refusals: dict[tuple[str, str], ConfigError] = {}  # what the thread was refused with


def load(config: Config) -> Dataset:
    """The data set of this configuration, the same object for all jobs of the process that share it.

    Raises:
        ConfigError: there is no such data, or it cannot be prepared so.
    """
    while _ahead:
        _ahead.pop().join()
    wanted = _wanted(config)
    refused = _refusals.pop(wanted, None)
    if refused is not None:
        raise refused
    return _prepared(*wanted)


def _wanted(config: Config) -> tuple[str, str]:
    """The settings of the source and those of its preparation."""
    preparation = {key: value for key, value in asdict(config.data).items() if key not in OF_THE_MODEL_OR_SOURCE}
    return json.dumps(config.source, sort_keys=True), json.dumps(preparation, sort_keys=True)


def prefetch(config: Config) -> None:
    """Begin to load in a thread; what goes wrong there is told by `load`. Sources that need Keras are left for later:
    two threads must not import it at once."""
    if not sources.loads_without_keras(config.source):
        return

    def begin() -> None:
        try:
            _prepared(*_wanted(config))
        except ConfigError as error:
            _refusals[_wanted(config)] = error
        except Exception as error:
            log.debug("loading ahead failed, so it is done again: %r", error)

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
