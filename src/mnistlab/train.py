"""The training command, `python -m mnistlab.train`. Importing it loads neither TensorFlow nor MLflow.

In a notebook it is a function, too: `from mnistlab import train; run = train("optimizer=rmsprop")`.
"""

import os
import sys

from mnistlab.runtime import callable_module, errors, exits
from mnistlab.sweep import command_line


def main() -> None:
    """The command. Exit status: 0 success, 1 a job failed, 2 a user's mistake; 130 stopped by Ctrl-C, 143 by SIGTERM,
    129 by SIGHUP."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors are raised to us; `explain` formats them
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    exits.leave(errors.run_command(_run))


def _run() -> int:
    ended = command_line.run(sys.argv[1:])
    return errors.report_failures(ended.failures) if ended.sweep is None else ended.status


if __name__ == "__main__":
    main()
else:
    callable_module.make_callable(__name__)
