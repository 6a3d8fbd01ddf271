"""The evaluating command, `python -m mnistlab.evaluate run=best source=npz source.path=mine.npz`."""

import os
import sys

from mnistlab.config import trust
from mnistlab.config.compose import parse_command_line
from mnistlab.config.schema import register
from mnistlab.inference import words
from mnistlab.runtime import errors, exits

USAGE = """Evaluate a trained model again: on its own test images, or on those of another source with its classes.

Usage: python -m mnistlab.evaluate [run=latest] [source=... source.KEY=VALUE ...] [setting=value ...]

  run=MODEL      latest; best: by objective= among the runs validated on the same images as the latest; a run's id, name
                 or folder; models:/NAME@ALIAS, models:/NAME/VERSION; a .keras or .h5 file
  source=...     as in a training, with its settings; without it: the data of the run
  split=auto     test, validation, train, all; auto: the source's own test images if it has some, else all
  objective=best_epoch_val_accuracy   for run=best
  pixels=auto    raw (0 to 255) or unit (0 to 1): for a model file of another program
  trust=[mypackage], --config-dir FOLDER   as in a training
  paths.root=FOLDER, tracking.uri=STORE, tracking.experiment=NAME, tracking=none

  python -m mnistlab.evaluate run=best
  python -m mnistlab.evaluate run=best source=directory source.path=photos

Classes are matched by their names. The evaluation is recorded under the model's run, which is not changed.
Exit status: 0 evaluated, 1 not completely recorded, 2 a user's mistake."""


def main() -> None:
    """The command. Exit status: 0 evaluated, 1 not completely recorded, 2 a user's mistake, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_evaluate, USAGE))


def _evaluate() -> int:
    register()
    arguments, _ = parse_command_line(sys.argv[1:])
    with trust.trusting(arguments.trust):
        asked = words.read(arguments.overrides)
        trained, other = words.load(asked, arguments.config_dir)
        from mnistlab.inference import evaluating  # not for --help

        outcome = evaluating.evaluate(trained, other, asked.tracking, asked.root)
    print(f"\n{evaluating.summary(trained, other, outcome)}")
    return exits.FAILED if outcome.store_error else 0


if __name__ == "__main__":
    main()
