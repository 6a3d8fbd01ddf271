"""The record of a run: written to the run's folder first, then mirrored to the tracking store.

The folder is complete without MLflow. If the store fails during a run, training continues, the folder keeps everything
and the run reports it.
"""

import contextlib
import json
import logging
import math
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mnistlab.config import hide_secrets
from mnistlab.runtime import errors, exits, files
from mnistlab.runtime.processes import process_name
from mnistlab.tracking import background, delivery, interrupted, servers, sync
from mnistlab.tracking.run_proxy import RunProxy
from mnistlab.tracking.stores import StoreAddress

log = logging.getLogger("mnistlab")

NOTE = "mlflow.note.content"


class Recorder:
    """Writes one run's record.

    Args:
        folder: the run's folder; created if it does not exist.
        name: of the run; tags: its initial tags; the run in the store has them already.
        store_run: the run in the tracking store; None to write the folder only.
        store: where it is mirrored, or shall be delivered later; None: nowhere.
        store_error: why there is no run in that store.
        continues: the folder holds this run already, which was interrupted; the tags include its earlier ones.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "",
        tags: Mapping[str, str] | None = None,
        store_run: RunProxy | None = None,
        store: StoreAddress | None = None,
        store_error: str = "",
        continues: bool = False,
    ) -> None:
        self.folder = folder
        self.continues = continues
        self.name = name or folder.name
        self.store_run = store_run
        self.store = store
        self.run_id = store_run.run_id if store_run else None
        self.store_error = store_error
        self._pending: list[Callable[[], None]] = []
        self._tags: dict[str, str] = {**(tags or {}), **({"run.id": store_run.run_id} if store_run else {})}
        self._ended = self._finished = False
        folder.mkdir(parents=True, exist_ok=True)
        interrupted.lock(folder)
        self._rows = sync.read_rows(folder / "metrics.jsonl") if continues else []
        self._write_status("RUNNING", started=time.time())
        self.write_json("tags.json", self._tags)
        if store is not None:
            self.write_sync(store_error)
        if store_error:
            self._warn()
        if continues:  # a line may be torn, the store may lack some
            self.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self._rows))
            self.submit("log_rows", self._rows)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        self.write_json("parameters.json", dict(parameters))
        self.submit("complete_parameters" if self.continues else "log_parameters", dict(parameters))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> dict[str, float] | None:
        """One line of metrics.jsonl and one call to the store; step: the epoch, from 1.

        Returns:
            None; or what was recorded for this step before the run was interrupted, which is not recorded again.
        """
        if recorded := self._recorded(metrics, step):
            return recorded
        milliseconds = int(time.time() * 1000)
        line = {"step": step, "timestamp": milliseconds, "metrics": {k: finite(v) for k, v in metrics.items()}}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.submit("log_metrics", dict(metrics), step, milliseconds)
        return None

    def _recorded(self, metrics: Mapping[str, float], step: int) -> dict[str, float] | None:
        """The values of these metrics at this step, if they were recorded before the run was interrupted."""
        for row in self._rows:
            if row["step"] != step or row["metrics"].keys() != metrics.keys():
                continue
            found = {name: float(value) for name, value in row["metrics"].items()}
            differing = [name for name in found if "seconds" not in name and not _are_same(found[name], metrics[name])]
            if differing:
                log.warning(
                    "WARNING: epoch %d, trained again, has other values than before the interruption: %s. The record "
                    "keeps the earlier ones. Something that checkpoints do not hold has an effect on this training.",
                    step,
                    ", ".join(f"{name} {metrics[name]:g} instead of {found[name]:g}" for name in differing[:3]),
                )
            return found
        return None

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        texts = {key: str(value) for key, value in tags.items()}
        self._tags.update(texts)
        self.write_json("tags.json", self._tags)
        self.submit("set_tags", texts)

    def write_text(self, name: str, text: str) -> None:
        """Write a file in the run's folder. It is replaced atomically: readers see the old or the new content."""
        files.write_text(self.folder / name, text)

    def write_json(self, name: str, content: Any) -> None:
        files.write_json(self.folder / name, content)

    def add_pending(self, complete: Callable[[], None]) -> None:
        """Add work that is under way in the background process; `wait` calls `complete`, which waits for it."""
        self._pending.append(complete)

    def end(self, status: str, wait: bool = True, files: bool = True) -> None:
        """Set the status FINISHED, FAILED or KILLED; the folder's files go to the store as artifacts.

        Args:
            wait: until they are stored; otherwise `wait` must be called later.
            files: whether they go there.
        """
        for handler in logging.getLogger().handlers:
            handler.flush()
        self._write_status(status, ended=time.time())
        self._ended, self._finished = True, status == "FINISHED"
        if files:
            self.submit("log_folder", self.folder.resolve())
        self.submit("end", status)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until everything is in the folder and in the store. What the store lacks is delivered if it can be."""
        while self._pending:
            self._pending.pop(0)()
        self.in_store(lambda run: run.wait())
        if self.store is not None and self._ended:
            if self.store_error:
                self._deliver(self.store)
            else:
                self.write_sync("", synced=True)
        if self._ended:
            if self._finished:
                interrupted.remove_checkpoints(self.folder)
            interrupted.unlock(self.folder)

    def _deliver(self, store: StoreAddress) -> None:
        """Try once to deliver the run after all, for example to a server that was restarted meanwhile."""
        try:
            if servers.outage(store.uri):
                return
            delivered = background.submit_urgent(delivery.deliver, self.folder.resolve(), store)
            self.run_id = servers.result_of(delivered, store.uri)
        except Exception:
            log.debug("delivery failed", exc_info=True)
        else:
            self.store_error = ""
            self._tags.pop("tracking.error", None)
            log.info("The tracking store works again: the run is complete in %s.", hide_secrets(store.uri))

    def _write_status(self, status: str, **times: float) -> None:
        """Write status.json: the status, the process, when the run started and ended (seconds since 1970)."""
        before = files.read_json(self.folder / "status.json")
        keeps = "started" in before and (status != "RUNNING" or self.continues)
        content = {"status": status, "process": process_name(), **times}
        content |= {"started": before["started"]} if keeps else {}
        if (background_pid := background.pid()) is not None:
            content["background"] = process_name(background_pid)
        self.write_json("status.json", content)

    def note(self, why: str) -> str:
        """The description of a run that did not finish, in Markdown: why, then what it says already."""
        return f"**{markdown_text(why)}**\n\n{self._tags.get(NOTE, '')}".rstrip()

    def write_sync(self, reason: str, synced: bool = False) -> None:
        """Write sync.json: whether the store has all of this run. reason: why not; '': the run is being recorded."""
        sync.write_state(self.folder, self.store, self.run_id, reason, synced)

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
            self.store_error = _in_one_line(error)
            if self.store is not None:
                self.write_sync(self.store_error)
            self._warn()
            log.debug("tracking store failed", exc_info=True)
            return None

    def _warn(self) -> None:
        """Say that the run is recorded in its folder only; keep the reason as its tag."""
        self._tags["tracking.error"] = self.store_error
        self.write_json("tags.json", self._tags)
        log.warning(
            "WARNING: the tracking store failed (%s). The run continues; from now on it is recorded in %s only.",
            self.store_error,
            self.folder,
        )


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
        record.set_tags({"error": reason, NOTE: record.note(f"KILLED: {reason}")})
        record.end("KILLED")
        raise
    except exits.TimeBudgetSpent as error:
        record.set_tags({"outcome": "time budget", "error": f"{error}; to be continued: run the same command again"})
        record.end("KILLED")
        raise
    except BaseException as error:
        reason = errors.describe(error)
        log.error("Failed: %s", reason[:500], exc_info=True)
        note = record.note(f"FAILED: {reason[:2000]}")
        record.set_tags({"error": reason[:2000], "error.type": type(error).__name__, NOTE: note})
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
            record.store_error = _in_one_line(error)
        if record.store_error:
            reason = f"its record in the tracking store is incomplete: {record.store_error}"
            errors[record.run_id or record.name] = reason
    return errors


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _in_one_line(error: Exception) -> str:
    text = str(error) if isinstance(error, servers.ServerSilent) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]


def _are_same(one: float, other: float) -> bool:
    return finite(one) == finite(float(other))


def finite(value: float) -> float | str:
    """JSON has neither NaN nor infinity: they are written as the strings 'nan', 'inf', '-inf'."""
    return value if math.isfinite(value) else str(float(value))
