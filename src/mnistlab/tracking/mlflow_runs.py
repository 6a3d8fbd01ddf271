"""A run in the tracking store, written through `MlflowClient` in the background process.

Runs are addressed by explicit ids, never through MLflow's active run, so that neither a stray MLFLOW_RUN_ID nor a race
for an experiment's name can redirect them. `run_proxy.py` calls these functions with plain data.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnistlab.config import hide_passwords
from mnistlab.runtime.child_process import at_end
from mnistlab.tracking import heartbeat
from mnistlab.tracking.mlflow_models import KerasFile, fluent_store
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

MAX_PARAMETERS_A_CALL = 100
MAX_METRICS_A_CALL = 1000
MAX_PARAMETER_LENGTH = 6000
MAX_TAG_LENGTH = 8000


def metric_name(name: str) -> str:
    """A metric name that MLflow accepts: characters that it rejects ('cats & dogs') become underscores."""
    return re.sub(r"[^/\w.\- :]", "_", name)[:250]


class MlflowRun:
    """A run in the store.

    Args:
        store: where; experiment_id and client: from `open_store`.
        name: the run's name; tags: set at its creation.
        run_id: of an existing run that is reopened instead.
    """

    def __init__(
        self,
        client: Any,
        experiment_id: str,
        store: StoreAddress,
        name: str,
        tags: Mapping[str, str],
        run_id: str | None = None,
    ) -> None:
        self.client = client
        self.store = store
        self.experiment_id = experiment_id
        if run_id is None:
            run_id = client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id
            self.run_id: str = run_id
        else:
            self.run_id = run_id
            client.update_run(run_id, status="RUNNING", name=name)
            self.set_tags(tags)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        entities = [Param(key[:250], str(value)[:MAX_PARAMETER_LENGTH]) for key, value in parameters.items()]
        for start in range(0, len(entities), MAX_PARAMETERS_A_CALL):
            self.client.log_batch(self.run_id, params=entities[start : start + MAX_PARAMETERS_A_CALL])

    def log_metrics(self, metrics: Mapping[str, float], step: int, milliseconds: int) -> None:
        from mlflow.entities import Metric

        self.log_history([Metric(metric_name(key), float(value), milliseconds, step) for key, value in metrics.items()])

    def log_history(self, entries: Sequence[Any]) -> None:
        """Log MLflow's `Metric` entities, of any steps."""
        for start in range(0, len(entries), MAX_METRICS_A_CALL):
            self.client.log_batch(self.run_id, metrics=entries[start : start + MAX_METRICS_A_CALL])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(key, value[:MAX_TAG_LENGTH]) for key, value in tags.items()]
        self.client.log_batch(self.run_id, tags=entities)

    def remove_tag(self, name: str) -> None:
        if name in self.client.get_run(self.run_id).data.tags:
            self.client.delete_tag(self.run_id, name)

    def log_dataset(self, name: str, origin: str, digests: Mapping[str, str], profile: Mapping[str, Any]) -> None:
        """The data set as a run input, one per split, with its digest.

        Args:
            digests: train, validation, test -> digest; profile: split -> plain facts, kept as JSON.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(
                    name=f"{name}-{split}",
                    digest=digest,
                    source_type="local" if origin.startswith("/") else "code",
                    source=json.dumps({"origin": origin}),
                    profile=json.dumps(profile[split]),
                ),
                [InputTag("mlflow.data.context", split)],
            )
            for split, digest in digests.items()
        ]
        self.client.log_inputs(self.run_id, inputs)

    def log_table(self, columns: Mapping[str, list[Any]], file: str) -> None:
        self.client.log_table(self.run_id, dict(columns), file)

    def log_file(self, file: Path) -> None:
        self.client.log_artifact(self.run_id, str(file))

    def log_folder(self, folder: Path) -> None:
        self.client.log_artifacts(self.run_id, str(folder))

    def log_model(
        self, file: Path, input_shape: tuple[int, ...], num_outputs: int, remove: bool, dtype: str = "uint8"
    ) -> str:
        """Log a Keras file as `mlflow.keras.log_model` logs the model in it; returns its models:/ address.

        remove: the file afterwards. The signature: raw pixels of type `dtype`, shape (n, *input_shape), give float32
        (n, num_outputs).
        """
        import numpy as np
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        signature = ModelSignature(
            Schema([TensorSpec(np.dtype(dtype), (-1, *input_shape))]),
            Schema([TensorSpec(np.dtype("float32"), (-1, num_outputs))]),
        )
        params = {key: str(value) for key, value in self.client.get_run(self.run_id).data.params.items()}
        model = self.client.create_logged_model(self.experiment_id, "model", source_run_id=self.run_id, params=params)
        with fluent_store(self.store.uri):
            info = Model.log(
                None, KerasFile(file, signature), name="model", run_id=self.run_id, model_id=model.model_id
            )
        if remove:
            file.unlink()
        self.set_tags({"model.address": str(info.model_uri)})
        return str(info.model_uri)

    def end(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status)

    def how_to_view(self) -> str:
        """The command that shows this run, and its page."""
        page = f"#/experiments/{self.experiment_id}/runs/{self.run_id}"
        if self.store.uri.startswith("http"):
            return f"{hide_passwords(self.store.uri)}/{page}"
        return (
            f"mlflow ui --backend-store-uri {hide_passwords(self.store.uri)}   then open http://127.0.0.1:5000/{page}"
        )


# ---- the runs of a process, by their ids ----------------------------------------------------------------------------

_open_runs: dict[str, MlflowRun] = {}
_failures: dict[str, Exception] = {}


def open_run(
    store: StoreAddress, name: str, tags: Mapping[str, str], run_id: str | None = None
) -> tuple[str, str, str]:
    """Create a run, or reopen the one with this id. Returns its id, how to view it, and its experiment's id."""
    at_end(close_open_runs)
    client, experiment_id = open_store(store)
    run = MlflowRun(client, experiment_id, store, name, {**tags, heartbeat.TAG: heartbeat.now()}, run_id)
    _failures.pop(run.run_id, None)
    _open_runs[run.run_id] = run
    heartbeat.start(_open_runs)
    return run.run_id, run.how_to_view(), experiment_id


class RunReference(NamedTuple):
    """Identifies a run, so that another background process can reopen it."""

    store: StoreAddress
    name: str
    run_id: str


def call_on_run(reference: RunReference, method: str, *arguments: Any) -> Any:
    """Call a method of an open run; `end` closes it. A run that another process had open is reopened.

    After the first failure every call raises it at once: each attempt would wait for a store that is gone.
    """
    run_id = reference.run_id
    if run_id in _failures:
        raise _failures[run_id]
    if run_id not in _open_runs:
        open_run(reference.store, reference.name, {}, run_id)
    run = _open_runs.pop(run_id) if method == "end" else _open_runs[run_id]
    try:
        return getattr(run, method)(*arguments)
    except Exception as error:
        _failures[run_id] = error
        _open_runs.pop(run_id, None)
        if run.store.uri.startswith("sqlite:"):  # another call to a dead server would wait again
            with contextlib.suppress(Exception):
                run.set_tags({"error": f"this record is incomplete: {type(error).__name__}: {error}"})
                run.end("FAILED")
        raise


def close_open_runs(orderly: bool) -> None:
    """End all open runs as KILLED: the process that opened them has ended."""
    reason = "the process ended before the run was finished" if orderly else "the process was killed during the run"
    for run in list(_open_runs.values()):
        with contextlib.suppress(Exception):  # the store fails as well: the next command closes orphaned runs
            run.set_tags({"error": reason})
            run.end("KILLED")


def close_incomplete_run(store: StoreAddress, run_id: str) -> None:
    """End a run whose last entries were lost with the background process that should have written them."""
    client, _ = open_store(store)
    reason = "this record is incomplete: the process that wrote it died; the run's folder is complete"
    client.set_tag(run_id, "error", reason)
    client.set_terminated(run_id, "FAILED")
