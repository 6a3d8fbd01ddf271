"""A run in the tracking store, as the training process sees it: each call is submitted to the background process.

Only the creation of the run is waited for. An error of an earlier call is raised by the next call, or by `wait`.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from mnistlab.runtime.child_process import ChildProcessDied
from mnistlab.tracking import background, mlflow_runs
from mnistlab.tracking.stores import StoreAddress


class RunProxy:
    """A new run in the store, or one that is reopened; its methods are those of `mlflow_runs.MlflowRun`.

    Raises:
        ConfigError: the store cannot be used.
    """

    def __init__(self, store: StoreAddress, name: str, tags: Mapping[str, str], run_id: str | None = None) -> None:
        self.run_id, self._how_to_view = background.call(mlflow_runs.open_run, store, name, dict(tags), run_id)
        self._reference = mlflow_runs.RunReference(store, name, self.run_id)
        self._futures: list[Future] = []

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        self._submit("log_parameters", dict(parameters))

    def log_metrics(self, metrics: Mapping[str, float], step: int, milliseconds: int) -> None:
        self._submit("log_metrics", dict(metrics), step, milliseconds)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._submit("set_tags", dict(tags))

    def log_dataset(self, name: str, origin: str, digests: Mapping[str, str], profile: Mapping[str, Any]) -> None:
        self._submit("log_dataset", name, origin, dict(digests), dict(profile))

    def log_table(self, columns: Mapping[str, list[Any]], file: str) -> None:
        self._submit("log_table", dict(columns), file)

    def log_folder(self, folder: Path) -> None:
        self._submit("log_folder", folder.resolve())

    def log_model(self, file: Path, input_shape: tuple[int, ...], num_outputs: int, remove: bool) -> Future:
        """The future's result is the model's models:/ address."""
        return self._submit("log_model", file.resolve(), input_shape, num_outputs, remove)

    def end(self, status: str) -> None:
        self._submit("end", status)

    def how_to_view(self) -> str:
        """The command that shows this run, and its page."""
        return self._how_to_view

    def wait(self) -> None:
        """Wait until everything is in the store; raises the first error."""
        try:
            for future in self._futures:
                future.result()
        except ChildProcessDied:  # a new process cannot write the lost entries, but it can mark the run as incomplete
            background.submit(mlflow_runs.close_incomplete_run, self._reference.store, self.run_id)
            raise
        finally:
            self._futures.clear()

    def _submit(self, method: str, *arguments: Any) -> Future:
        failed = [future for future in self._futures if future.done() and future.exception() is not None]
        if failed:
            self.wait()
        self._futures = [future for future in self._futures if not future.done()]
        future = background.submit(mlflow_runs.call_on_run, self._reference, method, *arguments)
        self._futures.append(future)
        return future
