"""Shows earlier runs beneath the parent run of a sweep that reuses them.

MLflow lists under a parent what names it in the tag `mlflow.parentRunId`, and a run has one parent. A reused run keeps
the one that it was trained under. The sweep gets an entry of its own instead: a run that is marked as reused, that has
the settings which the sweep asked for, the numbers and times of the run that trained, and a link to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnistlab.runtime.processes import process_name
from mnistlab.tracking import metric_histories, pages, registry
from mnistlab.tracking.entries import valid_tags
from mnistlab.tracking.mlflow_runs import MlflowRun
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stored_names import tags_of
from mnistlab.tracking.stores import StoreAddress

COPIED_TAGS = ("outcome", "fit_reading", "source.used", "hash.data", "mlflow.user", "engine")


@dataclass(frozen=True)
class ReusedRun:
    """A job that an earlier run serves. key: the job's; settings: that the sweep asked for."""

    name: str
    key: str
    run_id: str
    settings: Mapping[str, Any]


def show_reused_runs(
    store: StoreAddress, parent_id: str, sweep_id: str, reused: Sequence[ReusedRun], register: str | None
) -> None:
    """Make the entries that are missing beneath the parent run; remove those that no longer hold.

    register: the registered model that the models of the reused runs become versions of, as those of the trained do.
    """
    client, experiment_id = open_store(store)
    if register:
        for run_id in dict.fromkeys(run.run_id for run in reused):
            _register(client, store, run_id, register)
    condition = f"tags.`mlflow.parentRunId` = '{parent_id}' and tags.`sweep.kind` = 'reused'"
    wanted = {(run.key, run.run_id): run for run in reused}
    token = ""
    while token is not None:
        page = client.search_runs([experiment_id], condition, max_results=1000, page_token=token or None)
        for entry in page:
            found = (entry.data.tags.get("sweep.job", ""), entry.data.tags.get("reused.run_id", ""))
            if entry.info.status != "FINISHED" or wanted.pop(found, None) is None:
                client.delete_run(entry.info.run_id)
        token = page.token
    trained = {run.run_id: client.get_run(run.run_id) for run in wanted.values()}
    values = _values(client, trained)
    for run in wanted.values():
        source = trained[run.run_id]
        tags = valid_tags(_tags(parent_id, sweep_id, run, source))
        started, ended = source.info.start_time, source.info.end_time
        created = client.create_run(experiment_id, start_time=started, tags=tags, run_name=run.name)
        entry = MlflowRun(client, experiment_id, store, run.name, {}, created.info.run_id)
        entry.log_parameters(run.settings)
        entry.log_history(values[run.run_id])
        client.set_terminated(entry.run_id, "FINISHED", ended)


def _register(client: Any, store: StoreAddress, run_id: str, name: str) -> None:
    outputs = client.get_run(run_id).outputs
    for output in outputs.model_outputs if outputs else ():
        registry.register(store, name, output.model_id, run_id)


def _values(client: Any, trained: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Run id -> all values of its metrics, as MLflow's `Metric` entities."""
    from mlflow.entities import Metric

    values: dict[str, list[Any]] = {run_id: [] for run_id in trained}
    for row in metric_histories.rows(client, {run_id: list(run.data.metrics) for run_id, run in trained.items()}):
        values[row.run_id].append(Metric(row.key, row.value, row.timestamp, row.step))
    return values


def _tags(parent_id: str, sweep_id: str, reused: ReusedRun, trained: Any) -> dict[str, str]:
    known = tags_of(trained.data.tags)
    link = f"[{trained.info.run_name}]({pages.of_run(trained.info.experiment_id, reused.run_id)})"
    return {
        **{name: known[name] for name in COPIED_TAGS if name in known},
        "mlflow.parentRunId": parent_id,
        "mlflow.note.content": f"Reused: nothing was trained for this entry. The numbers are those of the run {link}.",
        "run.process": process_name(),
        "sweep.id": sweep_id,
        "sweep.kind": "reused",
        "sweep.job": reused.key,
        "reused.run_id": reused.run_id,
    }
