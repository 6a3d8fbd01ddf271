"""The figures that the steps have drawn, kept in the tour's folder, and the page that shows them."""

import shutil
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

from mnistlab.touring.steps import DATA, STEPS


def keep_figure(number: int, folder: Path, root: Path, since: float) -> Path | None:
    """Copy the figure that a step's command has drawn into the tour's folder; None if it has drawn none.

    number: of the step, from 1; root: the folder of all results; since: when the command was started.
    """
    kept = _kept(number, folder)
    drawn = [file for file in _drawn(STEPS[number - 1].figure, folder, root) if file.stat().st_mtime > since - 1]
    if kept is None or not drawn:
        return None
    shutil.copyfile(max(drawn, key=lambda file: file.stat().st_mtime_ns), kept)
    return kept


def _kept(number: int, folder: Path) -> Path | None:
    name = STEPS[number - 1].figure
    return folder / f"{number:02}-{name}.png" if name else None


def _drawn(name: str, folder: Path, root: Path) -> Iterator[Path]:
    yield from folder.glob(f"{name}.png")
    for pattern in (f"*/*/figures/{name}.png", f"*/*/*/figures/{name}.png"):  # of a run or report, of a job
        yield from (root / "runs").glob(pattern)


def page(folder: Path) -> str:
    """The page with all steps that have been run so far."""
    style = "body{font:16px/1.5 sans-serif;max-width:900px;margin:2em auto;padding:0 1em}img{max-width:100%}"
    style += "pre{white-space:pre-wrap;background:#eee;padding:.6em}small{color:#666;font-weight:normal}"
    made = f"<p>Made by <code>python -m mnistlab.tour</code>, {time.strftime('%Y-%m-%d %H:%M')}, on {DATA}.</p>"
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>mnistlab: the tour</title><style>{style}</style>"
    sections = (_section(number, _kept(number, folder)) for number in range(1, len(STEPS) + 1))
    return f"{head}<h1>The guide, step by step</h1>{made}{''.join(sections)}</html>"


def _section(number: int, figure: Path | None) -> str:
    if figure is not None and not figure.is_file():
        return ""
    step = STEPS[number - 1]
    drawn = f'<img src="{figure.name}" alt="{escape(step.title)}"><p>{escape(step.look)}</p>' if figure else ""
    head = f"<h2>{number}. {escape(step.title)} <small>{escape(step.part)}</small></h2>"
    return f"{head}<p>{escape(step.text)}</p><pre>{escape(step.command)}</pre>{drawn}"
