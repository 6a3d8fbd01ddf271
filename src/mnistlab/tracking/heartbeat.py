"""The sign of life of open runs: the tag `run.heartbeat`, renewed every minute by the background process.

Another machine that uses the same store cannot look up this machine's processes. By the tag it tells a run that trains
from one whose machine has stopped.
"""

import contextlib
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

TAG = "run.heartbeat"
BEAT_SECONDS = 60

_threads: list[threading.Thread] = []


def start(open_runs: Mapping[str, Any]) -> None:
    """Renew the tag of these runs, run id -> `mlflow_runs.MlflowRun`, in a thread, as long as the process lives."""
    if not _threads:
        _threads.append(threading.Thread(target=_beat, args=(open_runs,), name="heartbeat", daemon=True))
        _threads[0].start()


def _beat(open_runs: Mapping[str, Any]) -> None:
    while True:
        time.sleep(BEAT_SECONDS)
        for run in list(open_runs.values()):
            with contextlib.suppress(Exception):  # the store is gone, or the run has ended meanwhile
                run.client.set_tag(run.run_id, TAG, now())


def now() -> str:
    """The value of the tag at this moment."""
    return datetime.now(UTC).isoformat(timespec="seconds")
