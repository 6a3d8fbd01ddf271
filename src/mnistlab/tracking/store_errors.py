"""What an error of the tracking store means: an entry is refused, the database is locked, or the server is silent.

An entry that is refused costs that entry. A locked database is waited for: another process will release it. A server
that does not answer ends the mirroring of the run, which its folder keeps.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from mnistlab.tracking import server_login
from mnistlab.tracking.servers import ServerSilent

log = logging.getLogger("mnistlab")

LOCKED_SECONDS = 300  # how long a locked database is waited for
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")
REFUSED_LOGIN = re.compile(r"failed with error code (401|403) ")
STATUS_OF = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}
SILENCE = re.compile(
    r"API request to .*(failed with|was successful but)|Max retries exceeded|Read timed out|Connection "
)
GIVEN_UP = re.compile(r"with url: (?P<path>\S+) \(Caused by ResponseError\('too many (?P<status>5\d\d) error")


def is_refusal(error: BaseException) -> bool:
    """Whether the store works and does not take just this entry."""
    return getattr(error, "error_code", "") in REFUSALS and not is_locked(error) and not SILENCE.search(str(error))


def is_locked(error: BaseException) -> bool:
    """Whether another process keeps the database locked."""
    text = re.sub(r"lock '.*' could", "lock could", str(error).lower())
    return any(sign in text for sign in ("database is locked", "table is locked", "lock could not be acquired"))


def refused_login(error: BaseException) -> int | None:
    """401 if a server refuses who asks, 403 if it does not permit what is asked, None for another error."""
    if found := REFUSED_LOGIN.search(str(error)):
        return int(found[1])
    return STATUS_OF.get(getattr(error, "error_code", ""))


def checked_login(error: Exception, uri: str) -> None:
    """Raise ConfigError, with what to do, if the error is that of a server that refuses the login or the request."""
    if uri.startswith("http") and (status := refused_login(error)):
        raise server_login.refused(uri, status, str(error).partition("Response body:")[2].strip(" '")) from error


def is_silent(error: BaseException) -> bool:
    """Whether a server refuses connections, does not answer, or answers with an error of its own (5xx)."""
    own = type(error).__module__.partition(".")[0] in ("requests", "urllib3")
    return isinstance(error, ConnectionError | TimeoutError) or own or SILENCE.search(str(error)) is not None


def in_words(error: Exception, uri: str) -> Exception:
    """The error as the training process shall see it: with a short reason, if a server is silent."""
    if isinstance(error, ServerSilent) or not uri.startswith("http") or not is_silent(error):
        return error
    text = str(error)
    host = urlsplit(uri).hostname
    if (failed := _failed_request(error)) is not None:
        status, path = failed
        what = "it cannot store files" if "/mlflow-artifacts/" in path else "it answers with an error of its own"
        return ServerSilent(f"{host}: {what} (error {status}; the server's log says why)")
    for sign, reason in (
        ("refused", "Connection refused"),
        ("Connection aborted", "it closed the connection"),
        ("timed out", "it accepts and does not answer"),
        ("timeout", "it accepts and does not answer"),
        ("failed with error code", "it answers with an error: " + text.partition("failed with ")[2][:60]),
    ):
        if sign in text:
            return ServerSilent(f"{host}: {reason}")
    return ServerSilent(f"{host}: {' '.join(text.split())[:200]}")


def _failed_request(error: BaseException) -> tuple[int, str] | None:
    """Status and path of the request that a server answered with an error of its own (5xx), if that is the cause or
    came just before: MLflow goes on to mark the model as failed, and may fail at that for another reason."""
    for seen in _chain(error):
        if found := GIVEN_UP.search(str(seen)):
            return int(found["status"]), found["path"]
        response = getattr(seen, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int) and status >= 500:
            return status, urlsplit(str(getattr(response, "url", ""))).path
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes, and those during whose handling it came."""
    left, seen = [error], set()
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            left += filter(None, (one.__context__, one.__cause__))


def until_unlocked(call: Callable[[], Any], what: str) -> Any:
    """The result of a call, which is repeated while another process locks the database.

    what: the store, for the message.
    """
    started, said = time.monotonic(), False
    while True:
        try:
            return call()
        except Exception as error:
            if not is_locked(error) or time.monotonic() - started > LOCKED_SECONDS:
                raise
            if not said:
                said = True
                log.warning("Another process has locked the tracking store %s. Waiting for it; nothing is lost.", what)
            time.sleep(0.5)
