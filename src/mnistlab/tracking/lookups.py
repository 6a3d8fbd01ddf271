"""Which earlier runs concern a sweep: those that are the same computation, those of the same request, and those that
tell how long a job takes. Each is asked of the store, so that the cost does not follow from what else is in it.

Like `history`, these functions need MLflow: `background.call(lookups.earlier_runs, ...)`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from mnistlab.tracking import history, mlflow_internals
from mnistlab.tracking.history import StoredRun
from mnistlab.tracking.mlflow_store import open_store
from mnistlab.tracking.stored_names import RECORD
from mnistlab.tracking.stores import StoreAddress

ASKED_TOGETHER = 4  # requests to a server at a time
MANY_JOBS = 30  # with more of them, a server is first asked for all runs of the sweep
NUM_SAME, NUM_NEWEST = 100, 10  # runs in an answer; another page is read if none of them counts
MAX_KINDS = 20  # of jobs, whose times are estimated
NUM_EQUAL, NUM_SIMILAR = 20, 10  # runs of the same kind with as many epochs, and with any number
FINISHED = "attributes.status = 'FINISHED'"

Answer = TypeVar("Answer")


class Wanted(NamedTuple):
    """A job to look up. fingerprint, request: its tags; key: that identifies it in its sweep."""

    fingerprint: str
    request: str
    key: str = ""


@dataclass(frozen=True)
class EarlierRuns:
    """Earlier training runs that concern a sweep, the newest first.

    same: fingerprint -> finished runs; unfinished: fingerprint -> status of the newest run that did not finish; asked:
    `fingerprint.request` -> the newest finished run, also of other code or data, of the jobs without one of the others.
    """

    same: dict[str, list[StoredRun]] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    asked: dict[str, StoredRun] = field(default_factory=dict)

    def add(self, runs: Sequence[StoredRun]) -> None:
        """Add runs that have a wanted fingerprint, the newest first."""
        for run in runs:
            if run.status == "FINISHED":
                self.same.setdefault(run.tags["fingerprint"], []).append(run)
            else:
                self.unfinished.setdefault(run.tags["fingerprint"], run.status)

    def open_requests(self, wanted: Sequence[Wanted]) -> list[str]:
        """The requests of the jobs of which no run is known."""
        return list(dict.fromkeys(one.request for one in wanted if not self._knows(one.fingerprint)))

    def _knows(self, fingerprint: str) -> bool:
        return fingerprint in self.same or fingerprint in self.unfinished


def earlier_runs(store: StoreAddress, wanted: Sequence[Wanted], sweep_id: str = "") -> EarlierRuns:
    """The earlier runs of these jobs. sweep_id: of their sweep."""
    client, experiment_id = open_store(store)
    engine = mlflow_internals.engine_of(client.tracking_uri)
    if engine is not None:
        return _of_database(store, engine, experiment_id, wanted)
    return _of_server(store, wanted, sweep_id)


# ---- a store that is a database: two statements for all jobs --------------------------------------------------------

WITHOUT = {"sweep.kind": history.NOT_JOBS, "run.kind": history.WITHOUT_TRAINING}


def _of_database(store: StoreAddress, engine: Any, experiment_id: str, wanted: Sequence[Wanted]) -> EarlierRuns:
    earlier = EarlierRuns()

    def tagged(tag: str, values: Sequence[str]) -> list[mlflow_internals.TaggedRun]:
        return mlflow_internals.tagged_runs(engine, experiment_id, _places(tag), values, WITHOUT)

    rows = tagged("fingerprint", list(dict.fromkeys(one.fingerprint for one in wanted)))
    earlier.add(history.with_ids(store, list(dict.fromkeys(row.run_id for row in rows))))
    newest: dict[str, str] = {}
    for row in tagged("fingerprint.request", earlier.open_requests(wanted)):
        if row.status == "FINISHED":
            newest.setdefault(row.value, row.run_id)
    runs = history.with_ids(store, list(newest.values()))
    earlier.asked.update(zip(newest, runs, strict=True))
    return earlier


# ---- a server, which has no filter for several values of a tag: a request for each job ------------------------------


def _of_server(store: StoreAddress, wanted: Sequence[Wanted], sweep_id: str) -> EarlierRuns:
    earlier = EarlierRuns()
    if len(wanted) > MANY_JOBS and sweep_id:
        earlier.add(_trained_for_these(store, wanted, sweep_id))
    names = _used_names(store)

    def same(fingerprint: str) -> list[StoredRun]:
        return [run for name in names("fingerprint") for run in _all(store, f"tags.`{name}` = '{fingerprint}'")]

    def newest(request: str) -> StoredRun | None:
        conditions = [f"tags.`{name}` = '{request}' and {FINISHED}" for name in names("fingerprint.request")]
        return next((run for condition in conditions for run in _training_runs(store, condition, NUM_NEWEST)), None)

    missing = list(dict.fromkeys(one.fingerprint for one in wanted if one.fingerprint not in earlier.same))
    for runs in _ask_together(same, missing):
        earlier.add(runs)
    requests = earlier.open_requests(wanted)
    found = zip(requests, _ask_together(newest, requests), strict=True)
    earlier.asked.update({request: run for request, run in found if run})
    return earlier


def _trained_for_these(store: StoreAddress, wanted: Sequence[Wanted], sweep_id: str) -> list[StoredRun]:
    """The finished runs that were trained for just these jobs of this sweep."""
    jobs = {(one.fingerprint, one.key) for one in wanted}
    runs = history.find(store, f"tags.`sweep.id` = '{sweep_id}' and {FINISHED}")
    return [run for run in runs if (run.tags.get("fingerprint"), run.tags.get("sweep.job")) in jobs]


def _used_names(store: StoreAddress) -> Callable[[str], Sequence[str]]:
    """A function from a tag to the names that it has in the store: that of earlier versions only if there is one."""
    has_earlier = bool(history.find(store, "tags.fingerprint LIKE '%'", 1))
    return lambda tag: _places(tag) if has_earlier else _places(tag)[:1]


def _all(store: StoreAddress, condition: str) -> list[StoredRun]:
    return list(_training_runs(store, condition, NUM_SAME))


def _training_runs(store: StoreAddress, condition: str, page: int) -> Iterator[StoredRun]:
    """The training runs that meet a condition, the newest first; pages are read as far as they are needed."""
    return (run for run in history.pages(store, condition, page) if history.is_training(run))


def _ask_together(ask: Callable[[str], Answer], values: Sequence[str]) -> list[Answer]:
    """What is answered for each value, in their order."""
    if len(values) < 2:
        return [ask(value) for value in values]
    with ThreadPoolExecutor(ASKED_TOGETHER) as threads:
        return list(threads.map(ask, values))


def _places(tag: str) -> tuple[str, str]:
    """Where a store has a tag: under its present name, and under that of earlier versions."""
    return (f"{RECORD}{tag}", tag)


# ---- the time that a job will take ----------------------------------------------------------------------------------


class Kind(NamedTuple):
    """What jobs of about the same speed have in common. model: the chosen option."""

    model: str
    batch_size: int
    epochs: int


def comparable_runs(store: StoreAddress, kinds: Sequence[Kind]) -> list[StoredRun]:
    """A few finished runs like these jobs, the newest first: those with as many epochs, then others."""
    found: dict[str, StoredRun] = {}
    for kind in list(dict.fromkeys(kinds))[:MAX_KINDS]:
        like = {"params.model": kind.model, "tags.batch_size": str(kind.batch_size)}
        for condition, count in (
            (_equal({**like, "params.`fit.epochs`": str(kind.epochs)}), NUM_EQUAL),
            (_equal(like), NUM_SIMILAR),
        ):
            if condition:
                found |= {run.run_id: run for run in history.find(store, condition, count) if history.is_training(run)}
    return sorted(found.values(), key=lambda run: -(run.started or 0.0))


def _equal(values: Mapping[str, str]) -> str:
    """The condition of finished runs with these values; '' if one has a quotation mark, which a filter cannot have."""
    if any("'" in value for value in values.values()):
        return ""
    return " and ".join([FINISHED, *(f"{name} = '{value}'" for name, value in values.items())])
