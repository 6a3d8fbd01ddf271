"""The explaining command, `python -m mnistlab.explain run=best`."""

import os
import sys

from mnistlab.config import trust
from mnistlab.config.compose import parse_command_line
from mnistlab.config.schema import register
from mnistlab.inference import words
from mnistlab.runtime import errors, exits

USAGE = """Draw what a trained model has learned and where it errs, on its own test images or those of another source.

Usage: python -m mnistlab.explain [run=latest] [source=... source.KEY=VALUE ...] [setting=value ...]

  run=MODEL      latest; best: by objective= among the runs validated on the same images as the latest; a run's id, name
                 or folder; models:/NAME@ALIAS, models:/NAME/VERSION; a .keras or .h5 file
  source=...     as in a training, with its settings; without it: the data of the run
  split=auto     test, validation, train, all; auto: the source's own test images if it has some, else all
  objective=best_epoch_val_accuracy   for run=best
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
        asked = words.read(arguments.overrides)
        trained, other = words.load(asked, arguments.config_dir)
        from mnistlab.inference import explaining  # not for --help

        outcome = explaining.explain(trained, other, asked.tracking, asked.root)
    print(f"\n{explaining.summary(trained, other, outcome)}")
    return exits.FAILED if outcome.store_error else 0


if __name__ == "__main__":
    main()
