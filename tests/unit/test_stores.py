"""Which store is used, and that an unusable one is refused in seconds."""

from __future__ import annotations

import socket
import time

import pytest

from mnistlab.config import ConfigError, TrackingConfig
from mnistlab.tracking.stores import address, check_reachable


def config(uri: str | None = None, experiment: str | None = None) -> TrackingConfig:
    return TrackingConfig(backend="mlflow", uri=uri, experiment=experiment)


def test_the_default_lies_under_the_root_wherever_one_stands(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir("/")
    store = address(config(), str(tmp_path))
    assert store.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.artifacts == tmp_path / "mlruns" / "artifacts"
    assert store.experiment == "mnistlab"
    assert store.said == ""


def test_the_environment_is_honoured_and_said_but_the_configuration_wins(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    store = address(config(), str(tmp_path))
    assert (store.uri, store.experiment) == ("http://me:secret@host:1", "theirs")
    assert "MLFLOW_TRACKING_URI=http://me:<hidden>@host:1" in store.said
    assert "MLFLOW_EXPERIMENT_NAME=theirs" in store.said
    monkeypatch.chdir(tmp_path)
    own = address(config("sqlite:///x.db", "mine"), str(tmp_path))
    assert (own.uri, own.experiment, own.said) == (f"sqlite:///{tmp_path}/x.db", "mine", "")


def test_a_server_that_is_down_is_refused_in_seconds(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    started = time.perf_counter()
    with pytest.raises(ConfigError, match="does not answer"):
        check_reachable(address(config(f"http://127.0.0.1:{port}"), str(tmp_path)))
    assert time.perf_counter() - started < 5


def test_a_folder_that_cannot_be_made_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        check_reachable(address(config(), str(tmp_path / "file")))


def test_a_plain_folder_as_store_is_refused_with_what_to_write(tmp_path) -> None:
    with pytest.raises(ConfigError, match=f"sqlite:///{tmp_path}/runs/mlflow.db"):
        check_reachable(address(config(f"{tmp_path}/runs"), str(tmp_path)))
