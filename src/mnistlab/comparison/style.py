"""Style of the figures: one colour and marker per option in all figures, ink in the colour of the page's text."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from mnistlab.comparison.grid import at_best_rates
from mnistlab.comparison.results import Comparison

# The Okabe-Ito palette for colour-blind readers; yellow is darker and black replaced, so that all ten have enough
# contrast on white and on near-black. Markers distinguish options where colours do not.
COLOURS = ("#2a7fc1", "#e08e00", "#009e73", "#cc6fa3", "#d55e00", "#45b0e6", "#9a8f00", "#8a8a8a", "#8263c9", "#a0604a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
MAX_SHOWN = 20
MAX_MATRICES = 10  # options with a confusion matrix each
VERY_MANY = 60  # options; of more, a figure shows half of the numbers above
LINES: tuple[Any, ...] = ("-", (0, (4, 1)))  # of the first ten options, and of those that share their colours
WIDTH = 5.2  # inches; on a 390-pixel screen, 9-point letters are still 9 pixels tall
INK = "#010203"  # replaced by the page's text colour in the SVG
ERROR_COLOUR = "#d55e00"

RC_PARAMS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "mnistlab",
}


@dataclass(frozen=True)
class OptionStyle:
    """An option's colour, marker and line, the same in every figure of a report."""

    colour: str
    marker: str
    line: Any = "-"


def option_styles(names: Iterable[str]) -> dict[str, OptionStyle]:
    """Styles by sorted name, so that an option's style does not depend on its rank."""
    return {name: _style(*divmod(index, len(COLOURS))) for index, name in enumerate(sorted(names))}


def _style(repetition: int, index: int) -> OptionStyle:
    """Options that share a colour differ in marker and line."""
    marker = MARKERS[(index + 4 * repetition) % len(MARKERS)]
    return OptionStyle(COLOURS[index], marker, LINES[repetition % len(LINES)])


def shown_options(comparison: Comparison, most: int = MAX_SHOWN) -> list[str]:
    """The options to draw, best first; if there are more than `most`, each optimizer at its best rate or the top."""
    options, most = comparison.options, _most(comparison, most)
    if len(options) > most and comparison.grid and len(comparison.grid.rows) > 1:
        options = at_best_rates(options, comparison.grid) or options
    return [option.name for option in options[:most]]


def _most(comparison: Comparison, most: int) -> int:
    return most // 2 if len(comparison.options) > VERY_MANY else most


def describe_hidden(comparison: Comparison, most: int = MAX_SHOWN) -> str:
    """What the figures leave out: "the best 20 of 34 options"; empty if nothing."""
    shown, number = len(shown_options(comparison, most)), len(comparison.options)
    if shown == number:
        return ""
    is_grid = comparison.grid is not None and len(comparison.grid.rows) > 1 and shown < _most(comparison, most)
    return f"{shown} of {number} options: {'each optimizer at its best rate' if is_grid else 'the best'}"


@contextlib.contextmanager
def drawing_settings() -> Iterator[None]:
    """RC_PARAMS, without warnings about characters that the font lacks; for all that draws or renders a figure."""
    with mpl.rc_context(RC_PARAMS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def render_png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure on white, for slides and Markdown."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", pil_kwargs={"compress_level": 3})
    return buffer.getvalue()


def render_svg(figure: Figure, prefix: str) -> str:
    """The figure as an inline SVG: transparent, ink in the page's text colour, no external reference.

    prefix: makes the ids of the SVG unique within the page.
    """
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    for size in ("width", "height"):
        svg = re.sub(rf'^(<svg[^>]*?) {size}="[^"]*"', r"\1", svg)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d{2})\d+", r"\1", path.group()), svg)
