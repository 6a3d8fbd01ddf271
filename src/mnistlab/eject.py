"""The handing-over command, `python -m mnistlab.eject run=best to=FOLDER`."""

import os
import sys
from pathlib import Path

from mnistlab.config import ConfigError, parse_settings, project_root, trust
from mnistlab.runtime import errors, exits, startup
from mnistlab.tracking import background, chosen_models, stores

USAGE = """Write a finished run as one readable script, and a notebook, of plain Keras that repeat its numbers.

Usage: python -m mnistlab.eject to=FOLDER [run=latest] [force=true] [setting=value ...]

  to=FOLDER      a new or an empty folder: train.py, train.ipynb, requirements.txt, recorded.json, and data if needed
  run=RUN        latest; best: by objective= among the runs validated on the same images as the latest; a run's id, name
                 or folder; models:/NAME@ALIAS, models:/NAME/VERSION
  force=true     write into a folder that has files; those of the same names are replaced
  objective=best_epoch_val_accuracy   for run=best
  trust=[mypackage]   a package that the run used
  paths.root=FOLDER, tracking.uri=STORE, tracking.experiment=NAME

  python -m mnistlab.eject run=best to=my_script
  cd my_script && python train.py

The script needs Keras, NumPy, scikit-learn and matplotlib, not mnistlab. Images, split, initial weights, optimizer and
loss are compared with those of the run before anything is written.
Exit status: 0 written, 2 a user's mistake, or a run that plain Keras cannot repeat."""
SETTINGS = ("run", "to", "force", "objective", *stores.SETTING_NAMES)


def main() -> None:
    """The command. Exit status: 0 written, 2 a user's mistake, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_eject, USAGE))


def _eject() -> int:
    words, named = trust.split_trust(sys.argv[1:])
    settings = parse_settings(words, SETTINGS)
    folder = _checked_folder(settings)
    root = str(settings.get("paths.root") or settings.get("root") or project_root())
    store = stores.named_address(settings)
    objective = settings.get("objective", chosen_models.OBJECTIVE)
    wanted = settings.get("run", chosen_models.LATEST)
    choosing = background.submit(chosen_models.choose, wanted, store, root, objective, str(Path.cwd()))
    exits.catch_signals()
    with startup.loading():
        from mnistlab.handover import recorded, writing
    chosen = choosing.result()
    print(chosen.reason, flush=True)
    with trust.trusting(named):
        run = recorded.recorded_run(chosen, background.call(recorded.manifest_of, chosen, store))
        written = writing.hand_over(run, folder)
    print(f"Equal in the script and in the run: {written.equal}.")
    print("\n".join([*written.notes, f"  folder  {written.folder}", f"  files   {', '.join(written.files)}"]))
    print(f"  run it  cd {written.folder} && python {writing.SCRIPT}")
    return 0


def _checked_folder(settings: dict[str, str]) -> Path:
    """The folder to write to."""
    force = settings.get("force", "false")
    if force not in ("true", "false"):
        raise ConfigError(f"force must be true or false. Received: {force}.")
    if not settings.get("to"):
        raise ConfigError("to=FOLDER must name the folder for the script: to=my_script. Received: none.")
    folder = Path(settings["to"]).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"to={settings['to']} must be a folder. Received: a file.")
    if folder.is_dir() and any(folder.iterdir()) and force == "false":
        raise ConfigError(
            f"to={settings['to']} must be a new or an empty folder. Received: a folder with files. "
            "Choose another, or write into it all the same: force=true."
        )
    return folder


if __name__ == "__main__":
    main()
