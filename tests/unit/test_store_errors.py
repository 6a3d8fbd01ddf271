"""What the error of a tracking server says to the user."""

from __future__ import annotations

import pytest

from mnistlab.tracking import store_errors


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/api/2.0/mlflow-artifacts/artifacts/1/a/requirements.txt", "it cannot store files (error 500; the server's"),
        (
            "/api/2.0/mlflow/runs/log-batch",
            "it answers with an error of its own (error 500; the server's log says why)",
        ),
    ],
)
def test_the_first_error_of_a_server_is_the_reason(path: str, reason: str) -> None:
    """After an upload that failed, MLflow marks the model as failed, on a connection that the server has closed."""
    given_up = f"Max retries exceeded with url: {path} (Caused by ResponseError('too many 500 error responses'))"
    error, reset = (RuntimeError("Max retries exceeded (Connection aborted.)"), ConnectionResetError(104, "reset"))
    error.__context__, reset.__context__ = reset, RuntimeError(given_up)
    assert reason in str(store_errors.in_words(error, "http://host:1"))
    reset.__context__ = None
    assert str(store_errors.in_words(error, "http://host:1")) == "host: it closed the connection"
