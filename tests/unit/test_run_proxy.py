"""A run in the store, as the training sees it: no error of an earlier call is lost."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from mnistlab.runtime.child_process import ChildProcessDied
from mnistlab.tracking import background, mlflow_runs
from mnistlab.tracking.run_proxy import RunProxy
from mnistlab.tracking.stores import StoreAddress


@pytest.fixture
def submitted(monkeypatch) -> list[tuple[Future, object, tuple]]:
    """Requests to the background process: nothing runs, the test completes the futures."""
    requests: list[tuple[Future, object, tuple]] = []

    def submit(function: object, *arguments: object) -> Future:
        requests.append((Future(), function, arguments))
        return requests[-1][0]

    opened: Future = Future()
    opened.set_result(("id", "how to view", "experiment id"))
    monkeypatch.setattr(background, "submit_urgent", lambda *_: opened)
    monkeypatch.setattr(background, "submit", submit)
    return requests


def test_an_error_is_raised_by_the_next_call_whatever_was_completed_meanwhile(submitted) -> None:
    proxy = RunProxy(StoreAddress("sqlite:///x", "e", None), "name", {})
    for _ in range(3):
        proxy.submit("set_tags", {})
    submitted[0][0].set_result(None)
    submitted[1][0].set_exception(OSError("disk full"))
    submitted[2][0].set_result(None)
    with pytest.raises(OSError, match="disk full"):
        proxy.submit("end", "FINISHED")
    assert len(submitted) == 3


def test_a_run_whose_entries_were_lost_is_marked_as_incomplete(submitted) -> None:
    proxy = RunProxy(StoreAddress("sqlite:///x", "e", None), "name", {})
    proxy.submit("log_model", "file")
    submitted[0][0].set_exception(ChildProcessDied("killed"))
    with pytest.raises(ChildProcessDied):
        proxy.wait()
    assert [request[1] for request in submitted] == [mlflow_runs.call_on_run, mlflow_runs.close_incomplete_run]
    assert submitted[1][2][1] == "id"
