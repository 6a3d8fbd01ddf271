"""A tracking server behind TLS, with a certificate that its operator has made."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_command
from mlflow import MlflowClient
from tracking_servers import free_port, front, mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.faults]
CERTIFICATE = "MLFLOW_TRACKING_SERVER_CERT_PATH"
WORDS = ("tracking=server", "source=mnist_5k", "data.limit=300", "fit.epochs=1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """Its address, the address without TLS, and the file of its certificate."""
    folder = tmp_path_factory.mktemp("server")
    certificate, key = folder / "server.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tracking"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    port = free_port()
    with mlflow_server(folder, port), front(port, tls=context) as (uri, _):
        yield uri, f"http://127.0.0.1:{port}", certificate


def check_refused(folder: Path, uri: str, message: str, **variables: str) -> None:
    started = time.monotonic()
    done = run_command(folder, f"tracking.uri={uri}", *WORDS, **variables)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.out + done.err
    assert message in done.err
    assert time.monotonic() - started < 10
    assert {path.name for path in folder.rglob("*") if "keras" not in path.parts} <= {"runs"}


def test_an_unknown_certificate_is_refused_before_anything_is_made(server, tmp_path: Path) -> None:
    uri, _, certificate = server
    check_refused(
        tmp_path,
        uri,
        "is not trusted: self-signed certificate. Give the file of its certificate, or of "
        f"the authority that signed it: {CERTIFICATE}=FILE.",
    )
    check_refused(
        tmp_path,
        uri,
        f"{CERTIFICATE} must name a file of certificates. Received: missing.pem, No such",
        **{CERTIFICATE: "missing.pem"},
    )
    key = certificate.with_name("key.pem")
    check_refused(
        tmp_path, uri, f"{CERTIFICATE} must name a file of certificates. Received: {key}", **{CERTIFICATE: str(key)}
    )


def test_a_server_without_tls_is_said(server, tmp_path: Path) -> None:
    _, plain, _ = server
    check_refused(tmp_path, plain.replace("http:", "https:"), "Try http:// instead")


@pytest.mark.parametrize("how", [CERTIFICATE, "MLFLOW_TRACKING_INSECURE_TLS"])
def test_a_run_is_recorded_through_tls(server, tmp_path: Path, how: str) -> None:
    uri, plain, certificate = server
    variables = {how: str(certificate) if how == CERTIFICATE else "true"}
    done = run_command(tmp_path, f"tracking.uri={uri}", f"tracking.experiment={how}", *WORDS, **variables)
    assert (done.code, done.err) == (0, ""), done.err
    client = MlflowClient(plain)
    (run,) = client.search_runs([client.get_experiment_by_name(how).experiment_id])
    assert run.info.status == "FINISHED"
    assert {"config.yaml", "summary.png"} & {file.path for file in client.list_artifacts(run.info.run_id)}
