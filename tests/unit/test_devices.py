"""What TensorFlow reads about devices when it starts stands in the environment, unless the user has chosen."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mnistlab.runtime import devices, startup


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (devices.MEMORY_GROWTH, devices.CPU_DEVICES):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_the_memory_of_a_gpu_grows_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with startup.loading():
        assert os.environ[devices.MEMORY_GROWTH] == "true"
    monkeypatch.setenv(devices.MEMORY_GROWTH, "false")
    devices.let_memory_grow()
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "false"


def test_a_process_has_as_many_cpu_devices_as_its_job_with_the_most_needs() -> None:
    assert devices.reserved_cpu_devices() == 1
    devices.reserve_cpu_devices([None, None])
    assert devices.CPU_DEVICES not in os.environ
    devices.reserve_cpu_devices([None, 2, 4])
    devices.reserve_cpu_devices([3])
    devices.reserve_cpu_devices([])
    assert devices.reserved_cpu_devices() == 4
    assert os.environ[devices.CPU_DEVICES] == "4"


@pytest.mark.parametrize("text", ["", "two", "-1"])
def test_a_number_that_is_none_means_one(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.CPU_DEVICES, text)
    assert devices.reserved_cpu_devices() == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.parametrize(("threads", "sleep"), [("2", True), ("1", False), ("", False)])
def test_threads_sleep_where_there_are_more_of_them_than_processors(threads: str, sleep: bool) -> None:
    """A job of a sweep that runs side by side with others has as many threads as the sweep, on fewer processors."""
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from mnistlab.training import devices
devices.prepare()
import tensorflow as tf
tf.constant(1)
from tensorflow.python.eager import context
print(context.context().config.experimental.disable_thread_spinning)
"""
    variables = {**os.environ, devices.THREADS: threads, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout.strip() == str(sleep)
