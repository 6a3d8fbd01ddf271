"""A run in the tracking store, as the training process sees it: each call is submitted to the background process.

Only the creation of the run is waited for. An error of an earlier call is raised by the next call, or by `wait`.
"""

from collections.abc import Mapping
from concurrent.futures import Future

from mnistlab.config import ConfigError
from mnistlab.config.secrets import hidden, hide_secrets
from mnistlab.runtime.child_process import ChildProcessDied
from mnistlab.tracking import background, continuing, mlflow_runs, servers
from mnistlab.tracking.stores import StoreAddress


class RunProxy:
    """A new run in the store, or one that is reopened. how_to_view: the command that shows it, and its page.

    Raises:
        ConfigError: the store cannot be used. ConnectionError: its server does not answer. RuntimeError: it fails.
    """

    def __init__(self, store: StoreAddress, name: str, tags: Mapping[str, str], run_id: str | None = None) -> None:
        opening = background.submit_urgent(mlflow_runs.open_run, store, hide_secrets(name), hidden(dict(tags)), run_id)
        self.run_id, self.how_to_view, self.experiment_id = servers.result_of(opening, store.uri)
        self._reference = mlflow_runs.RunReference(store, name, self.run_id)
        self._futures: list[Future] = []

    def submit(self, method: str, *arguments: object) -> Future:
        """Call a method of `mlflow_runs.MlflowRun`, with plain arguments, in the background process."""
        self._futures = [future for future in self._futures if not future.done() or future.exception() is not None]
        if any(future.done() for future in self._futures):  # it failed
            self.wait()
        future = background.submit(mlflow_runs.call_on_run, self._reference, method, *hidden(list(arguments)))
        self._futures.append(future)
        return future

    def wait(self) -> None:
        """Wait until everything is in the store; raises the first error."""
        try:
            for future in self._futures:
                servers.result_of(future, self._reference.store.uri)
        except ChildProcessDied:  # a new process cannot write the lost entries, but it can mark the run as incomplete
            background.submit(mlflow_runs.close_incomplete_run, self._reference.store, self.run_id)
            raise
        finally:
            self._futures.clear()


def open_run(
    store: StoreAddress, name: str, tags: Mapping[str, str], run_id: str | None = None, continues: bool = False
) -> tuple[RunProxy | None, str]:
    """The run in the store and ''; or None and why there is none, if the server does not answer or the store fails.

    Args:
        run_id: of a run that is reopened.
        continues: reopen the run that has this tag `run.uid`; a new one if the store has none.

    Raises:
        ConfigError: a mistake that the user can correct.
    """
    if reason := servers.outage(store.uri):
        return None, reason
    try:
        if continues:
            found = background.submit_urgent(continuing.find_run, store, tags.get("run.uid", ""))
            run_id = servers.result_of(found, store.uri)
        return RunProxy(store, name, tags, run_id), ""
    except ConfigError:
        raise
    except Exception as error:
        return None, " ".join(str(error).split())[:300] or type(error).__name__
