"""A script and a notebook of the same sections: headings, explanations and code."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 100
DISTANCE = "\n"  # one more line before functions and classes


@dataclass(frozen=True)
class Section:
    """title: 'Part 2.1: Load the images'; text: the explanation; code: of the cell."""

    title: str
    text: str
    code: str


def script(introduction: str, sections: Sequence[Section]) -> str:
    """A Python script; editors that know `# %%` show its sections as cells."""
    parts = [f'"""{introduction.strip()}\n"""\n']
    for section in sections:
        comment = "\n".join(f"# {line}" for line in textwrap.wrap(section.text, WIDTH - 2, break_long_words=False))
        code = section.code.strip()
        parts.append(
            f"# %% {section.title}\n{comment}\n{DISTANCE if code.startswith(('def ', 'class ')) else ''}\n{code}\n"
        )
    return "\n".join(parts)


def notebook(introduction: str, sections: Sequence[Section]) -> str:
    """The same as a Jupyter notebook (nbformat 4.5): a cell of text and a cell of code for each section."""
    heading, _, rest = introduction.strip().partition("\n")
    cells = [_cell("markdown", f"# {heading}\n{rest}", "introduction")]
    for index, section in enumerate(sections):
        cells.append(_cell("markdown", f"## {section.title}\n\n{section.text}", f"text-{index}"))
        cells.append(_cell("code", section.code.strip(), f"code-{index}"))
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(kind: str, source: str, name: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": source.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})
