"""The devices that train: TensorFlow's GPUs, or its CPU, which may be divided into several logical devices.

TensorFlow fixes its devices when it first computes. `prepare` comes before that.
"""

import functools
import logging
from collections.abc import Sequence

import tensorflow as tf

from mnistlab.config import Config, ConfigError
from mnistlab.runtime import devices, keras_internals, resources

REMARKS = ("not using nccl allreduce", "MirroredStrategy eagerly has significant overhead")

_used: dict[str, tuple[str, ...]] = {}  # "names": the devices that batches are shared among in this process

log = logging.getLogger("mnistlab")


def prepare(cpu_devices: int | None = None) -> None:
    """Let the memory of GPUs grow, divide the CPU into the logical devices that were asked for in this process, and let
    threads sleep if there are more of them than processors, as in a sweep's job with its share of the processors.

    Without effect if TensorFlow has started.
    """
    devices.let_memory_grow()
    devices.reserve_cpu_devices([cpu_devices])
    if devices.threads() > len(resources.processors()):
        keras_internals.let_threads_sleep()
    cpu, count = tf.config.list_physical_devices("CPU")[0], devices.reserved_cpu_devices()
    if count > len(tf.config.get_logical_device_configuration(cpu) or [None]):
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError:  # it has started: `mirrored_strategy` says so if it needs them
            return


def strategy_of(config: Config) -> tf.distribute.MirroredStrategy | None:
    """The strategy of `fit.strategy`, the same for all jobs of a process with the same devices; None without one.

    Raises:
        ConfigError: TensorFlow has started with fewer CPU devices than `fit.cpu_devices`, or an earlier run of this
            process used other devices.
    """
    return mirrored_strategy(config.fit.cpu_devices) if config.fit.strategy == "mirrored" else None


def mirrored_strategy(cpu_devices: int | None) -> tf.distribute.MirroredStrategy:
    """All GPUs that TensorFlow sees, or the one CPU; with `cpu_devices` so many logical CPU devices instead.

    Raises:
        ConfigError: as `strategy_of`.
    """
    prepare(cpu_devices)
    if cpu_devices is None:
        names = [device.name for device in tf.config.list_logical_devices("GPU")] or ["/device:CPU:0"]
        return _strategy_on(tuple(names))
    existing = len(tf.config.list_logical_devices("CPU"))
    if existing < cpu_devices:
        raise ConfigError(
            f"fit.cpu_devices={cpu_devices} needs as many CPU devices, and TensorFlow has started with {existing} in "
            "this process; it cannot add any. Use a new process (in a notebook: restart the kernel)."
        )
    return _strategy_on(tuple(f"/device:CPU:{index}" for index in range(cpu_devices)))


def _strategy_on(names: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    used = _used.setdefault("names", names)
    if used != names:  # TensorFlow's collective operations would fail: their group of devices has another size
        raise ConfigError(
            "With fit.strategy=mirrored, all runs of a process must use the same devices. Received: "
            f"{len(names)} {_kind(names)} after {len(used)} {_kind(used)}. Use one number of devices in a command (in "
            "a notebook: restart the kernel); python -m mnistlab.compare compares the runs of several commands."
        )
    return _new_strategy(names)


@functools.cache
def _new_strategy(names: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    logging.getLogger("tensorflow").addFilter(_is_news)
    if len(names) == 1:
        log.warning(
            "fit.strategy=mirrored has one device here, %s: there is nothing to share. It takes all GPUs that "
            "TensorFlow sees; fit.cpu_devices=2 tries it on two logical CPU devices.",
            names[0].rpartition("device:")[2],
        )
    return tf.distribute.MirroredStrategy(list(names))


def _is_news(record: logging.LogRecord) -> bool:
    """Not TensorFlow's remarks that CPU devices are not connected as GPUs are, and that building metrics is slow."""
    return not any(remark in record.getMessage() for remark in REMARKS)


def describe(strategy: tf.distribute.Strategy | None = None) -> str:
    """Number and kind of the devices that train: '2 CPU', '1 GPU'."""
    if strategy is None:
        return f"1 {'GPU' if tf.config.list_physical_devices('GPU') else 'CPU'}"
    names = strategy.extended.worker_devices
    return f"{len(names)} {_kind(names)}"


def _kind(names: Sequence[str]) -> str:
    return "GPU" if "GPU" in names[0] else "CPU"
