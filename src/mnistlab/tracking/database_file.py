"""The SQLite file of a local store, checked before MLflow is loaded: whole, and of a schema that it reads."""

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

from mnistlab.config import ConfigError

WAY_OUT = "Move it away, name another with tracking.uri=sqlite:///FILE, or record in folders only with tracking=none."


def check_database(file: Path) -> None:
    """Check what can be checked in milliseconds. A missing or empty file is fine, and one that is locked.

    Raises:
        ConfigError: it is not a database, damaged, of another program, or of another version of MLflow.
    """
    if not file.exists() or (file.is_file() and not file.stat().st_size):
        return
    if not file.is_file():
        raise ConfigError(
            f"tracking.uri must name a file: {file} is a folder. For example: sqlite:///{file / 'mlflow.db'}."
        )
    try:
        with closing(sqlite3.connect(f"file:{_quoted(file)}?mode=ro", uri=True, timeout=0.5)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = []
            if "alembic_version" in tables:
                versions = [str(row[0]) for row in connection.execute("SELECT version_num FROM alembic_version")]
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):  # by another process: MLflow waits for it
            return
        raise ConfigError(f"The tracking database {file} cannot be opened: {error}. {WAY_OUT}") from error
    except sqlite3.DatabaseError as error:
        raise ConfigError(f"The tracking database {file} is damaged: {error}. {WAY_OUT}") from error
    if tables:
        _check_schema(file, tables, versions)


def _check_schema(file: Path, tables: set[str], versions: list[str]) -> None:
    if not versions or "experiments" not in tables:
        raise ConfigError(f"The database {file} is not one of MLflow's: it has the tables {_shown(tables)}. {WAY_OUT}")
    scripts = _migrations()
    if scripts and not any(name.startswith(f"{versions[0]}_") for name in scripts):
        raise ConfigError(
            f"The tracking database {file} was written by a newer MLflow than this one (schema {versions[0]}). "
            f"Install that version: pip install --upgrade mlflow. {WAY_OUT}"
        )
    if any(f'down_revision = "{versions[0]}"'.encode() in content for content in scripts.values()):
        raise ConfigError(
            f"The tracking database {file} was written by an older MLflow (schema {versions[0]}). "
            f"Make a copy of it, then run: mlflow db upgrade sqlite:///{file}"
        )


def _migrations() -> dict[str, bytes]:
    """The installed MLflow's scripts from one schema to the next, SCHEMA_TITLE.py; found without loading MLflow."""
    spec = importlib.util.find_spec("mlflow")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    return {
        script.name: script.read_bytes()
        for folder in folders
        for script in Path(folder).glob("store/db_migrations/versions/*.py")
    }


def _quoted(file: Path) -> str:
    return str(file).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _shown(tables: set[str]) -> str:
    names = sorted(tables)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
