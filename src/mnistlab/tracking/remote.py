"""A run in the tracking store, as the training process sees it: every call goes to the second process and on.

Nothing is waited for but the run's id. What has failed meanwhile is raised by the next call.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnistlab import tracking
from mnistlab.runtime import background
from mnistlab.runtime.background import Pending, WorkerDied
from mnistlab.tracking import RunName
from mnistlab.tracking.stores import StoreAddress


class RemoteRun:
    """A new run in the store, or one that is opened again; its methods are `tracking.MlflowRun`'s.

    Raises:
        ConfigError: the store cannot be used.
    """

    def __init__(self, store: StoreAddress, name: str, tags: Mapping[str, str], run_id: str | None = None) -> None:
        self.run_id, self._viewing = background.call(tracking.open_run, store, name, dict(tags), run_id)
        self._known = RunName(store, name, self.run_id)
        self._under_way: list[Pending] = []

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        self._send("log_parameters", dict(parameters))

    def log_metrics(self, metrics: Mapping[str, float], step: int, milliseconds: int) -> None:
        self._send("log_metrics", dict(metrics), step, milliseconds)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._send("set_tags", dict(tags))

    def log_dataset(self, name: str, origin: str, digests: Mapping[str, str], profile: Mapping[str, Any]) -> None:
        self._send("log_dataset", name, origin, dict(digests), dict(profile))

    def log_table(self, columns: Mapping[str, list[Any]], file: str) -> None:
        self._send("log_table", dict(columns), file)

    def log_folder(self, folder: Path) -> None:
        self._send("log_folder", folder.resolve())

    def log_model(self, file: Path, input_shape: tuple[int, ...], num_outputs: int, remove: bool) -> Pending:
        """The model's models:/ address, once it is there."""
        return self._send("log_model", file.resolve(), input_shape, num_outputs, remove)

    def end(self, status: str) -> None:
        self._send("end", status)

    def viewing(self) -> str:
        """The command that shows this run, and its page."""
        return self._viewing

    def settle(self) -> None:
        """Wait until all is in the store; raises the first failure."""
        try:
            for pending in self._under_way:
                pending.result()
        except WorkerDied:  # a new one, which knows nothing of what was under way, can at least say so
            background.send(tracking.close_incomplete, self._known.store, self.run_id)
            raise
        finally:
            self._under_way.clear()

    def _send(self, method: str, *arguments: Any) -> Pending:
        self._under_way = [earlier for earlier in self._under_way if not earlier.done or earlier.failed]
        if any(earlier.failed for earlier in self._under_way):
            self.settle()
        pending = background.send(tracking.on_run, self._known, method, *arguments)
        self._under_way.append(pending)
        return pending
