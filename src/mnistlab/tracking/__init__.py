"""The record of a run: its own folder first, then MLflow."""
