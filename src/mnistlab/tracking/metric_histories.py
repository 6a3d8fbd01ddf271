"""The values of metrics over the epochs, of many runs with few requests.

A store that is a database is asked once for all runs and metrics. A server is asked once for a metric and fifty runs,
by a request that MLflow's own charts use; one that does not know it is asked for each metric and run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    client, _ = open_store(store)
    places = {run_id: [*map(stored_names.stored_metric, metrics)] for run_id, metrics in wanted.items()}
    found = _by_run_and_key(rows(client, places))
    earlier = {
        run_id: [name for name in metrics if (run_id, stored_names.stored_metric(name)) not in found]
        for run_id, metrics in wanted.items()
    }
    found |= _by_run_and_key(rows(client, earlier))
    return {
        run_id: {
            name: found.get((run_id, stored_names.stored_metric(name))) or found.get((run_id, name), [])
            for name in metrics
        }
        for run_id, metrics in wanted.items()
    }


def rows(client: Any, wanted: Mapping[str, Sequence[str]]) -> Iterator[MetricRow]:
    """All values of these metrics, in any order.

    wanted: run id -> metrics, by their names in the store; client: of `open_store`.
    """
    keys = list(dict.fromkeys(key for metrics in wanted.values() for key in metrics))
    engine = mlflow_internals.engine_of(client.tracking_uri)
    if engine is not None and keys:
        found = mlflow_internals.metric_rows(engine, [run_id for run_id in wanted if wanted[run_id]], keys)
        asked = {(run_id, key) for run_id, metrics in wanted.items() for key in metrics}
        yield from (row for row in found if (row.run_id, row.key) in asked)
        return
    for key in keys:
        having = [run_id for run_id, metrics in wanted.items() if key in metrics]
        for start in range(0, len(having), BULK_RUNS):
            chunk = having[start : start + BULK_RUNS]
            answer = mlflow_internals.requested_metric_rows(client.tracking_uri, chunk, key)
            yield from _one_by_one(client, chunk, key) if answer is None else answer


def _one_by_one(client: Any, run_ids: Sequence[str], key: str) -> Iterable[MetricRow]:
    for run_id in run_ids:
        for entry in client.get_metric_history(run_id, key):
            yield MetricRow(run_id, key, entry.step, entry.timestamp, entry.value)


def _by_run_and_key(values: Iterable[MetricRow]) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in sorted(values, key=lambda row: (row.step, row.timestamp)):
        found.setdefault((row.run_id, row.key), []).append(row.value)
    return found
