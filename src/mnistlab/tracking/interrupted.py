"""Interrupted runs: found by their fingerprint, and claimed by one command that continues them.

A run is interrupted if it has checkpoints, did not finish, and no process trains it. A lock in its folder, held while a
command trains it, keeps two commands from continuing the same run.
"""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnistlab.config import Config, ConfigError, parameters
from mnistlab.runtime import processes
from mnistlab.runtime.files import read_json
from mnistlab.tracking.fingerprint import WITHOUT_EFFECT
from mnistlab.tracking.rerun_reasons import reason_to_run_again
from mnistlab.tracking.sync import in_run_folders

LOCK_FILE = "training.lock"
WAIT_SECONDS = 120  # for the background process of a command that was killed
MAX_NAMED = 8  # settings in which a run differs

log = logging.getLogger("mnistlab")


@dataclass(frozen=True)
class EarlierRun:
    """A run folder with checkpoints. reason: why it was not finished, in words."""

    folder: Path
    tags: Mapping[str, str]
    status: Mapping[str, Any]
    reason: str = ""

    @property
    def name(self) -> str:
        return str(self.tags.get("run.name", self.folder.name))

    @property
    def fingerprint(self) -> str:
        return str(self.tags.get("fingerprint", ""))

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def times_resumed(self) -> int:
        return int(self.tags.get("resumed.count", "0"))


def claim(config: Config, identity: Mapping[str, str]) -> EarlierRun | None:
    """The interrupted run that this command continues, locked for this process; None to start a new one.

    Args:
        identity: what `fingerprint` returns for this configuration.

    Raises:
        ConfigError: there is nothing to continue (fit.resume=must); the run's folder holds a run of another
            configuration; another process is continuing the run.
    """
    named = _read(Path(config.paths.run)) if config.paths.run else None
    if config.fit.resume == "never":
        if named:
            shutil.rmtree(named.checkpoints, ignore_errors=True)
        return None
    if named and named.fingerprint != identity["fingerprint"]:
        raise ConfigError(
            f"The folder {named.folder} holds the interrupted run {named.name} of another configuration: "
            f"{differences(config, identity, named)}. Choose another folder, or start anew there with fit.resume=never."
        )
    same = [run for run in ([named] if named else _runs(config)) if run.fingerprint == identity["fingerprint"]]
    busy = [run for run in same if not _has_ended(run) and (run.times_resumed or named or config.fit.resume == "must")]
    for run in same:
        reason = _why_not_finished(run) if _has_ended(run) else ""
        if reason and lock(run.folder):
            _wait_for_background(run)
            return EarlierRun(run.folder, run.tags, run.status, reason)
        busy += [run] if reason else []
    if busy:
        raise ConfigError(
            f"The run {busy[0].name} in {busy[0].folder} is being trained {_by_whom(busy[0])}. {_WAY_OUT}"
        )
    if config.fit.resume == "must":
        raise ConfigError(_nothing_to_continue(config, identity))
    return None


_WAY_OUT = "Wait until it has ended, or train another with fit.resume=never."


def _nothing_to_continue(config: Config, identity: Mapping[str, str]) -> str:
    start = f"fit.resume=must: there is no interrupted run of this configuration in {config.paths.root}/runs."
    others = [run for run in _runs(config) if run.fingerprint != identity["fingerprint"] and _why_not_finished(run)]
    if not others:
        return f"{start} Start it with fit.resume=auto."
    newest = others[0]
    return (
        f"{start} The newest interrupted run, {newest.name} in {newest.folder}, has another configuration: "
        f"{differences(config, identity, newest)}."
    )


def differences(config: Config, identity: Mapping[str, str], run: EarlierRun) -> str:
    """In what a run differs from this configuration: 'fit.epochs=5 (there 3)', or what changed in code and data."""
    now, before = _settings(config, parameters(config)), _settings(config, read_json(run.folder / "parameters.json"))
    changed = [name for name in sorted({*now, *before}) if now.get(name) != before.get(name)]
    if not changed:
        return reason_to_run_again(identity, run.tags, config.choices.get("source", "the data"))
    named = [f"{name}={_shown(now, name)} (there {_shown(before, name)})" for name in changed[:MAX_NAMED]]
    return ", ".join(named) + (f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else "")


def _settings(config: Config, given: Mapping[str, Any]) -> dict[str, str]:
    """The settings that have an effect on a result, as texts without the name of the run's folder."""
    folder = str(given.get("paths.run") or "")
    texts = {name: str(value) for name, value in given.items()}
    kept = {name: text for name, text in texts.items() if not _has_no_effect(name)}
    return {name: text.replace(folder, "") if folder else text for name, text in kept.items()}


def _has_no_effect(name: str) -> bool:
    return any(name == left_out or name.startswith(f"{left_out}.") for left_out in WITHOUT_EFFECT)


def _shown(settings: Mapping[str, str], name: str) -> str:
    return settings.get(name, "not set")


# ---- the runs of a root ---------------------------------------------------------------------------------------------


def _runs(config: Config) -> Iterator[EarlierRun]:
    """The runs of this root that have checkpoints, the newest first."""
    found = [run for file in in_run_folders(config.paths.root, "checkpoint") if (run := _read(file.parent))]
    yield from sorted(found, key=lambda run: float(run.status.get("started", 0.0)), reverse=True)


def _read(folder: Path) -> EarlierRun | None:
    """A run folder that has checkpoints, else None."""
    if not (folder / "checkpoint").is_dir():
        return None
    return EarlierRun(folder, read_json(folder / "tags.json"), read_json(folder / "status.json"))


def _has_ended(run: EarlierRun) -> bool:
    """Whether no process trains the run any more, as far as that can be told."""
    process = str(run.status.get("process") or run.tags.get("run.process", ""))
    return run.status.get("status") != "RUNNING" or bool(processes.why_ended(process))


def _why_not_finished(run: EarlierRun) -> str:
    """Why a run that has ended is not finished, in words; '' if it is finished."""
    status = run.status.get("status")
    if status == "FINISHED":
        sync = read_json(run.folder / "sync.json")
        incomplete = sync and not sync.get("synced") and not sync.get("reason")
        return "its process ended before its record was complete" if incomplete else ""
    if status == "RUNNING":
        return processes.why_ended(str(run.status.get("process") or run.tags.get("run.process", "")))
    return str(run.status.get("error") or run.tags.get("error") or "its process ended")


def _by_whom(run: EarlierRun) -> str:
    holder = processes.parse_name(_text(run.folder / LOCK_FILE) or str(run.status.get("process", "")))
    return f"by process {holder.pid} on {holder.host}" if holder else "by another process"


def _wait_for_background(run: EarlierRun) -> None:
    """Wait for the background process of a command that was killed: it closes the run that it had open."""
    process = str(run.status.get("background", ""))
    deadline, told = time.monotonic() + WAIT_SECONDS, time.monotonic() + 1
    while process and processes.parse_name(process) and not processes.why_ended(process):
        if _owns(process) or time.monotonic() > deadline:
            return
        if time.monotonic() > told:
            log.info("Waiting for the process that completes the record of the interrupted run %s.", run.name)
            told = deadline + 1
        time.sleep(0.02)


def _owns(process: str) -> bool:
    """Whether this is a child process of this process: the interrupted run was an earlier job of it."""
    name = processes.parse_name(process)
    return name is not None and name.pid in processes.descendants(os.getpid())


# ---- the lock -------------------------------------------------------------------------------------------------------

_locks: dict[Path, int] = {}


def lock(folder: Path) -> bool:
    """Hold the lock on a run's folder until `unlock` or the end of this process; False if another process holds it."""
    folder = folder.resolve()
    if folder in _locks:
        return True
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    os.truncate(handle, 0)
    os.pwrite(handle, processes.process_name().encode(), 0)
    _locks[folder] = handle
    return True


def unlock(folder: Path) -> None:
    """Let other processes have the run's folder."""
    handle = _locks.pop(folder.resolve(), None)
    if handle is not None:
        os.close(handle)


def remove_checkpoints(folder: Path) -> None:
    """Remove a finished run's checkpoints."""
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
