"""mnistlab in a notebook or a script: `from mnistlab import train, sweep, load_run`.

The functions take the words of the command line, do the same and record the same. They return objects with the history
as a DataFrame, the figures and the model, which Jupyter shows as a page.

`commands` has the functions, `words` makes the command line's words of Python values, `process` gives a command the
process that it expects and restores it, `run` and `sweep_result` are what is returned, `html` is how it looks.
"""

from mnistlab.notebook.commands import load_run, sweep, train
from mnistlab.notebook.figures import Figure, Figures
from mnistlab.notebook.run import Run
from mnistlab.notebook.sweep_result import SweepResult

__all__ = ["Figure", "Figures", "Run", "SweepResult", "load_run", "sweep", "train"]
