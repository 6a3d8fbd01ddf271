"""Whether a tracking server lets this user in, and whether its version of MLflow is one that mnistlab records on.

It is asked before anything is made, and before MLflow is loaded: with the user and the password that MLflow would use.
"""

import configparser
import contextlib
import json
import netrc
import os
import re
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from mnistlab.config import ConfigError, hide_secrets, secrets

LOWEST_VERSION = (3, 0)  # of MLflow's servers: the first that know logged models
HIGHEST_MAJOR = 3  # as pyproject.toml has it for MLflow here
MAX_BYTES = 1_000_000  # of an answer
OF_OTHERS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")  # ways to log in that only MLflow knows
HOW = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, or record in folders only "
    "with tracking=none."
)
CERTIFICATE, OWN_CERTIFICATE = "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"
INSTEAD = "Choose another with tracking.uri, or record in folders only with tracking=none."

_admitted: set[str] = set()  # the servers that have let this process in


@dataclass(frozen=True)
class Login:
    """How this process presents itself to a server. user: '' for a token and for nobody; header: of HTTP, or ''."""

    user: str
    header: str


def login(uri: str) -> Login:
    """The login that MLflow uses for this server: from the address, else from the environment, else from its file.

    The passwords and tokens are hidden from now on in everything that is written.
    """
    parts = urlsplit(uri)
    if parts.username and parts.password:
        return _basic(unquote(parts.username), unquote(parts.password))
    in_file = _in_file()
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or in_file.get("mlflow_tracking_username", "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or in_file.get("mlflow_tracking_password", "")
    if user and password:
        return _basic(user, password)
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        secrets.remember([token])
        return Login("", f"Bearer {token}")
    return Login("", "")


def _in_file() -> dict[str, str]:
    """What ~/.mlflow/credentials says."""
    parser = configparser.ConfigParser()
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
        parser.read(Path("~/.mlflow/credentials").expanduser())
        return dict(parser["mlflow"]) if parser.has_section("mlflow") else {}
    return {}


def _basic(user: str, password: str) -> Login:
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    secrets.remember([encoded, *([password] if len(password) >= secrets.MIN_LENGTH_OF_NAMED else [])])
    return Login(user, f"Basic {encoded}")


def check_login(uri: str, seconds: float) -> None:
    """Check that a server that answers lets this user in and has a version of MLflow that works. What cannot be told
    here, because only MLflow can log in or the server does not name its version, is left to MLflow.

    Raises:
        ConfigError: a wrong password, a user who may not come in, an MLflow that is too old or too new.
    """
    if uri in _admitted or _only_mlflow_can_log_in(uri):
        return
    presented = login(uri)
    status, text = _ask(uri, "version", presented, seconds)
    if status in (401, 403):
        raise refused(uri, status, text, presented.user)
    if status != 200:
        return
    if problem := version_problem(text):
        raise ConfigError(f"The tracking server {hide_secrets(uri)} {problem} {INSTEAD}")
    _admitted.add(uri)


def check_permission(uri: str, experiment: str, seconds: float) -> None:
    """Check that a server which demands a login lets this user record in an experiment, if it exists. Nothing is made:
    MLflow's server checks permissions first, and a run that starts at no time it refuses then.

    Raises:
        ConfigError: the user may not.
    """
    presented = login(uri)
    if not uri.startswith("http") or not presented.header or _only_mlflow_can_log_in(uri):
        return
    page = f"api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment, safe='')}"
    status, text = _ask(uri, page, presented, seconds)
    if status == 200:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            body = {"experiment_id": str(json.loads(text)["experiment"]["experiment_id"]), "start_time": "no time"}
            status, text = _ask(uri, "api/2.0/mlflow/runs/create", presented, seconds, body)
    if status in (401, 403):
        raise refused(uri, status, text, presented.user)


def version_problem(text: str) -> str:
    """Why mnistlab cannot record on a server of this version of MLflow, '' if it can; also if this is no version."""
    found = re.match(r"\s*(\d+)\.(\d+)[\w.+-]*\s*$", text)
    if found is None:
        return ""
    major, minor = int(found[1]), int(found[2])
    version, lowest = text.strip(), ".".join(map(str, LOWEST_VERSION))
    if (major, minor) < LOWEST_VERSION:
        return f"runs MLflow {version}. It must be {lowest} or later: upgrade it (docs/how-to/server.md)."
    if major > HIGHEST_MAJOR:
        return f"runs MLflow {version}. It must be {lowest} or later, before {HIGHEST_MAJOR + 1}: upgrade mnistlab."
    return ""


def refused(uri: str, status: int, text: str, user: str | None = None) -> ConfigError:
    """The error for a server that refused a request.

    Args:
        status: of HTTP, 401 or 403; text: the server's; user: who asked; None: the one of `login`.
    """
    user = login(uri).user if user is None else user
    place, words = hide_secrets(uri), " ".join(hide_secrets(text).split())[:150]
    if status == 401 and not login(uri).header:
        return ConfigError(f"The tracking server demands a login: {place}. {HOW}")
    who = (
        f"of the user {user!r}" if user else "with MLFLOW_TRACKING_TOKEN" if login(uri).header else "without a password"
    )
    if status == 401:
        return ConfigError(
            f"The tracking server refuses the login {who}: {place}. The user or the password is wrong. {HOW}"
        )
    if "Host header" in words:
        host = urlsplit(uri).netloc.rpartition("@")[2]
        return ConfigError(
            f"The tracking server does not serve under the name {host}: {place}. Its operator can allow it with "
            "MLFLOW_SERVER_ALLOWED_HOSTS (docs/how-to/server.md)."
        )
    return ConfigError(
        f"The tracking server does not permit it, login {who}: {place} ({words or 'Permission denied'}). Ask its "
        "operator for the permission EDIT on the experiment, choose another with tracking.experiment=NAME, or record "
        "in folders only with tracking=none."
    )


def _only_mlflow_can_log_in(uri: str) -> bool:
    """Whether a plugin of MLflow logs in, or the password of ~/.netrc is taken, which comes before all others."""
    if any(os.environ.get(name) for name in OF_OTHERS):
        return True
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    with contextlib.suppress(OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return netrc.netrc(str(file)).authenticators(urlsplit(uri).hostname or "") is not None
    return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The login is for this server alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _ask(
    uri: str, page: str, presented: Login, seconds: float, body: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """The status and the text of a page of the server; (0, '') if there was no answer. body: sent as JSON.

    Raises:
        ConfigError: the server's certificate is not trusted.
    """
    parts = urlsplit(uri)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/{page}"
    headers = {"Authorization": presented.header} if presented.header else {}
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, sent, {**headers, "Content-Type": "application/json"})
    handlers = [urllib.request.HTTPSHandler(context=_context())] if parts.scheme == "https" else []
    try:
        with urllib.request.build_opener(*handlers, _NoRedirect()).open(request, timeout=seconds) as answer:
            return int(answer.status), answer.read(MAX_BYTES).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(MAX_BYTES).decode(errors="replace")
    except Exception as error:  # also what is no HTTP: `servers` has asked before, and MLflow will ask again
        reason = getattr(error, "reason", None)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ConfigError(
                f"The certificate of the tracking server {hide_secrets(uri)} is not trusted: {reason.verify_message}. "
                f"Give the file of its certificate, or of the authority that signed it: {CERTIFICATE}=FILE."
            ) from error
        return 0, ""


def _context() -> ssl.SSLContext:
    """How certificates are checked, as MLflow does it: by its variables, those of requests, or certifi.

    Raises:
        ConfigError: a variable names a file that is none of certificates.
    """
    import certifi

    is_checked = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() not in ("true", "1")
    trusted = next((name for name in (CERTIFICATE, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), "")
    own, name = os.environ.get(OWN_CERTIFICATE), trusted
    try:
        place = Path(os.environ[trusted] if trusted and is_checked else certifi.where())
        files = str(place) if not place.is_dir() else None
        context = ssl.create_default_context(cafile=files, capath=None if files else str(place))
        if own:
            name = OWN_CERTIFICATE
            context.load_cert_chain(own)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "it has no certificate"
        raise ConfigError(
            f"{name} must name a file of certificates. Received: {os.environ.get(name)}, {reason}."
        ) from error
    if not is_checked:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
