"""The replaying command, `python -m mnistlab.replay run=ID`: train a recorded run again and compare the epochs."""

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnistlab.config import ConfigError, parse_settings, project_root, trust
from mnistlab.runtime import errors, exits, startup
from mnistlab.runtime.files import read_json
from mnistlab.tracking import background, chosen_models, rerun_reasons, stores
from mnistlab.tracking.chosen_models import ChosenModel

if TYPE_CHECKING:
    from mnistlab.config import Config

USAGE = """Train a recorded run again and compare every epoch.

Usage: python -m mnistlab.replay [run=latest] [setting=value ...]

  run=RUN       latest, a run's id, name or folder, as for mnistlab.predict
  trust=[mypackage]   a package with code of the run
  paths.root=FOLDER, tracking.uri=STORE, tracking.experiment=NAME

Settings, data and seed come from the run's record. What differs from then (code, libraries, data) is said. The repeated
run goes into runs/replays/ and is not tracked.

Exit status: 0 all epochs are equal to the bit, 1 they differ, 2 a user's mistake."""
SETTINGS = ("run", *stores.SETTING_NAMES)


def main() -> None:
    """The command. Exit status: 0 equal, 1 different, 2 a user's mistake, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_replay, USAGE))


def _replay() -> int:
    words, named = trust.split_trust(sys.argv[1:])
    settings = parse_settings(words, SETTINGS)
    root = str(settings.get("paths.root") or settings.get("root") or project_root())
    store, named_run = stores.named_address(settings), settings.get("run", chosen_models.LATEST)
    exits.catch_signals()
    chosen: ChosenModel = background.call(
        chosen_models.choose, named_run, store, root, chosen_models.OBJECTIVE, str(Path.cwd())
    )
    if not chosen.epochs:
        raise ConfigError(f"{chosen.place} has no record of its epochs. Name a run, or its folder.")
    print(chosen.reason, flush=True)
    with trust.trusting(named):
        with startup.loading():
            from mnistlab import experiment
            from mnistlab.config.recorded import recorded_config
        config = recorded_config(chosen.config, chosen.place)
        data = experiment.load_dataset(config)
        reasons = _differences(chosen, experiment.identity(config, data), data.name)
        print(f"Differs from then: {reasons}." if reasons else "Code, libraries and data are those of the run.")
        _store_apart(config, root)
        print(f"Training {len(chosen.epochs)} epochs again ...", flush=True)
        with _only_warnings():
            repeated = experiment.run(config).epochs
    return _report(chosen, repeated, config)


@contextlib.contextmanager
def _only_warnings() -> Iterator[None]:
    log = logging.getLogger("mnistlab")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _store_apart(config: "Config", root: str) -> None:
    """Have the run not tracked, in a folder of its own, and without a saved model."""
    name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.getpid()}"
    config.paths.root, config.paths.run = root, str(Path(root) / "runs" / "replays" / name)
    config.tracking.backend, config.fit.resume, config.fit.max_seconds = "none", "never", None
    config.save.formats, config.save.register = [], None


def _differences(chosen: ChosenModel, now: Mapping[str, str], data_name: str) -> str:
    """What differs from the recorded run, '' if nothing does."""
    if now["fingerprint"] == chosen.tags.get("fingerprint"):
        return ""
    return rerun_reasons.reason_to_run_again(now, chosen.tags, data_name).replace("new", "the settings", 1)


def _report(chosen: ChosenModel, repeated: Sequence[Mapping[str, float]], config: "Config") -> int:
    names = [name for name in chosen.epochs[0] if "seconds" not in name]
    for epoch, (before, now) in enumerate(zip(chosen.epochs, repeated, strict=False), start=1):
        for name in names:
            if not _is_equal(before.get(name, math.nan), now.get(name, math.nan)):
                values = f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
                print(f"Different: first in epoch {epoch} of {len(chosen.epochs)}, where {values}.")
                return exits.FAILED
    if len(repeated) != len(chosen.epochs):
        print(f"Different: the run has {len(chosen.epochs)} epochs, and its repetition {len(repeated)}.")
        return exits.FAILED
    print(f"Equal to the bit in all {len(repeated)} epochs: {', '.join(names)}.")
    print(f"  folder  {read_json(Path(str(config.paths.run)) / 'tags.json').get('run.folder', config.paths.run)}")
    return 0


def _is_equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


if __name__ == "__main__":
    main()
