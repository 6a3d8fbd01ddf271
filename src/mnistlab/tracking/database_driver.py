"""Whether the Python package that a database needs is installed; SQLAlchemy chooses it by the address."""

import importlib.util
from urllib.parse import urlsplit

from mnistlab.config import ConfigError, hide_secrets

# By the first word of an address: the modules that SQLAlchemy can use, and how to install them.
DRIVERS = {
    "postgresql": {"psycopg2": "psycopg2-binary", "psycopg": "'psycopg[binary]'"},
    "mysql": {"pymysql": "pymysql", "MySQLdb": "mysqlclient"},
    "mssql": {"pyodbc": "pyodbc", "pymssql": "pymssql"},
}
NAMES = {"MySQLdb": "mysqldb"}  # in an address, where they differ from the module's


def check_driver(uri: str, setting: str = "tracking.uri") -> None:
    """Check that a database can be asked; of another kind of address, nothing is known. setting: that names it.

    Raises:
        ConfigError: the package for it is not installed, or SQLAlchemy knows none of that name.
    """
    scheme = urlsplit(uri).scheme
    database, _, driver = scheme.partition("+")
    known = DRIVERS.get(database)
    if known is None:
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except NoSuchModuleError as error:
        choices = ", ".join(f"{database}+{NAMES.get(name, name).lower()}://..." for name in known)
        raise ConfigError(
            f"SQLAlchemy has no driver {driver!r} for {database}. Received: {setting}={hide_secrets(uri)}. "
            f"Choices: {choices}."
        ) from error
    except ArgumentError as error:
        raise ConfigError(f"The address of a database cannot be read: {setting}={hide_secrets(uri)}.") from error
    except ImportError as error:  # also where a library that the package needs is missing
        if not isinstance(error, ModuleNotFoundError):
            raise ConfigError(
                f"The Python package for {scheme}:// cannot be used: {str(error).splitlines()[0]}. "
                f"Received: {setting}={hide_secrets(uri)}."
            ) from error
        missing = error.name or driver
        installed = [name for name in known if importlib.util.find_spec(name) is not None]
        mend = f"pip install {known.get(missing, missing)}"
        if installed:
            mend = f"write {database}+{NAMES.get(installed[0], installed[0])}://..., as {installed[0]} is installed"
        raise ConfigError(
            f"{scheme}:// needs the Python package {missing}, which is not installed: {mend}. "
            f"Received: {setting}={hide_secrets(uri)}."
        ) from error
