"""What the commands need besides the experiment: fast imports, child processes, signals, errors, the terminal.

It imports nothing of mnistlab but `config`.
"""
