"""A server that refuses the login or has another MLflow: one line, before anything is made. The address of
tracking=server. The files of deploy/."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import PROJECT, environment, run_command

from mnistlab.config import ConfigError, hide_secrets
from mnistlab.config.compose import compose_config
from mnistlab.tracking import server_login, servers, store_errors, stores

DEPLOY = PROJECT / "deploy"


@contextlib.contextmanager
def small_server(
    status: int, text: str, pages: dict[str, tuple[int, str]] | None = None
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server whose pages answer so, but /health 200: its address, and the requests (path, login) that it had.

    pages: the last part of a path -> status and text, if they differ.
    """
    requests: list[tuple[str, str]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("Authorization", "")))
            page = self.path.partition("?")[0].rpartition("/")[2]
            answer, words = (pages or {}).get(page, (200 if page == "health" else status, text))
            self.send_response(answer)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
            self.end_headers()
            self.wfile.write(words.encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path) -> None:
    """No login in the environment or in the home folder."""
    for name in ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "AWS_SIGV4", "URI"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def log_in(monkeypatch, user: str = "ada", password: str = "canary-login-1") -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


@pytest.mark.parametrize("way", ["address", "environment", "file", "token", "user without password", "nothing"])
def test_the_login_is_the_one_that_mlflow_uses(way, tmp_path, monkeypatch) -> None:
    uri = "http://eve:canary%2Fin-address@host:1" if way == "address" else "http://host:1"
    if way in ("environment", "address"):
        log_in(monkeypatch)
    if way in ("token", "environment"):
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-token-1")
    if way == "user without password":
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    if way == "file":
        (tmp_path / ".mlflow").mkdir()
        (tmp_path / ".mlflow" / "credentials").write_text(
            "[mlflow]\nmlflow_tracking_username = ada\nmlflow_tracking_password = canary-file-1\n"
        )
    from mlflow.utils import rest_utils
    from mlflow.utils.credentials import get_default_host_creds

    sent: list[str] = []

    def send(session: Any, request: Any, **_: Any) -> None:
        sent.append(request.headers.get("Authorization", ""))
        raise ConnectionError("sent")

    monkeypatch.setattr("requests.Session.send", send)
    with contextlib.suppress(Exception):
        rest_utils.http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0)
    assert [server_login.login(uri).header] == sent
    assert bool(sent[0]) == (way not in ("nothing", "user without password"))


def test_a_password_is_hidden_once_it_was_used(monkeypatch) -> None:
    log_in(monkeypatch, password="canary-login-2")
    header = server_login.login("http://host:1").header
    assert hide_secrets("the word canary-login-2 is wrong") == "the word <hidden> is wrong"
    assert hide_secrets(header) == "Basic <hidden>"


def test_a_wrong_password_is_one_line_and_is_asked_again_after_a_correction(monkeypatch) -> None:
    log_in(monkeypatch)
    with small_server(401, "You are not authenticated.") as (uri, requests):
        for _ in range(2):
            with pytest.raises(ConfigError, match=f"refuses the login of the user 'ada': {uri}") as refused:
                servers.outage(uri)
            assert "\n" not in str(refused.value)
        assert [path for path, _ in requests] == ["/health", "/version"] * 2
        assert requests[0][1] == ""  # its certificate was not checked yet
        assert requests[1][1].startswith("Basic ")


def test_no_password_at_all_is_a_line_of_its_own() -> None:
    with (
        small_server(401, "") as (uri, _),
        pytest.raises(ConfigError, match="demands a login.*MLFLOW_TRACKING_USERNAME"),
    ):
        servers.outage(uri)


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "no such page"), (200, "<html>"), (307, ""), (500, "oops"), (200, "3.0.0"), (200, "3.99.0.dev0")],
)
def test_what_is_no_refusal_is_left_to_mlflow(monkeypatch, status, text) -> None:
    log_in(monkeypatch)
    with small_server(status, text) as (uri, requests):
        assert servers.outage(uri) == ""
    assert "/elsewhere" not in {path for path, _ in requests}  # the login is for this server alone


def test_only_mlflow_can_log_in_with_a_plugin_or_netrc(tmp_path, monkeypatch) -> None:
    with small_server(401, "") as (uri, requests):
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ada password canary-netrc-1\n")
        assert servers._reason(uri) == ""
        (tmp_path / ".netrc").unlink()
        monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "my-plugin")
        assert servers._reason(uri) == ""
    assert {path for path, _ in requests} == {"/health"}


@pytest.mark.parametrize(
    ("pages", "refused"),
    [
        ({"get-by-name": (404, "no such experiment")}, False),
        ({"get-by-name": (403, "Permission denied")}, True),
        ({"create": (400, "no time is no time")}, False),
        ({"create": (403, "Permission denied")}, True),
        ({"create": (500, "oops")}, False),
        ({"get-by-name": (200, "<html>")}, False),
    ],
)
def test_a_missing_permission_is_found_before_anything_is_made(monkeypatch, pages, refused: bool) -> None:
    log_in(monkeypatch)
    experiment = '{"experiment": {"experiment_id": "7", "name": "a b"}}'
    with small_server(200, experiment, pages) as (uri, requests):
        store = stores.StoreAddress(uri, "a b", None)
        expected = pytest.raises(ConfigError, match=rf"does not permit.*'ada': {uri} \(Permission denied\)")
        with expected if refused else contextlib.nullcontext():
            stores.check_permission(store)
    assert requests[0][0] == "/api/2.0/mlflow/experiments/get-by-name?experiment_name=a%20b"


def test_a_server_without_a_login_is_not_asked_for_permissions() -> None:
    with small_server(403, "") as (uri, requests):
        stores.check_permission(stores.StoreAddress(uri, "mnistlab", None))
    assert requests == []


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        *(("2.22.1", "3.0 or later: upgrade it"), ("1.30.0", "3.0 or later"), ("4.0.0", "before 4: upgrade mnistlab")),
        *(("4.1.0.dev0", "before 4"), ("3.0.0", ""), ("3.17.2\n", ""), ("3.18.0rc1", ""), ("OK", ""), ("", "")),
    ],
)
def test_the_rule_of_versions(version: str, problem: str) -> None:
    found = server_login.version_problem(version)
    assert problem in found
    assert bool(found) == bool(problem)


def test_a_server_of_another_version_is_one_line() -> None:
    with small_server(200, "2.22.1") as (uri, _):
        with pytest.raises(ConfigError, match=r"runs MLflow 2\.22\.1\. It must be 3\.0.*tracking=none") as refused:
            servers.outage(uri)
        assert "\n" not in str(refused.value)


def test_the_versions_are_those_that_the_installation_has() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    assert re.findall(r'"mlflow>=(\d+)\.\d+,<(\d+)"', project) == [
        (str(server_login.LOWEST_VERSION[0]), str(server_login.HIGHEST_MAJOR + 1))
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("API request to endpoint /api failed with error code 401 != 200. Response body: 'who?'", 401),
        ("API request to endpoint /api failed with error code 403 != 200. Response body: 'Permission denied'", 403),
        ("API request to endpoint /api failed with error code 404 != 200. Response body: ''", None),
        ("Max retries exceeded: too many 503 error responses", None),
    ],
)
def test_a_refusal_in_mlflows_errors_is_known(error: str, status: int | None) -> None:
    assert store_errors.refused_login(RuntimeError(error)) == status
    if status is None:
        store_errors.checked_login(RuntimeError(error), "http://host:1")
        return
    with pytest.raises(ConfigError, match="does not permit.*Permission denied" if status == 403 else "demands a login"):
        store_errors.checked_login(RuntimeError(error), "http://host:1")


def test_a_host_name_that_the_server_does_not_serve_says_who_can_allow_it() -> None:
    body = "Invalid Host header - possible DNS rebinding attack detected"
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in str(server_login.refused("http://me:pw@host:1", 403, body, "me"))


def checked_address(*words: str) -> stores.StoreAddress:
    """The store of tracking=server, with these words beside it."""
    config = compose_config(["tracking=server", *words])
    return stores.checked_address(config.tracking, config.paths.root)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (None, "Received: none. Name it: tracking=server tracking.uri=http"),
        ("sqlite:///runs.db", "not shared. Received: sqlite:///runs.db"),
        ("./mlruns", "not shared. Received: ./mlruns"),
        ("postgresql://me:canary-db@host/runs", "keeps the database's password"),
    ],
)
def test_tracking_server_needs_the_address_of_a_server(monkeypatch, uri: str | None, reason: str) -> None:
    for given in ("setting", "variable") if uri else ("nothing",):
        words = [f"tracking.uri={uri}"] if given == "setting" else []
        if given == "variable":
            monkeypatch.setenv("MLFLOW_TRACKING_URI", str(uri))
        with pytest.raises(ConfigError, match="tracking=server needs the http or https address") as refused:
            checked_address(*words)
        assert reason in str(refused.value)
        assert "canary" not in str(refused.value)


def test_tracking_server_takes_an_address_from_either_place(monkeypatch) -> None:
    assert checked_address("tracking.uri=https://host/mlflow").uri == "https://host/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert checked_address().uri == "http://host:5000"


@pytest.mark.slow
def test_a_training_without_a_login_makes_nothing(tmp_path) -> None:
    with small_server(401, "") as (uri, _):
        refused = run_command(tmp_path, "tracking=server", f"tracking.uri={uri}", "source=mnist_5k", HOME=str(tmp_path))
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1), refused.err
    assert refused.err.startswith(f"Error: The tracking server demands a login: {uri}.")
    assert [path.name for path in tmp_path.rglob("*") if "keras" not in path.parts] == ["runs"]


# ---- deploy/ --------------------------------------------------------------------------------------------------------


def serve() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve", DEPLOY / "serve.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def variables_of_the_example() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_compose_file_has_a_value_or_an_example_for_each_variable_and_no_password() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    used = re.findall(r"\$\{(\w+)(:[?-])?([^}]*)\}", text)
    example = variables_of_the_example()
    assert {name for name, _, _ in used} == set(example)
    needed = {name for name, kind, _ in used if kind == ":?"}
    assert needed == {"PGPASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"}
    for name, kind, default in used:
        assert kind in (":?", ":-"), name  # each is checked or has a default
        if kind == ":-":
            assert default == example[name], name
    secret = {name for name in example if re.search("PASSWORD|SECRET|KEY", name)}
    assert len(secret) == 5
    assert {name: example[name] for name in secret} == dict.fromkeys(secret, "")
    assert set(services) == {"database", "server"}
    assert all("healthcheck" in service and "restart" in service for service in services.values())
    assert services["server"]["depends_on"]["database"] == {"condition": "service_healthy"}
    known = set(re.findall(r"\b(?:PG|MLFLOW_)[A-Z_]+", serve().__doc__ or "")) | {"MLFLOW_S3_ENDPOINT_URL"}
    given = {name for name in services["server"]["environment"] if name.startswith(("PG", "MLFLOW_"))}
    assert given <= known


def test_the_container_has_the_versions_that_are_tested() -> None:
    pins = (PROJECT / "constraints.txt").read_text()
    for package, version in re.findall(r'"([\w-]+)(?:\[\w+\])?==([\w.]+)"', (DEPLOY / "Dockerfile").read_text()):
        assert f"\n{package}=={version}\n" in pins
    page = (PROJECT / "docs" / "how-to" / "server.md").read_text()
    assert set(re.findall(r"mlflow\[auth\]==([\d.]+)", page)) == set(re.findall(r"\nmlflow==([\d.]+)\n", pins))


def test_git_ignores_the_file_of_passwords() -> None:
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/.env"], cwd=PROJECT)
    assert ignored.returncode == 0


def test_the_file_of_the_login_has_no_password(tmp_path, monkeypatch) -> None:
    for name in ("PGPASSWORD", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        monkeypatch.setenv(name, f"canary-{name}")
    text = serve().write_auth_settings(tmp_path).read_text()
    assert "database_uri = postgresql+psycopg2:///mlflow_auth\n" in text
    assert "canary" not in text
    assert "admin_password" not in text


@pytest.mark.parametrize(
    ("given", "words", "message"),
    [
        ({}, [], "MLFLOW_FLASK_SERVER_SECRET_KEY must be a random text of 16 or more characters."),
        ({"MLFLOW_AUTH_DEFAULT_PERMISSION": "WRITE"}, [], "MLFLOW_AUTH_DEFAULT_PERMISSION must be one of"),
        (
            {"MLFLOW_ARTIFACTS_DESTINATION": "gs://bucket"},
            [],
            "MLFLOW_ARTIFACTS_DESTINATION=gs://bucket needs the package google-cloud-storage: pip install google",
        ),
        ({}, ["--port", "1"], "The only option is --upgrade. Received: --port 1."),
    ],
)
def test_the_server_is_not_started_with_a_wrong_setting(tmp_path: Path, given, words, message: str) -> None:
    key = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 16} if given else {}
    variables = {**environment(tmp_path), "PGHOST": "127.0.0.1", "PGPORT": "1", **key, **given}
    done = subprocess.run([sys.executable, DEPLOY / "serve.py", *words], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(f"Error: {message}")
