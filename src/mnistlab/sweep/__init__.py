"""A multirun as one sweep: planned, reusing finished runs, under one parent run, ended by a comparison.

`plan` lists the jobs and finds those that are done, `conduct` runs the others from the parent run's start to its end,
`job` is one job, inside a sweep or alone, and `report` compares the finished runs. The sweep hands the jobs its plan in
a file, so they may run in this process or in those of a parallel launcher. Importing the package loads nothing.

In a notebook it is a function, too: `from mnistlab import sweep; compared = sweep(optimizer=["sgd", "adam"])`.
"""

from mnistlab.runtime.callable_module import make_callable

make_callable(__name__)
