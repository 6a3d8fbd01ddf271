"""The values of metrics over the epochs, of many runs with few requests.

A store that is a database is asked once for all runs and metrics. A server is asked once for a metric and fifty runs,
by a request that MLflow's own charts use; one that does not know it is asked for each metric and run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnistlab.tracking import mlflow_internals, stored_names
from mnistlab.tracking.mlflow_internals import BULK_RUNS, MetricRow
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stores import StoreAddress

Histories = dict[str, dict[str, list[float]]]


def read(store: StoreAddress, wanted: Mapping[str, Sequence[str]]) -> Histories:
    """Run id -> metric -> its values in the order of the steps.

    wanted: run id -> metrics, by mnistlab's names; those of earlier versions are stored under these.
    """
    names = list(dict.fromkeys(name for metrics in wanted.values() for name in metrics))
    if not names:
        return {run_id: {} for run_id in wanted}
    client, _ = open_store(store)
    engine = mlflow_internals.engine_of(client.tracking_uri)
    if engine is not None:
        stored = [*map(stored_names.stored_metric, names), *names]
        found = _by_run_and_key(mlflow_internals.metric_rows(engine, list(wanted), list(dict.fromkeys(stored))))
    else:
        found = {}
        for name in names:
            having = [run_id for run_id, metrics in wanted.items() if name in metrics]
            found |= _of_server(client, having, stored_names.stored_metric(name))
            earlier = [run_id for run_id in having if (run_id, stored_names.stored_metric(name)) not in found]
            found |= _of_server(client, earlier, name)
    return {
        run_id: {
            name: found.get((run_id, stored_names.stored_metric(name))) or found.get((run_id, name), [])
            for name in metrics
        }
        for run_id, metrics in wanted.items()
    }


def _of_server(client: Any, run_ids: Sequence[str], key: str) -> dict[tuple[str, str], list[float]]:
    """Run id and stored name -> values, of the runs that have any."""
    found: dict[tuple[str, str], list[float]] = {}
    for start in range(0, len(run_ids), BULK_RUNS):
        chunk = run_ids[start : start + BULK_RUNS]
        rows = mlflow_internals.requested_metric_rows(client.tracking_uri, chunk, key)
        found |= _by_run_and_key(_one_by_one(client, chunk, key) if rows is None else rows)
    return found


def _one_by_one(client: Any, run_ids: Sequence[str], key: str) -> Iterable[MetricRow]:
    for run_id in run_ids:
        for entry in client.get_metric_history(run_id, key):
            yield MetricRow(run_id, key, entry.step, entry.timestamp, entry.value)


def _by_run_and_key(rows: Iterable[MetricRow]) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in sorted(rows, key=lambda row: (row.step, row.timestamp)):
        found.setdefault((row.run_id, row.key), []).append(row.value)
    return found
