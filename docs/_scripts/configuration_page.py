"""Makes the page reference/configuration.md when the site is built: from the comments of conf/ and from the schema.

MkDocs calls `on_files`. `page` makes the text; it needs PyYAML and the standard library.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
CONF = PROJECT / "conf"
PAGE = "reference/configuration.md"
GROUPS = {
    "source": "Where the images come from.",
    "data": "How they are split, scaled, weighted and augmented. A run has one of these options.",
    "model": "The network. An option's settings are the arguments of the function that it names.",
    "optimizer": "The learning strategy. Some options bring their batch size, as in the guide.",
    "schedule": "How the learning rate changes with the steps.",
    "callbacks": "Keras's callbacks. Several at once: `'callbacks=[early_stopping,reduce_lr]'`.",
    "tracking": "Where runs are recorded.",
    "experiment": "Presets of several groups and settings.",
    "sweep": "Multiruns with a name.",
    "launch": "Where the jobs of a multirun run; without one, in the process of the sweep.",
    "debug": "A quick trial.",
    "hydra/help": "The text of `--help`.",
    "hydra/launcher": "What starts the jobs of `launch=ray`, `slurm` and `submitit_local`.",
    "hydra/job_logging": "What goes to the terminal and to the run's log file.",
}
KINDS = {  # of YAML -> as the page calls them
    "bool": "`true` `false`",
    "int": "whole number",
    "float": "number",
    "str": "text",
    "seq": "list",
    "map": "mapping",
}
INTRODUCTION = """\
# Configuration

Made from the comments of the files in `conf/` and from the schema, `src/mnistlab/config/schema.py`. `group=option`
chooses a file, `setting=value` changes a setting, `+setting=value` passes a callable an argument that its file does not
name. `python -m mnistlab.train --help` prints the same settings with the values that the other words of the command
give them.

`???` must be given; `null` stands for "none" or for what the comment says; `${...}` takes the value of another setting.
"""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A key of a YAML file: its dotted path in that file, its value as written, its type, the comment behind it."""

    path: str
    value: str
    kind: str
    comment: str


def description(text: str) -> str:
    """The comment at the head of a file, without Hydra's `@package`."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def settings(file: Path) -> Iterator[Setting]:
    """All keys of a YAML file in its order; a key that holds others has no value."""
    text = file.read_text(encoding="utf-8")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(node, yaml.MappingNode):
        yield from _settings(node, yaml.safe_load(text), text, "")


def _settings(node: yaml.MappingNode, content: dict[str, Any], text: str, prefix: str) -> Iterator[Setting]:
    lines = text.splitlines()
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        kind = KINDS.get(value.tag.rpartition(":")[2], "")
        written = text[value.start_mark.index : value.end_mark.index].strip()
        if isinstance(value, yaml.MappingNode) and not value.flow_style and value.value:
            yield Setting(path, "", "", _comment(lines, key.end_mark.line, key.end_mark.column + 1))
            yield from _settings(value, content[key.value], text, f"{path}.")
        elif value.end_mark.line == value.start_mark.line:
            comment = _comment(lines, value.end_mark.line, value.end_mark.column)
            yield Setting(path, written, "" if written.startswith(("$", "?")) else kind, comment)
        elif isinstance(value, yaml.SequenceNode):
            written = yaml.safe_dump(content[key.value], default_flow_style=True, width=10_000).strip()
            yield Setting(path, written, kind, "")
        else:
            yield Setting(path, "", "text of several lines", "")


def _comment(lines: list[str], number: int, column: int) -> str:
    """The comment behind a column of a line, and its continuation in the lines of comment below."""
    _, mark, first = lines[number][column:].partition("#")
    if not mark:
        return ""
    found = [first.strip()]
    for line in lines[number + 1 :]:
        if not line.startswith(" ") or not line.strip().startswith("#"):
            break
        found.append(line.strip().lstrip("# "))
    return "; ".join(found) if len(found) > 1 else found[0]


def kinds() -> dict[str, str]:
    """Dotted setting -> its type, choices or range, as the schema says; for the settings that it types."""
    sys.path.insert(0, str(PROJECT / "src"))
    from mnistlab.config import schema

    return dict(_kinds(schema.Config, ""))


def _kinds(config: type, prefix: str) -> Iterator[tuple[str, str]]:
    types = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kind, path = types[field.name], f"{prefix}{field.name}"
        if dataclasses.is_dataclass(kind):
            yield from _kinds(typing.cast(type, kind), f"{path}.")
        elif "choices" in field.metadata:
            yield path, " ".join(f"`{choice}`" for choice in field.metadata["choices"])
        elif "items" in field.metadata:
            yield path, f"one or a list of {field.metadata['items']}"
        elif "rule" in field.metadata:
            yield path, f"{_name(kind)}, {cell(field.metadata['rule'].replace('value', 'x'))}"
        else:
            yield path, "" if kind is Any else _name(kind)


def _name(kind: Any) -> str:
    names = {str: "text", int: "whole number", float: "number", bool: "`true` `false`", type(None): "`null`"}
    if arguments := [one for one in typing.get_args(kind) if one is not Any]:
        if typing.get_origin(kind) in (dict, list):
            return "mapping" if typing.get_origin(kind) is dict else "list"
        return " or ".join(_name(one) for one in arguments)
    return names.get(kind, "any")


def cell(text: str) -> str:
    """A comment as text of the page: what stands between backquotes is code, all else is no markup."""
    parts = text.split("`")
    for index, part in enumerate(parts):
        if index % 2:
            parts[index] = f"`{part}`"
            continue
        for mark in ("\\", "*", "_", "|", "[", "]"):
            part = part.replace(mark, f"\\{mark}")
        parts[index] = part.replace("<", "&lt;").replace(">", "&gt;")
    return "".join(parts)


def code(text: str) -> str:
    """A value as code in the cell of a table, an empty one as nothing."""
    return f"`{text}`" if text else ""


def table(rows: list[Setting], prefix: str, known: dict[str, str]) -> str:
    """The table of settings. prefix: the group that they belong to, with its dot."""
    lines = ["| setting | default | type or choices | |", "|---|---|---|---|"]
    for row in rows:
        path = f"{prefix}{row.path}"
        if path.rpartition(".")[2] == "_target_":
            lines.append(
                f"| `{path}` | `{row.value}` | callable | what is built, with the other settings as arguments |"
            )
            continue
        if not (row.value or row.kind or row.comment):
            continue  # it holds the settings that follow
        kind = known.get(path, row.kind)
        lines.append(f"| `{path}` | {code(row.value)} | {kind} | {cell(row.comment)} |")
    return "\n".join(lines)


def main_file(known: dict[str, str]) -> str:
    """`conf/train.yaml`: its groups, then its settings by their first word."""
    text = (CONF / "train.yaml").read_text(encoding="utf-8")
    lines = ["## train.yaml", "", description(text), "", "| `defaults`: group | option | |", "|---|---|---|"]
    for line in text.splitlines():
        if line.startswith("  - "):
            entry, _, comment = line[4:].partition("#")
            group, _, option = entry.partition(":")
            lines.append(f"| `{group.strip()}` | {code(option.strip())} | {cell(comment.strip())} |")
    sections: dict[str, list[Setting]] = {}
    for row in settings(CONF / "train.yaml"):
        sections.setdefault(row.path.partition(".")[0], []).append(row)
    sections.pop("defaults")
    single = [rows[0] for rows in sections.values() if len(rows) == 1]
    parts = ["\n".join(lines), "### General { #general }", table(single, "", known)]
    for name, rows in sections.items():
        if len(rows) > 1:
            comment = [f"{rows[0].comment[0].upper()}{rows[0].comment[1:]}."] if rows[0].comment else []
            parts += [f"### {name} {{ #{name} }}", *comment, table(rows[1:], "", known)]
    return "\n\n".join(parts)


def option(file: Path, known: dict[str, str]) -> str:
    """One option of a group: its comment, and a table of its settings."""
    group, text = file.parent.relative_to(CONF).as_posix(), file.read_text(encoding="utf-8")
    anchor = f"{group.replace('/', '-')}-{file.stem}"
    prefix = "" if "@package _global_" in text else f"{group.replace('/', '.')}."
    rows = list(settings(file))
    example, _, about = description(text).partition("      ")
    if not example.startswith("python -m"):
        example, about = "", description(text)
    about = about.strip()
    about = cell(f"{about[0].upper()}{about[1:]}")
    parts = [f"### {group}={file.stem} {{ #{anchor} }}", *([f"`{example}`"] if example else []), about]
    return "\n\n".join([*parts, *([table(rows, prefix, known)] if rows else [])])


def page() -> str:
    """The text of the page.

    Raises:
        ValueError: a folder of conf/ is not described in GROUPS.
    """
    folders = {file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml")} - {"."}
    if folders != set(GROUPS):
        raise ValueError(f"GROUPS must describe each folder of conf/. Received: {sorted(folders ^ set(GROUPS))}.")
    known = kinds()
    parts = [INTRODUCTION, main_file(known)]
    for group, about in GROUPS.items():
        parts += [f"## {group} {{ #group-{group.replace('/', '-')} }}", about]
        parts += [option(file, known) for file in sorted((CONF / group).glob("*.yaml"))]
    return "\n\n".join(parts) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """MkDocs's hook: add the page to the files of the site."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=page()))
    return files
