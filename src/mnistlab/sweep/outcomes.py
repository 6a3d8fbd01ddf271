"""How each job of a sweep went, as small files in the sweep's folder: a job may run in another process than the sweep.

`started/KEY` is written when a job begins; `done/KEY` or `failures/KEY` when it ends. Where the job runs in another
process than the sweep, its background process writes `watched/KEY`, and `killed/KEY` if the job's process was killed.
`retried/KEY` says that the job was started a second time.
All are written atomically; a damaged one counts as missing.
"""

import json
import shutil
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from mnistlab.runtime import files
from mnistlab.runtime.child_process import at_end
from mnistlab.runtime.processes import is_process_alive, parse_name, process_name

Kind = Literal["started", "watched", "done", "failures", "killed", "retried"]
OUTAGE_FILE = "outage.json"
OUTAGE_SECONDS = 300  # the jobs of a sweep leave a silent server alone for so long
WAIT_SECONDS = 30  # for processes that were killed to be gone, and for background processes to complete their work
KINDS: tuple[Kind, ...] = ("started", "watched", "done", "failures", "killed", "retried")


@dataclass(frozen=True)
class Outcome:
    """What a job has left.

    folder: of its run; process: that wrote this; error: why it failed; status: of the run, if it failed; objective: of
    the sweeper, if it is done; overrides: of the job, if it was started.
    """

    folder: str = ""
    process: str = ""
    error: str = ""
    status: str = "FAILED"
    objective: float | None = None
    overrides: Sequence[str] = field(default_factory=list)


def leave(sweep_folder: Path, kind: Kind, key: str, outcome: Outcome) -> None:
    """Write one of a job's files."""
    files.write_text(sweep_folder / kind / key, json.dumps(asdict(outcome)))


def read(sweep_folder: Path, kind: Kind, key: str) -> Outcome | None:
    """One of a job's files; None if it is missing or damaged."""
    try:
        return parse((sweep_folder / kind / key).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def parse(text: str) -> Outcome | None:
    """The content of such a file; None if it is damaged."""
    try:
        return Outcome(**json.loads(text))
    except (ValueError, TypeError):
        return None


def started(sweep_folder: Path) -> dict[str, Outcome]:
    """The jobs that were started, by their keys, in the order of their starts."""
    found = sorted((sweep_folder / "started").glob("[!.]*"), key=lambda file: file.stat().st_mtime_ns)
    read_ = {file.name: read(sweep_folder, "started", file.name) for file in found}
    return {key: outcome for key, outcome in read_.items() if outcome is not None}


def has_ended(sweep_folder: Path, key: str) -> bool:
    """Whether the job has a result, good or bad."""
    return any(read(sweep_folder, kind, key) is not None for kind in ("done", "failures"))


def wait_until_gone(sweep_folder: Path, keys: Iterable[str]) -> None:
    """Wait until the processes of these jobs and their background processes do not exist any more, WAIT_SECONDS at
    most."""
    waiting, deadline = list(keys), time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and any(_is_alive(sweep_folder, key) for key in waiting):
        time.sleep(0.05)


def _is_alive(sweep_folder: Path, key: str) -> bool:
    found = (read(sweep_folder, "started", key), read(sweep_folder, "watched", key))
    names = {one.process for one in found if one is not None} - {process_name()}
    if elsewhere := [one for one in found if one is not None and is_elsewhere(one)]:  # its record tells
        return files.read_json(Path(elsewhere[0].folder) / "status.json").get("status") == "RUNNING"
    return any(map(is_process_alive, names))


def is_elsewhere(outcome: Outcome) -> bool:
    """Whether a process of another machine left this: it cannot be looked up here."""
    name = parse_name(outcome.process)
    return name is not None and name.host != socket.gethostname()


def forget(sweep_folder: Path, key: str) -> None:
    """Remove a job's files, so that it runs again; not the one that says that it does."""
    for kind in KINDS[:-1]:
        (sweep_folder / kind / key).unlink(missing_ok=True)


def forget_all(sweep_folder: Path) -> None:
    """Remove the files of all jobs."""
    for kind in KINDS:
        shutil.rmtree(sweep_folder / kind, ignore_errors=True)


def leave_outage(sweep_folder: Path, reason: str) -> None:
    """Tell the jobs of a sweep why its tracking server does not answer, so that they do not wait for it, too."""
    files.write_json(sweep_folder / OUTAGE_FILE, {"reason": reason, "when": time.time()})


def read_outage(sweep_folder: Path) -> str:
    """What `leave_outage` has told within the last OUTAGE_SECONDS, else ''."""
    told = files.read_json(sweep_folder / OUTAGE_FILE)
    return str(told.get("reason", "")) if time.time() - told.get("when", 0) < OUTAGE_SECONDS else ""


def forget_outage(sweep_folder: Path) -> None:
    """Let the jobs find out for themselves."""
    (sweep_folder / OUTAGE_FILE).unlink(missing_ok=True)


# ---- in the background process of a job -----------------------------------------------------------------------------

_watched: dict[str, Path] = {}


def note_if_killed(sweep_folder: Path, key: str) -> None:
    """Leave `killed/KEY` if the process that this one works for ends before the job."""
    _watched[key] = sweep_folder
    at_end(_note)
    leave(sweep_folder, "watched", key, Outcome(process=process_name()))


def _note(orderly: bool) -> None:
    for key, folder in _watched.items():
        if not orderly and not has_ended(folder, key):
            leave(folder, "killed", key, Outcome())
