"""Deliver runs to the tracking store that it does not have completely: `python -m mnistlab.sync`."""

import sys
from pathlib import Path

from mnistlab.config import ConfigError, parse_settings, project_root
from mnistlab.runtime import errors, exits
from mnistlab.tracking import delivery, orphans, servers, stores, sync
from mnistlab.tracking.sync import UnsyncedRun

USAGE = """Deliver runs that were recorded while the tracking store was out of reach. Nothing is delivered twice.

Usage: python -m mnistlab.sync [FOLDER...] [paths.root=FOLDER] [tracking.uri=STORE] [tracking.experiment=NAME]

  FOLDER        the folder of a run, also of one that was trained with tracking=none; without it: all of paths.root
  tracking.uri  where to; without it: where each run belongs. A password stands in no file: name the address again.

Exit status: 0 everything is delivered, 1 something is not, 2 a user's mistake."""


def main() -> None:
    """The command. Exit status: 0 all delivered, 1 some not, 2 a user's mistake, 130 interrupted, 143 terminated."""
    exits.leave(errors.run_command(_sync, USAGE))


def _sync() -> int:
    words = sys.argv[1:]
    settings = parse_settings([word for word in words if "=" in word], stores.SETTING_NAMES)
    root = settings.get("paths.root") or settings.get("root") or project_root()
    if not Path(root).expanduser().is_dir():
        raise ConfigError(f"paths.root must be a folder that exists. Received: {root}.")
    if stores.has_no_runs(root) and len(words) == len(settings):
        print(f"Nothing to deliver: {root} has no runs, neither runs/ nor mlruns/.")
        return 0
    orphans.close_orphaned_folders(root)
    folders = [Path(word).expanduser().resolve() for word in words if "=" not in word]
    runs = [_named(folder) for folder in folders] if folders else sync.unsynced(root)
    if not runs:
        print("Everything is delivered: the tracking store has all runs of this folder completely.")
    return exits.FAILED if [run for run in runs if not _deliver(run, settings, root)] else 0


def _named(folder: Path) -> UnsyncedRun:
    run = sync.unsynced_run(folder, always=True)
    if run is None or not (folder / "tags.json").is_file():
        raise ConfigError(f"FOLDER must be the folder of a run, with its tags.json. Received: {folder}.")
    return run


def _deliver(run: UnsyncedRun, settings: dict[str, str], root: str) -> bool:
    """Deliver one run and print a line about it; returns whether the store has it."""
    if run.is_live:
        print(f"still running  {run.name}  {run.folder}")
        return True
    try:
        store = stores.store_of(run.store, run.experiment, settings, root)
        if reason := servers.outage(store.uri):
            raise servers.ServerSilent(f"the tracking server does not answer ({reason})")
        run_id = delivery.deliver(run.folder, store)
    except ConfigError as error:
        return _not_delivered(run, str(error))
    except Exception as error:
        return _not_delivered(run, _reason(error))
    print(f"delivered  {run.name}  {run.folder}  run {run_id}", flush=True)
    return True


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, servers.ServerSilent) else errors.describe(error)[:300]


def _not_delivered(run: UnsyncedRun, reason: str) -> bool:
    print(f"not delivered  {run.name}  {run.folder}: {reason}", flush=True)
    return False


if __name__ == "__main__":
    main()
