"""Processes, signals and loading: what any command needs that trains."""
