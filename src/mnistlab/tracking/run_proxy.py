"""A run in the tracking store, as the training process sees it: each call is submitted to the background process.

Only the creation of the run is waited for. An error of an earlier call is raised by the next call, or by `wait`.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from mnistlab.runtime.child_process import ChildProcessDied
from mnistlab.tracking import background, mlflow_runs
from mnistlab.tracking.stores import StoreAddress


class RunProxy:
    """A new run in the store, or one that is reopened. how_to_view: the command that shows it, and its page.

    Raises:
        ConfigError: the store cannot be used.
    """

    def __init__(self, store: StoreAddress, name: str, tags: Mapping[str, str], run_id: str | None = None) -> None:
        opened = background.call(mlflow_runs.open_run, store, name, dict(tags), run_id)
        self.run_id, self.how_to_view, self.experiment_id = opened
        self._reference = mlflow_runs.RunReference(store, name, self.run_id)
        self._futures: list[Future] = []

    def submit(self, method: str, *arguments: Any) -> Future:
        """Call a method of `mlflow_runs.MlflowRun`, with plain arguments, in the background process."""
        self._futures = [future for future in self._futures if not future.done() or future.exception() is not None]
        if any(future.done() for future in self._futures):  # it failed
            self.wait()
        future = background.submit(mlflow_runs.call_on_run, self._reference, method, *arguments)
        self._futures.append(future)
        return future

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
