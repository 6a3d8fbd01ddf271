"""Pieces of HTML for notebooks. Colours are the notebook's own, so that they fit light and dark ones."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

NUMBER = "text-align:right;padding:2px 10px;font-variant-numeric:tabular-nums"
TEXT = "text-align:left;padding:2px 10px"


def image(file: Path) -> str:
    """A PNG within the page, on white."""
    data = base64.b64encode(file.read_bytes()).decode()
    name = escape(file.stem.replace("_", " "))
    style = "max-width:min(100%,900px);background:white;display:block;margin:8px 0"
    return f'<img alt="{name}" title="{name}" style="{style}" src="data:image/png;base64,{data}">'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: the first column is text, the others are numbers."""
    head = "".join(
        f'<th style="{NUMBER if column else TEXT}">{escape(name)}</th>' for column, name in enumerate(header)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{NUMBER if column else TEXT}">{escape(cell)}</td>' for column, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    style = "border-collapse:collapse;margin:8px 0"
    return f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def paragraph(text: str, bold: bool = False) -> str:
    """A paragraph of plain text."""
    return f"<p>{'<b>' if bold else ''}{escape(text)}{'</b>' if bold else ''}</p>"


def folded(title: str, content: str) -> str:
    """Content that is shown on a click; nothing without content."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def listed(facts: Mapping[str, str]) -> str:
    """Names and values, one line each."""
    return "".join(
        f"<div><b>{escape(name)}</b> <code>{escape(value)}</code></div>" for name, value in facts.items() if value
    )
