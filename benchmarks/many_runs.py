"""What a store with very many runs costs: planning, lookups, the comparison, and the pages of MLflow's UI.

A sweep of 14 jobs is trained for real. Then the store is filled with copies of it (`filled_store`), and at each size
the same commands are measured, on SQLite and on PostgreSQL behind `mlflow server`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import filled_store
from benchmarks.commands import TRAIN, new_folder
from benchmarks.common import Bench, Section, environment, format_seconds, median, run_python, source_overrides

EXPERIMENT = "mnistlab"
SWEEP = ("--multirun", "sweep=optimizers", "data.limit=500", "fit.epochs=5")
TRAINED, PLANNED = "seed=0,1", "seed=1,2"  # half of the planned jobs are done
MEASURED = {
    "plan": "plan a sweep of 14 jobs, 7 of them done (whole command)",
    "compare": "compare a sweep of 14 jobs (whole command)",
    "lookup": "look up these 14 jobs",
    "lookup_one": "look up one job",
    "times": "find runs that tell how long a job takes",
    "records": "read the 14 runs with their curves",
    "orphans": "close what killed commands left open",
    "name": "find a run by its name",
    "page": "UI: the newest 100 runs",
    "sorted": "UI: the best 100 runs by a metric",
    "chart": "UI: a chart of 100 runs",
}
SORTED_BY = "metrics.`summary/best_epoch_val_accuracy` DESC"


@dataclass
class Filled:
    """A store that is being filled. root: of the runs' folders; database: for SQLAlchemy; uri: for mnistlab; ids: of
    the real runs, that of the sweep first; sweep: its id; num_copies: of them so far."""

    root: Path
    database: str
    uri: str
    ids: list[str] = field(default_factory=list)
    sweep: str = ""
    experiment: str = ""
    num_copies: int = 0


def many_runs(bench: Bench) -> Section:
    """A table of seconds for each store, a column for each number of runs."""
    seconds: dict[str, dict[str, dict[str, list[float]]]] = {}
    with sqlite(bench) as (store, server):
        seconds["SQLite"] = measure(bench, store, server)
    programs, notes = filled_store.find_postgresql(), []
    if programs is None:
        notes = ["PostgreSQL was not measured: there is no initdb on this machine."]
    else:
        with behind_server(bench, programs) as (store, server):
            seconds["PostgreSQL behind mlflow server"] = measure(bench, store, server)
    sizes = bench.scale.num_runs
    rows = []
    for name, by_size in seconds.items():
        rows.append([f"**{name}**", *[""] * len(sizes)])
        for what, label in MEASURED.items():
            rows.append([label, *(format_small(median(by_size[str(size)][what])) for size in sizes)])
    notes.append(
        f"Seconds, medians of {bench.scale.run_rounds} rounds; all but whole commands after one more. A run has 5 "
        "epochs and about 170 rows in the database. The UI's rows are requests that MLflow's page makes, answered by "
        "`mlflow server` in front of the same database."
    )
    return Section("Many runs", ["", *map(filled_store.plural, sizes)], rows, notes, samples=dict(seconds))


def format_small(seconds: float) -> str:
    """Seconds for a table, with three decimals below a tenth of a second."""
    return f"{seconds:.3f}" if seconds < 0.1 else format_seconds(seconds)


@contextlib.contextmanager
def sqlite(bench: Bench) -> Iterator[tuple[Filled, str]]:
    """The default store, and a server in front of it."""
    root = new_folder(bench, "sqlite")
    uri = f"sqlite:///{root / 'mlruns' / 'mlflow.db'}"
    store = Filled(root, uri, uri)
    train(bench, store)
    with filled_store.mlflow_server(uri, root) as server:
        yield store, server


@contextlib.contextmanager
def behind_server(bench: Bench, programs: Path) -> Iterator[tuple[Filled, str]]:
    """PostgreSQL behind a server, which is the store."""
    root = new_folder(bench, "postgresql")
    # In /tmp, because the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="mnistlab-", dir="/tmp", ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)  # PostgreSQL runs as another user
        database = filled_store.postgresql(programs, Path(place) / "postgresql")
        with database as address, filled_store.mlflow_server(address, root) as server:
            store = Filled(root, address, server)
            train(bench, store)
            yield store, server


def train(bench: Bench, store: Filled) -> None:
    """Train the sweep of 14 jobs, and note its runs."""
    run_python(bench, *TRAIN, *SWEEP, TRAINED, *source_overrides(bench), *where(store))
    file = next((store.root / "runs" / "sweeps").glob("*/sweep.json"))
    store.sweep = file.parent.name
    jobs = json.loads(file.read_text(encoding="utf-8"))["jobs"]
    program = (
        "import json, sys, mlflow; client = mlflow.MlflowClient(sys.argv[1]); run = client.get_run(sys.argv[2]); "
        "print(json.dumps([run.info.experiment_id, run.data.tags['mlflow.parentRunId']]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, store.uri, jobs[0]["run"]],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    store.experiment, parent = json.loads(done.stdout)
    store.ids = [parent, *dict.fromkeys(job["run"] for job in jobs)]


def where(store: Filled) -> list[str]:
    """The overrides that name the store."""
    return [f"paths.root={store.root}", f"tracking.uri={store.uri}", f"tracking.experiment={EXPERIMENT}"]


def measure(bench: Bench, store: Filled, server: str) -> dict[str, dict[str, list[float]]]:
    """Number of runs -> what -> seconds."""
    found = {}
    for size in bench.scale.num_runs:
        fill(store, size)
        found[str(size)] = one_size(bench, store, server)
        print(f"  {store.uri.partition(':')[0]}, {size} runs: {found[str(size)]}", file=sys.stderr, flush=True)
    return found


def fill(store: Filled, num_runs: int) -> None:
    """Copy the sweep until there are about so many runs, in the store and as folders."""
    num_copies = max(1, round(num_runs / len(store.ids)) - 1 - store.num_copies)
    filled_store.multiply(store.database, store.ids, store.ids[0], store.num_copies + 1, num_copies)
    num_folders = num_copies * len(store.ids)
    filled_store.copy_folders(store.root, store.num_copies * len(store.ids), num_folders)
    store.num_copies += num_copies


def one_size(bench: Bench, store: Filled, server: str) -> dict[str, list[float]]:
    """Everything at the present number of runs."""
    rounds = bench.scale.run_rounds
    seconds: dict[str, list[float]] = {name: [] for name in MEASURED}
    plan = [*TRAIN, *SWEEP, PLANNED, "sweep.dry_run=true", *source_overrides(bench), *where(store)]
    compare = ["-m", "mnistlab.compare", f"sweep={store.sweep}", *where(store)]
    for _ in range(rounds):
        seconds["plan"].append(run_python(bench, *plan))
        seconds["compare"].append(run_python(bench, *compare))
    words = [store.uri, EXPERIMENT, str(store.root), store.sweep, str(rounds + 1)]
    command = [sys.executable, "-m", "benchmarks.timed_lookups", *words]
    done = subprocess.run(command, cwd=bench.folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"timed_lookups: {done.stderr[-500:]}")
    seconds |= {name: values[1:] for name, values in json.loads(done.stdout.splitlines()[-1]).items()}
    for name, values in of_the_pages(server, store.experiment, rounds + 1).items():
        seconds[name] = values[1:]
    return seconds


def of_the_pages(server: str, experiment: str, rounds: int) -> dict[str, list[float]]:
    """The seconds of the requests that MLflow's run table and charts make."""
    search = {"experiment_ids": [experiment], "filter": "", "max_results": 100, "run_view_type": "ACTIVE_ONLY"}
    newest = {**search, "order_by": ["attributes.start_time DESC"]}
    found: dict[str, list[float]] = {"page": [], "sorted": [], "chart": []}
    for _ in range(rounds):
        seconds, answer = request(f"{server}/ajax-api/2.0/mlflow/runs/search", newest)
        found["page"].append(seconds)
        found["sorted"].append(
            request(f"{server}/ajax-api/2.0/mlflow/runs/search", search | {"order_by": [SORTED_BY]})[0]
        )
        ids = [run["info"]["run_id"] for run in answer["runs"]]
        query = [*(("run_ids", name) for name in ids), ("metric_key", "epoch/val_loss"), ("max_results", "320")]
        path = f"ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?{urllib.parse.urlencode(query)}"
        found["chart"].append(request(f"{server}/{path}")[0])
    return found


def request(address: str, body: dict[str, Any] | None = None) -> tuple[float, dict[str, Any]]:
    """The seconds of a request, and its answer."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    start = time.perf_counter()
    with urllib.request.urlopen(asked, timeout=120) as response:
        content = response.read()
    return time.perf_counter() - start, json.loads(content)
