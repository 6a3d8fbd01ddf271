"""Hides secrets in everything that is written: values of environment variables that a configuration uses, values of
settings that are named like secrets, passwords and keys in URLs.

A process remembers the secrets that it has seen; writers pass their texts through `hide_secrets`.
"""

import contextlib
import html
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "<hidden>"
MIN_LENGTH, MIN_LENGTH_OF_NAMED = 6, 4
WORD = (
    r"(?:password|passwd|passphrase|pwd|secret|secrets|token|api_?key|access_?key(?:_?id)?|private_?key|secret_?key|"
    r"credentials?|auth_?key|bearer)"
)
NAMED_LIKE_A_SECRET = re.compile(rf"(?:^|[_\-.]){WORD}(?:$|[_\-.])")
URL_PASSWORD = re.compile(r"(\w[\w+.\-]*://[^/\s:@'\"]*):[^@/\s'\"]+@")
URL_KEY = re.compile(rf"([?&;](?:[\w\-.]*[_\-.])?(?:{WORD}|sig|signature|key)=)[^&\s'\"#;]+", re.IGNORECASE)
# An assignment in a file: password = "abc", f(password="abc"), key: str = b"abc", "api_key": "abc", TOKEN=abc.
# Names are at most 100 characters long, so that long lines are searched in linear time.
NAME = rf"""(?<![\w\-])(?=[\w\-]{{1,100}}(?![\w\-]))[\w\-]*?{WORD}[\w\-]*+["']?\]?[ \t]*"""
QUOTED = r"""[brfu]{0,2}(?:"[^"\n]+"|'[^'\n]+')"""
ASSIGNED = re.compile(rf"""(?im)({NAME}(?:(?::\s*[\w.|\[\] ]+?)?={{1,2}}|:)[ \t]*)(?:{QUOTED}|(?<==)[^\s"'(\[{{]+$)""")
# In a file of settings also without quotation marks: password: abc. In code that would be a type.
UNQUOTED = re.compile(rf"""(?im)({NAME}[:=][ \t]*)(?![\s"'<&*|>${{\[]).+$""")
SETTINGS_FILE = re.compile(r"diff --git .*\.(?:ya?ml|toml|ini|cfg|conf|properties|env)$", re.MULTILINE)

_known: set[str] = set()


def hide_secrets(text: str) -> str:
    """The text without the secrets that this process has seen, and without passwords and keys in URLs."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    return URL_KEY.sub(rf"\1{HIDDEN}", text) if "=" in text else text


def hide_assignments(text: str) -> str:
    """As `hide_secrets`, for source code: also the values that are assigned to names like `password`."""
    return ASSIGNED.sub(rf"\1{HIDDEN}", hide_secrets(text))


def hide_assignments_in_diff(diff: str) -> str:
    """As `hide_assignments`, for the difference that git shows; in files of settings also values in no quotes."""
    files = re.split(r"^(?=diff --git )", hide_assignments(diff), flags=re.MULTILINE)
    return "".join(UNQUOTED.sub(rf"\1{HIDDEN}", one) if SETTINGS_FILE.match(one) else one for one in files)


def hidden(value: Any, name: str = "") -> Any:
    """A copy of nested mappings and lists with all secrets hidden, those by their names too."""
    if isinstance(value, Mapping):
        return {hidden(key): hidden(entry, str(key)) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([hidden(entry, name) for entry in value]) if type(value) in (list, tuple) else value
    if not isinstance(value, str):
        return value
    is_expression = value.startswith("${") and value.endswith("}")
    return HIDDEN if value and not is_expression and is_named_like_a_secret(name) else hide_secrets(value)


def is_named_like_a_secret(name: str) -> bool:
    """Whether the last part of a dotted name is that of a secret: callbacks.upload.api_key, apiKey, DB_PASSWORD."""
    last = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2])
    return bool(NAMED_LIKE_A_SECRET.search(last.lower()))


def known() -> list[str]:
    """The secrets that this process has seen, for its child processes."""
    return sorted(_known)


def remember(values: Iterable[str]) -> None:
    """Hide these texts from now on, also as JSON, HTML and URLs would write them."""
    for value in values:
        lines = [line for line in value.splitlines() if len(line) >= 16]
        for text in (value, value.strip(), *lines):
            _known.update({text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(text, "")})
            _known.update({unquote(text), html.escape(text), repr(text)[1:-1], text.replace("'", "''")})
    _known.discard("")


def remember_settings(settings: Any, name: str = "") -> None:
    """Remember the secrets in nested settings, in overrides of a command line and in MLflow's own variables."""
    if not name:
        remember(_in_urls(os.environ.get("MLFLOW_TRACKING_URI", "")))
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            remember_settings(value, str(key))
    elif isinstance(settings, list | tuple):
        for value in settings:
            remember_settings(value, name or "item")
    elif isinstance(settings, str) and not ("${" in settings and settings.endswith("}")):
        remember(_in_urls(settings))
        key, equals, value = settings.partition("=")
        if is_named_like_a_secret(name):
            remember([settings] if len(settings) >= MIN_LENGTH_OF_NAMED else [])
        elif equals and is_named_like_a_secret(key.lstrip("+~")) and len(value) >= MIN_LENGTH_OF_NAMED:
            remember([value.strip("'\"")])
        remember(_named_values(settings))
    elif isinstance(settings, int | float) and not isinstance(settings, bool) and is_named_like_a_secret(name):
        remember([str(settings)] if len(str(settings)) >= MIN_LENGTH_OF_NAMED else [])


def _named_values(text: str) -> Iterator[str]:
    """The values in a mapping that is written as text: {_target_: my.Upload, api_key: abc}."""
    if "{" in text:
        for name, value in re.findall(r"(?<![\w\-])([\w\-]++)['\"]?\s*:\s*['\"]?([^,}'\"\s]+)", text):
            if is_named_like_a_secret(name) and len(value) >= MIN_LENGTH_OF_NAMED and not value.startswith("${"):
                yield value


def _in_urls(text: str) -> Iterator[str]:
    """The passwords and keys in the URLs of a text."""
    for url in re.findall(r"\w[\w+.\-]{0,30}://[^\s'\"]+", text):  # bounded: in time, too, for very long words
        with contextlib.suppress(ValueError):
            password = urlsplit(url).password
            if password and len(password) >= MIN_LENGTH_OF_NAMED:
                yield from (password, unquote(password))
        for found in URL_KEY.finditer(url):
            value = found[0].partition("=")[2]
            if len(value) >= MIN_LENGTH_OF_NAMED:
                yield from (value, unquote(value))


def remember_variable(variable: str) -> None:
    """Remember the value of an environment variable that a configuration uses. Paths, numbers and plain words are
    no secrets, unless the variable's name says so: to hide `3` or a home folder would destroy the record."""
    value = os.environ.get(variable, "")
    remember(_in_urls(value))
    is_named = is_named_like_a_secret(variable)
    is_number = re.fullmatch(r"[+-]?\d{1,8}|[+-]?\d*\.\d*(e[+-]?\d+)?", value)
    is_word = re.fullmatch(r"[a-z_]{1,12}", value)
    is_path = value.startswith(("/", "~")) and Path(value).expanduser().exists()
    is_secret = is_named or not (is_number or is_path or is_word)
    if is_secret and len(value) >= (MIN_LENGTH_OF_NAMED if is_named else MIN_LENGTH):
        remember([value])
