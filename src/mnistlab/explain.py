"""The explaining command, `python -m mnistlab.explain run=best`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mnistlab.config import trust
from mnistlab.config.compose import compose_config, parse_command_line
from mnistlab.config.schema import register
from mnistlab.inference import words
from mnistlab.runtime import errors, exits, startup
from mnistlab.tracking import background, chosen_models, stores

if TYPE_CHECKING:
    from mnistlab.tracking.chosen_models import ChosenModel

USAGE = """Draw what a trained model has learned and where it errs, on its own test images or those of another source.

Usage: python -m mnistlab.explain [run=latest] [source=... source.KEY=VALUE ...] [setting=value ...]

  run=MODEL      latest; best: by objective= among the runs validated on the same images as the latest; a run's id, name
                 or folder; models:/NAME@ALIAS, models:/NAME/VERSION; a .keras or .h5 file
  source=...     as in a training, with its settings; without it: the data of the run
  split=auto     test, validation, train, all; auto: the source's own test images if it has some, else all
  objective=best_val_accuracy   for run=best
  pixels=auto    raw (0 to 255) or unit (0 to 1): for a model file of another program
  trust=[mypackage], --config-dir FOLDER   as in a training
  paths.root=FOLDER, tracking.uri=STORE, tracking.experiment=NAME, tracking=none

  python -m mnistlab.explain run=best
  python -m mnistlab.explain run=best source=directory source.path=photos

Figures: weights of the first layer, saliency of right and wrong predictions, reliability diagram with the expected
calibration error, an embedding of the images, the most frequent confusions. They are recorded under the model's run,
which is not changed. A training draws them too with explain=true.
Exit status: 0 explained, 1 not completely recorded, 2 a user's mistake."""


def main() -> None:
    """The command. Exit status: 0 explained, 1 not completely recorded, 2 a user's mistake, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_explain, USAGE))


def _explain() -> int:
    register()
    arguments, _ = parse_command_line(sys.argv[1:])
    with trust.trusting(arguments.trust):
        return _explain_on(words.read(arguments.overrides), arguments.config_dir)


def _explain_on(asked: words.Words, config_dir: str | None) -> int:
    if asked.overrides:
        compose_config(asked.overrides, config_dir=config_dir)  # a mistake is told before anything is loaded
    store = stores.named_address(asked.settings)
    choosing = background.submit(chosen_models.choose, asked.run, store, asked.root, asked.objective, str(Path.cwd()))
    exits.catch_signals()
    with startup.loading():
        from mnistlab.inference import explaining, other_data, trained_model
    chosen: ChosenModel = choosing.result()
    trained = trained_model.load(chosen, asked.settings.get("pixels", "auto"))
    other = other_data.load(trained, asked.overrides, config_dir, asked.settings.get("split", "auto"))
    for note in (chosen.reason, *trained.notes, *other.notes, *(f"WARNING: {text}" for text in other.warnings)):
        print(note, flush=True)
    outcome = explaining.explain(trained, other, asked.tracking, asked.root)
    print(f"\n{explaining.summary(trained, other, outcome)}")
    return exits.FAILED if outcome.store_error else 0


if __name__ == "__main__":
    main()
