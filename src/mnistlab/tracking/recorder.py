"""The record of a run: written to the run's folder first, then mirrored to the tracking store.

The folder is complete without MLflow. If the store fails during a run, training continues, the folder keeps everything
and the run reports it.
"""

import contextlib
import json
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mnistlab.runtime import errors, exits
from mnistlab.tracking.run_proxy import RunProxy

log = logging.getLogger("mnistlab")


class Recorder:
    """Writes one run's record.

    Args:
        folder: the run's folder; created if it does not exist.
        name: of the run; tags: its initial tags; the run in the store has them already.
        store_run: the run in the tracking store; None to write the folder only.
    """

    def __init__(
        self, folder: Path, name: str = "", tags: Mapping[str, str] | None = None, store_run: RunProxy | None = None
    ) -> None:
        self.folder = folder
        self.name = name or folder.name
        self.store_run = store_run
        self.run_id = store_run.run_id if store_run else None
        self.store_error = ""
        self._pending: list[Callable[[], None]] = []
        self._tags: dict[str, str] = {**(tags or {}), **({"run.id": store_run.run_id} if store_run else {})}
        folder.mkdir(parents=True, exist_ok=True)
        self.write_json("tags.json", self._tags)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        self.write_json("parameters.json", dict(parameters))
        self.submit("log_parameters", dict(parameters))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """One line of metrics.jsonl and one call to the store; step: the epoch, from 1."""
        milliseconds = int(time.time() * 1000)
        line = {"step": step, "timestamp": milliseconds, "metrics": {k: finite(v) for k, v in metrics.items()}}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.submit("log_metrics", dict(metrics), step, milliseconds)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        texts = {key: str(value) for key, value in tags.items()}
        self._tags.update(texts)
        self.write_json("tags.json", self._tags)
        self.submit("set_tags", texts)

    def write_text(self, name: str, text: str) -> None:
        """Write a file in the run's folder. It is replaced atomically: readers see the old or the new content."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_name(f".{file.name}.half")
        half.write_text(text, encoding="utf-8")
        half.replace(file)

    def write_json(self, name: str, content: Any) -> None:
        self.write_text(name, json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n")

    def add_pending(self, complete: Callable[[], None]) -> None:
        """Add work that is under way in the background process; `wait` calls `complete`, which waits for it."""
        self._pending.append(complete)

    def end(self, status: str, wait: bool = True) -> None:
        """Set the status FINISHED, FAILED or KILLED; the folder's files go to the store as artifacts.

        wait: until they are stored; otherwise `wait` must be called later.
        """
        for handler in logging.getLogger().handlers:
            handler.flush()
        self.write_json("status.json", {"status": status, "ended": time.time()})
        self.submit("log_folder", self.folder.resolve())
        self.submit("end", status)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until everything is in the folder and in the store."""
        while self._pending:
            self._pending.pop(0)()
        self.in_store(lambda run: run.wait())

    def submit(self, method: str, *arguments: Any) -> Any:
        """Call a method of `mlflow_runs.MlflowRun` for the run in the store; returns a future of its result."""
        return self.in_store(lambda run: run.submit(method, *arguments))

    def in_store(self, call: Callable[[Any], Any]) -> Any:
        """Call this with the run in the store. The first error is reported, kept as a tag of the folder, and ends the
        mirroring; then and without a store the result is None."""
        if self.store_run is None or self.store_error:
            return None
        try:
            return call(self.store_run)
        except Exception as error:
            with contextlib.suppress(Exception):  # marks the run as incomplete if the background process died
                self.store_run.wait()
            self.store_error = f"{type(error).__name__}: {error}".splitlines()[0]
            self._tags["tracking.error"] = self.store_error
            self.write_json("tags.json", self._tags)
            log.warning(
                "WARNING: the tracking store failed (%s). The run continues; from now on it is recorded in %s only.",
                self.store_error,
                self.folder,
            )
            log.debug("tracking store failed", exc_info=True)
            return None


_incomplete: list[Recorder] = []  # of runs that ended without waiting for the store


@contextlib.contextmanager
def recording(record: Recorder, wait: bool = True) -> Iterator[Recorder]:
    """End the record with the true status: KILLED for Ctrl-C, SIGTERM and SIGHUP, FAILED for any error, else FINISHED.

    wait: until a finished run is complete in the store; otherwise `wait_for_all` must be called later.
    """
    try:
        yield record
    except KeyboardInterrupt as error:
        reason = exits.stop_reason(error)[1]
        log.info("The run is recorded as KILLED: %s.", reason)
        record.set_tags({"error": reason})
        record.end("KILLED")
        raise
    except BaseException as error:
        reason = errors.describe(error)
        log.error("Failed: %s", reason[:500], exc_info=True)
        record.set_tags({"error": reason[:2000], "error.type": type(error).__name__})
        record.write_text("traceback.txt", traceback.format_exc())
        record.end("FAILED")
        raise
    record.end("FINISHED", wait)
    if not wait:
        _incomplete.append(record)


def wait_for_all() -> dict[str, str]:
    """Wait for all runs that ended without waiting; run id -> error, for those whose record is incomplete."""
    errors = {}
    while _incomplete:
        record = _incomplete.pop(0)
        try:
            record.wait()
        except Exception as error:
            record.store_error = f"{type(error).__name__}: {error}"
        if record.store_error:
            reason = f"its record in the tracking store is incomplete: {record.store_error}"
            errors[record.run_id or record.name] = reason
    return errors


def finite(value: float) -> float | str:
    """JSON has neither NaN nor infinity: they are written as the strings 'nan', 'inf', '-inf'."""
    return value if math.isfinite(value) else str(float(value))
