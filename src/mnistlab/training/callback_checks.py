"""Checks of callbacks before the training: what Keras would notice at the end of an epoch, or never."""

import importlib.util
import inspect
import string
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mnistlab.config import Config, ConfigError, suggest
from mnistlab.config.build import build, locate
from mnistlab.config.metric_names import metric_names
from mnistlab.runtime.keras_internals import direction_error, learning_rate_or_schedule, profiles_batches
from mnistlab.training.callbacks import ends_with_other_weights

NEEDED_PACKAGES = {
    "TensorBoard": ("tensorboard", "pip install 'mnistlab[tensorboard]', or pip install tensorboard"),
    "RemoteMonitor": ("requests", "pip install requests"),
    "OrbaxCheckpoint": ("orbax.checkpoint", "pip install orbax-checkpoint"),
}
ACTING_WHEN_BUILT = ("OrbaxCheckpoint",)  # it makes folders
FILES, FOLDERS = ("filepath", "filename"), ("log_dir", "backup_dir", "directory")
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "factor": ("0 < value < 1", lambda value: 0 < value < 1),
    **dict.fromkeys(
        ("patience", "cooldown", "start_from_epoch", "min_lr", "histogram_freq", "embeddings_freq"),
        ("value >= 0", lambda value: value >= 0),
    ),
}
FREQUENCIES = {"save_freq": ("epoch",), "update_freq": ("epoch", "batch")}
NUMBERS_OR_NULL = ("baseline", "initial_value_threshold")
BATCH_METHODS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")

Entry = str | Mapping[str, Any]
Callbacks = Mapping[str, keras.callbacks.Callback]


def check_callback_settings(config: Config) -> None:
    """Check the configured callbacks without data and model. It builds those of Keras, which do nothing when built.

    Raises:
        ConfigError: of Keras's callbacks a package is missing, an argument has a wrong type or value, or a file cannot
            be written; a monitored metric will not exist.
    """
    built = {}
    for name, node in config.callbacks.items():
        target = locate(node["_target_"], f"callbacks.{name}")
        if _is_of_keras(target):
            _check_package(name, target)
            if problems := list(_argument_problems(f"callbacks.{name}", node, target)):
                raise ConfigError(problems)
            if target.__name__ not in ACTING_WHEN_BUILT and not node.get("profile_batch"):
                built[name] = build_callback(node, name)
    check_without_model(built, config.fit.metrics)
    check_monitor("save.monitor", config.save.monitor, config.fit.metrics)


def build_callback(node: Mapping[str, Any], name: str) -> Any:
    """Build one callback; what Keras would only warn of is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        built = build(node, f"callbacks.{name}")
    for warning in caught:
        if not _is_of_keras(type(built)):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif issubclass(warning.category, UserWarning):
            raise ConfigError(f"callbacks.{name}: {warning.message}")
    return built


def check_callbacks(callbacks: Callbacks, model: keras.Model, metrics: Sequence[Entry]) -> None:
    """Check what Keras would notice during the training or never.

    Raises:
        ConfigError: as `check_without_model`; or a callback would change the learning rate of an optimizer that has a
            schedule, needs averaged weights where the optimizer has none, has a schedule that gives no number, or
            monitors a metric of which Keras does not know whether it should rise.
    """
    check_without_model(callbacks, metrics)
    schedule = isinstance(learning_rate_or_schedule(model.optimizer), keras.optimizers.schedules.LearningRateSchedule)
    changes_rate = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
    for name, callback in callbacks.items():
        if schedule and isinstance(callback, changes_rate):
            raise ConfigError(
                f"callbacks.{name} changes the learning rate, but optimizer.learning_rate is a schedule that sets it "
                "at every step. Use one of the two."
            )
        if isinstance(callback, keras.callbacks.SwapEMAWeights) and not ends_with_other_weights(model.optimizer):
            raise ConfigError(f"callbacks.{name} needs averaged weights: set +optimizer.use_ema=true.")
        if isinstance(callback, keras.callbacks.LearningRateScheduler):
            _check_scheduler(name, callback, model)
        if (monitor := getattr(callback, "monitor", None)) and direction_error(callback, model):
            raise ConfigError(
                f"callbacks.{name}: Keras does not know whether {monitor} should rise or fall. "
                f"Write +callbacks.{name}.mode=min or +callbacks.{name}.mode=max."
            )


def check_without_model(callbacks: Callbacks, metrics: Sequence[Entry]) -> None:
    """Check callbacks that may have no model yet.

    Raises:
        ConfigError: an entry is no callback, monitors a metric that will not exist, acts at no possible frequency, or
            cannot write its files.
    """
    paths: dict[Path, str] = {}
    for name, callback in callbacks.items():
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(f"callbacks.{name} must be a keras.callbacks.Callback. Received: {callback!r}.")
        check_monitor(f"callbacks.{name}.monitor", getattr(callback, "monitor", None), metrics)
        if not _is_of_keras(type(callback)):
            continue
        _check_frequency(name, callback)
        if isinstance(callback, keras.callbacks.CSVLogger) and not (
            isinstance(callback.sep, str) and len(callback.sep) == 1
        ):
            raise ConfigError(f"callbacks.{name}.separator must be one character. Received: {callback.sep!r}.")
        for argument, path in _paths(callback):
            _check_path(f"callbacks.{name}.{argument}", path, callback, metrics)
            if (other := paths.setdefault(path, name)) != name:
                raise ConfigError(
                    f"callbacks.{other} and callbacks.{name} write to the same {path}. Give each its own."
                )
    _check_backups(callbacks, paths)


def check_monitor(setting: str, monitor: str | None, metrics: Sequence[Entry]) -> None:
    """Check that every epoch will have the monitored metric.

    Raises:
        ConfigError: it will not.
    """
    known = _names_in_logs(metrics)
    if monitor is not None and monitor not in known:
        raise ConfigError(
            f"{setting} must be a metric of the training. Received: {monitor}.{suggest(str(monitor), known)}"
        )


def make_folders(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Make the folders that Keras's callbacks write to. Keras makes those of some, and fails for others."""
    for callback in callbacks:
        for argument, path in _paths(callback) if _is_of_keras(type(callback)) else ():
            _folder_of(argument, path).mkdir(parents=True, exist_ok=True)


def needs_single_batches(callbacks: Callbacks) -> str:
    """'callbacks.tensorboard has update_freq=100' if a callback acts after single batches, else ''.

    The fused engine calls callbacks after blocks of batches, whose length depends on the speed of the machine.
    """
    for name, callback in callbacks.items():
        if not _is_of_keras(type(callback)) or isinstance(callback, keras.callbacks.LambdaCallback):
            for method in BATCH_METHODS:
                is_own = getattr(type(callback), method) is not getattr(keras.callbacks.Callback, method)
                if is_own or method in vars(callback):
                    return f"callbacks.{name} has {method}"
            continue
        for setting in FREQUENCIES:
            if (value := getattr(callback, setting, "epoch")) != "epoch":
                return f"callbacks.{name} has {setting}={value}"
        if getattr(callback, "write_steps_per_second", False):
            return f"callbacks.{name} has write_steps_per_second=true"
        if profiles_batches(callback):
            return f"callbacks.{name} has profile_batch"
    return ""


def _is_of_keras(found: Any) -> bool:
    return str(getattr(found, "__module__", "")).startswith("keras.src.callbacks.")


def _check_package(name: str, target: type) -> None:
    package, install = NEEDED_PACKAGES.get(target.__name__, ("", ""))
    try:
        missing = package and importlib.util.find_spec(package) is None
    except (ImportError, ValueError):  # the package around it is missing
        missing = True
    if missing:
        raise ConfigError(f"callbacks.{name} needs the package {package.partition('.')[0]}: {install}.")


def _argument_problems(name: str, node: Mapping[str, Any], target: type) -> Iterator[str]:
    """Arguments of one of Keras's callbacks that it would compare or call after the training has started."""
    for key, parameter in inspect.signature(target).parameters.items():
        if key in node and (rule := _broken_rule(key, node[key], parameter.default)):
            yield f"{name}.{key} must be {rule}. Received: {node[key]!r}."


def _broken_rule(key: str, value: Any, default: Any) -> str:
    """What an argument must be if it is not that, else ''. The default's type tells whether it is a number."""
    is_number = isinstance(value, int | float) and (not isinstance(value, bool) or key == "verbose")
    if key in (*FILES, *FOLDERS) and not isinstance(value, str):
        return "a path"
    if isinstance(default, bool):
        return "" if value in (True, False) else "true or false"
    if isinstance(default, int | float) and key != "profile_batch" and not is_number:
        return "a number"
    if key in NUMBERS_OR_NULL and value is not None and not is_number:
        return "a number or null"
    if key in RANGES and not RANGES[key][1](value):
        return f"a number with {RANGES[key][0]}"
    if key == "mode" and value not in ("auto", "min", "max"):
        return "auto, min or max"
    is_function = key == "schedule" or (key.startswith("on_") and value is not None)
    return "a function, {_target_: hydra.utils.get_method, path: MODULE.FUNCTION}" * (
        is_function and not isinstance(value, Mapping)
    )


def _check_frequency(name: str, callback: keras.callbacks.Callback) -> None:
    for setting, choices in FREQUENCIES.items():
        value = getattr(callback, setting, "epoch")
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not whole and value not in choices:
            raise ConfigError(
                f"callbacks.{name}.{setting} must be {' or '.join(choices)}, or a number of batches >= 1. "
                f"Received: {value!r}."
            )
    if getattr(callback, "save_best_only", False) and callback.save_freq != "epoch":
        raise ConfigError(
            f"callbacks.{name}.save_best_only needs save_freq=epoch: between epochs there is no validation to compare. "
            f"Received: save_freq={callback.save_freq}."
        )


def _check_scheduler(name: str, callback: keras.callbacks.LearningRateScheduler, model: keras.Model) -> None:
    """Call the schedule for the first epoch as Keras does, and see whether it gives a number."""
    rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
    if not callable(callback.schedule):
        raise ConfigError(f"callbacks.{name}.schedule must be a function. Received: {callback.schedule!r}.")
    try:
        try:
            first = callback.schedule(0, rate)
        except TypeError:
            first = callback.schedule(0)
    except Exception as error:
        raise ConfigError(f"callbacks.{name}.schedule(epoch=0, learning_rate={rate:g}) failed: {error!r}.") from error
    if not isinstance(first, float | np.float32):  # as Keras demands; NumPy's float64 is a float
        raise ConfigError(f"callbacks.{name}.schedule must return a float. Received: {first!r}.")


def _paths(callback: keras.callbacks.Callback) -> Iterator[tuple[str, Path]]:
    """The files and folders on this machine that a callback writes to, each with its argument's name."""
    for argument in (*FILES, *FOLDERS):
        path = getattr(callback, argument, None)
        if path is not None and "://" not in str(path):
            yield argument, Path(str(path))


def _folder_of(argument: str, path: Path) -> Path:
    """The folder that must be there before the training. Only in `filepath` Keras fills in {fields}."""
    if argument != "filepath":
        return path.parent if argument in FILES else path
    return next(folder for folder in path.parents if "{" not in str(folder))


def _check_path(setting: str, path: Path, callback: keras.callbacks.Callback, metrics: Sequence[Entry]) -> None:
    """Raise ConfigError if the fields in a path have no value, or nothing can be written there."""
    argument = setting.rpartition(".")[2]
    if argument == "filepath":
        _check_fields(setting, str(path), callback, metrics)
    is_file = argument in FILES
    if path.exists() and path.is_dir() == is_file:
        kind = ("file", "folder") if is_file else ("folder", "file")
        raise ConfigError(f"{setting} must be the path of a {kind[0]}. Received: {path}, which is a {kind[1]}.")
    existing = next(folder for folder in (_folder_of(argument, path), *path.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(f"{setting}={path} cannot be written: {existing}: {error.strerror or error}.") from error


def _check_fields(setting: str, path: str, callback: keras.callbacks.Callback, metrics: Sequence[Entry]) -> None:
    single = getattr(callback, "save_freq", "epoch") != "epoch"
    known = {name: 0.5 for name in _names_in_logs(metrics) if not single or not name.startswith("val_")}
    values = {"epoch": 1, **({"batch": 1} if single else {}), **known}
    try:
        path.format(**values)
    except Exception as error:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(path) if field is not None]
        except ValueError:
            fields = []
        unknown = [field for field in fields if field not in values]
        received = f"{{{unknown[0]}}} in {path}" if unknown else f"{path} ({error})"
        hint = suggest(unknown[0], values) if unknown else f" Fields: {', '.join(values)}."
        raise ConfigError(f"{setting} may have the fields of an epoch. Received: {received}.{hint}") from error


def _check_backups(callbacks: Callbacks, paths: Mapping[Path, str]) -> None:
    """BackupAndRestore deletes its whole folder at the end, and goes on from what it finds there."""
    for name, callback in callbacks.items():
        if not isinstance(callback, keras.callbacks.BackupAndRestore):
            continue
        folder, setting = Path(callback.backup_dir), f"callbacks.{name}.backup_dir"
        if (weights := folder / "latest.weights.h5").exists():
            raise ConfigError(
                f"{setting} holds the state of an earlier training, without its history, callbacks and random numbers. "
                f"Received: {folder}. Start from its weights: init.from={weights} and another backup_dir."
            )
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                f"{setting} must be empty or new: Keras deletes it after the training. Received: {folder}."
            )
        if inside := [other for path, other in paths.items() if folder in path.parents]:
            raise ConfigError(
                f"{setting} must be a folder of its own: Keras deletes it after the training. "
                f"Received: {folder}, which callbacks.{inside[0]} writes to."
            )


def _names_in_logs(metrics: Sequence[Entry]) -> list[str]:
    return [f"{prefix}{name}" for prefix in ("val_", "") for name in ("loss", *metric_names(metrics))]
