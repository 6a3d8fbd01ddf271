"""The run's folder is complete without a store, and survives the store's failure; statuses are true."""

from __future__ import annotations

import json
import math

import pytest

from mnistlab.tracking.recorder import Recorder, recording


class FailingStore:
    """A store whose server dies after some calls."""

    run_id = "x"
    how_to_view = ""

    def __init__(self, calls: int) -> None:
        self.calls, self.seen = calls, []

    def submit(self, method: str, *arguments) -> None:
        self.seen.append(method)
        if len(self.seen) > self.calls:
            raise ConnectionError("connection refused")

    def wait(self) -> None:
        raise AssertionError("a store that failed must not be waited for")


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def status(folder):
    return json.loads((folder / "status.json").read_text())["status"]


def test_the_folder_holds_everything(tmp_path) -> None:
    with recording(Recorder(tmp_path / "run")) as record:
        record.log_parameters({"a": 1})
        record.log_metrics({"loss": 0.5}, step=1)
        record.log_metrics({"loss": math.nan}, step=2)
        record.set_tags({"a": "b"})
        record.set_tags({"c": 1})
    folder = tmp_path / "run"
    assert json.loads((folder / "parameters.json").read_text()) == {"a": 1}
    assert [(row["step"], row["metrics"]) for row in lines(folder)] == [(1, {"loss": 0.5}), (2, {"loss": "nan"})]
    assert json.loads((folder / "tags.json").read_text()) == {"a": "b", "c": "1"}
    assert status(folder) == "FINISHED"


@pytest.mark.parametrize(("error", "expected"), [(ValueError("boom"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_the_status_is_how_the_run_ended(tmp_path, error, expected) -> None:
    with pytest.raises(type(error)), recording(Recorder(tmp_path)):
        raise error
    assert status(tmp_path) == expected
    tags = json.loads((tmp_path / "tags.json").read_text())
    assert ("ValueError: boom" in tags["error"]) is (expected == "FAILED")
    assert (tmp_path / "traceback.txt").exists() is (expected == "FAILED")


def test_a_failing_store_ends_neither_the_run_nor_its_record(tmp_path, caplog) -> None:
    store = FailingStore(calls=1)
    with recording(Recorder(tmp_path, store_run=store)) as record:
        for step in (1, 2, 3):
            record.log_metrics({"loss": 1.0 / step}, step=step)
    assert len(lines(tmp_path)) == 3
    assert status(tmp_path) == "FINISHED"
    assert store.seen == ["log_metrics", "log_metrics"]
    assert "connection refused" in json.loads((tmp_path / "tags.json").read_text())["tracking.error"]
    assert caplog.text.count("the tracking store failed") == 1
