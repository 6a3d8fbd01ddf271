"""The address of the tracking store; an unusable store is an error within seconds, before MLflow is loaded."""

from __future__ import annotations

import socket

import pytest

from mnistlab.config import ConfigError, TrackingConfig
from mnistlab.tracking import stores
from mnistlab.tracking.stores import address, check_reachable


def config(uri: str | None = None, experiment: str | None = None) -> TrackingConfig:
    return TrackingConfig(backend="mlflow", uri=uri, experiment=experiment)


def test_the_default_is_under_the_root_and_not_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir("/")
    store = address(config(), str(tmp_path))
    assert store.uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert store.artifacts == tmp_path / "mlruns" / "artifacts"
    assert store.experiment == "mnistlab"
    assert store.from_environment == ""


def test_environment_variables_are_used_and_reported_but_the_configuration_comes_first(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    store = address(config(), str(tmp_path))
    assert (store.uri, store.experiment) == ("http://me:secret@host:1", "theirs")
    assert "MLFLOW_TRACKING_URI=http://me:<hidden>@host:1" in store.from_environment
    assert "MLFLOW_EXPERIMENT_NAME=theirs" in store.from_environment
    monkeypatch.chdir(tmp_path)
    configured = address(config("sqlite:///x.db", "mine"), str(tmp_path))
    assert (configured.uri, configured.experiment) == (f"sqlite:///{tmp_path}/x.db", "mine")
    assert configured.from_environment == ""


def test_a_server_that_is_down_is_an_error(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="does not answer"):
            check_reachable(address(config(f"http://127.0.0.1:{port}"), str(tmp_path)))


def test_the_wait_for_a_server_is_limited(tmp_path, monkeypatch) -> None:
    """A host that drops packets would otherwise keep the command waiting for minutes."""
    limits = []

    def connect(_address: tuple[str, int], timeout: float) -> socket.socket:
        limits.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(stores.socket, "create_connection", connect)
    with pytest.raises(ConfigError, match="does not answer.*timed out"):
        check_reachable(address(config("https://me:secret@host"), str(tmp_path)))
    assert limits == [stores.CONNECT_SECONDS]
    assert stores.CONNECT_SECONDS <= 5


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        check_reachable(address(config(), str(tmp_path / "file")))


def test_a_plain_folder_as_store_is_an_error_that_names_a_correct_address(tmp_path) -> None:
    with pytest.raises(ConfigError, match=f"sqlite:///{tmp_path}/runs/mlflow.db"):
        check_reachable(address(config(f"{tmp_path}/runs"), str(tmp_path)))
