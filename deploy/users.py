#!/usr/bin/env python3
"""The users of a tracking server, and what they may do.

Usage: python deploy/users.py list
       python deploy/users.py add NAME                        a new user; the password is asked for
       python deploy/users.py password NAME                   another password for a user
       python deploy/users.py remove NAME
       python deploy/users.py permit NAME EXPERIMENT RIGHT    READ, USE, EDIT or MANAGE on an experiment, beyond
                                                              what MLFLOW_AUTH_DEFAULT_PERMISSION gives everybody

The server is MLFLOW_TRACKING_URI; the administrator's login is MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,
or ~/.mlflow/credentials. A password is typed in twice, or read from the standard input if that is no terminal: it
stands neither in a command line nor in a file. Exit status: 0 done, 1 the server refused, 2 a mistake.
"""

import getpass
import os
import sys
import warnings
from typing import Any

RIGHTS = ("READ", "USE", "EDIT", "MANAGE")  # each includes those before it
WORDS = {"list": 0, "add": 1, "password": 1, "remove": 1, "permit": 3}  # command -> how many words follow


def read_password(user: str) -> str:
    """A new password for a user."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"Password for {user}: ")
    if password != getpass.getpass("Once more: "):
        raise ValueError("The two passwords differ. Nothing was changed.")
    return password


def run(command: str, words: list[str]) -> None:
    """Carry out one command and print what was done.

    Raises:
        ValueError: a mistake; MlflowException: the server refused.
    """
    warnings.simplefilter("ignore")  # of the server's own modules
    from mlflow.server import get_app_client

    client: Any = get_app_client("basic-auth", os.environ["MLFLOW_TRACKING_URI"])
    if command == "list":
        for user in client._request("/api/2.0/mlflow/users/list", "GET")["users"]:
            print(f"{user['username']}{'  (administrator)' if user['is_admin'] else ''}")
        return
    user = words[0]
    if command == "add":
        client.create_user(user, read_password(user))
        print(f"The user {user} can log in.")
    elif command == "password":
        client.update_user_password(user, read_password(user))
        print(f"The user {user} has another password.")
    elif command == "remove":
        client.delete_user(user)
        print(f"The user {user} is removed; the runs stay.")
    else:
        permit(client, user, *words[1:])


def permit(client: Any, user: str, name: str, right: str) -> None:
    """Give a user a right on an experiment.

    Raises:
        ValueError: there is no such right or experiment.
    """
    from mlflow import MlflowClient

    if right not in RIGHTS:
        raise ValueError(f"RIGHT must be one of {', '.join(RIGHTS)}. Received: {right}.")
    experiment = MlflowClient().get_experiment_by_name(name)
    if experiment is None:
        raise ValueError(f"There is no experiment {name!r}. Its first run makes it.")
    client.grant_user_permission(user, "experiment", experiment.experiment_id, right)
    print(f"The user {user} has the right {right} on the experiment {name}.")


def main() -> int:
    """The command; returns the exit status."""
    command, words = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    if len(words) != WORDS.get(command, -1):
        print(f"Error: this is no command.\n\n{__doc__}", file=sys.stderr)
        return 2
    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        print("Error: MLFLOW_TRACKING_URI must be the address of the server, http://HOST:5000.", file=sys.stderr)
        return 2
    from mlflow.exceptions import MlflowException

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        run(command, words)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except MlflowException as error:
        print(f"Error: the server refused: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
