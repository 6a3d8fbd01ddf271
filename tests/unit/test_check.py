"""`python -m mnistlab.check`: all checks of a command and of its data; nothing is trained, nothing is written."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_in import Ended

from mnistlab import check, sync, train
from mnistlab.data import loading
from mnistlab.runtime import errors

OPTIMIZER = """import keras


def build():
    return keras.optimizers.SGD(0.5)
"""
SMALL = ("source=mnist_5k", "data.limit=300")


@pytest.fixture
def check_here(tmp_path: Path, monkeypatch, capfd) -> Callable[..., Ended]:
    """Check a command in this process; its root folder does not exist yet."""
    monkeypatch.setenv("MNISTLAB_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, command: Callable[[], int | None] = check._check) -> Ended:
        for cache in (loading._prepared, loading._loaded):
            cache.cache_clear()
        monkeypatch.setattr(sys, "argv", ["mnistlab", *words])
        capfd.readouterr()
        code = errors.run_command(command)
        return Ended(code, *capfd.readouterr())

    return run


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_command_is_checked_and_nothing_is_written(check_here, tmp_path: Path) -> None:
    ended = check_here(*SMALL, "optimizer=momentum", "fit.epochs=4", "callbacks=default")
    assert (ended.code, ended.err) == (0, "")
    assert "data      mnist_5k: 300 train, 400 validation, 1,000 test images of 28x28x1, 10 classes" in ended.out
    assert "model     mlp, 101,770 parameters; SGD" in ended.out
    assert "training  4 epochs of 10 steps, 32 images each; engine fused" in ended.out
    assert f"in {tmp_path}/root/runs" in ended.out
    assert ended.out.endswith("All checks passed. Nothing was written.\n")
    assert tree(tmp_path) == set()


def test_the_jobs_of_a_sweep_are_checked(check_here, tmp_path: Path) -> None:
    ended = check_here("--multirun", *SMALL, "optimizer=sgd,adam", "sweep.seeds=2", "sweep.preflight=false")
    assert ended.code == 0, ended.err
    assert "jobs      4: sgd-seed0, sgd-seed1, adam-seed0, adam-seed1" in ended.out
    assert tree(tmp_path) == set()


def test_problems_of_configuration_and_of_data_are_all_listed(check_here, tmp_path: Path) -> None:
    ended = check_here(*SMALL, "fit.epoch=3", "fit.batch_size=-1", "optimizer.learning_rate=true")
    assert ended.code == 2
    for problem in ("fit.epoch is not a setting. Did you mean fit.epochs", "fit.batch_size", "optimizer.learning_rate"):
        assert f"  - {problem}" in ended.err
    jobs = ("source.path=none.npz,nothing.npz", "optimizer=adam,sgd")
    ended = check_here("--multirun", "source=npz", *jobs, "tracking.uri=mlruns", "paths.root=/proc/none")
    assert ended.code == 2
    assert "none.npz" in ended.err and "nothing.npz" in ended.err
    assert "tracking.uri must be sqlite:///FILE" in ended.err
    assert "The folder of the runs cannot be written: /proc/none" in ended.err
    assert tree(tmp_path) == set()


def test_what_only_data_and_model_show_is_a_problem(check_here, make_npz) -> None:
    file = make_npz("mine.npz", shape=(6, 5))
    ended = check_here("source=npz", f"source.path={file}", "model=cnn", "model.filters=[8,8,8,8]")
    assert ended.code == 2
    assert "Traceback" not in ended.err
    ended = check_here("source=npz", f"source.path={file}", "data.class_weight={7:2}")
    assert (ended.code, "data.class_weight" in ended.err) == (2, True)


def test_what_only_informs_is_no_training(check_here) -> None:
    ended = check_here("--cfg", "job")
    assert (ended.code, ended.err) == (2, "Error: mnistlab.check takes the words of a training. Received: --cfg job.\n")


def test_a_root_without_a_folder_has_nothing_to_deliver(check_here, monkeypatch) -> None:
    monkeypatch.setenv("MNISTLAB_ROOT", "/proc/none")
    ended = check_here(command=sync._sync)
    assert (ended.code, ended.err) == (2, "Error: paths.root must be a folder that exists. Received: /proc/none.\n")


def test_a_folder_of_images_is_read_without_its_cache(check_here, make_folder, tmp_path: Path) -> None:
    folder = make_folder("own")
    before = tree(tmp_path)
    ended = check_here("source=directory", f"source.path={folder}", "source.cache=cache")
    assert ended.code == 0, ended.err
    assert "of 6x5x" in ended.out
    assert tree(tmp_path) == before


def test_code_of_ones_own_needs_trust(check_here, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "checked_of_mine.py").write_text(OPTIMIZER)
    (tmp_path / "mine" / "optimizer").mkdir(parents=True)
    (tmp_path / "mine" / "optimizer" / "own.yaml").write_text("_target_: checked_of_mine.build\n")
    words = (*SMALL, "--config-dir", "mine", "optimizer=own")
    refused = check_here(*words)
    assert (refused.code, "trust=[checked_of_mine]" in refused.err) == (2, True)
    assert "checked_of_mine" not in sys.modules
    assert check_here(*words, "trust=[checked_of_mine]").code == 0


def test_a_server_that_does_not_answer_is_a_warning_unless_it_is_required(check_here) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"tracking.uri=http://127.0.0.1:{free.getsockname()[1]}"
    ended = check_here(*SMALL, uri)
    assert (ended.code, "WARNING: the tracking server does not answer" in ended.out) == (0, True)
    ended = check_here(*SMALL, uri, "tracking.required=true")
    assert (ended.code, "The tracking server does not answer: http://127.0.0.1" in ended.err) == (2, True)


@pytest.mark.parametrize("command", [check._check, train._run])
@pytest.mark.parametrize("multirun", [[], ["--multirun"]])
def test_a_root_that_cannot_be_written_is_one_line(check_here, tmp_path: Path, command, multirun) -> None:
    (tmp_path / "file").touch()
    for root in ("/proc/none", str(tmp_path / "file" / "below")):
        ended = check_here(*multirun, *SMALL, "optimizer=adam", f"paths.root={root}", command=command)
        assert ended.code == 2
        assert ended.err.startswith(f"Error: The folder of the runs cannot be written: {root}")
        assert "choose another with paths.root=FOLDER" in ended.err
        assert ended.err.count("\n") == 1
    assert tree(tmp_path) == {tmp_path / "file"}
