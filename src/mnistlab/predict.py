"""The predicting command, `python -m mnistlab.predict run=best images='scans/*.png'`."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnistlab.config import ConfigError, parse_settings, project_root, trust
from mnistlab.runtime import errors, exits, startup
from mnistlab.tracking import background, chosen_models, stores

if TYPE_CHECKING:
    from mnistlab.inference.predictions import Predictions
    from mnistlab.inference.trained_model import TrainedModel

USAGE = """Predict the classes of pictures with a trained model.

Usage: python -m mnistlab.predict images=FILES [run=latest] [FILES...] [--json|--csv] [setting=value ...]

  images=FILES   a file, a folder, or a pattern in quotes; further ones may follow without a name
  run=MODEL      latest; best: by objective= among the runs validated on the same images as the latest; a run's id, name
                 or folder; models:/NAME@ALIAS, models:/NAME/VERSION; a .keras or .h5 file
  prepare=resize resize: the whole picture; mnist: the strokes alone, cropped, centred and scaled as MNIST was made
  invert=auto    auto: where strokes and ground are the other way round than in the training; true; false
  objective=best_epoch_val_accuracy   for run=best
  pixels=auto    raw (0 to 255) or unit (0 to 1): for a model file of another program
  sheet=FILE     where the contact sheet goes; without it into runs/predictions/; sheet=none: nowhere
  trust=[mypackage]   a package with classes of the model
  paths.root=FOLDER, tracking.uri=STORE, tracking.experiment=NAME

  python -m mnistlab.predict run=best images='scans/*.png' prepare=mnist
  python -m mnistlab.predict run=models:/digits@champion photo.jpg --json

--json and --csv print nothing else to standard output.
Exit status: 0 all pictures were predicted, 1 some cannot be read, 2 a user's mistake."""
FLAGS = ("--json", "--csv")
SETTINGS = ("run", "images", "prepare", "invert", "objective", "pixels", "sheet", *stores.SETTING_NAMES)
CHOICES = {"prepare": ("resize", "mnist"), "invert": ("auto", "true", "false"), "pixels": ("auto", "raw", "unit")}


def main() -> None:
    """The command. Exit status: 0 all predicted, 1 some files are unusable, 2 a user's mistake, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_predict, USAGE))


def _predict() -> int:
    words, named = trust.split_trust(sys.argv[1:])
    flags = [word for word in words if word in FLAGS]
    settings = parse_settings([word for word in words if _is_setting(word)], SETTINGS)
    patterns = [word for word in words if word not in flags and not _is_setting(word)]
    patterns = [*([settings["images"]] if "images" in settings else []), *patterns]
    _check(settings, flags, patterns)
    root = str(settings.get("paths.root") or settings.get("root") or project_root())
    store = stores.named_address(settings)
    objective = settings.get("objective", chosen_models.OBJECTIVE)
    named_model = settings.get("run", chosen_models.LATEST)
    choosing = background.submit(chosen_models.choose, named_model, store, root, objective, str(Path.cwd()))
    exits.catch_signals()
    from mnistlab.inference import pictures  # not for --help

    files = pictures.list_files(patterns)
    with startup.loading():
        from mnistlab.inference import predictions, trained_model
    with trust.trusting(named):
        trained = trained_model.load(choosing.result(), settings.get("pixels", "auto"))
    found = predictions.predict(trained, files, settings.get("invert", "auto"), settings.get("prepare", "resize"))
    _print(trained, found, flags)
    _draw_sheet(trained, found, settings.get("sheet"), root, flags)
    return exits.FAILED if found.problems else 0


def _is_setting(word: str) -> bool:
    """Whether a word is NAME=VALUE and not a file, whose name may have an = too."""
    name = word.partition("=")[0]
    return "=" in word and name.replace(".", "").replace("_", "").isalpha() and not Path(word).exists()


def _check(settings: dict[str, str], flags: Sequence[str], patterns: Sequence[str]) -> None:
    problems = [
        f"{name} must be one of {', '.join(choices)}. Received: {settings[name]}."
        for name, choices in CHOICES.items()
        if settings.get(name, choices[0]) not in choices
    ]
    if len(set(flags)) > 1:
        problems.append("--json and --csv exclude each other. Write one of them.")
    if not patterns:
        problems.append("images=FILES must name the pictures: images='scans/*.png', or a folder. Received: none.")
    problems += [f"{word} is not a flag; see --help." for word in patterns if word.startswith("--")]
    if problems:
        raise ConfigError(problems)


def _print(trained: "TrainedModel", found: "Predictions", flags: Sequence[str]) -> None:
    notes = [trained.chosen.reason, *trained.notes, *found.steps()]
    if "--json" in flags:
        print(found.as_json())
    elif "--csv" in flags:
        print(found.as_csv(), end="")
    else:
        print("\n".join([notes.pop(0), "", found.as_table()]), flush=True)
    print("\n".join(notes), file=sys.stderr if flags else sys.stdout, flush=True)
    for one in found.problems if flags else ():
        print(f"WARNING: {one.file} {one.problem}.", file=sys.stderr)


def _draw_sheet(
    trained: "TrainedModel", found: "Predictions", wanted: str | None, root: str, flags: Sequence[str]
) -> None:
    """Draw the contact sheet in the background process, and say where it is."""
    from mnistlab.evaluation import drawing

    if wanted == "none" or len(found.problems) == len(found.files):
        return
    name = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.getpid()}"
    file = Path(wanted).expanduser() if wanted else Path(root) / "runs" / "predictions" / name / "contact_sheet.png"
    background.call_or_run_here(drawing.draw_file, file.resolve(), "image_grid", found.sheet(trained))
    print(f"  sheet   {file}", file=sys.stderr if flags else sys.stdout)


if __name__ == "__main__":
    main()
