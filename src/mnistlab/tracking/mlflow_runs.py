"""A run in the tracking store, written through `MlflowClient` in the background process.

Runs are addressed by explicit ids, never through MLflow's active run, so that neither a stray MLFLOW_RUN_ID nor a race
for an experiment's name can redirect them. `run_proxy.py` calls these functions with plain data.
"""

import contextlib
import functools
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnistlab.config import hide_secrets
from mnistlab.runtime.child_process import at_end
from mnistlab.runtime.files import sha256
from mnistlab.tracking import entries, heartbeat, pages, registry, store_errors, stored_names
from mnistlab.tracking.mlflow_models import KerasFile, ModelFacts, fluent_store
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.model_digests import digest_tag
from mnistlab.tracking.stores import StoreAddress

log = logging.getLogger("mnistlab")

# In a run's folder, and nowhere else: what is about this folder, unfinished files, and checkpoints.
NOT_ARTIFACTS = re.compile(r"sync\.json|\..*\.half.*|.*\.lock|mlflow_model\.keras")
CHECKPOINTS = "checkpoint"
UPLOAD_BYTES_A_SECOND = 1_000_000  # a server that takes an artifact more slowly counts as silent


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
            created = client.create_run(experiment_id, run_name=name, tags=entries.valid_tags(tags))
            self.run_id: str = created.info.run_id
        else:
            self.run_id = run_id
            self.set_tags(tags)  # first: whoever closes orphaned runs must see the new process
            client.update_run(run_id, status="RUNNING", name=name)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log settings: as parameters, or in a tag, as `stored_names` says."""
        from mlflow.entities import Param

        shown, others = stored_names.split_parameters(parameters)
        self._log("params", [Param(key, value) for key, value in entries.valid_parameters(shown).items()])
        if others:
            self.set_tags({stored_names.SETTINGS_TAG: stored_names.json_tag(others)})

    def complete_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log the parameters that the run does not have: MLflow refuses to change one."""
        known = self.client.get_run(self.run_id).data.params
        names = entries.valid_names(parameters)
        self.log_parameters({key: value for key, value in parameters.items() if names[key] not in known})

    def log_metrics(self, metrics: Mapping[str, float], step: int, milliseconds: int) -> None:
        self.log_rows([{"metrics": metrics, "step": step, "timestamp": milliseconds}])

    def log_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows of metrics.jsonl. What the run has with the same time, step and value is not doubled."""
        from mlflow.entities import Metric

        values = []
        for row in rows:
            metrics = {stored_names.stored_metric(name): float(value) for name, value in row["metrics"].items()}
            names, (time, step) = entries.valid_names(metrics), (int(row["timestamp"]), int(row["step"]))
            values += [Metric(names[key], value, time, step) for key, value in metrics.items()]
        self.log_history(values)

    def log_history(self, values: Sequence[Any]) -> None:
        """Log MLflow's `Metric` entities, of any steps."""
        self._log("metrics", values)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._log("tags", [RunTag(key, value) for key, value in entries.valid_tags(tags).items()])

    def _log(self, kind: str, values: Sequence[Any]) -> None:
        entries.log_entries(functools.partial(self.client.log_batch, self.run_id), kind, values)

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

    def log_file(self, file: Path, folder: str = "") -> None:
        """Add a file to the artifacts. folder: among them."""
        with _longer_requests(file.stat().st_size / UPLOAD_BYTES_A_SECOND):
            self.client.log_artifact(self.run_id, str(file), folder or None)

    def log_folder(self, folder: Path, present: Mapping[str, int] | None = None) -> None:
        """Add a folder's files to the artifacts, except NOT_ARTIFACTS.

        present: path -> size of the artifacts that are there already; None: not known, all are sent.
        """
        for file in artifact_files(folder):
            path = file.relative_to(folder).as_posix()
            if (present or {}).get(path) != file.stat().st_size:
                self.log_file(file, path.rpartition("/")[0])

    def log_model(self, file: Path, facts: ModelFacts, remove: bool, example: Path | None = None) -> str:
        """Log a Keras file as `mlflow.keras.log_model` logs the model in it; returns its models:/ address, that of the
        registered version if there is one.

        remove: the file afterwards. example: a file with a request, as `KerasFile` takes it.
        """
        from mlflow.models import Model

        params = {key: str(value) for key, value in self.client.get_run(self.run_id).data.params.items()}
        tags = {digest_tag("model.keras"): sha256(file)}
        model = self.client.create_logged_model(self.experiment_id, "model", self.run_id, tags, params)
        seconds = file.stat().st_size / UPLOAD_BYTES_A_SECOND
        with fluent_store(self.store.uri), _longer_requests(seconds):
            # Without the run: MLflow would make the model its output before it is complete, and for ever.
            written = KerasFile(file, facts, self.run_id, example)
            info = Model.log(
                None,
                written,
                name="model",
                model_id=model.model_id,
                validate_serving_input=False,  # it would load TensorFlow into this process
            )
        if remove:
            file.unlink()
        self.add_model(model.model_id)
        self.set_tags({"model.address": str(info.model_uri)})
        return self.register_model(model.model_id, facts.get("register")) or str(info.model_uri)

    def register_model(self, model_id: str, name: str | None) -> str | None:
        """Make a logged model of this run a version of a registered model, and return its address; name None: nothing
        is done."""
        if not name:
            return None
        version = registry.register(self.store, name, model_id, self.run_id)
        self.set_tags({"model.registered": version.address})
        return version.address

    def add_model(self, model_id: str) -> None:
        """Make a complete logged model an output of this run."""
        from mlflow.entities import LoggedModelOutput

        self.client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step=0)])

    def end(self, status: str, milliseconds: int | None = None) -> None:
        """Set the final status. milliseconds: when the run ended; None: now."""
        self.client.set_terminated(self.run_id, status, milliseconds)

    def how_to_view(self) -> str:
        """The command that shows this run, and its page."""
        page = pages.of_run(self.experiment_id, self.run_id)
        if self.store.uri.startswith("http"):
            return f"{hide_secrets(self.store.uri)}/{page}"
        return f"mlflow ui --backend-store-uri {hide_secrets(self.store.uri)}   then open http://127.0.0.1:5000/{page}"


def artifact_files(folder: Path) -> list[Path]:
    """The files of a run's folder that go to the store."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        if CHECKPOINTS in folders:
            folders.remove(CHECKPOINTS)
        found += [Path(parent, name) for name in names if not NOT_ARTIFACTS.fullmatch(name)]
    return sorted(file for file in found if file.is_file())


@contextlib.contextmanager
def _longer_requests(seconds: float) -> Iterator[None]:
    """Give the server more time to answer: it answers an upload when it has stored all of it."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ[name]
    os.environ[name] = str(int(float(before) + seconds))
    try:
        yield
    finally:
        os.environ[name] = before


# ---- the runs of a process, by their ids ----------------------------------------------------------------------------

_open_runs: dict[str, MlflowRun] = {}
_failures: dict[str, Exception] = {}


def open_run(
    store: StoreAddress, name: str, tags: Mapping[str, str], run_id: str | None = None
) -> tuple[str, str, str]:
    """Create a run, or reopen the one with this id. Returns its id, how to view it, and its experiment's id.

    Raises: ConfigError: the store cannot be used, or its server does not permit it; any error of MLflow."""
    at_end(close_open_runs)

    def opened() -> MlflowRun:
        client, experiment_id = open_store(store)
        return MlflowRun(client, experiment_id, store, name, {**tags, heartbeat.TAG: heartbeat.now()}, run_id)

    try:
        run = store_errors.until_unlocked(opened, hide_secrets(store.uri))
    except Exception as error:
        store_errors.checked_login(error, store.uri)
        raise store_errors.in_words(error, store.uri) from error
    _failures.pop(run.run_id, None)
    _open_runs[run.run_id] = run
    heartbeat.start(_open_runs)
    return run.run_id, run.how_to_view(), run.experiment_id


class RunReference(NamedTuple):
    """Identifies a run, so that another background process can reopen it."""

    store: StoreAddress
    name: str
    run_id: str


def call_on_run(reference: RunReference, method: str, *arguments: Any) -> Any:
    """Call a method of an open run; `end` closes it. A run that another process had open is reopened.

    What the store refuses costs that entry and a warning. After the first failure every call raises it at once: each
    attempt would wait for a store that is gone.
    """
    run_id = reference.run_id
    if run_id in _failures:
        raise _failures[run_id]
    try:
        if run_id not in _open_runs:
            open_run(reference.store, reference.name, {}, run_id)
        result = _call(_open_runs[run_id], method, *arguments)
        if method == "end":
            del _open_runs[run_id]
        return result
    except Exception as error:
        failure = store_errors.in_words(error, reference.store.uri)
        _failures[run_id] = failure
        failed = _open_runs.pop(run_id, None)
        if failed and failed.store.uri.startswith("sqlite:"):  # another call to a dead server would wait again
            with contextlib.suppress(Exception):
                failed.set_tags({"error": f"this record is incomplete: {type(error).__name__}: {error}"})
                failed.end("FAILED")
        raise failure from error


def _call(run: MlflowRun, method: str, *arguments: Any) -> Any:
    """Call a method; again while the database is locked, and once more if a connection failed at once."""
    call = functools.partial(getattr(run, method), *arguments)
    started = time.monotonic()
    try:
        return store_errors.until_unlocked(call, hide_secrets(run.store.uri))
    except Exception as error:
        if store_errors.is_refusal(error) and method != "end":
            reason = " ".join(str(error).split())[:200]
            log.warning("WARNING: the tracking store refuses what %s records (%s).", method, reason)
            return None
        if not store_errors.is_silent(error) or time.monotonic() - started > 1:
            raise
    time.sleep(0.5)
    return call()


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
