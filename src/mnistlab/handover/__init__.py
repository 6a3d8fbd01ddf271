"""A finished run handed over as plain Keras: `recorded` says what the run was, `writing` makes a folder of it.

`data_code`, `network`, `training_code` and `results_code` write the script's sections, `python_code` the calls in them,
`document` makes a script and a notebook of the sections, and `verification` runs them against the run itself.
"""
