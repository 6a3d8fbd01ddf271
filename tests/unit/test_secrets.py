"""No secret is written: those of environment variables, of settings named like secrets, of URLs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnistlab.config import hydra_internals, parameters, secrets
from mnistlab.config.compose import compose_config
from mnistlab.runtime import files


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", set())


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("https://me:pa55@host/x", "https://me:<hidden>@host/x"),
        ("see https://me@host:80/x", "see https://me@host:80/x"),
        ("https://h/x?a=1&token=abc&b=2", "https://h/x?a=1&token=<hidden>&b=2"),
        ("https://h/x?api_key=abc#f", "https://h/x?api_key=<hidden>#f"),
        ("(https://h/x?X-Amz-Signature=abc)", "(https://h/x?X-Amz-Signature=<hidden>"),
        ("optimizer=adam fit.epochs=3", "optimizer=adam fit.epochs=3"),
    ],
)
def test_passwords_and_keys_in_urls(text: str, hidden: str) -> None:
    assert secrets.hide_secrets(text).startswith(hidden)


@pytest.mark.parametrize("name", ["password", "callbacks.up.api_key", "apiKey", "DB_PASSWORD", "aws.access_key_id"])
def test_names_of_secrets(name: str) -> None:
    assert secrets.is_named_like_a_secret(name)


@pytest.mark.parametrize("name", ["optimizer", "num_tokens", "keys", "metric_key", "compass", "author", "tokenizer"])
def test_other_names(name: str) -> None:
    assert not secrets.is_named_like_a_secret(name)


def test_values_of_environment_variables_are_expressions_wherever_they_stand(monkeypatch) -> None:
    monkeypatch.setenv("MY_VALUE", "canary-4711")
    monkeypatch.setenv("MY_EPOCHS", "2")
    config = compose_config(
        [
            "run.name='a ${oc.env:MY_VALUE}'",
            "+optimizer.first=${run.name}",
            "+optimizer.listed=[x,'${optimizer.first}']",
            "fit.epochs=${oc.env:MY_EPOCHS}",
        ]
    )
    assert config.run.name == "a canary-4711"
    assert config.fit.epochs == 2
    recorded = parameters(config)
    assert recorded["run.name"] == recorded["optimizer.first"] == "a ${oc.env:MY_VALUE}"
    assert recorded["optimizer.listed"] == ["x", "a ${oc.env:MY_VALUE}"]
    assert recorded["fit.epochs"] == "${oc.env:MY_EPOCHS}"
    assert secrets.hide_secrets("failed: canary-4711 after 2 epochs") == "failed: <hidden> after 2 epochs"


def test_settings_named_like_secrets_and_passwords_in_urls() -> None:
    config = compose_config(
        ["tracking.uri=http://me:typed-1@host", "+optimizer.password=typed-2", "+optimizer.pin_token=12345"]
    )
    assert config.tracking.uri == "http://me:typed-1@host"
    recorded = parameters(config)
    assert recorded["tracking.uri"] == "http://me:<hidden>@host"
    assert recorded["optimizer.password"] == recorded["optimizer.pin_token"] == "<hidden>"
    assert secrets.hide_secrets(" ".join(config.overrides)).count("<hidden>") == 3


def test_a_secret_is_found_as_json_yaml_html_and_urls_write_it(tmp_path: Path) -> None:
    secret = 'it\'s "quoted" & ünusual\\'
    secrets.remember([secret])
    import html
    from urllib.parse import quote

    for text in (
        secret,
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        html.escape(secret),
        quote(secret),
    ):
        assert "usual" not in secrets.hide_secrets(text), text
    files.write_text(tmp_path / "a.txt", f"<{secret}>")
    assert (tmp_path / "a.txt").read_text() == "<<hidden>>"


def test_numbers_words_and_folders_of_the_environment_stay_readable(monkeypatch, tmp_path) -> None:
    for value in ("3", "0.001234", "momentum", str(tmp_path)):
        monkeypatch.setenv("SOME_SETTING", value)
        secrets.remember_variable("SOME_SETTING")
        assert secrets.hide_secrets(f"a {value} b") == f"a {value} b"
    monkeypatch.setenv("SOME_TOKEN", "momentum")
    secrets.remember_variable("SOME_TOKEN")
    assert secrets.hide_secrets("a momentum b") == "a <hidden> b"


def test_assignments_in_changed_code() -> None:
    lines = {
        '+password = "abc"': "+password = <hidden>",
        "-API_KEY=abc": "-API_KEY=<hidden>",
        '+  "access_key": "abc",': '+  "access_key": <hidden>,',
        "+token = tokenizer.next()": "+token = tokenizer.next()",
        ' units = "abc"': ' units = "abc"',
        "+connect(password='abc', retries=3)": "+connect(password=<hidden>, retries=3)",
        '+    token: str = "abc"': "+    token: str = <hidden>",
        '+SECRET = b"abc"': "+SECRET = <hidden>",
        '+os.environ["API_KEY"] = "abc"': '+os.environ["API_KEY"] = <hidden>',
        '+if password == "abc":': "+if password == <hidden>:",
        "+    password: str": "+    password: str",
    }
    assert secrets.hide_assignments("\n".join(lines)) == "\n".join(lines.values())


def test_values_without_quotation_marks_in_changed_settings() -> None:
    """In code a word after a colon is a type."""
    lines = "@@ -1 +1 @@\n-password: old one\n+  api_key: abc # mine\n+ids: 3\n+token: ${{oc.env:T}}\n"
    diff = "diff --git a/{0} b/{0}\n" + lines
    hidden = "@@ -1 +1 @@\n-password: <hidden>\n+  api_key: <hidden>\n+ids: 3\n+token: ${oc.env:T}\n"
    both = diff.format("conf/mine.yaml") + diff.format("mine.py")
    head, code = "diff --git a/conf/mine.yaml b/conf/mine.yaml\n", diff.format("mine.py")
    assert secrets.hide_assignments_in_diff(both) == head + hidden + code


def test_a_metric_may_be_named_token(monkeypatch) -> None:
    assert secrets.hidden({"token_accuracy": 0.5, "secret": "abc", "list": [1, "x"]}) == {
        "token_accuracy": 0.5,
        "secret": "<hidden>",
        "list": [1, "x"],
    }


def test_hydras_own_files(tmp_path: Path) -> None:
    from hydra.core import utils
    from omegaconf import OmegaConf

    config = OmegaConf.create({"password": "canary-1", "uri": "http://a:canary-2@h", "other": "${oc.env:HOME}"})
    utils._save_config(config, "config.yaml", tmp_path / ".hydra")
    OmegaConf.save(config, tmp_path / "multirun.yaml")
    for file in (tmp_path / ".hydra" / "config.yaml", tmp_path / "multirun.yaml"):
        assert OmegaConf.to_container(OmegaConf.load(file), resolve=False) == {
            "password": "<hidden>",
            "uri": "http://a:<hidden>@h",
            "other": "${oc.env:HOME}",
        }
    assert hydra_internals.hydra_utils is utils
