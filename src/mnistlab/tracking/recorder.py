"""What happened in a run: written to the run's own folder first, then mirrored to the tracking store.

The folder is complete without MLflow. If the store fails in mid-run the training goes on and the folder keeps
everything; the run says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger("mnistlab")


class PlainFormatter(logging.Formatter):
    """The terminal's lines: the message alone; tracebacks stay in the run's log file."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage()


class Mirror(Protocol):
    """A tracking store's run, as `mirror.RemoteRun` implements it: what fails may be raised by a later call, at the
    latest by `settle`."""

    run_id: str

    def log_parameters(self, parameters: Mapping[str, Any]) -> None: ...
    def log_metrics(self, metrics: Mapping[str, float], step: int, milliseconds: int) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def log_folder(self, folder: Path) -> None: ...
    def viewing(self) -> str: ...
    def end(self, status: str) -> None: ...
    def settle(self) -> None: ...


class Recorder:
    """Writes one run's record.

    Args:
        folder: the run's own folder; made if it does not exist.
        name: of the run; tags: known from the start, as the mirror's run has them already.
        mirror: the tracking store's run, or None to keep the folder alone.
    """

    def __init__(
        self, folder: Path, name: str = "", tags: Mapping[str, str] | None = None, mirror: Mirror | None = None
    ) -> None:
        self.folder = folder
        self.name = name or folder.name
        self.mirror = mirror
        self.run_id = mirror.run_id if mirror else None
        self.mirror_error = ""
        self._later: list[Callable[[], None]] = []
        self._tags: dict[str, str] = {**(tags or {}), **({"run.id": mirror.run_id} if mirror else {})}
        folder.mkdir(parents=True, exist_ok=True)
        self.write_json("tags.json", self._tags)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        self.write_json("parameters.json", dict(parameters))
        self.mirrored(lambda mirror: mirror.log_parameters(parameters))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """One line of metrics.jsonl and one call to the store; step: the epoch, from 1."""
        milliseconds = int(time.time() * 1000)
        line = {
            "step": step,
            "timestamp": milliseconds,
            "metrics": {k: finite(v) for k, v in metrics.items()},
        }
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.mirrored(lambda mirror: mirror.log_metrics(metrics, step, milliseconds))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        texts = {key: str(value) for key, value in tags.items()}
        self._tags.update(texts)
        self.write_json("tags.json", self._tags)
        self.mirrored(lambda mirror: mirror.set_tags(texts))

    def write_text(self, name: str, text: str) -> None:
        """A file in the run's folder, replaced as a whole: readers see the old or the new one, never half."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_name(f".{file.name}.half")
        half.write_text(text, encoding="utf-8")
        half.replace(file)

    def write_json(self, name: str, content: Any) -> None:
        self.write_text(name, json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n")

    def later(self, finish: Callable[[], None]) -> None:
        """Have something finished that is under way elsewhere, before the run is complete."""
        self._later.append(finish)

    def end(self, status: str, wait: bool = True) -> None:
        """FINISHED, FAILED or KILLED; the folder's files go to the store as artifacts.

        wait: until they are there; if not, `settle` must be called.
        """
        for handler in logging.getLogger().handlers:
            handler.flush()
        self.write_json("status.json", {"status": status, "ended": time.time()})
        self.mirrored(lambda mirror: mirror.log_folder(self.folder))
        self.mirrored(lambda mirror: mirror.end(status))
        if wait:
            self.settle()

    def settle(self) -> None:
        """Wait until everything is in the folder and in the store."""
        while self._later:
            self._later.pop(0)()
        self.mirrored(lambda mirror: mirror.settle())

    def mirrored(self, call: Callable[[Any], Any]) -> Any:
        """Do it in the store too. The first failure is said, kept as a tag of the folder, and ends the mirroring."""
        if self.mirror is None or self.mirror_error:
            return None
        try:
            return call(self.mirror)
        except Exception as error:
            self.mirror_error = f"{type(error).__name__}: {error}".splitlines()[0]
            self._tags["tracking.error"] = self.mirror_error
            self.write_json("tags.json", self._tags)
            log.warning(
                "WARNING: the tracking store failed (%s). The run goes on; from here on it is kept in %s alone.",
                self.mirror_error,
                self.folder,
            )
            log.debug("tracking store failed", exc_info=True)
            return None


unsettled: list[Recorder] = []  # of runs that have ended without waiting


@contextlib.contextmanager
def recording(record: Recorder, wait: bool = True) -> Iterator[Recorder]:
    """Ends the record with the true status: KILLED for Ctrl-C and SIGTERM, FAILED for any error, else FINISHED.

    wait: until a finished run is complete in the store; if not, somebody else waits for it later.
    """
    try:
        yield record
    except KeyboardInterrupt:
        log.info("Stopped by the user.")
        record.set_tags({"error": "stopped by Ctrl-C or SIGTERM"})
        record.end("KILLED")
        raise
    except BaseException as error:
        reason = " ".join(str(error).split()) or "no message"
        log.error("Failed: %s: %s", type(error).__name__, reason[:500], exc_info=True)
        record.set_tags({"error": f"{type(error).__name__}: {reason}"[:2000]})
        record.write_text("traceback.txt", traceback.format_exc())
        record.end("FAILED")
        raise
    record.end("FINISHED", wait)
    if not wait:
        unsettled.append(record)


def settle_all() -> dict[str, str]:
    """Wait for all that ended without waiting; run id -> why its record in the store is incomplete, if it is."""
    lost = {}
    while unsettled:
        record = unsettled.pop(0)
        record.settle()
        if record.mirror_error:
            reason = f"its record in the tracking store is incomplete: {record.mirror_error}"
            lost[record.run_id or record.name] = reason
    return lost


def finite(value: float) -> float | str:
    """JSON has no NaN and no infinity: they are written as the words 'nan', 'inf', '-inf'."""
    return value if math.isfinite(value) else str(float(value))
