"""Full disks: real small file systems in memory, mounted in a namespace of the command's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TIMEOUT, environment

FILLS_THE_DISK = '''
import os
import keras

class FillDisk(keras.callbacks.Callback):
    """Fills the disk of all results after the first epoch, but for some bytes."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def on_epoch_end(self, epoch, logs=None):
        if epoch > 0:
            return
        root = os.environ["MNISTLAB_ROOT"]
        disk = os.statvfs(root)
        with open(f"{root}/ballast", "wb") as file:
            try:
                file.write(b"x" * max(0, disk.f_bavail * disk.f_frsize - self.left))
            except OSError:
                pass
'''


def on_small_disk(folder: Path, megabytes: int, *words: str) -> tuple[int, str, Path]:
    """Run a training with all its results on a disk of this size: exit status, output, a copy of the disk."""
    disk, copy = folder / "disk", folder / "copy"
    disk.mkdir()
    (folder / "fill_disk.py").write_text(FILLS_THE_DISK)
    script = (
        f"mount -t tmpfs -o size={megabytes}m none {disk} || exit 99\n"
        f'{sys.executable} -m mnistlab.train "$@"; status=$?\n'
        f"rm -f {disk}/ballast; cp -a {disk} {copy}; exit $status"
    )
    path = [str(folder), *filter(None, [environment(folder).get("PYTHONPATH")])]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *words],
        env=environment(disk, PYTHONPATH=":".join(path), MNISTLAB_TRUST="fill_disk"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode != 99, f"a disk in memory cannot be mounted here:\n{done.stdout}"
    return done.returncode, done.stdout, copy


def fill(left: int) -> str:
    return f"+callbacks.fill={{_target_: fill_disk.FillDisk, left: {left}}}"


@pytest.mark.faults
def test_a_run_that_has_no_room_is_refused_before_it_starts(tmp_path) -> None:
    code, output, disk = on_small_disk(tmp_path, 3, "source=mnist_5k", "fit.epochs=1")
    assert code == 2
    assert "Error: This run needs about " in output
    assert f"in {tmp_path / 'disk' / 'runs'} and {tmp_path / 'disk' / 'mlruns' / 'artifacts'}; " in output
    assert " MB are free. Free some space, or choose a folder on another disk with paths.root=FOLDER" in output
    assert "Traceback" not in output
    assert not list(disk.rglob("tags.json"))


@pytest.mark.faults
def test_a_sweep_that_has_no_room_is_refused_before_its_first_job(tmp_path) -> None:
    words = ("--multirun", "source=mnist_5k", "fit.epochs=1", "optimizer=sgd,adam,rmsprop", "tracking=none")
    code, output, disk = on_small_disk(tmp_path, 6, *words)
    assert code == 2
    assert "Error: This sweep (3 jobs to run) needs about " in output
    assert not list(disk.rglob("tags.json"))


@pytest.mark.faults
@pytest.mark.parametrize("left", [0, 100_000, 500_000, 2_500_000])
def test_a_disk_that_fills_up_costs_the_run_but_tears_no_file(tmp_path, left) -> None:
    """The message names the place; what was written before is whole."""
    words = ("source=mnist_5k", "fit.epochs=2", "tracking=none", "model.units=[512]", fill(left))
    code, output, disk = on_small_disk(tmp_path, 60, *words)
    assert code == 1, output
    assert "is full: " in output and f"{tmp_path / 'disk'}" in output
    assert "choose a folder on another disk with paths.root=FOLDER." in output
    assert "Traceback (most recent call last)" not in output
    (run,) = {file.parent for file in disk.rglob("tags.json")}
    for file in [*run.rglob("*.json"), *run.rglob("status.json")]:
        json.loads(file.read_text())
    status = json.loads((run / "status.json").read_text()) if (run / "status.json").exists() else {"status": "RUNNING"}
    assert status["status"] in ("FAILED", "RUNNING")
    assert not list(run.rglob("*.keras"))
    assert not list(run.rglob("*.half*"))
