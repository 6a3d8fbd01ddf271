"""The private names of MLflow that mnistlab uses, each with its reason. A test fails when MLflow renames one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def dispose_engine(uri: str) -> None:
    """Close the database connections that MLflow caches by address, before the file is renamed or replaced."""
    from mlflow.tracking._tracking_service.utils import _get_store

    store = _get_store(uri)
    getattr(store, "engine", store).dispose()


def write_environment(folder: Path, requirements: Sequence[str]) -> None:
    """Write conda.yaml, requirements.txt and python_env.yaml as MLflow's flavors do, without loading a flavor."""
    import yaml
    from mlflow.utils.environment import _process_pip_requirements, _PythonEnv

    conda, pip, _ = _process_pip_requirements(None, list(requirements), None)
    conda_environment: Any = conda
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda_environment, default_flow_style=False))
    (folder / "requirements.txt").write_text("\n".join(pip))
    _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))
