"""What every command needs and no experiment: fast imports, child processes, signals and exits, errors, the terminal.

It imports nothing of mnistlab but `config`.
"""
