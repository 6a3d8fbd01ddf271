"""Addresses of pages of the MLflow UI, behind the address of its server."""

from urllib.parse import quote

# A new browser starts in the mode for language models, whatever kind the experiment is of.
MODE = "?workflowType=machine_learning"


def of_experiment(experiment_id: str) -> str:
    """The table of an experiment's runs."""
    return f"#/experiments/{experiment_id}/runs{MODE}"


def of_run(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """The page of a run, or of one of its artifacts."""
    shown = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}{shown}{MODE}"
