"""Full disks: real small file systems in memory, mounted in a namespace of the command's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TIMEOUT, environment, run_command
from outcomes import weights

from mnistlab.runtime import checkpoints
from mnistlab.tracking.sync import read_rows

FILLS_THE_DISK = '''
import os
import keras

class FillDisk(keras.callbacks.Callback):
    """Fills the disk of all results after an epoch, but for some bytes."""

    def __init__(self, left, after=1):
        super().__init__()
        self.left, self.after = left, after

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 != self.after or "FILL_DISK" not in os.environ:
            return
        root = os.environ["MNISTLAB_ROOT"]
        disk = os.statvfs(root)
        with open(f"{root}/ballast", "wb") as file:
            try:
                file.write(b"x" * max(0, disk.f_bavail * disk.f_frsize - self.left))
            except OSError:
                pass
'''


def on_small_disk(folder: Path, megabytes: int, *words: str, again: bool = False) -> tuple[int, str, Path]:
    """Run a training with all its results on a disk of this size: exit status, output, a copy of the disk.

    again: once more when there is room again. A copy of the disk before that is in `full`.
    """
    disk, copy = folder / "disk", folder / "copy"
    disk.mkdir()
    (folder / "fill_disk.py").write_text(FILLS_THE_DISK)
    script = (
        f"mount -t tmpfs -o size={megabytes}m none {disk} || exit 99\n"
        f'FILL_DISK=1 {sys.executable} -m mnistlab.train "$@"; status=$?\n'
        f"rm -f {disk}/ballast\n"
        + (f'cp -a {disk} {folder}/full; {sys.executable} -m mnistlab.train "$@"; status=$status$?\n' if again else "")
        + f"cp -a {disk} {copy}; exit $status"
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


def fill(left: int, after: int = 1) -> str:
    return f"+callbacks.fill={{_target_: fill_disk.FillDisk, left: {left}, after: {after}}}"


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


@pytest.mark.faults
@pytest.mark.parametrize(("left", "tracking"), [(0, "none"), (300_000, "none"), (300_000, "mlflow")])
def test_a_run_on_a_full_disk_is_continued_once_there_is_room(tmp_path, left, tracking) -> None:
    """The checkpoint that was there stays whole. With some room left only the next checkpoints cannot be written."""
    words = ("source=mnist_5k", "fit.epochs=5", f"tracking={tracking}", "model.units=[512]", fill(left, after=3))
    words = (*words, "fit.checkpoint_percent=100")
    code, output, disk = on_small_disk(tmp_path, 80, *words, again=True)
    assert code == 10, output  # 1, then 0
    first, continued, second = output.partition("Continuing ")
    assert "is full: " in first and "paths.root=FOLDER" in first
    assert "Traceback (most recent call last)" not in output
    if left:
        assert first.count("WARNING: the checkpoint after epoch 3 cannot be written") == 1
        assert first.count("WARNING: the checkpoint after") == 1
        assert "epoch 5/5" in first
    assert continued and re.match(r"\S+ after epoch 2 \(interrupted: ", second)
    (folder,) = (tmp_path / "full" / "runs").glob("*/*")
    newest, problems = checkpoints.newest(folder / "checkpoint")
    assert (newest.epoch, problems) == (2, [])

    (run,) = disk.glob("runs/*/*")
    assert json.loads((run / "status.json").read_text())["status"] == "FINISHED"
    assert not (run / "checkpoint").exists()
    calm = tmp_path / "calm"
    calm.mkdir()
    more = {"PYTHONPATH": f"{tmp_path}:{environment(calm).get('PYTHONPATH', '')}", "MNISTLAB_TRUST": "fill_disk"}
    assert run_command(calm, *words, **more).code == 0
    (expected,) = calm.glob("runs/*/*")
    assert weights(run / "model_files" / "model.keras") == weights(expected / "model_files" / "model.keras")
    assert metrics(run) == metrics(expected)


def metrics(run: Path) -> list[tuple[int, dict[str, float]]]:
    """The rows of metrics.jsonl without times."""
    rows = read_rows(run / "metrics.jsonl")
    return [(row["step"], {k: v for k, v in row["metrics"].items() if "seconds" not in k}) for row in rows]
