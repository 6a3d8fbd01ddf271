"""Runs that were recorded while the tracking store was out of reach are delivered later, once, however often asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Started, Store, run_command
from mlflow import MlflowClient
from tracking_servers import free_port, mlflow_server, silent_server

from mnistlab.config import TrackingConfig
from mnistlab.tracking import delivery, servers, stores, sync
from mnistlab.tracking.entries import valid_name, valid_names
from mnistlab.tracking.mlflow_internals import dispose_engine
from mnistlab.tracking.recorder import Recorder, recording

pytestmark = pytest.mark.slow

QUICK = ("source=mnist_5k", "data.limit=256", "fit.epochs=2")


def store_of(root: Path) -> stores.StoreAddress:
    return stores.address(TrackingConfig(backend="mlflow", uri=None, experiment=None), str(root))


def write_run(root: Path, name: str = "run", **tags: str) -> Path:
    """The folder of a run that trained while its store was out of reach."""
    folder = root / "runs" / "2026-01-01" / name
    tags = {"run.uid": f"uid-{name}", "run.name": name, **tags}
    record = Recorder(folder, name, tags, store=store_of(root), store_error="no answer")
    record.log_parameters({"model.layers[0]": "Dense", "model.layers(0)": "Dropout", "empty": "", "long": "x" * 9000})
    record.log_metrics({"loss": 0.5, "cats & dogs": float("nan")}, 1)
    record.log_metrics({"loss": 0.25, "cats & dogs": float("inf")}, 2)
    record.set_tags({"": "no name", "../up": "odd", "k" * 300: "long"})
    record.write_text("reports/a.txt", "text")
    record._ended = True
    record._write_status("FINISHED", ended=time.time())
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    from small_data import copy_empty_database

    copy_empty_database(tmp_path)
    yield tmp_path
    dispose_engine(store_of(tmp_path).uri)


def test_a_delivery_is_complete_and_nothing_is_doubled_by_another(root) -> None:
    folder = write_run(root)
    (listed,) = sync.unsynced(root)
    assert (listed.name, listed.reason, listed.is_live) == ("run", "no answer", False)
    first = delivery.deliver(folder, store_of(root))
    assert sync.unsynced(root) == []
    assert delivery.deliver(folder, store_of(root)) == first
    (run,) = Store(root).runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["model.layers_0_"] == "Dense"
    assert run.data.params["model.layers_0__2"] == "Dropout"
    assert len(run.data.params["long"]) == 6000
    history = Store(root).client.get_metric_history(run.info.run_id, "epoch/loss")
    rows = sync.read_rows(folder / "metrics.jsonl")
    assert [(entry.step, entry.value) for entry in history] == [(1, 0.5), (2, 0.25)]
    assert [entry.timestamp for entry in history] == [row["timestamp"] for row in rows]
    assert len(Store(root).client.get_metric_history(run.info.run_id, "epoch/cats _ dogs")) == 2
    assert "tracking.error" not in run.data.tags
    assert [entry.path for entry in Store(root).client.list_artifacts(run.info.run_id, "reports")] == ["reports/a.txt"]


@pytest.mark.parametrize("moment", ["log_model_artifacts", "log_outputs"])
def test_a_delivery_that_ends_while_it_logs_the_model_leaves_no_second_one(root, monkeypatch, moment: str) -> None:
    folder = write_run(root)
    (folder / "model_files").mkdir()
    (folder / "model_files" / "model.keras").write_bytes(b"a model")
    (folder / "model.json").write_text(json.dumps({"input_shape": [4, 4, 1], "num_outputs": 3, "dtype": "uint8"}))

    def end(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MlflowClient, moment, end)
        delivery.deliver(folder, store_of(root))
    delivery.deliver(folder, store_of(root))
    (run,) = Store(root).runs()
    (model,) = Store(root).client.search_logged_models([run.info.experiment_id])
    assert (model.status, model.source_run_id) == ("READY", run.info.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]


def test_a_creation_whose_answer_was_lost_is_not_repeated(root) -> None:
    folder = write_run(root)
    client, experiment = delivery.open_store(store_of(root))
    created = client.create_run(experiment, tags={"run.uid": "uid-run", "error": "the process was killed"})
    assert delivery.deliver(folder, store_of(root)) == created.info.run_id
    (run,) = Store(root).runs()
    assert (run.info.status, run.info.run_name, "error" in run.data.tags) == ("FINISHED", "run", False)


def test_two_deliveries_at_once_are_one(root) -> None:
    folder = write_run(root)
    with delivery._locked(folder), pytest.raises(delivery.DeliveryUnderWay):
        delivery.deliver(folder, store_of(root))
    assert Store(root).runs() == []


def test_a_torn_last_line_and_damaged_files_do_not_stop_a_delivery(root) -> None:
    folder = write_run(root)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "timest')
    (folder / "parameters.json").write_text('{"a": ')
    run_id = delivery.deliver(folder, store_of(root))
    assert len(Store(root).client.get_metric_history(run_id, "epoch/loss")) == 2


def test_a_refused_entry_costs_that_entry_and_one_warning(root, caplog) -> None:
    folder = write_run(root)
    run_id = delivery.deliver(folder, store_of(root))
    run = delivery.MlflowRun(Store(root).client, "1", store_of(root), "run", {}, run_id)
    run.log_parameters({"empty": "changed", "new": "kept", "other": "kept"})
    assert caplog.text.count("refuses the parameter 'empty'") == 1
    params = Store(root).client.get_run(run_id).data.params
    assert (params["empty"], params["new"], params["other"]) == ("", "kept", "kept")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "//a", "a//b", "a/../b", "a/", "layers[0]", "ü", "a\nb", "\x00", "x" * 999, "…/x"]
)
def test_any_name_becomes_one_that_mlflow_takes(name) -> None:
    from mlflow.utils.validation import _validate_param_name

    _validate_param_name(valid_name(name))


def test_names_that_become_the_same_stay_apart() -> None:
    assert valid_names(["a[0]", "a_0_", "a(0)"]) == {"a[0]": "a_0__2", "a_0_": "a_0_", "a(0)": "a_0__3"}


@pytest.mark.parametrize("kind", ["refuses", "hangs", "errors"])
def test_a_silent_server_is_found_within_seconds_and_remembered(kind, monkeypatch) -> None:
    monkeypatch.setattr(servers, "_waited", [])
    with silent_server(kind) as uri:
        assert servers.outage(uri)
        assert servers.outage(uri) == servers.known_outage(uri)
    assert sum(servers._waited) < 6


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["refuses", "hangs", "errors"])
def test_a_silent_server_costs_seconds_and_no_training(train, tmp_path, kind) -> None:
    with silent_server(kind) as uri:
        done = train(*QUICK, MLFLOW_TRACKING_URI=uri)
        assert done.code == 0, done.err
        again = train(module="mnistlab.sync")
        required = train(*QUICK, f"tracking.uri={uri}", "tracking.required=true")
    assert "not synced:" in done.out
    assert "deliver it with: python -m mnistlab.sync" in done.out
    assert (done.out + done.err).count("WARNING: the tracking store failed") == 1
    (file,) = (tmp_path / "runs").glob("*/*/sync.json")
    assert json.loads(file.read_text())["synced"] is False
    assert (file.parent / "model_files" / "model.keras").is_file()
    assert (again.code, "not delivered" in again.out, "Traceback" in again.err) == (1, True, False)
    assert (required.code, "server does not answer" in required.err) == (2, True)


@pytest.mark.faults
def test_a_server_that_is_killed_in_mid_run_gets_everything_later(start, train, tmp_path) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with mlflow_server(tmp_path, port) as server:
        command = start("source=mnist_5k", "fit.epochs=200", "fit.batch_size=400", MLFLOW_TRACKING_URI=uri)
        command.wait_for_line("epoch 3/")
        assert "MLFLOW_TRACKING_URI=http://127.0.0.1" in command.output
        os.killpg(server.pid, signal.SIGKILL)
        assert command.finish() == 0, command.output
    assert command.output.count("WARNING: the tracking store failed") == 1
    assert "not synced:" in command.output
    (trained,) = (tmp_path / "runs").glob("*/*")
    assert len((trained / "metrics.jsonl").read_text().splitlines()) == 201
    assert (trained / "model_files" / "model.keras").is_file()
    with mlflow_server(tmp_path, port):
        first = Started.__new__(Started)
        first.process = subprocess.Popen([sys.executable, "-m", "mnistlab.sync", f"paths.root={tmp_path}"])
        time.sleep(4)  # any moment will do
        first.process.kill()
        first.process.wait()
        done = train(module="mnistlab.sync")
        assert done.code == 0, done.out + done.err
        assert "Everything is delivered" in train(module="mnistlab.sync").out
        (folder,) = (file.parent for file in (tmp_path / "runs").glob("*/*/sync.json"))
        assert run_command(tmp_path, str(folder), module="mnistlab.sync").code == 0
        client = MlflowClient(uri)
        (run,) = client.search_runs([client.get_experiment_by_name("mnistlab").experiment_id])
        history = client.get_metric_history(run.info.run_id, "epoch/loss")
        assert sorted(entry.step for entry in history) == list(range(1, 201))
        assert run.info.status == "FINISHED"
        assert len(run.outputs.model_outputs) == 1
        assert len(run.inputs.dataset_inputs) == 3
        names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert {"model_files", "reports", "figures", "metrics.jsonl", "train.log"} <= names


def test_a_folder_without_runs_has_nothing_to_deliver(tmp_path, train) -> None:
    done = train(f"root={tmp_path}", module="mnistlab.sync")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"Nothing to deliver: {tmp_path} has no runs, neither runs/ nor mlruns/.\n"
    assert list(tmp_path.iterdir()) == []


LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.faults
def test_a_database_that_is_locked_for_a_while_delays_and_loses_nothing(root, start) -> None:
    locking = [sys.executable, "-c", LOCK, str(root / "mlruns" / "mlflow.db")]
    with subprocess.Popen(locking, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as lock:
        assert lock.stdout.readline() == b"locked\n"
        command = start(*QUICK)
        command.wait_for_line("Another process has locked the tracking store")
        time.sleep(30)
        lock.stdin.close()
        assert command.finish() == 0, command.output
    (run,) = Store(root).runs()
    history = Store(root).client.get_metric_history(run.info.run_id, "epoch/loss")
    assert (run.info.status, [entry.step for entry in history]) == ("FINISHED", [1, 2])


def test_the_end_of_a_run_delivers_what_its_store_lacks(root) -> None:
    folder = root / "runs" / "2026-01-01" / "late"
    tags = {"run.uid": "late", "run.name": "late"}
    with recording(Recorder(folder, "late", tags, store=store_of(root), store_error="it was away")) as record:
        record.log_metrics({"loss": 1.0}, 1)
    assert record.store_error == ""
    assert Store(root).statuses() == ["FINISHED"]
    assert json.loads((folder / "sync.json").read_text())["synced"]
