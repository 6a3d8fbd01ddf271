"""A run's figures, drawn from plain data by `figures` and `explanation_figures`.

The background process calls this; it imports nothing heavy.
"""

import contextlib
import logging
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnistlab.runtime import files

log = logging.getLogger("mnistlab")

DOTS_PER_INCH = 110


def draw(folder: Path, shown: Mapping[str, tuple[Any, ...]]) -> None:
    """Write each figure as a PNG file into the folder. An error does not fail the run: it is logged, and its traceback
    is in figures/error.txt.

    Args:
        shown: name of a function of `figures` or `explanation_figures`, which names the file too -> its arguments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, arguments in shown.items():
            draw_file(folder / f"{name}.png", name, arguments)
    except Exception as error:
        with contextlib.suppress(OSError):
            files.write_text(folder / "error.txt", traceback.format_exc())
        log.warning("WARNING: figures are missing in %s: %s: %s", folder, type(error).__name__, error)


def draw_file(file: Path, name: str, arguments: tuple[Any, ...]) -> None:
    """Write one figure as a PNG file. name: of a function of `figures` or `explanation_figures`; arguments: its own."""
    from mnistlab.evaluation import explanation_figures, figures

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a class name in a script that the font lacks
        module = figures if hasattr(figures, name) else explanation_figures
        figure = getattr(module, name)(*arguments)
        with files.replacing(file, suffix=".png") as half:
            figure.savefig(half, dpi=DOTS_PER_INCH, pil_kwargs={"compress_level": 1})
