"""What a run is, by content: hashes of everything that its result depends on. Of two runs with equal fingerprints, one
is enough; `rerun_reasons` explains differences between two."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mnistlab.config import FILLED_IN, Config, ConfigError
from mnistlab.config.build import MOVED
from mnistlab.runtime.files import sha256
from mnistlab.tracking.rerun_reasons import reason_to_run_again
from mnistlab.tracking.user_code import used_modules

__all__ = ["code_hashes", "fingerprint", "hash_of", "hash_of_arrays", "reason_to_run_again", "request_hash"]

# Settings that the part 'settings' leaves out, with all settings below them:
# where results are stored, how a sweep is run, what a run is called, how it is interrupted and which figures are drawn
# have no effect on it;
WITHOUT_EFFECT = (
    *("run", "paths", "tracking", "sweep", "launch", "save.register", "explain", *FILLED_IN),
    *(f"fit.{name}" for name in ("resume", "checkpoint_percent", "checkpoint_seconds", "max_seconds")),
)
# these act through the images, labels and classes that they give, which the part 'data' has by content;
THROUGH_DATA = (
    "source",
    *(f"data.{name}" for name in ("split", "split_seed", "keep", "limit", "image_size", "target_size")),
    *(f"data.{name}" for name in ("validation", "validation_fraction", "validation_split", "test_fraction")),
)
# what these decide together with data and machine is in the part 'resolved';
THROUGH_RESOLVED = (
    *(f"fit.{name}" for name in ("engine", "resident_gigabytes", "batch_size", "precision", "strategy", "cpu_devices")),
    *("deterministic", "save.which", "data.scaling", "data.rescale"),
)
# these name files, which the part 'files' has by content.
THROUGH_FILES = ("init.from",)

# Requests of earlier runs do not have these settings: in `request_hash` they count where they are given.
COUNT_IF_GIVEN = ("fit.strategy", "fit.cpu_devices")

# The nodes whose `_target_`s are called.
CALLED = ("source", "model", "optimizer", "schedule", "callbacks", "fit")
PACKAGE = Path(__file__).resolve().parents[1]
# The code that produces results. A change in figures, reports or commands is no reason to train again.
PRODUCES_RESULTS = ("config", "data", "training", "evaluation", "experiment.py", "runtime/keras_internals.py")
WITHOUT_RESULTS = (
    *(f"config/{name}.py" for name in ("compose", "explaining", "file_settings", "hydra_internals")),
    *(f"config/{name}.py" for name in ("recorded", "run_names", "search_space", "secrets")),
    *(f"config/{name}.py" for name in ("sweep_size", "trust", "yaml_files")),
    *(f"evaluation/{name}.py" for name in ("drawing", "figures", "summary")),
    *(f"evaluation/{name}.py" for name in ("calibration", "confusions", "embedding")),
    *(f"evaluation/{name}.py" for name in ("explanation", "explanation_figures")),
    *("training/attribution.py", "training/pruning.py"),
    *(f"training/{name}.py" for name in ("model_files", "saved_models")),  # a model is loaded as it is, or not at all
)
LIBRARIES = ("tensorflow", "keras", "numpy", "pillow", "scipy")  # pillow, scipy: images in folders, ImageDataGenerator
PATH_CHARACTERS = {".", "/", "\\"}
RACY_NANOSECONDS = 2_000_000_000  # a file changed within this time may change again without another time stamp

Leaf = Callable[[str, Any], Any]


def fingerprint(
    config: Config, data: Mapping[str, str], resolved: Mapping[str, str], files: Mapping[str, Path]
) -> dict[str, str]:
    """A run's fingerprint and its parts, as tags.

    Args:
        data: what the data set is, by content: 'train', 'validation', 'test' -> digest, 'classes', 'loader'.
        resolved: what settings, data and machine decide: 'engine', 'precision', 'device', 'deterministic',
            'batch_size', 'scaling', 'saved_epoch', with several devices 'strategy'.
        files: setting -> file that is read besides the data ('init.from').

    Returns:
        'fingerprint': a hash of all parts; 'fingerprint.request': `request_hash`; 'fingerprint.settings': a hash;
        'fingerprint.data', '.resolved', '.files', '.modules', '.code', '.libraries': JSON of name -> hash, value or
        version.

    Raises:
        ConfigError: one of the files cannot be read.
    """
    settings, model_files = _effective_settings(config)
    read = {**files, **model_files}
    hashes = {setting: _file_hash(path, setting) for setting, path in read.items()}
    named = {setting: f"{hashes[setting]} {path.name}" for setting, path in read.items()}  # the name has no effect
    parts = {
        "data": dict(data),
        "resolved": dict(resolved),
        "modules": used_modules(_callables(config)),
        "code": code_hashes(),
        "libraries": _library_versions(),
    }
    return {
        "fingerprint": hash_of({**parts, "settings": settings, "files": hashes}),
        "fingerprint.request": request_hash(config),
        "fingerprint.settings": hash_of(settings),
        "fingerprint.files": json.dumps(named, sort_keys=True),
        **{f"fingerprint.{name}": json.dumps(part, sort_keys=True) for name, part in parts.items()},
    }


def request_hash(config: Config) -> str:
    """A hash of the settings as they are written, to find the earlier runs of the same request: with the data's path,
    without what the data hold. The run's folder has no effect."""
    absent = [name for name in COUNT_IF_GIVEN if getattr(config.fit, name.removeprefix("fit.")) is None]
    plain = functools.partial(_plain, config.paths.run or "")
    return hash_of(_walk(asdict(config), "", plain, (*WITHOUT_EFFECT, *absent)))


def _effective_settings(config: Config) -> tuple[Any, dict[str, Path]]:
    """The nested settings that act on the result by themselves, and the files that strings of the model name.

    In the settings, a hash of the file's content replaces its path.
    """
    files: dict[str, Path] = {}

    def leaf(setting: str, value: Any) -> Any:
        may_be_path = setting.startswith(("model.", "optimizer.", "schedule.")) and not setting.endswith("._target_")
        if may_be_path and (file := _existing_file(value)):
            files[setting] = file
            if PATH_CHARACTERS & set(value):  # 'relu' may be the activation, also if there is a file of this name
                return _file_hash(file, setting)
        return _plain(config.paths.run or "", setting, value)

    left_out = (*WITHOUT_EFFECT, *THROUGH_DATA, *THROUGH_RESOLVED, *THROUGH_FILES)
    return _walk(asdict(config), "", leaf, left_out), files


def _walk(value: Any, setting: str, leaf: Leaf, left_out: Sequence[str]) -> Any:
    """A copy of nested settings with their leaves replaced, without those whose dotted name is left out."""
    if isinstance(value, Mapping):
        names = {key: f"{setting}.{key}".removeprefix(".") for key in value}
        kept = {key: name for key, name in names.items() if name not in left_out}
        return {str(key): _walk(value[key], name, leaf, left_out) for key, name in kept.items()}
    if isinstance(value, list | tuple):
        return [_walk(entry, f"{setting}.{index}", leaf, left_out) for index, entry in enumerate(value)]
    return leaf(setting, value)


def _plain(run_folder: str, setting: str, value: Any) -> Any:
    """A value such that equal ones compare equal: 1 for 1.0, the earlier path of a callable that has moved."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    for old, new in MOVED.items():
        if value.startswith(new):
            value = old + value.removeprefix(new)
    return value.replace(run_folder, "") if run_folder else value


def _existing_file(value: Any) -> Path | None:
    if not isinstance(value, str):
        return None
    try:
        file = Path(value).expanduser()
        return file if file.is_file() else None
    except (OSError, RuntimeError):  # too long for a path, an unknown home
        return None


def _callables(config: Config) -> list[str]:
    """The dotted paths of all callables that the configuration names, also as `path` of `hydra.utils.get_method`."""
    found: list[str] = []

    def collect(node: Any) -> None:
        if isinstance(node, Mapping):
            target = str(node.get("_target_", ""))
            found.extend(filter(None, [target, str(node.get("path", "")) if target.startswith("hydra.utils.") else ""]))
        for inner in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
            collect(inner)

    settings = asdict(config)
    for name in CALLED:
        collect(settings[name])
    return found


def _file_hash(file: Path, setting: str) -> str:
    """A hash of a file's content: 16 hexadecimal digits of SHA-256. A large file is read once per process.

    Raises:
        ConfigError: the file cannot be read; the message names the setting.
    """
    try:
        status = file.stat()
        unchanged = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        is_recent = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < RACY_NANOSECONDS
        return _content_hash(file) if is_recent else _content_hash_once(file.resolve(), unchanged)
    except OSError as error:
        raise ConfigError(f"{setting} must be a file that can be read. Received: {file}: {error.strerror}.") from error


@functools.lru_cache(maxsize=1024)
def _content_hash_once(file: Path, unchanged: tuple[int, ...]) -> str:
    return _content_hash(file)


def _content_hash(file: Path) -> str:
    return sha256(file)[:16]


@functools.cache
def _library_versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries that compute."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    return versions


@functools.cache
def code_hashes() -> dict[str, str]:
    """Path within the package -> hash, of each module that produces results."""
    files = [file for name in PRODUCES_RESULTS for file in (PACKAGE / name, *(PACKAGE / name).rglob("*.py"))]
    paths = sorted(file.relative_to(PACKAGE).as_posix() for file in files if file.is_file())
    return {
        path: hashlib.sha256((PACKAGE / path).read_bytes()).hexdigest()[:8]
        for path in paths
        if path not in WITHOUT_RESULTS
    }


def hash_of(content: Any) -> str:
    """A hash of anything that JSON can write: 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_of_arrays(arrays: Sequence[np.ndarray]) -> str:
    """A hash of arrays, their shapes, types and values: 16 hexadecimal digits of SHA-256."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(repr((array.shape, array.dtype.str)).encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]
