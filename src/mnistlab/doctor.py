"""What is wrong with the runs and their store, and mending it: `python -m mnistlab.doctor`."""

import sqlite3
import sys
from pathlib import Path

from mnistlab.config import ConfigError, TrackingConfig, parse_settings, project_root
from mnistlab.runtime import errors, exits
from mnistlab.tracking import relocation, stores
from mnistlab.tracking.doctor import Examination, examine, live_runs
from mnistlab.tracking.stores import StoreAddress

USAGE = """List what is wrong with the runs of a folder and their tracking store, and mend it.

Usage: python -m mnistlab.doctor [--fix] [paths.root=FOLDER] [tracking.uri=STORE] [tracking.experiment=NAME]
       python -m mnistlab.doctor relocate [paths.root=FOLDER] [tracking.uri=STORE]

  --fix     do what the list says; without it nothing is changed
  relocate  after mlruns/ was moved or copied: let the store find its files here. A copy of the database is kept.

Runs that are training, and runs of other programs, stay as they are.
Exit status: 0 healthy or all mended, 1 something is wrong, 2 a user's mistake."""
WORDS = ("--fix", "relocate")


def main() -> None:
    """The command. Exit status: 0 healthy, 1 something is wrong, 2 a user's mistake, 130, 143 or 129 stopped."""
    exits.leave(errors.run_command(_doctor, USAGE))


def _doctor() -> int:
    words = [word for word in sys.argv[1:] if word in WORDS]
    settings = parse_settings([word for word in sys.argv[1:] if word not in WORDS], (*stores.SETTING_NAMES, *WORDS))
    given = {stores.SHORT_NAMES.get(name, name): value for name, value in settings.items()}
    root = Path(given.get("paths.root") or project_root()).expanduser().resolve()
    if not root.is_dir():
        raise ConfigError(f"paths.root must be a folder that exists. Received: {root}.")
    if "relocate" not in words and "tracking.uri" not in given and stores.has_no_runs(root):
        print(f"Nothing to examine: {root} has no runs, neither runs/ nor mlruns/.")
        return 0
    tracking = TrackingConfig(
        backend="mlflow", uri=given.get("tracking.uri"), experiment=given.get("tracking.experiment")
    )
    store = stores.address(tracking, str(root))
    exits.catch_signals()
    if "relocate" in words:
        return _relocate(store, root)
    return _examine(store, root, fix="--fix" in words)


def _examine(store: StoreAddress, root: Path, fix: bool) -> int:
    found = examine(store, root)
    _show(found, fix)
    mendable = [finding for finding in found.findings if finding.mend]
    if fix and mendable:
        if store.uri.startswith("sqlite:") and stores.sqlite_file(store.uri).exists():
            stores.check(store)  # MLflow would try for minutes to write to a store that is read-only
        failed = [line for finding in mendable if finding.mend for line in finding.mend()]
        if failed:
            print("Could not be mended:", *failed, sep="\n  ")
        found = examine(store, root)
        left = [finding for finding in found.findings if finding.is_wrong]
        print("\nExamined again: " + ("nothing is wrong any more." if not left else "this is left:"))
        for finding in left:
            print(f"\n{finding.text()}")
    return 0 if found.is_healthy else exits.FAILED


def _show(found: Examination, fix: bool) -> None:
    print(found.summary)
    for finding in found.findings:
        print(f"\n{finding.text(fix)}")
    if found.is_healthy:
        print(f"\nHealthy: nothing {'of this ' if found.findings else ''}is wrong.")
    elif not fix and any(finding.mend for finding in found.findings):
        print("\nNothing was changed. To mend it: python -m mnistlab.doctor --fix, with the same settings.")


def _relocate(store: StoreAddress, root: Path) -> int:
    if not store.uri.startswith("sqlite:") or not stores.sqlite_file(store.uri).exists():
        stores.existing_address({"tracking.uri": store.uri, "paths.root": str(root)})
    try:
        planned = relocation.plan(store, str(root))
        if planned.changes and (live := live_runs(store)):
            raise ConfigError(f"A run is training now: {', '.join(live)}. Wait for it, or stop it; then relocate.")
        copy = relocation.apply(planned, str(root)) if planned.changes else None
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"The store {stores.sqlite_file(store.uri)} cannot be relocated: {error}.") from error
    for old, new in planned.moved.items():
        print(f"{old} -> {new}")
    if copy:
        counts = ", ".join(f"{count:,} of {table}" for table, count in planned.counts().items())
        print(f"{len(planned.changes):,} addresses changed: {counts}\nThe database as it was: {copy}")
    elif not planned.only_there:
        print("Nothing to relocate: no address names an old place of these files.")
    if planned.only_there:
        print(f"{len(planned.only_there):,} have their files only in the old folder, and keep their addresses:")
        print(*(f"  {address}" for address in planned.only_there[:20]), sep="\n")
        print("Copy these files to the same place in the new folder, then relocate again.")
    return exits.FAILED if planned.only_there else 0


if __name__ == "__main__":
    main()
