"""A job whose node is lost: this machine cannot look its process up, and closes its run, so that the second attempt
goes on from its checkpoint."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mnistlab.runtime.processes import process_name
from mnistlab.sweep import outcomes
from mnistlab.sweep.outcomes import Outcome
from mnistlab.sweep.remote import Crashed, Task, _again


def a_task(folder: Path, where: str, status: str) -> tuple[Task, Path]:
    """The task of a job in a sweep's folder, and the folder of its run. where: 'here' or the name of a node."""
    process = process_name() if where == "here" else ":".join([where, *process_name().split(":")[1:]])
    run = folder / "run"
    run.mkdir()
    (run / "status.json").write_text(json.dumps({"status": status, "process": process}))
    (run / "tags.json").write_text(json.dumps({"run.uid": "abc"}))
    plan = folder / "plan-1.json"
    plan.write_text("{}")
    outcomes.leave(folder, "started", "key", Outcome(str(run), process))
    return Task(None, None, None, {}, str(plan), "{}", "key"), run


@pytest.mark.parametrize(
    ("where", "before", "after"),
    [("node", "RUNNING", "KILLED"), ("node", "FINISHED", "FINISHED"), ("here", "RUNNING", "RUNNING")],
)
def test_the_run_of_a_lost_node_is_closed(
    where: str, before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "WAIT_SECONDS", 0.2)
    task, run = a_task(tmp_path, where, before)
    again = _again(task, Crashed("NODE_FAIL"))
    assert again.attempt == 2
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == after
    assert ("error" in status) == (after == "KILLED")
    assert outcomes.read(tmp_path, "retried", "key") is not None
    assert outcomes.read(tmp_path, "started", "key") is None


def test_a_run_that_another_node_has_closed_is_not_waited_for(tmp_path: Path) -> None:
    task, _ = a_task(tmp_path, "node", "KILLED")
    started = time.monotonic()
    _again(task, Crashed("OUT_OF_MEMORY"))
    assert time.monotonic() - started < outcomes.WAIT_SECONDS / 2
