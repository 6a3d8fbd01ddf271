"""The documentation's own rules: the configuration page is complete, a figure has its command, the site is offline."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import CONF, PROJECT
from test_architecture import ARROWS, COMMANDS

DOCS = PROJECT / "docs"
FIGURES = DOCS / "guide" / "figures"
MADE: dict[str, dict[str, Any]] = json.loads((FIGURES / "figures.json").read_text(encoding="utf-8"))
MAX_FIGURES, MAX_BYTES = 15, 150_000


def script(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS / "_scripts")
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def configuration() -> str:
    return script("configuration_page").page()


def keys(node: Any, prefix: str) -> Iterator[str]:
    """Dotted paths of all keys with a value, as PyYAML reads them."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def with_parents(path: str) -> Iterator[str]:
    """A path and those above it: a mapping that stands in one line has one row."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def section(page: str, title: str) -> str:
    """The text below a heading of any level."""
    start = page.index(f"{title} {{ #")
    return page[start:].split("\n##")[0]


FILES = sorted(CONF.rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_key_and_comment_of_a_yaml_file_is_on_the_configuration_page(configuration: str, file: Path) -> None:
    text, group = file.read_text(encoding="utf-8"), file.parent.relative_to(CONF).as_posix()
    part = configuration if group == "." else section(configuration, f"### {group}={file.stem}")
    prefix = "" if group == "." or "@package _global_" in text else f"{group.replace('/', '.')}."
    paths = {path for path in keys(yaml.safe_load(text), prefix) if path != "defaults"}
    assert {path for path in paths if not any(f"| `{name}` |" in part for name in with_parents(path))} == set()
    comments = re.findall(r"^[^#\n].*?#\s+(.+)$", text, re.MULTILINE)
    cell = script("configuration_page").cell
    assert [comment for comment in comments if cell(comment.strip()).lower() not in part.lower()] == []


def test_the_configuration_page_has_defaults_choices_and_ranges(configuration: str) -> None:
    rows = {line.split("|")[1].strip(" `"): line for line in configuration.splitlines() if line.startswith("| `")}
    assert "| `auto` | `auto` `fused` `keras` |" in rows["fit.engine"]
    assert "| `0` | whole number, 0 &lt;= x &lt; 2\\*\\*32 |" in rows["seed"]
    assert "| `[accuracy]` | one or a list of metrics |" in rows["fit.metrics"]
    assert "| `null` | number or `null`, x &gt; 0 |" in rows["fit.max_seconds"]
    assert "0.9 to 1.1" in rows["data.augmentation.zoom_range"]
    assert "auto: resident within the memory budget, else stream" in rows["source.loader"]  # a comment's second line


def test_figures_are_small_and_stand_below_the_command_that_made_them() -> None:
    files = {file.stem: file for file in FIGURES.glob("*.png")}
    assert set(files) == set(MADE)
    assert len(files) <= MAX_FIGURES
    assert [name for name, file in files.items() if file.stat().st_size > MAX_BYTES] == []
    pages = {page.name: page.read_text(encoding="utf-8") for page in (DOCS / "guide").glob("*.md")}
    for name, made in MADE.items():
        shown = [page for page, text in pages.items() if f"](figures/{name}.png)" in text]
        assert len(shown) == 1, (name, shown)
        above = pages[shown[0]].split(f"](figures/{name}.png)")[0]
        assert f"\n{made['command']}\n" in above, (name, shown[0])


def test_the_script_makes_the_figures_that_are_here() -> None:
    steps = script("make_figures").STEPS
    assert {name: step.command for step in steps for name in (*step.figures, *step.drawn)} == {
        name: made["command"] for name, made in MADE.items()
    }


def test_the_architecture_page_has_the_rules_of_the_structure() -> None:
    page = (DOCS / "how-it-works" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("| package |")[1].split("## ")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (.+) \|$", table, re.MULTILINE)
    found: dict[str, set[str]] = {}
    for packages, allowed in rows:
        for package in re.findall(r"\w+", packages):
            found[package] = set(re.findall(r"`(\w+)`", allowed))
    others = {"sweep", "inference", "handover", "notebook", "sources", "touring"}
    found["sweep"] = set(found) - others  # "all of these but ..."
    assert found == {package: arrows for package, arrows in ARROWS.items() if package}
    diagram = page.split("commands: ")[1].split("   ")[0]
    assert set(diagram.split(", ")) == COMMANDS


def test_the_site_is_built_without_warnings_and_asks_no_other_host(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install -e '.[docs]'")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "true", "https_proxy": "http://127.0.0.1:9"}
    words = (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path))
    done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    loaded = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(https?:)?//")
    assert [page.name for page in tmp_path.rglob("*.html") if loaded.search(page.read_text(encoding="utf-8"))] == []
    styles = "".join(file.read_text(encoding="utf-8") for file in tmp_path.rglob("*.css"))
    assert re.findall(r"url\(\"?https?:|@import", styles) == []
